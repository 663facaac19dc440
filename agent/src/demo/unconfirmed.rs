//! A policy that nobody confirms: it is in force at once, and gone again by itself; what it cut works again.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::agent::Agent;
use super::files::{Files, NEW_PORT, OLD_PORT};
use super::report::Row;
use super::story::Story;
use crate::lab::Lab;
use crate::lab::client::Client;
use crate::lab::live::LiveConnection;
use crate::lab::topology::SERVER;

/// What the operator is given.
const WITHIN: &str = "3s";
/// Until it must have gone back on a busy machine.
const BACK: Duration = Duration::from_secs(10);
/// Until a cut connection is heard again: its kernel waits twice as long each time before it sends again.
const RESENT: Duration = Duration::from_secs(30);
/// Between two lines of what the agent tells meanwhile.
const POLL: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_millis(600);

/// Pushes the firmware server's port back to where it was, and does not confirm it.
pub(crate) fn unconfirmed(
    lab: &Lab,
    agent: &Agent<'_>,
    files: &Files,
    story: &mut Story<'_>,
) -> Result<Vec<Row>> {
    story.say(&format!(
        "→ bulkhead apply --confirm-within {WITHIN}: the port is moved back, and nobody confirms"
    ))?;
    let mut download = live(lab)?;
    let before = download.is_alive()?;
    files.move_firmware_port(NEW_PORT, OLD_PORT)?;
    let words = agent.apply(&["--confirm-within", WITHIN])?;
    story.quote(&words)?;
    let cut = !download.is_alive()?;
    let at_once = downloads(lab, OLD_PORT)?;
    // As it is for whoever edits the folder again.
    files.move_firmware_port(OLD_PORT, NEW_PORT)?;
    let until = Instant::now() + BACK;
    while !downloads(lab, NEW_PORT)? && Instant::now() < until {
        story.listen(POLL)?;
    }
    let gone = !downloads(lab, OLD_PORT)?;
    let back = downloads(lab, NEW_PORT)?;
    let again = download.is_alive_again(RESENT)?;
    let row = |case: &str, holds: bool| Row::new(case, "yes", if holds { "yes" } else { "no" }, holds);
    Ok(vec![
        row("unconfirmed apply: in force at once", at_once),
        row("unconfirmed apply: gone again, and the policy before it is back", gone && back),
        row("unconfirmed apply: charger-1's live download is cut, and goes on", before && cut && again),
    ])
}

/// A download by the policy that is to come back.
fn live(lab: &Lab) -> Result<LiveConnection> {
    let client = Client::new(lab.namespace("charger-1")?).timeout(PATIENCE);
    let connected = client.connect(SocketAddr::new(SERVER.v4.into(), NEW_PORT))?;
    connected.map_err(|outcome| anyhow::anyhow!("connect charger-1 to port {NEW_PORT}: {outcome:?}"))
}

/// True if the charger gets its firmware at a port.
pub(crate) fn downloads(lab: &Lab, port: u16) -> Result<bool> {
    let charger = lab.namespace("charger-1").context("charger-1 is not in the lab")?;
    let client = Client::new(charger).timeout(PATIENCE);
    Ok(client.tcp(SocketAddr::new(SERVER.v4.into(), port), b"firmware?")?.echoed(b"firmware?"))
}
