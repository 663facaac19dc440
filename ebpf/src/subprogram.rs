//! Stages and searches as global subprograms: their arguments are numbers, the context, or memory of
//! a known size, so the verifier checks each once by itself instead of once for every path that calls
//! it (kernel commits 51c39bb1d5d1 and e5069b9c23b3).

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use bulkhead_common::abi::value::NETWORK_FORWARDS;
use bulkhead_common::abi::{
    Addr, AddressKey, DeviceId, Epoch, FlowKey, Generation, Limits, NetworkId, ProfileId, Span,
    SubinterfaceKey,
};
use bulkhead_common::candidate::Decided;
use bulkhead_common::case::{Arrival, Case};
use bulkhead_common::decide::{FlowStart, Tables as _};
use bulkhead_common::engine::{Step, step_from_number, step_to_number};
use bulkhead_common::flow_table::Attempt;
use bulkhead_common::limits::Toll;
use bulkhead_common::search::{self, Found};
use bulkhead_common::verdict::{DropReason, Pass, Verdict};
use bulkhead_common::{
    address_table, decide, express, flow_table, fragment, icmp_error, identify, limits, parse, tunnel,
    witness,
};

use crate::account;
use crate::candidate;
use crate::frame::{Context, FirstBuffer, Packet};
use crate::maps::{self, Maps};
use crate::{handed, short};

/// Runs a stage on the caller's case. The verifier knows of a subprogram's pointer only that it may be null.
///
/// A macro, because a closure may become a function of its own, and then every packet pays for one call more.
macro_rules! stage {
    ($case:ident, $step:expr) => {
        // SAFETY: each caller hands on the one case of its CPU, which nobody else uses meanwhile.
        step_to_number(match unsafe { $case.as_mut() } {
            Some($case) => $step,
            None => Err(DropReason::InternalTable),
        })
    };
}

/// [`engine::arrive`] of a new packet, of which the case knows the arrival only, or [`parse::network`] of one in a tunnel:
/// one subprogram for both, because the verifier looks at each copy.
#[inline(always)]
fn read<C: Context>(context: C, case: &mut Case, is_new: bool) -> Step {
    let frame = Packet::new(context, case.arrival.length);
    if is_new {
        // By way of the stack: in who calls, every chain of calls would carry it along.
        *case = Case::new(Maps.epoch(), case.arrival);
        parse::link(&frame, case)?;
        if !parse::is_ip(&case.packet) {
            return Ok(None);
        }
    }
    parse::network(&frame, case).map(|()| None)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_entering(context: *mut xdp_md, case: *mut Case, is_new: u32) -> u32 {
    stage!(case, read(context, case, is_new != 0))
}

/// As [`read_entering`], for a packet that leaves.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_leaving(context: *mut __sk_buff, case: *mut Case, is_new: u32) -> u32 {
    stage!(case, read(context, case, is_new != 0))
}

/// As [`engine::arrive`].
#[inline(always)]
pub(crate) fn arrive(context: *mut xdp_md, case: &mut Case) -> u32 {
    read_entering(context, case, 1)
}

/// As [`parse::network`].
#[inline(always)]
pub(crate) fn parse_network(context: *mut xdp_md, case: &mut Case) -> u32 {
    read_entering(context, case, 0)
}

/// As [`arrive`], for a packet that leaves.
#[inline(always)]
pub(crate) fn arrive_leaving(context: *mut __sk_buff, case: &mut Case) -> u32 {
    read_leaving(context, case, 1)
}

/// As [`parse_network`], for a packet that leaves.
#[inline(always)]
pub(crate) fn leaving_network(context: *mut __sk_buff, case: &mut Case) -> u32 {
    read_leaving(context, case, 0)
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn witness(case: *mut Case) -> u32 {
    stage!(case, witness::look(&Maps, case).map(Some))
}

/// [`express::inside`] of what was handed on with the same frame: a step, with [`MAY_LEAVE`] for one that might leave past the
/// kernel's stack, were it in no tunnel.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn express_inside(context: *mut xdp_md, ifindex: u32, length: u32) -> u32 {
    let arrival = Arrival::of(ifindex, maps::link_type(), length);
    let frame = FirstBuffer(Packet::new(context, length));
    let told = match handed::place() {
        Some(handed) if short::is_there() => {
            express::inside(&frame, &Maps, handed.epoch, &arrival, handed.datagram)
        }
        Some(_) | None => Ok(None),
    };
    let leaves = matches!(told, Ok(Some(flags)) if flags & NETWORK_FORWARDS != 0);
    let step = told.map(|flags| flags.map(|_| Pass::Established));
    (if leaves { MAY_LEAVE } else { 0 }) | step_to_number(step)
}

