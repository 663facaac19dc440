//! The short way against the whole one and the oracle: the same policies and frames, once with and once without it. Verdicts
//! and flows must be the same, word for word; and a short way that is wrong must be noticed.

use std::collections::VecDeque;

use bulkhead::reconcile::{Memory, Reconciler};
use bulkhead_common::abi::{DeviceId, Epoch, Flow, NetworkId};
use bulkhead_common::case::{Case, Course};
use bulkhead_common::decide::Tables as _;
use bulkhead_common::ends::Ends;
use bulkhead_common::express;
use bulkhead_common::frame::Window;
use bulkhead_common::parse::{self, Kind};
use bulkhead_common::plain::Plain;
use bulkhead_common::tunnel::Tunnels as _;
use bulkhead_common::verdict::{Pass, Verdict};
use bulkhead_common::wire::ip_proto;
use tests::compare::{difference, hex, in_words};
use tests::frame::{FIN, RST, SYN};
use tests::generate::{Random, Shot, Traffic, World, seed, volume};
use tests::oracle::Oracle;

use lying::{Entry, LIES, Lie, Lying};

#[path = "express/ends.rs"]
mod ends;
#[path = "express/lying.rs"]
mod lying;
#[path = "express/opening.rs"]
mod opening;
#[path = "express/tunnels.rs"]
mod tunnels;

/// Frames of the stream that both ways must agree on; policies that follow one another, and the frames of each.
const VOLUME: usize = 20_000;
const POLICIES: usize = 3;
const FRAMES: usize = 100;
/// Frames of a world where only reading them is compared.
const MANY: usize = 1_000;
/// Packets that passed and come again, after so many frames.
const REMEMBERED: usize = 16;
const OFTEN: usize = 25;
/// Worlds of which one is taken.
const CHOICE: usize = 5;

#[test]
fn the_short_way_says_and_does_what_the_whole_one_does() {
    let mut random = Random::new(seed(23));
    let mut tally = Tally::default();
    for _ in 0..volume(VOLUME).div_ceil(POLICIES * FRAMES) {
        tally.add(follow(&drawn(&mut random), random.next(), None).unwrap_or_else(|told| panic!("{told}")));
    }
    eprintln!("{tally:?}");
    let Tally { frames, short, down, changed, tunnelled, refused, begun, .. } = tally;
    let short = short - refused - begun;
    assert!(short * 100 > frames, "too few took the short way");
    assert!(
        down * 1000 > frames
            && changed * 200 > frames
            && refused * 1000 > frames
            && begun * 500 > frames
            && tunnelled * 200 > frames,
        "some of it was hardly tried"
    );
}

#[test]
fn a_wrong_short_way_is_noticed() {
    super::all_noticed(&LIES, |lie, _, seed| {
        let mut random = Random::new(seed);
        follow(&drawn(&mut random), random.next(), Some(lie)).err()
    });
}

#[test]
fn what_is_plain_is_read_as_the_parser_reads_it() {
    let mut random = Random::new(seed(24));
    let (mut plain, mut frames) = (0, 0);
    for _ in 0..volume(VOLUME).div_ceil(MANY) {
        let world = World::draw(&mut random);
        for mut shot in Traffic::new(&world, random.next()).take(MANY) {
            // Cut off, or with a wrong bit, where the headers lie.
            let at = usize::try_from(random.next() % 80).unwrap_or_default();
            match random.next() % 3 {
                0 => shot.bytes.truncate(at.max(1)),
                1 => shot.bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << (at % 8)),
                _ => {}
            }
            plain += u32::from(is_plain_and_parsed_alike(&shot));
            frames += 1;
        }
    }
    assert!(plain * 10 > frames, "{plain} of {frames} frames were plain");
}

/// True if the frame is plain; fails if the parser reads something else in it.
fn is_plain_and_parsed_alike(shot: &Shot) -> bool {
    let Some(plain) = Plain::load(&*shot.bytes, &shot.arrival()) else { return false };
    let mut case = Case::new(Epoch::default(), shot.arrival());
    let parsed = parse::link(&*shot.bytes, &mut case).and_then(|()| parse::network(&*shot.bytes, &mut case));
    let packet = &case.packet;
    assert_eq!(parsed, Ok(()), "{}", hex(&shot.bytes));
    let key = |ends: Ends<'_>| ends.key(NetworkId(1), DeviceId(2), true);
    assert_eq!(key(plain.ends()), key(Ends::of(packet)), "{}", hex(&shot.bytes));
    assert_eq!((plain.vlan, 0), (packet.outer_vlan, packet.inner_vlan), "{}", hex(&shot.bytes));
    let flags = if packet.protocol == ip_proto::TCP { packet.detail } else { 0 };
    let told = (packet.kind, packet.options, packet.piece.is_fragment(), flags);
    assert_eq!(told, (Kind::Ports, 0, false, plain.flags), "{}", hex(&shot.bytes));
    assert_eq!(plain.turns(), flags & (SYN | FIN | RST) != 0);
    true
}

