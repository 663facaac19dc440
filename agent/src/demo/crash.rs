//! `kill -9` of the agent under traffic: forbidden stays forbidden, established stays up, the restart adopts.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use super::agent::Agent;
use super::files::Files;
use super::perform::witness;
use super::report::Row;
use super::story::Story;
use super::tail::Tails;
use crate::lab::Lab;
use crate::lab::client::{Client, Outcome};
use crate::lab::live::LiveConnection;
use crate::lab::load::Load;
use crate::lab::topology::{FORBIDDEN, OUTSIDER, SERVER};
use crate::lab::witness::Witness;

/// How long each phase of the traffic lasts: before, without an agent, and after.
const PHASE: Duration = Duration::from_millis(700);
/// One forbidden datagram of each stream.
const PERIOD: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_millis(600);
/// A port where nobody listens; what arrives is counted below any socket.
const PORT: u16 = 4444;

/// Forbidden datagrams, and the receiver's count of them.
struct Stream {
    load: Load,
    witness: Witness,
}

/// Kills and restarts the agent while forbidden and established traffic runs; returns the agent that took over.
pub(crate) fn crash<'a>(
    lab: &'a Lab,
    agent: Agent<'a>,
    files: &Files,
    story: &mut Story<'_>,
) -> Result<(Agent<'a>, Vec<Row>)> {
    story.say("→ forbidden and established traffic runs; kill -9 of the agent in the middle of it")?;
    let streams = forbidden_streams(lab)?;
    let mut established: Vec<LiveConnection> =
        SERVER.both().into_iter().map(|server| established(lab, server)).collect::<Result<_>>()?;
    let pins = pins(&files.pins)?;
    let stop = AtomicBool::new(false);
    let (phases, exchanged) = std::thread::scope(|scope| {
        let runs: Vec<_> =
            established.iter_mut().map(|one| scope.spawn(|| one.exchange_until(&stop))).collect();
        let phases = phases(lab, agent, files, story);
        stop.store(true, Ordering::Relaxed);
        let exchanged: Vec<_> = runs.into_iter().map(|run| run.join()).collect();
        (phases, exchanged)
    });
    let (agent, mut rows) = phases?;
    for (family, run) in ["IPv4", "IPv6"].into_iter().zip(exchanged) {
        let run = run.map_err(|_| anyhow::anyhow!("the thread of the established connection panicked"))?;
        rows.push(established_row(family, run?));
    }
    rows.push(leak_row(streams)?);
    rows.push(adoption_row(&pins, &self::pins(&files.pins)?));
    Ok((agent, rows))
}

fn phases<'a>(
    lab: &'a Lab,
    agent: Agent<'a>,
    files: &Files,
    story: &mut Story<'_>,
) -> Result<(Agent<'a>, Vec<Row>)> {
    story.listen(PHASE)?;
    agent.kill()?;
    story.follow(None);
    story.say("    the agent is dead")?;
    let mut rows = vec![attempt(lab, "a new allowed connection", SERVER.v4.into(), true)?];
    rows.push(attempt(lab, "a new forbidden connection", FORBIDDEN.v4.into(), false)?);
    std::thread::sleep(PHASE);
    let agent = Agent::start(lab, files)?;
    story.say("    the agent is back")?;
    story.follow(Some(Tails::start(&agent)?));
    story.listen(PHASE)?;
    Ok((agent, rows))
}

fn forbidden_streams(lab: &Lab) -> Result<Vec<Stream>> {
    let device = |name| lab.topology().device(name).with_context(|| format!("{name} is not in the lab"));
    let (charger, neighbour) = (device("charger-1")?.address.both(), device("charger-2")?.address.both());
    let mut streams = Vec::new();
    for family in [0, 1] {
        let outsider = OUTSIDER.both()[family];
        streams.push(stream(lab, "charger-1", charger[family], FORBIDDEN.both()[family])?);
        streams.push(stream(lab, "charger-1", charger[family], neighbour[family])?);
        streams.push(stream(lab, "outside", outsider, charger[family])?);
    }
    Ok(streams)
}

fn stream(lab: &Lab, actor: &str, source: IpAddr, target: IpAddr) -> Result<Stream> {
    let witness = witness(lab, source, target)?;
    let load = Load::start(&Client::new(lab.namespace(actor)?), SocketAddr::new(target, PORT), PERIOD)?;
    Ok(Stream { load, witness })
}

fn established(lab: &Lab, server: IpAddr) -> Result<LiveConnection> {
    let client = Client::new(lab.namespace("charger-1")?).timeout(PATIENCE);
    let connected = client.connect(SocketAddr::new(server, 443))?;
    connected.map_err(|outcome| anyhow::anyhow!("open a connection to {server} port 443: {outcome:?}"))
}

fn attempt(lab: &Lab, what: &str, server: IpAddr, allowed: bool) -> Result<Row> {
    let client = Client::new(lab.namespace("charger-1")?).timeout(PATIENCE);
    let outcome = client.tcp(SocketAddr::new(server, 443), b"anybody there?")?;
    let (answer, silence) = ("answer", "no answer");
    let expected = if allowed { answer } else { silence };
    let observed = if outcome == Outcome::TimedOut { silence } else { answer };
    let holds = if allowed { outcome.echoed(b"anybody there?") } else { outcome == Outcome::TimedOut };
    Ok(Row::new(&format!("agent dead: {what}"), expected, observed, holds))
}

fn established_row(family: &str, (count, end): (u64, Option<Outcome>)) -> Row {
    let observed = match &end {
        None => format!("{count} of {count} exchanges answered"),
        Some(outcome) => format!("{outcome:?} after {count} exchanges"),
    };
    let case = format!("kill -9 and restart: established, {family}");
    Row::new(&case, "every exchange answered", &observed, count > 0 && end.is_none())
}

fn leak_row(streams: Vec<Stream>) -> Result<Row> {
    let (mut sent, mut leaked, mut idle) = (0, 0, false);
    for Stream { load, witness } in streams {
        let count = load.stop();
        idle |= count == 0;
        sent += count;
        leaked += witness.seen()?;
    }
    let observed = format!("{leaked} of {sent} packets arrived");
    Ok(Row::new(
        "kill -9 and restart: forbidden traffic",
        "0 packets arrive",
        &observed,
        leaked == 0 && !idle,
    ))
}

fn adoption_row(before: &BTreeMap<PathBuf, u64>, after: &BTreeMap<PathBuf, u64>) -> Row {
    let kept = before.iter().filter(|(path, inode)| after.get(*path) == Some(inode)).count();
    let observed = format!("{kept} of {} pins are the same", before.len());
    let holds = !before.is_empty() && kept == before.len();
    Row::new("restart adopts what is in the kernel", "every pin is the same", &observed, holds)
}

/// Lists the pins below `folder` with their inodes: one that was made anew has another.
fn pins(folder: &Path) -> Result<BTreeMap<PathBuf, u64>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in
            std::fs::read_dir(&folder).with_context(|| format!("list pins in {}", folder.display()))?
        {
            let entry = entry.with_context(|| format!("list pins in {}", folder.display()))?;
            let metadata =
                entry.metadata().with_context(|| format!("look at pin {}", entry.path().display()))?;
            if metadata.is_dir() {
                folders.push(entry.path());
            } else {
                found.insert(entry.path(), metadata.ino());
            }
        }
    }
    Ok(found)
}
