//! The candidate's part: the same program once more, over tables of its own, called behind the enforced policy's.
//!
//! The one that is attached tells what it decided and hands the frame on by a tail call. Without a candidate the slot is
//! empty, and the call is a no-op that the kernel patches when the slot is filled. A candidate counts how its verdict
//! compares, and answers what was decided.

use aya_ebpf::programs::{TcContext, XdpContext};
use bulkhead_common::abi::counter::{DecidedWords, REASON_CAPACITY, Would};
use bulkhead_common::candidate::{self, Comparison, Decided, Outcome};
use bulkhead_common::case::Arrival;
use bulkhead_common::verdict::Verdict;

use crate::atomic;
use crate::bounded::bounded;
use crate::frame::Context;
use crate::maps::{self, CANDIDATES, DECIDED, LEAVING, WOULD, WOULD_DEVICES, WOULD_RULES};
use crate::program::{Program, Stages};

/// Leaves a verdict where the candidate finds it: it runs next on this CPU, and nothing of ours in between.
#[inline(always)]
pub(crate) fn tell(decided: &Decided) {
    if let Some(told) = DECIDED.get_ptr_mut(0) {
        // SAFETY: a live per-CPU map value that only this CPU writes.
        unsafe { *told = DecidedWords::from(*decided) };
    }
}

/// True if this is what was decided on the packet before the one at hand.
#[inline(always)]
pub(crate) fn was_told_of(verdict: Verdict) -> bool {
    DECIDED.get(0).is_some_and(|told| told.verdict == verdict.code() as u32)
}

/// Calls the candidate for a frame that enters; comes back if there is none.
#[inline(always)]
pub(crate) fn hand_on_entering(context: &XdpContext) {
    if !maps::is_candidate() {
        // SAFETY: nothing here waits to be dropped.
        unsafe { CANDIDATES.tail_call(context, maps::link_type() as u32) };
    }
}

/// As [`hand_on_entering`], for a packet that leaves.
#[inline(always)]
pub(crate) fn hand_on_leaving(context: &TcContext) {
    if !maps::is_candidate() {
        // SAFETY: nothing here waits to be dropped.
        unsafe { LEAVING.tail_call(context, 0) };
    }
}

/// Judges what was handed on, and counts how that compares; true if the packet goes on, which was decided before.
#[inline(always)]
pub(crate) fn judge<C: Context + Stages>(context: C, arrival: Arrival) -> bool {
    // Absent is impossible for an array of one; nothing may pass of which nobody says that it was decided on.
    let Some(decided) = DECIDED.get(0).and_then(DecidedWords::decided) else { return false };
    if let Some(case) = maps::case() {
        case.arrival = arrival;
        let outcome = candidate::judge(&Program::new(context, arrival.length), case, &decided);
        count(&outcome, arrival.packets as u64);
    }
    decided.verdict.passes()
}

#[inline(always)]
fn count(outcome: &Outcome, packets: u64) {
    let Some(counters) = WOULD.get_ptr_mut(0) else { return };
    // SAFETY: a live per-CPU map value that only this CPU writes, and indices masked to the arrays' length.
    unsafe {
        (*counters).judged += packets;
        match outcome.comparison {
            Comparison::Same => (*counters).same += packets,
            Comparison::Unknowable => (*counters).unknowable += packets,
            Comparison::WouldPass(reason) => {
                *(&raw mut (*counters).would_pass).cast::<u64>().add(index(reason as u32)) += packets;
            }
            Comparison::WouldDrop(reason) => {
                *(&raw mut (*counters).would_drop).cast::<u64>().add(index(reason as u32)) += packets;
            }
        }
    }
    let rows = [
        WOULD_DEVICES.get_ptr_mut(outcome.device.0).or_else(|| WOULD_DEVICES.get_ptr_mut(0)),
        WOULD_RULES.get_ptr_mut(outcome.rule.0).or_else(|| WOULD_RULES.get_ptr_mut(0)),
    ];
    for row in rows.into_iter().flatten() {
        add(row, outcome.comparison, packets);
    }
}

/// Shared by all CPUs: what differs is rare, and a copy for each CPU would be large.
#[inline(always)]
fn add(row: *mut Would, comparison: Comparison, packets: u64) {
    let words = row.cast::<u64>();
    match comparison {
        Comparison::WouldPass(_) => atomic::add(words, packets),
        Comparison::WouldDrop(_) => atomic::add(words.wrapping_add(1), packets),
        Comparison::Same | Comparison::Unknowable => {}
    }
}

#[inline(always)]
fn index(reason: u32) -> usize {
    bounded::<{ REASON_CAPACITY as u32 - 1 }>(reason)
}
