//! Where a capture is read from.

use std::fs::File;
use std::io::{self, Read, Stdin};
use std::path::Path;

use anyhow::{Context, Result};

use crate::policy::STANDARD_INPUT;

/// A file or standard input.
#[derive(Debug)]
pub(super) enum Input {
    File(File),
    Standard(Stdin),
}

impl Input {
    pub(super) fn open(path: &Path) -> Result<Self> {
        if path == Path::new(STANDARD_INPUT) {
            return Ok(Self::Standard(io::stdin()));
        }
        File::open(path).map(Self::File).context("open the capture")
    }

    /// True if the capture may still be written while it is read.
    pub(super) fn is_live(&self) -> bool {
        match self {
            Self::Standard(_) => true,
            Self::File(file) => !file.metadata().is_ok_and(|metadata| metadata.is_file()),
        }
    }
}

impl Read for Input {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(bytes),
            Self::Standard(stdin) => stdin.read(bytes),
        }
    }
}
