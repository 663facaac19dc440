//! `bulkhead completions`: the completion script of a shell.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, ValueEnum};
use clap_complete::{Shell, generate};

use super::Cli;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell; put the output where it looks for completions.
    shell: Supported,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Supported {
    Bash,
    Zsh,
    Fish,
}

pub(super) fn exec(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    let shell = match args.shell {
        Supported::Bash => Shell::Bash,
        Supported::Zsh => Shell::Zsh,
        Supported::Fish => Shell::Fish,
    };
    // The generator panics where it cannot write, so it writes to memory.
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "bulkhead", &mut script);
    out.write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
