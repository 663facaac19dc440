//! `CAP_BPF`: the loaded XDP program and the engine on the host agree on every frame.

#[path = "datapath/addresses.rs"]
mod addresses;
#[path = "datapath/attached.rs"]
mod attached;
#[path = "datapath/beside.rs"]
mod beside;
#[path = "datapath/counters.rs"]
mod counters;
#[path = "datapath/egress.rs"]
mod egress;
#[path = "datapath/express.rs"]
mod express;
#[path = "datapath/forward.rs"]
mod forward;
#[path = "datapath/isolated.rs"]
mod isolated;
#[path = "datapath/links.rs"]
mod links;
#[path = "datapath/replay.rs"]
mod replay;
#[path = "datapath/stress.rs"]
mod stress;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use bulkhead::tables::Image;
use bulkhead_common::abi::Flow;
use bulkhead_common::abi::counter::{Count, Counters};
use bulkhead_common::abi::event::Event;
use bulkhead_common::case::Case;
use bulkhead_common::verdict::{Pass, Verdict};
use bytemuck::Zeroable as _;
use tests::compare::hex;
use tests::generate::{Random, Shot, Traffic, World, seed, volume};
use tests::kernel::{Kernel, SHORTEST, XDP_DROP, XDP_PASS, geometry, privilege};
use tests::lies::TableLie;

/// Frames that kernel and host must agree on, and how many of them one world has.
const VOLUME: usize = 110_000;
const FRAMES: usize = 500;
/// The same on an emulated processor, which `cargo xtask vm` has.
const VOLUME_EMULATED: usize = 5_000;
/// There, for each lie the program is loaded again, which takes as long as all other tests; and frames that notice one
/// on a fast processor notice it on any.
const LIES_EMULATED: usize = 2;
/// Room for every flow of a world.
const ROOM: u32 = 1024;
/// Too little room for most worlds.
const NO_ROOM: u32 = 8;

/// Worlds in which a lie must have been noticed. The rarest needs a rule that opens a LAN, a caller that it names, and
/// one of the frames that are drawn between the two.
const PATIENCE: u32 = 600;

/// Interfaces that have counters; the others share those of interface 0.
const COUNTED: [u32; 4] = [11, 12, 21, 31];

#[test]
fn kernel_and_host_agree() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let mut tally = Tally::default();
    let mut pair = Pair::load(ROOM)?;
    let mut random = Random::new(seed(2));
    let worlds = volume(if is_emulated() { VOLUME_EMULATED } else { VOLUME }).div_ceil(FRAMES);
    for _ in 0..worlds {
        let world = World::draw(&mut random);
        pair.agree_on(&world, random.next(), FRAMES, &mut tally).with_context(|| world.text.clone())?;
    }
    eprintln!("{worlds} policies, {tally}");
    ensure!(tally.frames >= (worlds * FRAMES) as u64, "too few to be sure");
    ensure!(tally.events * 2 > tally.reports, "most reports were suppressed, so not compared");
    Ok(())
}

#[test]
fn kernel_and_host_agree_when_the_flow_table_is_full() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let mut tally = Tally::default();
    let mut pair = Pair::load(NO_ROOM)?;
    let mut random = Random::new(seed(3));
    for number in 0..200 {
        // Few worlds fill it, and a run in which none has shows nothing.
        if number >= 20 && tally.verdicts.contains_key("flow_table_full") {
            break;
        }
        let world = World::draw(&mut random);
        pair.agree_on(&world, random.next(), 300, &mut tally).with_context(|| world.text.clone())?;
    }
    eprintln!("{tally}");
    ensure!(tally.verdicts.contains_key("flow_table_full"), "there was room all the time");
    Ok(())
}

