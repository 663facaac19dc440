//! `bulkhead run`: the agent.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;

use super::settings::Settings;
use crate::runtime;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Write the log as JSON lines.
    #[arg(long)]
    log_json: bool,
}

pub(super) fn exec(args: &Args, settings: &Settings) -> Result<ExitCode> {
    start_log(args);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("start the agent's threads")?;
    runtime.block_on(runtime::run(settings.path()))
}

/// The log goes to standard error; `RUST_LOG` chooses how much of it.
fn start_log(args: &Args) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    if args.log_json {
        log.json().init();
    } else {
        log.with_ansi(std::io::stderr().is_terminal()).init();
    }
}
