//! A grant: a vendor is let in to one device for some seconds, and out when they are over.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::agent::Agent;
use super::report::Row;
use super::story::Story;
use crate::lab::Lab;
use crate::lab::client::Client;
use crate::lab::live::LiveConnection;
use crate::lab::topology::OUTSIDER;

/// How long it lasts: longer than a loaded machine takes to grant it and to connect.
const LASTS: Duration = Duration::from_secs(8);
/// When what it let in has to be cut at the latest, after its end.
const CUT: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_millis(600);

/// Lets a vendor in, and looks at the session when its time is over.
pub(crate) fn visit(lab: &Lab, agent: &Agent<'_>, story: &mut Story<'_>) -> Result<Vec<Row>> {
    let (lasts, from) = (format!("{}s", LASTS.as_secs()), OUTSIDER.v4.to_string());
    story.say(&format!("→ a vendor is let in to charger-1's SSH for {lasts}"))?;
    let outside = connect(lab)?.is_ok();
    let visitor =
        ["grant", "create", "--who", "Kari Nordmann", "--organisation", "Vendor AS", "--from", &from];
    let what = ["--device", "charger-1", "--port", "tcp/22", "--for", &lasts, "--ticket", "CHG-4711"];
    story.quote(&agent.bulkhead(&[&visitor[..], &what].concat())?)?;
    let granted = Instant::now();
    let mut session =
        connect(lab)?.map_err(|why| anyhow::anyhow!("connect the vendor to charger-1: {why}"))?;
    let before = session.is_alive()?;
    story.listen((LASTS + CUT).saturating_sub(granted.elapsed()))?;
    let after = session.is_alive()?;
    let report = agent.bulkhead(&["grant", "show", "chg-4711"])?;
    story.quote(&report)?;
    let told = report.contains("its time was over") && report.contains("1 flow");
    Ok(vec![
        row("nobody is let in before", "no answer", outside, !outside),
        row("the vendor's session", "carries payload, then cut", before && after, before && !after),
        row("the report", "one flow, its time was over", !told, told),
    ])
}

fn connect(lab: &Lab) -> Result<std::result::Result<LiveConnection, String>> {
    let device = lab.topology().device("charger-1").context("charger-1 is not in the lab")?;
    let client = Client::new(lab.namespace("outside")?).from(OUTSIDER.v4).timeout(PATIENCE);
    let connected = client.connect(SocketAddr::new(device.address.v4.into(), 22))?;
    Ok(connected.map_err(|outcome| format!("{outcome:?}")))
}

fn row(what: &str, wanted: &str, open: bool, holds: bool) -> Row {
    let otherwise = if open { "open" } else { "closed" };
    Row::new(&format!("a grant ends: {what}"), wanted, if holds { wanted } else { otherwise }, holds)
}
