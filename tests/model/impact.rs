//! What a plan says of live flows, against what becomes of them: the same change made, the same frames sent again.

use std::collections::BTreeMap;

use bulkhead::impact::{Flows, Impact};
use bulkhead::reconcile::{Memory, Reconciler};
use bulkhead::tables::Touched;
use bulkhead_common::abi::value::INITIATOR_LOCAL;
use bulkhead_common::abi::{Addr, Flow, NetworkId};
use bulkhead_common::case::Case;
use bulkhead_common::parse::Kind;
use bulkhead_common::wire::{ip_proto, l4};
use tests::generate::{Random, SLEPT, Shot, Traffic, World, seed};
use tests::memory::Kernel;

use super::CAPACITY;

/// Changes that are foretold and made.
const CHANGES: u32 = 400;
const FRAMES: usize = 150;

/// Both ends of a conversation, in no particular order.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Ends {
    network: NetworkId,
    protocol: u8,
    ends: [(Addr, u16); 2],
}

impl Ends {
    fn of(network: NetworkId, protocol: u8, mut ends: [(Addr, u16); 2]) -> Self {
        if matches!(protocol, ip_proto::ICMP | ip_proto::ICMPV6) {
            // One identifier for both ends.
            ends[1].1 = ends[0].1;
        }
        ends.sort_unstable();
        Self { network, protocol, ends }
    }

    fn of_flow(flow: &Flow) -> Self {
        let key = &flow.key;
        Self::of(key.network, key.protocol, [(key.local, key.local_port), (key.remote, key.remote_port)])
    }

    fn of_packet(case: &Case) -> Self {
        let packet = &case.packet;
        let ends = [(packet.source, packet.source_port), (packet.destination, packet.destination_port)];
        Self::of(case.evidence.network, packet.protocol, ends)
    }
}

/// The last frame that a conversation saw from each end.
type Seen = BTreeMap<(Ends, Addr), Last>;

struct Last {
    shot: Shot,
    /// It asks for a connection.
    calls: bool,
}

#[derive(Default)]
struct Tally {
    held: u32,
    cut: u32,
    unknown: u32,
}

#[test]
fn a_plan_foretells_which_live_flows_a_change_cuts() {
    let mut random = Random::new(seed(21));
    let mut tally = Tally::default();
    for change in 0..CHANGES {
        let before = World::draw(&mut random).released().unlimited();
        let after = before.redrawn(&mut random).released().unlimited();
        if let Err(difference) = foretell(&before, &after, random.next(), &mut tally) {
            panic!("change {change}: {difference}\n{}\n--- becomes ---\n{}", before.text, after.text);
        }
    }
    let Tally { held, cut, unknown } = tally;
    eprintln!("{held} flows held and {cut} were cut as foretold; {unknown} could not be judged");
    assert!(held > 200 && cut > 80, "too few to be sure");
    assert!(unknown * 20 < held + cut, "too many that cannot be judged");
}

#[test]
fn a_plan_for_a_few_devices_says_what_one_for_all_does() {
    let mut random = Random::new(seed(22));
    let (mut cut, mut left_alone) = (0, 0);
    for change in 0..CHANGES {
        let world = World::draw(&mut random).released().unlimited();
        let (policy, before) = (&world.policy, &world.compiled);
        let live = flows_over(&world, random.next());
        let Some(flow) = live.get(random.below(live.len().max(1))) else { continue };
        // It is treated as another one from now on, or is gone.
        let (id, mut after) = (flow.key.device, before.clone());
        let rows: Vec<_> = before.tables.devices.values().collect();
        match after.tables.devices.get_mut(&id).filter(|_| random.chance(80)) {
            Some(row) => row.profile = random.pick(&rows).profile,
            None => drop(after.tables.devices.remove(&id)),
        }
        let touched = Touched([(id, [].into())].into());
        let all = Impact::of(before, &after, &live, SLEPT);
        let few = Impact::of_few((policy, before), (policy, &after), &touched, &live, SLEPT);
        assert_eq!(few.devices, all.devices, "change {change}\n{}", world.text);
        assert_eq!(
            (few.flows.live, &few.flows.cut),
            (all.flows.live, &all.flows.cut),
            "change {change}\n{}",
            world.text
        );
        cut += few.flows.cut.len();
        left_alone += live.iter().filter(|flow| flow.key.device != id && flow.peer != id).count();
    }
    eprintln!("{cut} flows are cut, {left_alone} were not looked at");
    assert!(cut > 50 && left_alone > 200, "too few to be sure");
}

/// What lives after some frames.
fn flows_over(world: &World, seed: u64) -> Vec<Flow> {
    let Kernel { memory, .. } = Kernel::holding(&world.compiled.tables, CAPACITY);
    let mut now = 0;
    for shot in Traffic::new(world, seed).take(FRAMES) {
        now = shot.now;
        memory.set_now(now, now + SLEPT);
        shot.judged(&memory);
    }
    memory.flows().into_iter().filter(|flow| flow.deadline > now).collect()
}

