//! `kill -9` at two hundred random moments: what is enforced, what is accepted and what is in the journal agree.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bulkhead::api::client::Client;
use bulkhead::api::types::{ApplyReply, ApplyRequest, NamedText, Object, Status, path};
use bulkhead::state::verify;
use tests::generate::{Random, seed};
use tests::netns::SERVER;

use super::crash::firmware;
use super::host::{Host, PATIENCE};

const ROUNDS: u32 = 200;
/// Every how many rounds traffic is asked after the start too, where it need not have changed.
const LOOK_AGAIN: u32 = 10;
const PORTS: [u16; 2] = [8443, 9443];

#[test]
fn an_agent_killed_at_any_moment_of_an_apply_leaves_one_whole_policy_and_its_history() -> Result<()> {
    let Some(mut host) = Host::enforcing()? else { return Ok(()) };
    let (random, started) = (Random::new(seed(std::process::id().into())), Instant::now());
    apply(&host, PORTS[0])?;
    let mut moments = Moments { random, spread: 2 * started.elapsed() };
    let (mut now, mut rounds, mut cut) = (PORTS[0], 0, 0);
    while rounds < ROUNDS {
        let wanted = if now == PORTS[0] { PORTS[1] } else { PORTS[0] };
        let answered = killed_apply(&mut host, wanted, moments.next())?;
        moments.learn(answered);
        let enforced = enforced(&host)?;
        ensure!(!answered || enforced == wanted, "round {rounds}: it was accepted, and {enforced} is open");
        host.start()?;
        // The kernel flips before the new state takes its place: a kill in between is undone by the next start.
        let accepted = accepted(&host)?;
        ensure!(
            !answered || accepted == wanted,
            "round {rounds}: it was answered, and {accepted} is accepted"
        );
        if accepted != enforced || rounds % LOOK_AGAIN == 0 {
            let enforced = self::enforced(&host)?;
            ensure!(accepted == enforced, "round {rounds}: {accepted} is accepted, and {enforced} is open");
        }
        let found = verify(&host.state, &[])?;
        ensure!(found.problems.is_empty(), "round {rounds}: {:?}", found.problems);
        let status = status(&host)?.revision.context("no revision")?.number;
        ensure!(found.range.map(|(_, last)| last) == Some(status), "round {rounds}: {found:?}, r{status}");
        (now, rounds, cut) = (accepted, rounds + 1, cut + u32::from(!answered));
    }
    println!("{rounds} applies, {cut} of them cut off");
    let share = f64::from(cut) / f64::from(rounds);
    ensure!((0.1..0.9).contains(&share), "{cut} of {rounds} were cut off: the moments are wrong");
    Ok(())
}

/// When to kill: from before an apply begins to after it ended. How long it takes depends on what else the machine does,
/// so the spread follows it, and about every other apply ends before.
pub(super) struct Moments {
    pub(super) random: Random,
    pub(super) spread: Duration,
}

impl Moments {
    pub(super) fn next(&mut self) -> Duration {
        self.spread.mul_f64(self.random.below(1_000) as f64 / 1_000.0)
    }

    pub(super) fn learn(&mut self, answered: bool) {
        self.spread = self.spread.mul_f64(if answered { 2.0 / 3.0 } else { 1.5 });
    }
}

/// Two policies that move together: of two devices in two segments.
fn change(port: u16) -> ApplyRequest {
    let pumps = firmware(port)
        .replace("name: firmware", "name: tie")
        .replace("segment: ev-chargers", "segment: pumps");
    let text = format!("{}---\n{pumps}", firmware(port));
    ApplyRequest { files: vec![NamedText { name: "change.yaml".into(), text }], ..ApplyRequest::default() }
}

fn apply(host: &Host, port: u16) -> Result<()> {
    Client::connect(&host.socket)?.post::<ApplyReply>(path::APPLY, &change(port)).map(|_| ())
}

/// Kills the agent `after` an apply was sent; true if it answered before.
fn killed_apply(host: &mut Host, port: u16, after: Duration) -> Result<bool> {
    let socket = host.socket.clone();
    let client = Client::connect(&socket)?;
    let asked = std::thread::spawn(move || client.post::<ApplyReply>(path::APPLY, &change(port)).is_ok());
    std::thread::sleep(after);
    host.kill()?;
    asked.join().map_err(|_| anyhow::anyhow!("the client panicked"))
}

fn status(host: &Host) -> Result<Status> {
    let until = Instant::now() + PATIENCE;
    loop {
        let status: Status = Client::connect(&host.socket)?.get(path::STATUS, &())?;
        if status.interfaces.iter().all(|interface| interface.mode.is_some()) {
            return Ok(status);
        }
        ensure!(Instant::now() < until, "not every interface is guarded: {status:?}");
    }
}

/// The one port that both accepted policies name.
fn accepted(host: &Host) -> Result<u16> {
    let objects: Vec<Object> = Client::connect(&host.socket)?.get(path::OBJECTS, &())?;
    let names = |port: u16| {
        let of = |object: &&Object| matches!(object.name.as_str(), "firmware" | "tie");
        objects.iter().filter(of).filter(|object| object.text.contains(&format!("tcp/{port}"))).count()
    };
    match PORTS.map(names) {
        [2, 0] => Ok(PORTS[0]),
        [0, 2] => Ok(PORTS[1]),
        counts => anyhow::bail!("neither wholly old nor wholly new: {counts:?} policies are accepted"),
    }
}

/// The one port that both devices get through to; any mixture is an error.
///
/// Nothing changes while this is asked, and a busy machine may be too slow for a probe: what was not reached is asked
/// again, and what was reached once counts.
fn enforced(host: &Host) -> Result<u16> {
    let (until, mut open) = (Instant::now() + PATIENCE, BTreeSet::new());
    loop {
        open.extend(reached(host)?);
        match open.iter().copied().collect::<Vec<_>>()[..] {
            [("charger-1", a), ("pump-1", b)] if a == b => return Ok(a),
            [] | [_] if Instant::now() < until => {}
            _ => anyhow::bail!("neither wholly old nor wholly new: {open:?} are open"),
        }
    }
}

/// Which devices get through to which ports now.
fn reached(host: &Host) -> Result<Vec<(&'static str, u16)>> {
    let asked = ["charger-1", "pump-1"].iter().flat_map(|device| PORTS.map(|port| (*device, port)));
    std::thread::scope(|scope| {
        let asked: Vec<_> = asked
            .map(|(device, port)| {
                (device, port, scope.spawn(move || host.reaches(device, SERVER.v4.into(), port)))
            })
            .collect();
        asked
            .into_iter()
            .filter_map(|(device, port, reached)| match reached.join() {
                Ok(Ok(true)) => Some(Ok((device, port))),
                Ok(Ok(false)) => None,
                Ok(Err(error)) => Some(Err(error)),
                Err(_) => Some(Err(anyhow::anyhow!("a probe panicked"))),
            })
            .collect()
    })
}
