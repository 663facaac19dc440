//! The engine on the host against the oracle, over random policies and frames; and wrong ones of both, which must be noticed.

#[path = "model/again.rs"]
mod again;
#[path = "model/ageing.rs"]
mod ageing;
#[path = "model/beside.rs"]
mod beside;
#[path = "model/changes.rs"]
mod changes;
#[path = "model/ended.rs"]
mod ended;
#[path = "model/express.rs"]
mod express;
#[path = "model/handover.rs"]
mod handover;
#[path = "model/impact.rs"]
mod impact;
#[path = "model/limited.rs"]
mod limited;
#[path = "model/missing.rs"]
mod missing;
#[path = "model/mutated.rs"]
mod mutated;
#[path = "model/watching.rs"]
mod watching;
#[path = "model/wrapping.rs"]
mod wrapping;

use std::collections::{BTreeMap, BTreeSet};

use bulkhead::reconcile::{Capacity, Memory, Reconciler};
use bulkhead::tables::Image;
use bulkhead_common::case::Case;
use bulkhead_common::decide::Tables as _;
use bulkhead_common::parse::Kind;
use bulkhead_common::verdict::{DropReason, Pass, RefusedBy, Verdict};
use tests::compare::{difference, in_words};
use tests::generate::{Random, Shot, Traffic, World, seed, volume};
use tests::lies::{EngineLie, FrameLie, LyingEngine, LyingFrame, TableLie};
use tests::oracle::{Flaw, Oracle};

/// Frames that engine and oracle must agree on, and how many of them one world has.
const VOLUME: usize = 70_000;
const FRAMES: usize = 400;
/// Worlds in which a wrong one must have been noticed.
const PATIENCE: u64 = 1000;

type Judge<'a> = &'a dyn Fn(&Image, &Shot) -> (Verdict, Case);

/// Runs engine and oracle side by side until they differ, and says on which frame.
fn run(world: &World, image: &Image, mut oracle: Oracle<'_>, seed: u64, judge: Judge<'_>) -> Run {
    let mut run = Run::default();
    let mut now = 0;
    for shot in Traffic::new(world, seed).take(FRAMES) {
        now = shot.now;
        image.set_now(now, shot.boot());
        image.sweep_flows();
        let (verdict, case) = judge(image, &shot);
        let ours = in_words(verdict, &case.evidence, &world.compiled.catalogue);
        let theirs = oracle.judge(&shot);
        *run.reasons.entry(ours.reason).or_default() += 1;
        if let Verdict::Observe(reason) = verdict {
            *run.observed.entry(reason.as_str()).or_default() += 1;
        }
        run.kinds.insert(case.packet.kind as u8);
        if ours != theirs {
            run.difference = Some(difference(&shot, &ours, &theirs));
            return run;
        }
    }
    run.difference = totals_differ(image, &oracle, now);
    run
}

#[derive(Default)]
struct Run {
    reasons: BTreeMap<&'static str, u32>,
    /// Of these, what passed because nobody enforced it.
    observed: BTreeMap<&'static str, u32>,
    kinds: BTreeSet<u8>,
    difference: Option<String>,
}

/// What every live flow has carried must be what every conversation has.
fn totals_differ(image: &Image, oracle: &Oracle<'_>, now: u64) -> Option<String> {
    // The last packet may have ended its flow there and then.
    image.sweep_flows();
    let mut flows: Vec<_> = image.flows().iter().map(|flow| (flow.sent, flow.received)).collect();
    flows.sort_unstable();
    let conversations = oracle.totals(now);
    (flows != conversations).then(|| format!("flows carried {flows:?}\nconversations {conversations:?}"))
}

fn honest(image: &Image, shot: &Shot) -> (Verdict, Case) {
    shot.judged(image)
}

#[test]
fn engine_and_oracle_agree() {
    let mut random = Random::new(seed(1));
    let mut reasons = BTreeMap::<&str, u32>::new();
    let mut observed = BTreeMap::<&str, u32>::new();
    let mut kinds = BTreeSet::new();
    let worlds = volume(VOLUME).div_ceil(FRAMES);
    for _ in 0..worlds {
        let world = World::draw(&mut random);
        let image = Image::new(&world.compiled.tables);
        let oracle = Oracle::new(&world.policy, &world.agent, &world.host).with_quarantine(&world.shut);
        let run = run(&world, &image, oracle, random.next(), &honest);
        if let Some(difference) = run.difference {
            panic!("they differ {difference}\n{}", world.text);
        }
        run.reasons.into_iter().for_each(|(reason, count)| *reasons.entry(reason).or_default() += count);
        run.observed.into_iter().for_each(|(reason, count)| *observed.entry(reason).or_default() += count);
        kinds.extend(run.kinds);
    }
    let frames: u32 = reasons.values().sum();
    eprintln!("{frames} frames, {worlds} policies: {reasons:?}; observed {observed:?}");
    let refused = |reason: &&DropReason| reason.refused_by() != RefusedBy::Engine;
    let refusals = DropReason::ALL.iter().filter(refused).map(|reason| reason.as_str());
    let unseen = refusals.filter(|reason| !observed.contains_key(reason) && *reason != "flow_table_full");
    assert_eq!(unseen.collect::<Vec<_>>(), [""; 0], "never only observed");
    assert!(frames >= 20_000, "too few to be sure");
    let unheard = REASONS.iter().filter(|reason| !reasons.contains_key(*reason)).collect::<Vec<_>>();
    assert!(unheard.is_empty(), "never seen, so never compared: {unheard:?}");
    let all = (0..=u8::MAX).map_while(Kind::from_number).map(|kind| kind as u8);
    assert_eq!(kinds, all.collect(), "kinds of packets that were seen, and that there are");
}