fn foretell(before: &World, after: &World, seed: u64, tally: &mut Tally) -> Result<(), String> {
    let mut memory = Memory::new(CAPACITY);
    let mut reconciler = Reconciler::observe(&mut memory).map_err(|error| format!("{error:#}"))?;
    reconciler.apply(&mut memory, &before.compiled.tables).map_err(|error| format!("{error:#}"))?;
    let mut seen = Seen::new();
    let mut now = 0;
    for shot in Traffic::new(before, seed).take(FRAMES) {
        now = shot.now;
        memory.set_now(now, now + SLEPT);
        let (verdict, case) = shot.judged(&memory);
        // A piece says something in its place only, and an error nothing of its own.
        let whole = !case.packet.piece.is_fragment() && case.packet.kind != Kind::IcmpError;
        if verdict.passes() && whole && !case.evidence.device.is_none() {
            let last = Last { calls: is_call(&case), shot };
            seen.insert((Ends::of_packet(&case), case.packet.source), last);
        }
    }
    // A device may have moved to another tunnel since: what does not pass now tells nothing about the change.
    let passes_now = |flow: &Flow| frames_of(&seen, flow).is_some_and(|frames| frames.pass(&memory));
    let mut live: Vec<Flow> =
        memory.flows().into_iter().filter(|flow| flow.deadline > now).filter(passes_now).collect();
    // The opening of a caller who was silent for long is a new flow's, and that may be its device's now.
    let flows = memory.flows();
    let goes_on = |flow: &Flow| flows.iter().any(|known| is_same(known, flow) && known.deadline > now);
    live.retain(goes_on);
    let foretold: Vec<(Flow, Flows)> = live
        .iter()
        .map(|flow| (*flow, Flows::judge(&before.compiled, &after.compiled, &[*flow], now + SLEPT)))
        .collect();
    // Judged together, they must not get in each other's way.
    let together = Flows::judge(&before.compiled, &after.compiled, &live, now + SLEPT);
    let alone: usize = foretold.iter().map(|(_, flows)| flows.cut.len()).sum();
    if together.cut.len() != alone {
        return Err(format!("{alone} are cut one by one, and {} together", together.cut.len()));
    }
    reconciler.apply(&mut memory, &after.compiled.tables).map_err(|error| format!("{error:#}"))?;
    for (flow, foretold) in foretold {
        compare(&memory, &seen, &flow, &foretold, tally)?;
    }
    Ok(())
}

fn is_same(one: &Flow, other: &Flow) -> bool {
    (one.key, one.opened, one.initiator) == (other.key, other.opened, other.initiator)
}

/// What a flow saw last from either end.
struct Frames<'a> {
    first: &'a Shot,
    answer: Option<&'a Shot>,
}

impl Frames<'_> {
    fn pass(&self, memory: &Memory) -> bool {
        let passes = |shot: &Shot| shot.judged(memory).0.passes();
        passes(self.first) && self.answer.is_none_or(passes)
    }
}

fn frames_of<'a>(seen: &'a Seen, flow: &Flow) -> Option<Frames<'a>> {
    let from = |source: Addr| seen.get(&(Ends::of_flow(flow), source));
    let (local, remote) = (from(flow.key.local), from(flow.key.remote));
    let by_local = flow.initiator == INITIATOR_LOCAL;
    let (first, answer) = if by_local { (local, remote) } else { (remote, local) };
    let (first, answer) = (first.map(|last| &last.shot), answer.filter(|last| !last.calls));
    // Without an answer of its own, what came the other way belongs to another flow of the two.
    let answered = if by_local { flow.received[0] } else { flow.sent[0] } > 0;
    Some(Frames { first: first?, answer: answer.filter(|_| answered).map(|last| &last.shot) })
}

/// A called side that calls instead is refused for that, and the flow goes on: observers see it pass.
fn is_call(case: &Case) -> bool {
    const SYN_ACK_RST_FIN: u8 = l4::TCP_SYN | l4::TCP_ACK | l4::TCP_RST | l4::TCP_FIN;
    case.packet.protocol == ip_proto::TCP && case.packet.detail & SYN_ACK_RST_FIN == l4::TCP_SYN
}

/// Sends the frames again, and compares.
fn compare(
    memory: &Memory,
    seen: &Seen,
    flow: &Flow,
    foretold: &Flows,
    tally: &mut Tally,
) -> Result<(), String> {
    let Some(frames) = frames_of(seen, flow) else { return Ok(()) };
    if foretold.unknown > 0 {
        tally.unknown += 1;
        return Ok(());
    }
    let (holds, told_cut) = (frames.pass(memory), !foretold.cut.is_empty());
    // An answer that never came is judged by the plan, and cannot be sent again here.
    if told_cut == holds && (frames.answer.is_some() || !told_cut) {
        let words = |cut| if cut { "cut" } else { "holding" };
        return Err(format!("foretold {}, and it is {}: {flow:?}", words(told_cut), words(!holds)));
    }
    tally.held += u32::from(holds);
    tally.cut += u32::from(!holds);
    Ok(())
}
