//! Records → what a person or a program reads.

pub mod json;
pub mod text;
mod words;

use std::io::{self, Write};

use crate::telemetry::Record;
pub use text::Text;
pub(crate) use words::Safe;
pub use words::{clock, grouped};

/// A way to write records, one a line.
#[derive(Clone, Debug)]
pub enum Sink {
    /// For people.
    Text(Text),
    /// For programs.
    Json,
}

impl Sink {
    /// Writes one record and the end of its line.
    ///
    /// # Errors
    /// `out` cannot be written to; a closed pipe is the caller's to forgive.
    pub fn write(&self, out: &mut dyn Write, record: &Record) -> io::Result<()> {
        match self {
            Self::Text(text) => writeln!(out, "{}", text.line(record)),
            Self::Json => json::write(out, record),
        }
    }
}
