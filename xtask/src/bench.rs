//! Runs the benchmark of tests/bench beside what else the host has, as root.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{privilege, setup, workspace};

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// Fewer devices and rounds: under two minutes on an idle machine.
    #[arg(long)]
    quick: bool,
    /// One JSON object a row instead of tables, to compare commits.
    #[arg(long)]
    json: bool,
    /// Draws how costs grow from a thousand devices to four million into this SVG, instead: about fifteen minutes.
    #[arg(long, value_name = "FILE")]
    growth: Option<PathBuf>,
    /// Only rows whose name holds one of these words.
    only: Vec<String>,
}

/// Builds and runs it.
pub(crate) fn exec(options: &Options) -> Result<ExitCode> {
    setup::ensure_run()?;
    privilege::mount_bpffs()?;
    let mut command = Command::new(workspace::cargo());
    command.current_dir(workspace::root());
    if !privilege::is_root() {
        command.args(["--config", "target.'cfg(unix)'.runner = 'sudo'"]);
    }
    command.args(["bench", "-p", "tests", "--bench", "bench", "--"]);
    if let Some(chart) = &options.growth {
        command.arg("--growth").arg(std::path::absolute(chart).context("say where the chart goes")?);
    }
    command.args(options.quick.then_some("--quick")).args(options.json.then_some("--json"));
    let status = command.args(&options.only).status().context("start cargo bench")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