/// Of no step.
pub(crate) const MAY_LEAVE: u32 = 1 << 31;

/// [`express::Opening::open`] of what was handed on; 1 if it has opened the flow.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn express_opening() -> u32 {
    match handed::place() {
        Some(handed) if short::is_there() => handed.opening.open(&Maps) as u32,
        Some(_) | None => 0,
    }
}

/// As [`bulkhead_common::express::is_of_nobody`].
#[inline(always)]
pub(crate) fn is_of_nobody(epoch: Epoch, network: NetworkId, source: Addr) -> bool {
    is_of_nobody_step(epoch.bank, network.0, source.high(), source.low()) != 0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn is_of_nobody_step(bank: u32, network: u32, high: u64, low: u64) -> u32 {
    // Which networks there are is a matter of the bank alone.
    let epoch = Epoch { generation: Generation::NONE, bank };
    express::is_of_nobody(&Maps, epoch, NetworkId(network), Addr::from_halves(high, low)) as u32
}

/// As [`express::owner`].
#[inline(always)]
pub(crate) fn owner(key: &SubinterfaceKey, teid: u32, source: Addr) -> NetworkId {
    let (outer, _) = key.vlans();
    let place = key.ifindex() as u64 | (outer as u64) << 32 | (key.bank() as u64) << 48;
    NetworkId(owner_step(place, teid, source.high(), source.low()))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn owner_step(place: u64, teid: u32, high: u64, low: u64) -> u32 {
    let key = SubinterfaceKey::new((place >> 48) as u32, place as u32, (place >> 32) as u16, 0);
    express::owner(&Maps, maps::place(key), teid, Addr::from_halves(high, low)).0
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn vouch(case: *mut Case) -> u32 {
    stage!(case, {
        express::vouch(&Maps, case);
        Ok(None)
    })
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn locate(case: *mut Case) -> u32 {
    stage!(case, identify::locate(&Maps, case).map(|()| None))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn enter_tunnel(context: *mut xdp_md, case: *mut Case) -> u32 {
    stage!(case, tunnel::enter(&Packet::new(context, case.arrival.length), &Maps, case))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn identify(case: *mut Case) -> u32 {
    stage!(case, identify::identify(&Maps, case))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn read_error(context: *mut xdp_md, case: *mut Case) -> u32 {
    stage!(case, icmp_error::read(&Packet::new(context, case.arrival.length), case).map(|()| None))
}

/// As [`read_error`], for a packet that leaves.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn leaving_error(context: *mut __sk_buff, case: *mut Case) -> u32 {
    stage!(case, icmp_error::read(&Packet::new(context, case.arrival.length), case).map(|()| None))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn meet_receiver(case: *mut Case) -> u32 {
    stage!(case, icmp_error::meet(&Maps, case).map(|()| None))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn judge_error(case: *mut Case) -> u32 {
    stage!(case, icmp_error::judge(&Maps, case).map(Some))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn gather(case: *mut Case) -> u32 {
    stage!(case, fragment::gather(&Maps, case).map(|()| None))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn remember(case: *mut Case) -> u32 {
    stage!(case, {
        fragment::remember(&Maps, case);
        Ok(None)
    })
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn hold(case: *mut Case) -> u32 {
    stage!(case, decide::hold(&Maps, case))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn open(case: *mut Case) -> u32 {
    stage!(case, decide::open(&Maps, case).map(Some))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn follow(case: *mut Case) -> u32 {
    stage!(case, {
        // Nobody else asks, and the verifier then looks no further.
        if maps::is_candidate() {
            decide::follow(&Maps, case);
        }
        Ok(None)
    })
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn scope_before(start: u32, len: u32, high: u64, low: u64) -> Found {
    search::scope_before(&Maps, Span { start, len }, Addr::from_halves(high, low))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn range_before(start: u32, len: u32, high: u64, low: u64) -> Found {
    search::range_before(&Maps, Span { start, len }, Addr::from_halves(high, low))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn peer_before(start: u32, len: u32, profile: u32) -> Found {
    search::peer_before(&Maps, Span { start, len }, ProfileId(profile))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn port_before(start: u32, len: u32, wanted: u32) -> Found {
    search::port_before(&Maps, Span { start, len }, wanted)
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn port_before_at(start: u32, len: u32, high: u64, low: u64, wanted: u32) -> Found {
    search::port_before_at(&Maps, Span { start, len }, Addr::from_halves(high, low), wanted)
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn window_open(start: u32, len: u32) -> Found {
    search::window_open(&Maps, Span { start, len })
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn locate_flow(key: *const FlowKey, then: u64, kinds: u64) -> flow_table::Found {
    // SAFETY: callers hand on a key of their own; the verifier knows no more than its size.
    match unsafe { key.as_ref() } {
        Some(key) => flow_table::locate(&Maps, key, then, flow_table::Kinds(kinds)),
        None => flow_table::NONE,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn attempt_flow(key: *const FlowKey, start: *const FlowStart, joins: u32) -> u32 {
    // SAFETY: as in `locate_flow`.
    let attempt = match unsafe { (key.as_ref(), start.as_ref()) } {
        (Some(key), Some(start)) => flow_table::attempt(&Maps, key, start, joins != 0),
        (None, _) | (_, None) => Attempt::Full,
    };
    attempt as u32
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn reclaim_flows(key: *const FlowKey, now: u64) -> u32 {
    // SAFETY: as in `locate_flow`.
    if let Some(key) = unsafe { key.as_ref() } {
        flow_table::reclaim(&Maps, key, now);
    }
    0
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn sweep_slot(slot: u32, now: u64) -> u32 {
    flow_table::sweep(&Maps, slot, now) as u32
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn charge_toll(device: u32, limits: *const Limits, toll: u64, now: u64) -> u32 {
    // SAFETY: callers hand on a row of `RULE_SETS`; the verifier knows no more than its size.
    let charged = match unsafe { limits.as_ref() } {
        Some(limits) => limits::charge(&Maps, DeviceId(device), limits, Toll(toll), now),
        None => Err(DropReason::InternalTable),
    };
    step_to_number(charged.map(|()| None))
}

/// As [`limits::charge`].
#[inline(always)]
pub(crate) fn charge(device: DeviceId, limits: &Limits, toll: Toll, now: u64) -> Result<(), DropReason> {
    step_from_number(charge_toll(device.0, limits, toll.0, now)).map(|_| ())
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn refund_toll(device: u32, limits: *const Limits, toll: u64) -> u32 {
    // SAFETY: as in `charge_toll`.
    if let Some(limits) = unsafe { limits.as_ref() } {
        limits::refund(&Maps, DeviceId(device), limits, Toll(toll));
    }
    0
}

/// As [`limits::refund`].
#[inline(always)]
pub(crate) fn refund(device: DeviceId, limits: &Limits, toll: Toll) {
    refund_toll(device.0, limits, toll.0);
}

/// As [`account::report`]; the verdict travels as its number.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn report_step(case: *mut Case, verdict: u32) -> u32 {
    // SAFETY: as in `stage`.
    let case = unsafe { case.as_ref() };
    if let (Some(case), Some(verdict)) = (case, Verdict::from_code(verdict as u16)) {
        account::report(case, verdict);
    }
    0
}

/// Tells the candidate of the verdict, and everybody if it is worth an event and the budget may have one left.
#[inline(always)]
pub(crate) fn report(case: &mut Case, verdict: Verdict) {
    candidate::tell(&Decided::new(verdict, &case.evidence));
    if account::is_to_be_told(case.evidence.device, verdict) {
        report_step(case, verdict.code() as u32);
    }
}

/// As [`address_table::find`], by the words of a key; [`NO_ROW`] if it leads nowhere.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_address(owner: u64, high: u64, low: u64) -> u32 {
    address_table::find(&Maps, [owner, high, low]).unwrap_or(NO_ROW)
}

/// The slot of an address.
#[inline(always)]
pub(crate) fn address(key: &AddressKey) -> Option<u32> {
    let [owner, high, low] = key.words();
    let slot = find_address(owner, high, low);
    if slot == NO_ROW { None } else { Some(slot) }
}

/// Beyond the table's end.
const NO_ROW: u32 = u32::MAX;
