//! A candidate beside the enforced program: both loaded, over random worlds; the host says what must be counted.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use bulkhead::tables::{Beside, Image};
use bulkhead_common::abi::counter::{CandidateCounters, EVENTS_PER_BUCKET, Would};
use bulkhead_common::abi::{Flow, map};
use bulkhead_common::candidate::{Comparison, Decided, Outcome};
use bulkhead_common::verdict::DropReason;
use bytemuck::Zeroable as _;
use tests::compare::hex;
use tests::frame::eth;
use tests::generate::{Random, Shot, Traffic, World, seed, volume};
use tests::kernel::pair::Pair;
use tests::kernel::{SHORTEST, XDP_DROP, XDP_PASS, geometry, privilege};

use super::{ROOM, VOLUME_EMULATED, is_emulated};

const VOLUME: usize = 20_000;
const FRAMES: usize = 400;
const ACC0: u32 = 11;
const SECOND: u64 = 1_000_000_000;

/// What the candidate must have counted.
struct Wanted {
    all: CandidateCounters,
    devices: BTreeMap<u32, Would>,
    rules: BTreeMap<u32, Would>,
}

impl Wanted {
    fn count(&mut self, outcome: &Outcome) {
        let all = &mut self.all;
        all.judged += 1;
        *match outcome.comparison {
            Comparison::Same => &mut all.same,
            Comparison::Unknowable => &mut all.unknowable,
            Comparison::WouldPass(reason) => &mut all.would_pass[reason as usize],
            Comparison::WouldDrop(reason) => &mut all.would_drop[reason as usize],
        } += 1;
        let (pass, drop) = match outcome.comparison {
            Comparison::Same | Comparison::Unknowable => return,
            Comparison::WouldPass(_) => (1, 0),
            Comparison::WouldDrop(_) => (0, 1),
        };
        let rows = [(&mut self.devices, outcome.device.0), (&mut self.rules, outcome.rule.0)];
        for (counts, number) in rows {
            let would = counts.entry(number).or_default();
            (would.pass, would.drop) = (would.pass + pass, would.drop + drop);
        }
    }
}

#[test]
fn a_candidate_counts_what_the_host_says_and_changes_nothing() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let mut pair = Pair::load(ROOM)?;
    let (all, devices, rules) = (CandidateCounters::zeroed(), BTreeMap::new(), BTreeMap::new());
    let mut wanted = Wanted { all, devices, rules };
    let mut random = Random::new(seed(63));
    let worlds = volume(if is_emulated() { VOLUME_EMULATED } else { VOLUME }).div_ceil(FRAMES);
    for _ in 0..worlds {
        let enforced = World::draw(&mut random);
        let candidate = enforced.redrawn(&mut random);
        agree_on(&mut pair, [&enforced, &candidate], random.next(), &mut wanted)
            .with_context(|| format!("{}\n---\n{}", enforced.text, candidate.text))?;
    }
    for (name, counts) in [(map::WOULD_DEVICES, &wanted.devices), (map::WOULD_RULES, &wanted.rules)] {
        for (number, would) in counts {
            let counted = pair.candidate.would(name, *number)?;
            ensure!(counted == *would, "{name} {number}: {counted:?} instead of {would:?}");
        }
    }
    let Would { pass, drop } = wanted.all.would();
    eprintln!("{worlds} pairs of policies: would pass {pass}, would drop {drop}");
    ensure!(pass > 0 && drop > 0 && wanted.all.unknowable > 0, "too few to be sure");
    Ok(())
}

/// A network with one device.
fn with_device(address: &str) -> World {
    World::written(&format!(
        "{NETWORK}---\napiVersion: bulkhead/v1\nkind: Device\nmetadata: {{name: charger}}\n\
         spec: {{network: acme, addresses: [{address}]}}\n"
    ))
}

const NETWORK: &str = r#"
apiVersion: bulkhead/v1
kind: Network
metadata: {name: acme}
spec: {seenOn: [{interface: acc0}, {interface: core0}], pools: [10.45.0.0/16]}
---
apiVersion: bulkhead/v1
kind: Policy
metadata: {name: charging}
spec:
  subject: {device: charger}
  allow: [{name: log, to: {cidrs: [203.0.113.10]}, ports: [udp/514]}]