/// What happened.
#[derive(Debug, Default)]
struct Tally {
    frames: u32,
    short: u32,
    /// Of these, from the outside.
    down: u32,
    /// Of these, under another policy than the first.
    changed: u32,
    /// Of these, in tunnels.
    tunnelled: u32,
    /// Of these, refused.
    refused: u32,
    /// Of these, first of a flow.
    begun: u32,
    /// That have been in force.
    policies: u32,
}

impl Tally {
    fn count(&mut self, judged: &Judged, case: &Case) {
        let short = u32::from(judged.short);
        self.frames += 1;
        self.short += short;
        self.down += short * u32::from(matches!(case.course, Course::Downlink));
        self.changed += short * u32::from(self.policies > 0);
        self.tunnelled += short * u32::from(case.packet.teid != 0);
        self.refused += short * u32::from(!judged.verdict.passes());
        self.begun += short * u32::from(judged.verdict == Verdict::Pass(Pass::Opened));
    }

    fn add(&mut self, other: Self) {
        self.frames += other.frames;
        self.short += other.short;
        self.down += other.down;
        self.changed += other.changed;
        self.tunnelled += other.tunnelled;
        self.refused += other.refused;
        self.begun += other.begun;
        self.policies += other.policies;
    }
}

/// Policies that follow one another. Half of the first ones are those of several that leave the most to the short way.
fn drawn(random: &mut Random) -> Vec<World> {
    let choice = if random.chance(50) { CHOICE } else { 1 };
    let first = (0..choice).map(|_| World::draw(random)).max_by_key(carefree);
    let next = |last: &mut Option<World>, _| {
        let world = last.take()?;
        *last = Some(world.redrawn(random));
        Some(world)
    };
    (0..POLICIES).scan(first, next).collect()
}

/// How many devices may call somebody, and have neither a limit nor anything that ends by a clock.
fn carefree(world: &World) -> usize {
    let tables = &world.compiled.tables;
    let steady = tables.devices.values().filter(|device| device.quarantine == 0 && device.aged_at == 0);
    let rules = steady.filter_map(|device| tables.profiles.get(&device.profile));
    rules
        .filter(|rules| rules.limits.is_none() && rules.windows.is_empty() && !rules.outbound.is_empty())
        .count()
}

/// Lets policies follow one another under one stream of frames, which is judged three times.
fn follow(worlds: &[World], seed: u64, lie: Option<Lie>) -> Result<Tally, String> {
    let first = worlds.first().ok_or("there is no world")?;
    let mut judges = Judges::new(first, lie)?;
    let mut traffic = Traffic::new(first, seed).filter(Shot::enters);
    let mut passed = VecDeque::new();
    for world in worlds {
        judges.apply(world)?;
        for (number, shot) in traffic.by_ref().take(FRAMES).enumerate() {
            if number % OFTEN == 0 {
                // What passed comes again, at the time of the frame that is next: under another policy, or answered.
                let again = passed.iter().map(|passed: &Shot| Shot { now: shot.now, ..passed.clone() });
                judges.agree_on(&again.collect::<Vec<_>>(), world)?;
            }
            let (verdict, case) = judges.agree(&shot, world)?;
            if verdict.passes() && is_plain(&shot, &case) {
                judges.agree_on(&around(&shot, &case), world)?;
                passed.push_back(shot);
                passed.drain(..passed.len().saturating_sub(REMEMBERED));
            }
        }
        if judges.whole.memory.flows() != judges.short.memory.flows() {
            return Err(format!("different things of flows\n{}", world.text));
        }
        if judges.whole.tunnels() != judges.short.tunnels() {
            return Err(format!("different things of tunnels\n{}", world.text));
        }
        judges.tally.policies += 1;
    }
    Ok(judges.tally)
}

/// Both ways and the oracle, side by side.
struct Judges<'w> {
    whole: Side,
    short: Side,
    oracle: Oracle<'w>,
    lie: Option<Lie>,
    tally: Tally,
}