#[test]
fn a_kernel_with_other_tables_is_noticed() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let mut pair = Pair::load(ROOM)?;
    let some = if is_emulated() { LIES_EMULATED } else { usize::MAX };
    for lie in TableLie::ALL.into_iter().filter(|lie| *lie != TableLie::OwnSwapped).take(some) {
        let mut random = Random::new(5);
        let mut worlds = 1;
        while pair.agrees_with(lie, &World::draw(&mut random), random.next())? {
            worlds += 1;
            ensure!(worlds <= PATIENCE, "nobody noticed {lie:?}");
        }
        eprintln!("{lie:?}: noticed in world {worlds}");
        // The counters stopped at the difference.
        pair = Pair::load(ROOM)?;
    }
    Ok(())
}

fn is_emulated() -> bool {
    std::env::var_os("BULKHEAD_EMULATED").is_some()
}

/// What was compared.
#[derive(Default)]
struct Tally {
    frames: u64,
    flows: usize,
    reports: u64,
    events: u64,
    verdicts: BTreeMap<&'static str, u64>,
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { frames, flows, reports, events, verdicts } = self;
        write!(f, "{frames} frames, {flows} flows, {events} of {reports} events: {verdicts:?}")
    }
}

/// The loaded program, and what its counters must say.
struct Pair {
    kernel: Kernel,
    room: u32,
    counters: BTreeMap<u32, Counters>,
}

/// What the host says of a frame.
struct Expected {
    verdict: Verdict,
    case: Case,
}

impl Pair {
    fn load(room: u32) -> Result<Self> {
        let mut kernel = Kernel::load(room)?;
        COUNTED.into_iter().try_for_each(|ifindex| kernel.count_on(ifindex))?;
        let all = COUNTED.into_iter().chain([0]);
        let counters = all.map(|ifindex| (ifindex, Counters::zeroed())).collect();
        Ok(Self { kernel, room, counters })
    }

    /// Judges a world's traffic twice.
    fn agree_on(&mut self, world: &World, seed: u64, frames: usize, tally: &mut Tally) -> Result<()> {
        let image = Image::new(&world.compiled.tables).with_flows(geometry(self.room));
        self.kernel.fill(image.layout())?;
        self.agree_in(world, &image, seed, frames, tally)
    }

    /// True if the traffic of a world does not tell the kernel's tables, with a lie in them, from the world's own.
    fn agrees_with(&mut self, lie: TableLie, world: &World, seed: u64) -> Result<bool> {
        let image = Image::new(&world.compiled.tables).with_flows(geometry(self.room));
        self.kernel.fill(Image::new(&lie.told(&world.compiled.tables)).layout())?;
        Ok(self.agree_in(world, &image, seed, FRAMES, &mut Tally::default()).is_ok())
    }

    /// Judges a world's traffic by an image and by the tables that the kernel has.
    fn agree_in(
        &mut self,
        world: &World,
        image: &Image,
        seed: u64,
        frames: usize,
        tally: &mut Tally,
    ) -> Result<()> {
        // Who sent what leaves, XDP cannot tell; the program for that is compared in egress.rs.
        let traffic =
            Traffic::new(world, seed).filter(|shot| shot.bytes.len() >= SHORTEST && !shot.from_host);
        for shot in traffic.take(frames) {
            image.set_now(shot.now, shot.boot());
            image.sweep_flows();
            self.kernel.flow_table().sweep(shot.now);
            let (verdict, case) = shot.judged(image);
            *tally.verdicts.entry(verdict.as_str()).or_default() += 1;
            let expected = Expected { verdict, case };
            self.agree_on_frame(&shot, &expected, tally).with_context(|| {
                let Shot { now, ifindex, bytes, .. } = &shot;
                format!("interface {ifindex} at {now} ns: {}\nhost {verdict:?} {case:?}", hex(bytes))
            })?;
        }
        let ours: BTreeMap<_, Flow> = image.flows().into_iter().map(|flow| (flow.key, flow)).collect();
        let theirs = self.kernel.flows();
        ensure!(ours == theirs, "flows differ: host {ours:#?}\nkernel {theirs:#?}");
        tally.flows += ours.len();
        Ok(())
    }