#[test]
fn engine_and_oracle_agree_on_crowds_and_their_visitors() {
    let mut random = Random::new(seed(53));
    let (mut visited, mut opened) = (0, 0);
    for _ in 0..30 {
        let world = World::draw(&mut random).crowded(&mut random);
        let image = Image::new(&world.compiled.tables);
        let oracle = Oracle::new(&world.policy, &world.agent, &world.host).with_quarantine(&world.shut);
        let run = run(&world, &image, oracle, random.next(), &honest);
        if let Some(difference) = run.difference {
            panic!("they differ {difference}\n{}", world.text);
        }
        visited += u32::from(!world.policy.grants().is_empty());
        opened += run.reasons.get(Pass::Opened.as_str()).copied().unwrap_or_default();
    }
    assert!(visited > 5 && opened > 100, "{visited} worlds with grants, {opened} flows opened");
}

/// A new reason is either brought about by the frames, or it is said here what brings it about.
#[test]
fn no_reason_is_forgotten() {
    let passes = Pass::ALL.iter().map(|pass| pass.as_str());
    let mut all: Vec<&str> = passes.chain(DropReason::ALL.iter().map(|reason| reason.as_str())).collect();
    all.sort_unstable();
    let mut known: Vec<&str> = REASONS.iter().copied().chain(ELSEWHERE.map(|(reason, _)| reason)).collect();
    known.sort_unstable();
    assert_eq!(known, all);
}

/// Reasons that these frames do not bring about, and what shows them.
const ELSEWHERE: [(&str, &str); 2] = [
    ("flow_table_full", "datapath.rs, with a table too small for its world"),
    ("internal_table", "model/missing.rs, where rows are missing that the tables name"),
];

/// Enough for every generated world.
const CAPACITY: Capacity = Capacity {
    addresses: 160,
    device_rows: 128,
    profiles: 128,
    rule_sets: 256,
    ranges: 16_384,
    peers: 4096,
    ports: 32_768,
    windows: 16_384,
};

/// A flow that today's policy allows goes on, one that it does not is cut at its next packet: the
/// oracle asks the policy for every packet, the engine only where something changed.
#[test]
fn live_flows_follow_a_changed_policy() {
    let mut random = Random::new(seed(11));
    let mut established = 0;
    for _ in 0..120 {
        let first = World::draw(&mut random);
        let worlds: Vec<World> =
            (0..5).scan(first, |last, _| Some(std::mem::replace(last, last.redrawn(&mut random)))).collect();
        established += follow(&worlds, random.next()).unwrap_or_else(|difference| panic!("{difference}"));
    }
    eprintln!("{established} packets of live flows under changing policies");
    assert!(established > 1_000, "too few to be sure");
}

/// Lets the worlds' policies follow one another under one stream of traffic.
fn follow(worlds: &[World], seed: u64) -> Result<u32, String> {
    let first = worlds.first().ok_or("there is no world")?;
    let mut memory = Memory::new(CAPACITY);
    let mut reconciler = Reconciler::observe(&mut memory).map_err(|error| format!("{error:#}"))?;
    let mut oracle = Oracle::new(&first.policy, &first.agent, &first.host);
    let mut traffic = Traffic::new(first, seed);
    let mut established = 0;
    for world in worlds {
        reconciler.apply(&mut memory, &world.compiled.tables).map_err(|error| format!("{error:#}"))?;
        oracle.change_policy(&world.policy);
        oracle.change_quarantine(&world.shut);
        for shot in traffic.by_ref().take(80) {
            memory.set_now(shot.now, shot.boot());
            memory.sweep_flows();
            let (verdict, case) = shot.judged(&memory);
            let ours = in_words(verdict, &case.evidence, &world.compiled.catalogue);
            let theirs = oracle.judge(&shot);
            established += u32::from(ours.reason == "established");
            if ours != theirs {
                return Err(format!("they differ {}\n{}", difference(&shot, &ours, &theirs), world.text));
            }
        }
    }
    Ok(established)
}