impl<'w> Judges<'w> {
    fn new(world: &'w World, lie: Option<Lie>) -> Result<Self, String> {
        let oracle = Oracle::new(&world.policy, &world.agent, &world.host);
        Ok(Self { whole: Side::new()?, short: Side::new()?, oracle, lie, tally: Tally::default() })
    }

    fn apply(&mut self, world: &'w World) -> Result<(), String> {
        self.oracle.change_policy(&world.policy);
        self.oracle.change_quarantine(&world.shut);
        self.whole.apply(world)?;
        self.short.apply(world)
    }

    fn agree_on(&mut self, shots: &[Shot], world: &World) -> Result<(), String> {
        shots.iter().try_for_each(|shot| self.agree(shot, world).map(drop))
    }

    fn agree(&mut self, shot: &Shot, world: &World) -> Result<(Verdict, Case), String> {
        let (verdict, case) = self.whole.judge(shot);
        let judged = self.short.judge_shortly(shot, &case, self.lie);
        self.tally.count(&judged, &case);
        if verdict != judged.verdict {
            let both = format!("{verdict:?} and {:?}", judged.verdict);
            let Shot { ifindex, bytes, .. } = shot;
            return Err(format!("the two ways say {both} of {} at {ifindex}\n{}", hex(bytes), world.text));
        }
        let ours = in_words(verdict, &case.evidence, &world.compiled.catalogue);
        let theirs = self.oracle.judge(shot);
        if ours != theirs {
            return Err(format!("they differ {}\n{}", difference(shot, &ours, &theirs), world.text));
        }
        Ok((verdict, case))
    }
}

/// True if the short way could read what the whole one has read: a plain packet, or one in a tunnel.
fn is_plain(shot: &Shot, case: &Case) -> bool {
    let Some(plain) = Plain::load(&*shot.bytes, &shot.arrival()) else { return false };
    case.packet.teid == 0 || {
        let inside = Window::new(&*shot.bytes, case.end);
        inside.is_some_and(|inside| Plain::inside(&inside, case.at, plain.vlan).is_some())
    }
}

/// A frame until it may have been vouched for, and then frames that differ from it in one thing each.
fn around(shot: &Shot, case: &Case) -> Vec<Shot> {
    let again = |bytes: Vec<u8>| Shot { bytes, ..shot.clone() };
    let with = |at: usize, change: u8| {
        let mut bytes = shot.bytes.clone();
        bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= change);
        again(bytes)
    };
    let ip = case.at as usize;
    let (header, address) = if shot.bytes[ip] >> 4 == 4 { (20, 15) } else { (40, 23) };
    let elsewhere = PLACES.map(|ifindex| Shot { ifindex, ..shot.clone() });
    // Nobody answers through a tunnel.
    let question = taken_out(&shot.bytes, case);
    let start = network_at(&question);
    let answer = again(answered(&question, start + header, start + address + 1));
    let mut shots = vec![shot.clone(), shot.clone()];
    for _ in 0..2 {
        shots.extend(CORES.map(|ifindex| Shot { ifindex, ..answer.clone() }));
        shots.push(shot.clone());
    }
    // The MAC address, the source, the ports, a fragment's flag or the next header, an option.
    shots.extend(
        [(11, 1), (ip + address, 1), (ip + header + 1, 1), (ip + 6, 0x20), (ip, 1)]
            .map(|(at, bit)| with(at, bit)),
    );
    // From other ports, each twice: flows of their own.
    shots.extend([2, 4, 8].into_iter().flat_map(|bit| [(); 2].map(|()| with(ip + header, bit))));
    shots.extend(elsewhere);
    shots.push(shot.clone());
    if case.packet.teid != 0 {
        let outer = network_at(&shot.bytes);
        let (header, peer, own) = if shot.bytes[outer] >> 4 == 4 { (20, 15, 19) } else { (40, 23, 39) };
        let gtpu = outer + header + 8;
        // Peer and endpoint, a fragment's flag or the next header, the port; version, message, length and TEID.
        let outside = [(outer + peer, 0x80), (outer + own, 1), (outer + 6, 0x20), (gtpu - 5, 1)];
        let header = [(gtpu, 0x20), (gtpu + 1, 1), (gtpu + 2, 1), (gtpu + 7, 1), (gtpu + 7, 1)];
        shots.extend(outside.into_iter().chain(header).map(|(at, bit)| with(at, bit)));
        shots.extend([again(question), shot.clone()]);
    }
    // FIN last: the connection ends. Of UDP it is a byte of the payload.
    shots.extend([with(ip + header + 13, 1), shot.clone()]);
    shots
}

