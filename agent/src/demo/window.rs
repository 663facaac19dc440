//! A rule that holds for some seconds only: the connection that it let in ends with it, and no other.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use bulkhead_common::verdict::DropReason;
use jiff::{SignedDuration, Timestamp};

use super::agent::Agent;
use super::files::Files;
use super::report::Row;
use super::story::Story;
use crate::lab::Lab;
use crate::lab::client::Client;
use crate::lab::live::LiveConnection;
use crate::lab::topology::SERVER;

/// How long the rule holds: longer than a loaded machine takes to apply it and to connect.
const OPEN: SignedDuration = SignedDuration::from_secs(8);
/// When what the rule let in has to be cut at the latest, after its end.
const CUT: SignedDuration = SignedDuration::from_secs(1);
/// Where maintenance goes.
const PORT: u16 = 8883;
const PATIENCE: Duration = Duration::from_millis(600);

/// Lets a charger do maintenance for some seconds, and looks at what is live when they are over.
pub(crate) fn window(lab: &Lab, agent: &Agent<'_>, files: &Files, story: &mut Story<'_>) -> Result<Vec<Row>> {
    story.say(&format!("→ a rule for maintenance ends in {} seconds, by `notAfter`", OPEN.as_secs()))?;
    let end = Timestamp::from_second((Timestamp::now() + OPEN).as_second())?;
    story.quote(&files.allow_maintenance(PORT, end)?)?;
    story.quote(&agent.apply(&[])?)?;
    let (mut inside, mut beside) = (connection(lab, PORT)?, connection(lab, 443)?);
    let before = [inside.is_alive()?, beside.is_alive()?];
    let mark = story.mark();
    let left = (end + CUT).duration_since(Timestamp::now());
    story.listen(left.try_into().unwrap_or_default())?;
    let after = [inside.is_alive()?, beside.is_alive()?];
    Ok(vec![
        row("maintenance of charger-1", before[0], after[0], false),
        row("charger-1's OCPP session", before[1], after[1], true),
        told(lab, mark, story)?,
    ])
}

fn connection(lab: &Lab, port: u16) -> Result<LiveConnection> {
    let client = Client::new(lab.namespace("charger-1")?).timeout(PATIENCE);
    let connected = client.connect(SocketAddr::new(SERVER.v4.into(), port))?;
    connected.map_err(|outcome| anyhow::anyhow!("connect charger-1 to port {port}: {outcome:?}"))
}

fn row(what: &str, before: bool, after: bool, stays: bool) -> Row {
    let plainly = |alive: bool| if alive { "carries payload" } else { "cut" };
    let observed = if before { plainly(after) } else { "dead before the end" };
    Row::new(&format!("a window closes: {what}"), plainly(stays), observed, before && after == stays)
}

/// The cut connection's next packet has to show up as a drop.
fn told(lab: &Lab, mark: usize, story: &mut Story<'_>) -> Result<Row> {
    let charger = lab.topology().device("charger-1").context("charger-1 is not in the lab")?.address;
    let reason = DropReason::ConditionTime.as_str();
    let line = story.drop_line(mark, (charger.v4.into(), SERVER.v4.into()), reason)?;
    let told = line.map_or_else(|| "no drop line".to_owned(), |line| line.reason);
    Ok(Row::new("a window closes: the cut is told", reason, &told, told == reason))
}
