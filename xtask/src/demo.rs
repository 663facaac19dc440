//! Builds the agent and hands over to its demo.

use std::{ffi::OsString, os::unix::process::CommandExt as _, process::ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::{privilege, setup, workspace};

/// Becomes `bulkhead demo`, so that Ctrl-C reaches the one process that has a lab to clear away.
pub(crate) fn exec(arguments: &[OsString]) -> Result<ExitCode> {
    setup::ensure_run()?;
    let agent = workspace::build_debug_agent()?;
    let mut command = privilege::as_root(&agent)
        .context("the demo makes network namespaces: run it as root or install sudo")?;
    let error = command.arg("demo").args(arguments).exec();
    bail!("start {}: {error}", agent.display())
}
