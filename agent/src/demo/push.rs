//! A policy pushed while connections are live: it cuts the one that it no longer allows, and no other.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use bulkhead_common::verdict::DropReason;

use super::agent::Agent;
use super::files::{Files, NEW_PORT, OLD_PORT};
use super::report::Row;
use super::story::Story;
use crate::lab::Lab;
use crate::lab::client::Client;
use crate::lab::live::LiveConnection;
use crate::lab::topology::{SCADA, SERVER};

/// Long enough for lines about the open connections to be told before the push.
const SETTLE: Duration = Duration::from_millis(300);
/// Shorter than TCP gives up, longer than a loaded machine takes to answer.
const PATIENCE: Duration = Duration::from_millis(600);

/// A connection that was open before the push.
struct Open {
    what: &'static str,
    connection: LiveConnection,
    cut: bool,
}

/// Opens connections, pushes the changed policy, and looks which of them still carry payload.
pub(crate) fn push(lab: &Lab, agent: &Agent<'_>, files: &Files, story: &mut Story<'_>) -> Result<Vec<Row>> {
    story.say("→ six connections are live; a pushed policy moves the firmware server to another port")?;
    let mut open = connections(lab)?;
    story.listen(SETTLE)?;
    let before = alive(&mut open)?;
    let change = files.move_firmware_port(OLD_PORT, NEW_PORT)?;
    story.quote(&change)?;
    let words = agent.apply(&[])?;
    story.quote(&words)?;
    let mark = story.mark();
    let after = alive(&mut open)?;
    let mut rows: Vec<Row> =
        open.iter().zip(before.iter().zip(after)).map(|(open, (was, is))| row(open, *was, is)).collect();
    rows.push(told(lab, mark, story)?);
    rows.push(moved(lab)?);
    Ok(rows)
}

/// The cut connection's next packet has to show up as a drop.
fn told(lab: &Lab, mark: usize, story: &mut Story<'_>) -> Result<Row> {
    let charger = lab.topology().device("charger-1").context("charger-1 is not in the lab")?.address;
    let reason = DropReason::NoRule.as_str();
    let line = story.drop_line(mark, (charger.v4.into(), SERVER.v4.into()), reason)?;
    let told = line.map_or_else(|| "no drop line".to_owned(), |line| line.reason);
    Ok(Row::new("policy push: the cut is told", reason, &told, told == reason))
}

fn connections(lab: &Lab) -> Result<Vec<Open>> {
    let cloud = |port| SocketAddr::new(SERVER.v4.into(), port);
    let cloud6 = SocketAddr::new(SERVER.v6.into(), 443);
    let device = |name| lab.topology().device(name).with_context(|| format!("{name} is not in the lab"));
    let camera = SocketAddr::new(device("camera-1")?.address.v4.into(), 554);
    let pump = SocketAddr::new(device("pump-1")?.address.v4.into(), 502);
    Ok(vec![
        open(lab, "charger-1's firmware download", "charger-1", cloud(OLD_PORT), true)?,
        open(lab, "charger-1's OCPP session", "charger-1", cloud(443), false)?,
        open(lab, "charger-2's OCPP session, IPv6", "charger-2", cloud6, false)?,
        open(lab, "pump-1's telemetry", "pump-1", cloud(8883), false)?,
        open(lab, "nvr-1's video of camera-1", "nvr-1", camera, false)?,
        open(lab, "the control room's poll of pump-1", "dn", pump, false)?,
    ])
}

fn open(lab: &Lab, what: &'static str, actor: &str, to: SocketAddr, cut: bool) -> Result<Open> {
    let client = Client::new(lab.namespace(actor)?).timeout(PATIENCE);
    let client = if actor == "dn" { client.from(SCADA.v4) } else { client };
    let connected = client.connect(to)?;
    let connection = connected.map_err(|outcome| anyhow::anyhow!("open {what} to {to}: {outcome:?}"))?;
    Ok(Open { what, connection, cut })
}

/// The connection that is to be cut comes first, so its timeout is over before the others are asked.
fn alive(open: &mut [Open]) -> Result<Vec<bool>> {
    open.iter_mut().map(|open| open.connection.is_alive()).collect()
}

fn row(open: &Open, was: bool, is: bool) -> Row {
    let plainly = |alive: bool| if alive { "carries payload" } else { "cut" };
    let observed = if was { plainly(is) } else { "dead before the push" };
    Row::new(&format!("policy push: {}", open.what), plainly(!open.cut), observed, was && is != open.cut)
}

/// What the pushed policy allows instead has to work at once.
fn moved(lab: &Lab) -> Result<Row> {
    let client = Client::new(lab.namespace("charger-1")?).timeout(PATIENCE);
    let works = client.tcp(SocketAddr::new(SERVER.v4.into(), NEW_PORT), b"firmware?")?.echoed(b"firmware?");
    let observed = if works { "answer" } else { "no answer" };
    Ok(Row::new(&format!("policy push: a new download at port {NEW_PORT}"), "answer", observed, works))
}