/// What the frames must have brought about, in numbers large enough to mean something.
const REASONS: [&str; 73] = [
    "flow_quota",
    "flow_rate_limited",
    "rate_limited",
    "broadcast",
    "condition_place",
    "condition_posture",
    "condition_time",
    "control_protocol",
    "dhcp",
    "established",
    "fragment_denied",
    "fragment_early",
    "fragment_overlap",
    "fragment_quota",
    "fragment_repeated",
    "fragment_rewrite",
    "fragment_tiny",
    "gtpu",
    "gtpu_extension",
    "gtpu_inner",
    "gtpu_malformed",
    "gtpu_message",
    "gtpu_nested",
    "gtpu_outer_fragment",
    "gtpu_peer",
    "gtpu_prime",
    "gtpu_teid_zero",
    "gtpu_version",
    "host",
    "icmp_error",
    "icmp_error_rate",
    "icmp_error_unrelated",
    "internal_interface",
    "ip_options",
    "link_control",
    "malformed_fragment",
    "malformed_arp",
    "malformed_ethernet",
    "malformed_icmp",
    "malformed_ipv4",
    "malformed_ipv6",
    "malformed_neighbour",
    "malformed_sctp",
    "malformed_tcp",
    "malformed_udp",
    "martian_destination",
    "martian_source",
    "multicast",
    "neighbour",
    "neighbour_off_link",
    "neighbour_role",
    "never",
    "no_rule",
    "opened",
    "quarantined",
    "segment_denied",
    "spoofed_neighbour",
    "spoofed_source",
    "spoofed_tunnel",
    "transit",
    "transit_denied",
    "unknown_device",
    "unknown_peer",
    "unknown_tunnel",
    "unknown_vlan",
    "unsolicited",
    "unsupported_ethertype",
    "unsupported_extension",
    "unsupported_icmp",
    "unsupported_protocol",
    "unsupported_vlan_depth",
    "witness",
    "witness_alarm",
];

/// Draws worlds until `wrong` finds a difference; counts them.
fn noticed(wrong: impl Fn(&World, u64) -> Option<String>) -> Option<u64> {
    let mut random = Random::new(7);
    (1..=PATIENCE).find(|_| {
        let world = World::draw(&mut random);
        wrong(&world, random.next()).is_some()
    })
}

/// Fails if one of many wrong judges was believed.
fn all_noticed<T: std::fmt::Debug + Copy>(kinds: &[T], wrong: impl Fn(T, &World, u64) -> Option<String>) {
    let mut believed = Vec::new();
    for kind in kinds {
        match noticed(|world, seed| wrong(*kind, world, seed)) {
            Some(worlds) => eprintln!("{kind:?}: noticed in world {worlds}"),
            None => believed.push(kind),
        }
    }
    assert!(believed.is_empty(), "nobody noticed {believed:?}");
}

#[test]
fn a_wrong_oracle_is_noticed() {
    all_noticed(&Flaw::ALL, |flaw, world, seed| {
        let image = Image::new(&world.compiled.tables);
        let oracle = Oracle::new(&world.policy, &world.agent, &world.host)
            .with_quarantine(&world.shut)
            .with_flaw(flaw);
        run(world, &image, oracle, seed, &honest).difference
    });
}

#[test]
fn a_wrong_parser_is_noticed() {
    all_noticed(&FrameLie::ALL, |lie, world, seed| {
        let image = Image::new(&world.compiled.tables);
        let oracle = Oracle::new(&world.policy, &world.agent, &world.host).with_quarantine(&world.shut);
        run(world, &image, oracle, seed, &|image, shot| {
            let frame = LyingFrame::new(&shot.bytes, lie);
            // The lie is about what the parser makes of the frame, not about what is counted.
            let mut case = Case::new(image.epoch(), shot.arrival());
            (bulkhead_common::judge(&frame, image, &mut case), case)
        })
        .difference
    });
}

#[test]
fn a_wrong_engine_is_noticed() {
    all_noticed(&EngineLie::ALL, |lie, world, seed| {
        let image = Image::new(&world.compiled.tables);
        let oracle = Oracle::new(&world.policy, &world.agent, &world.host).with_quarantine(&world.shut);
        let judge = |image: &Image, shot: &Shot| LyingEngine::new(image, lie).judge(shot);
        run(world, &image, oracle, seed, &judge).difference
    });
}

#[test]
fn wrong_tables_are_noticed() {
    all_noticed(&TableLie::ALL, |lie, world, seed| {
        let image = Image::new(&lie.told(&world.compiled.tables));
        let oracle = Oracle::new(&world.policy, &world.agent, &world.host).with_quarantine(&world.shut);
        run(world, &image, oracle, seed, &honest).difference
    });
}
