//! `bulkhead schema`: the language as a JSON Schema, for editors.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;

use crate::policy::SCHEMA;

#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn exec(_: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    out.write_all(SCHEMA.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
