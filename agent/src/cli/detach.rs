//! `bulkhead detach`: the one way to stop enforcing.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use anyhow::{Result, bail};

use super::settings::Settings;
use crate::datapath::Datapath;
use crate::guard::{Guard, TABLE};
use crate::runtime;

#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn exec(_args: &Args, settings: &Settings, out: &mut dyn Write) -> Result<ExitCode> {
    let socket = settings.socket()?;
    if UnixStream::connect(&socket).is_ok() {
        bail!("an agent runs (it answers at {}) and would attach again: stop it first", socket.display());
    }
    let pins = runtime::pins(&settings.pin_dir()?);
    if !pins.exists() {
        writeln!(out, "nothing was attached ({} does not exist)", pins.display())?;
        remove_guard(out)?;
        return Ok(ExitCode::SUCCESS);
    }
    // An agent may run whose socket is lost.
    let _claim = runtime::Claim::take(&pins)?;
    let detached = Datapath::detach(&pins)?;
    // It stays if pins of another version lie beside.
    let _ = std::fs::remove_dir(settings.pin_dir()?);
    for attachment in &detached {
        writeln!(out, "{} is NOT ENFORCED any more", attachment.interface)?;
    }
    remove_guard(out)?;
    writeln!(out, "detached; tables and flows are gone. `bulkhead run` enforces the accepted policy again")?;
    Ok(ExitCode::SUCCESS)
}

/// Last, so that nothing passes unjudged by an interface that nobody listed while others are still judged.
fn remove_guard(out: &mut dyn Write) -> Result<()> {
    // A kernel without nftables has no guard.
    let Ok(guard) = Guard::open() else { return Ok(()) };
    if guard.remove()? {
        writeln!(out, "the second guard (nftables tables {TABLE}) is gone")?;
    }
    Ok(())
}