    fn agree_on_frame(&mut self, shot: &Shot, expected: &Expected, tally: &mut Tally) -> Result<()> {
        let before = self.kernel.event_counters()?;
        self.kernel.enter(shot.ifindex, shot.now, shot.boot())?;
        let answer = self.kernel.runner()?.run(&shot.bytes)?;
        tally.frames += 1;
        let wanted = if expected.verdict.passes() { XDP_PASS } else { XDP_DROP };
        ensure!(answer == wanted, "XDP answers {answer}");
        self.agree_on_counters(shot, expected)?;
        let after = self.kernel.event_counters()?;
        let refused = expected.verdict.refusal().is_some();
        let told_of = [Verdict::Pass(Pass::Opened), Verdict::Pass(Pass::WitnessAlarm)];
        let reported = refused || told_of.contains(&expected.verdict);
        let told = after.sent + after.suppressed - before.sent - before.suppressed;
        ensure!(
            told == u64::from(reported) && after.lost == before.lost,
            "{told} events, {before:?}, {after:?}"
        );
        let events = self.kernel.events();
        ensure!(events.len() as u64 == after.sent - before.sent, "{} events in the ring", events.len());
        tally.reports += told;
        tally.events += events.len() as u64;
        for event in events {
            let wanted = record(shot, expected);
            ensure!(event == wanted, "the event is {event:?}\ninstead of {wanted:?}");
        }
        Ok(())
    }

    /// Exactly one packet more was received, and counted for the verdict.
    fn agree_on_counters(&mut self, shot: &Shot, expected: &Expected) -> Result<()> {
        let verdict = expected.verdict;
        let ifindex = if COUNTED.contains(&shot.ifindex) { shot.ifindex } else { 0 };
        let counters = self.counters.entry(ifindex).or_insert_with(Counters::zeroed);
        let bytes = shot.bytes.len() as u64;
        let cell = match verdict {
            Verdict::Pass(pass) => &mut counters.passed[pass as usize],
            Verdict::Drop(reason) => &mut counters.dropped[reason as usize],
            Verdict::Observe(reason) => &mut counters.observed[reason as usize],
        };
        for count in [cell, &mut counters.received] {
            *count = Count { packets: count.packets + 1, bytes: count.bytes + bytes };
        }
        if let Some(way) = forward::way(&shot.bytes, &expected.case, verdict) {
            let count = &mut counters.ways[way as usize];
            *count = Count { packets: count.packets + 1, bytes: count.bytes + bytes };
        }
        let counted = self.kernel.counters(ifindex)?;
        ensure!(counted == *counters, "counters: host {counters:?}\nkernel {counted:?}");
        let (passed, dropped) = (counted.passed_total(), counted.dropped_total());
        ensure!(counted.received.packets == passed.packets + dropped.packets, "not every packet was judged");
        Ok(())
    }
}

/// The event that a verdict must have left.
fn record(shot: &Shot, expected: &Expected) -> Event {
    let Expected { verdict, case } = expected;
    let Case { packet, evidence, .. } = case;
    Event {
        time: shot.now,
        generation: case.epoch.generation,
        ifindex: shot.ifindex,
        network: evidence.network,
        device: evidence.device,
        peer: evidence.peer,
        rule: evidence.rule,
        source: packet.source,
        destination: packet.destination,
        source_port: packet.source_port,
        destination_port: packet.destination_port,
        outer_vlan: packet.outer_vlan,
        inner_vlan: packet.inner_vlan,
        length: shot.bytes.len() as u32,
        tunnel_peer: packet.tunnel_peer,
        teid: packet.teid,
        ether_type: packet.ether_type,
        source_mac: packet.source_mac,
        verdict: verdict.code(),
        protocol: packet.protocol,
        detail: packet.detail,
        direction: evidence.direction as u8,
        kind: packet.kind as u8,
        _pad: [0; 2],
    }
}