"#;

#[test]
fn a_candidate_that_knows_who_floods_is_told_of_every_drop() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let mut pair = Pair::load(ROOM)?;
    let images = ["10.45.0.17", "10.45.0.99"].map(with_device);
    let [enforced, candidate] =
        images.each_ref().map(|world| Image::new(&world.compiled.tables).with_flows(geometry(ROOM)));
    pair.candidate.fill(candidate.layout())?;
    pair.enforced.fill(enforced.layout())?;
    for kernel in [&mut pair.candidate, &mut pair.enforced] {
        kernel.enter(ACC0, SECOND, SECOND)?;
    }
    let sent_by =
        |last| eth().ip([10, 45, 0, last], [203, 0, 113, 10]).udp(50_000, 514).payload(b"?").build();
    let (known, strange) = (sent_by(17), sent_by(99));
    let flood = 4 * EVENTS_PER_BUCKET;
    for _ in 0..flood {
        // One that passes before each, so that nothing is left of what the candidate was told of the last.
        ensure!(pair.enforced.runner()?.run(&known)? == XDP_PASS, "a candidate has shut somebody out");
        ensure!(pair.enforced.runner()?.run(&strange)? == XDP_DROP, "a candidate has let somebody in");
    }
    let compared = pair.candidate.compared()?;
    let would_pass = compared.would_pass[DropReason::UnknownDevice as usize];
    ensure!(compared.judged == 2 * flood && would_pass == flood, "{compared:?} of {flood}");
    Ok(())
}

/// Judges the traffic of the first world by both.
fn agree_on(pair: &mut Pair, worlds: [&World; 2], seed: u64, wanted: &mut Wanted) -> Result<()> {
    let images = worlds.map(|world| Image::new(&world.compiled.tables).with_flows(geometry(ROOM)));
    pair.candidate.fill(images[1].layout())?;
    pair.enforced.fill(images[0].layout())?;
    let traffic =
        Traffic::new(worlds[0], seed).filter(|shot| shot.bytes.len() >= SHORTEST && !shot.from_host);
    for shot in traffic.take(FRAMES) {
        agree_on_frame(pair, [&images[0], &images[1]], &shot, wanted).with_context(|| {
            format!("interface {} at {} ns: {}", shot.ifindex, shot.now, hex(&shot.bytes))
        })?;
    }
    let ours: BTreeMap<_, Flow> = images[0].flows().into_iter().map(|flow| (flow.key, flow)).collect();
    ensure!(ours == pair.enforced.flows(), "flows differ");
    Ok(())
}

fn agree_on_frame(pair: &mut Pair, images: [&Image; 2], shot: &Shot, wanted: &mut Wanted) -> Result<()> {
    let [enforced, candidate] = images;
    [enforced, candidate].into_iter().for_each(|image| image.set_now(shot.now, shot.boot()));
    enforced.sweep_flows();
    pair.enforced.flow_table().sweep(shot.now);
    let (verdict, case) = shot.judged(enforced);
    let decided = Decided::new(verdict, &case.evidence);
    let (outcome, _) = Beside { candidate, enforced }.judge(&*shot.bytes, shot.arrival(), &decided);
    wanted.count(&outcome);
    pair.candidate.enter(shot.ifindex, shot.now, shot.boot())?;
    pair.enforced.enter(shot.ifindex, shot.now, shot.boot())?;
    let answer = pair.enforced.runner()?.run(&shot.bytes)?;
    let action = if verdict.passes() { XDP_PASS } else { XDP_DROP };
    ensure!(answer == action, "XDP answers {answer} to {verdict:?}");
    let counted = pair.candidate.compared()?;
    ensure!(counted == wanted.all, "{verdict:?}, {outcome:?}: counted {:?}", nonzero(&counted, &wanted.all));
    Ok(())
}

/// Where two differ, for people.
fn nonzero(counted: &CandidateCounters, wanted: &CandidateCounters) -> [u64; 6] {
    let [ours, theirs] = [counted, wanted].map(|counters| (counters.same, counters.unknowable));
    [ours.0, theirs.0, ours.1, theirs.1, counted.judged, wanted.judged]
}
