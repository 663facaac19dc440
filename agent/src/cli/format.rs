//! `-o`: for people or for programs.

use std::io::Write;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Serialize;

/// How an answer is printed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For people with a wide screen.
    Wide,
    /// For programs; one object, or one object a line.
    Json,
    /// For programs and people.
    Yaml,
}

impl Format {
    /// Prints a value if a program is to read it; false if people are.
    ///
    /// # Errors
    /// `out` cannot be written to.
    pub(crate) fn machine(self, out: &mut dyn Write, value: &impl Serialize) -> Result<bool> {
        match self {
            Self::Text | Self::Wide => return Ok(false),
            Self::Json => {
                let text = serde_json::to_string_pretty(value).context("write the answer as JSON")?;
                writeln!(out, "{text}")?;
            }
            Self::Yaml => {
                let text = serde_yaml::to_string(value).context("write the answer as YAML")?;
                write!(out, "{text}")?;
            }
        }
        Ok(true)
    }
}