/// Where frames of a world enter, and those of the outside.
const PLACES: [u32; 3] = [11, 12, 21];
const CORES: [u32; 2] = [21, 31];

/// Where what follows the Ethernet header begins, behind one tag at most.
fn network_at(bytes: &[u8]) -> usize {
    14 + if matches!(bytes[12..14], [0x81, 0] | [0x88, 0xa8]) { 4 } else { 0 }
}

/// The frame without its tunnel, if it has one.
fn taken_out(bytes: &[u8], case: &Case) -> Vec<u8> {
    match case.packet.teid {
        0 => bytes.to_vec(),
        _ => [&bytes[..12], &case.packet.ether_type.to_be_bytes(), &bytes[case.at as usize..]].concat(),
    }
}

/// A frame with its ends exchanged: the addresses on both sides of `middle`, which end where the ports begin, and those.
fn answered(bytes: &[u8], ports: usize, middle: usize) -> Vec<u8> {
    let mut answer = bytes.to_vec();
    let address = ports - middle;
    for (first, second, length) in [(middle - address, middle, address), (ports, ports + 2, 2)] {
        (0..length).for_each(|at| answer.swap(first + at, second + at));
    }
    answer
}

/// Tables and flows of one way.
struct Side {
    memory: Memory,
    reconciler: Reconciler,
}

struct Judged {
    verdict: Verdict,
    short: bool,
}

impl Side {
    fn new() -> Result<Self, String> {
        let mut memory = Memory::new(super::CAPACITY);
        let reconciler = Reconciler::observe(&mut memory).map_err(|error| format!("{error:#}"))?;
        Ok(Self { memory, reconciler })
    }

    fn apply(&mut self, world: &World) -> Result<(), String> {
        let applied = self.reconciler.apply(&mut self.memory, &world.compiled.tables);
        applied.map(|_| ()).map_err(|error| format!("{error:#}"))
    }

    /// The tunnel that each address came through last.
    fn tunnels(&self) -> Vec<Option<u64>> {
        (0..super::CAPACITY.addresses).map(|slot| self.memory.tunnel(slot)).collect()
    }

    fn at(&self, shot: &Shot) {
        self.memory.set_now(shot.now, shot.boot());
        self.memory.sweep_flows();
    }

    fn judge(&self, shot: &Shot) -> (Verdict, Case) {
        self.at(shot);
        shot.judged(&self.memory)
    }

    /// As the attached program does; `known` is what the whole way makes of it, for lies to be told with.
    fn judge_shortly(&self, shot: &Shot, known: &Case, lie: Option<Lie>) -> Judged {
        self.at(shot);
        let frame = seen(shot, known, lie);
        // Either order comes to the same.
        let flood = frame.len() % 2 == 1;
        let entry = Entry { place: place(shot), teid: known.packet.teid, flood };
        let lying = Lying::new(&self.memory, lie, entry);
        match express::express(&*frame, &lying, lying.epoch(), &shot.arrival()) {
            Ok(None) => {}
            Ok(Some(pass)) => return Judged { verdict: Verdict::Pass(pass), short: true },
            Err(reason) => return Judged { verdict: Verdict::Drop(reason), short: true },
        }
        let (verdict, case) = shot.judged(&self.memory);
        if verdict.passes() {
            self.vouch_wrongly(&lying, case);
        }
        Judged { verdict, short: false }
    }

    fn vouch_wrongly(&self, lying: &Lying<'_>, mut case: Case) {
        match lying.lie {
            Some(Lie::Steady) => case.identity.device.steady = 1,
            Some(Lie::Limits | Lie::Timed) => {}
            _ => return,
        }
        if express::may_vouch(&case) {
            express::vouch(lying, &case);
        }
    }
}

/// The word of the place that a frame enters by.
fn place(shot: &Shot) -> u64 {
    let plain = Plain::load(&*shot.bytes, &shot.arrival());
    plain.map_or(0, |plain| Flow::access_word(shot.ifindex, plain.vlan, 0))
}

/// The frame as the short way sees it.
fn seen(shot: &Shot, known: &Case, lie: Option<Lie>) -> Vec<u8> {
    let mut bytes = shot.bytes.clone();
    if lie == Some(Lie::Flags) && known.packet.protocol == ip_proto::TCP {
        bytes.get_mut(known.packet.transport as usize + 13).into_iter().for_each(|flags| *flags &= !0x07);
    }
    bytes
}
