//! A lab that stays: how to enter it, and how to remove it.

use std::io::Write;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};

use super::perform::start_servers;
use crate::lab::{Lab, Topology, remnants};

/// Leaves the lab up with its agent and servers, and says how to go on.
pub(crate) fn keep(lab: Lab, out: &mut dyn Write) -> Result<()> {
    let program = std::env::current_exe().context("find this program")?;
    let mut command = Command::new(program);
    command.args(["demo", "--serve", lab.prefix()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Inside a namespace of the lab, so that the lab's removal ends it.
    lab.namespace("dn")?.spawn(&mut command)?;
    instructions(&lab, out)?;
    lab.keep()
}

/// Runs the demo's servers in a kept lab until the lab is removed.
pub(crate) fn serve(prefix: &str) -> Result<ExitCode> {
    let lab = Lab::open(prefix, &Topology::demo()).context("open the kept lab")?;
    let _servers = start_servers(&lab)?;
    loop {
        std::thread::park();
    }
}

/// Prints what to type in a kept lab.
fn instructions(lab: &Lab, out: &mut dyn Write) -> Result<()> {
    let (prefix, directory) = (lab.prefix(), lab.directory());
    let (socket, policies) = (directory.join("bulkhead.sock"), directory.join("policies"));
    let (socket, policies) = (socket.display(), policies.display());
    writeln!(
        out,
        "\nThe lab is still up, with its agent and servers.\n\
         \n  enter a device   ip netns exec {prefix}-charger-1 bash      (also pump-1, camera-1, nvr-1, stray-1, outside, dn, core)\
         \n  try              ip netns exec {prefix}-charger-1 curl http://203.0.113.10:443/\
         \n  watch            bulkhead flows -f --socket {socket}\
         \n                   bulkhead drops -f --socket {socket}\
         \n  change policy    edit {policies}, then bulkhead apply -f {policies} --socket {socket}\
         \n  remove it        bulkhead demo --clean"
    )?;
    Ok(())
}

/// Removes the labs that were kept or left behind.
pub(crate) fn clean(out: &mut dyn Write) -> Result<ExitCode> {
    let left = remnants();
    for remnant in &left {
        remnant.remove();
        writeln!(out, "removed lab {}", remnant.prefix)?;
    }
    if left.is_empty() {
        writeln!(out, "no lab is left")?;
    }
    Ok(ExitCode::SUCCESS)
}
