//! What is counted and what is told: interface counters, and events under a budget.

use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use bulkhead_common::abi::DeviceId;
use bulkhead_common::abi::counter::{
    self, Count, EVENT_BUCKETS, EVENT_WINDOW_SHIFT, EVENTS_PER_BUCKET, EVENTS_PER_CPU, PASS_CAPACITY,
    REASON_CAPACITY, WAY_CAPACITY,
};
use bulkhead_common::abi::event::Event;
use bulkhead_common::case::{Arrival, Case};
use bulkhead_common::decide::Tables;
use bulkhead_common::verdict::{Pass, Verdict, Way};

use crate::bounded::bounded;
use crate::maps::{self, EVENT_BUDGETS, EVENT_COUNTERS, EVENTS, Maps, tells_all};

/// This CPU's counters of the interface that the packet entered by.
pub(crate) struct Counters(Option<*mut counter::Counters>);

impl Counters {
    #[inline(always)]
    pub(crate) fn of(arrival: &Arrival) -> Self {
        Self(maps::counters(arrival.ifindex))
    }

    /// Counts the packet, before anything can go wrong with it.
    #[inline(always)]
    pub(crate) fn received(&self, arrival: &Arrival) {
        if let Some(counters) = self.0 {
            // SAFETY: a live per-CPU map value that only this CPU writes.
            count(unsafe { &mut (*counters).received }, arrival);
        }
    }

    /// Counts the verdict.
    #[inline(always)]
    pub(crate) fn judged(&self, verdict: Verdict, arrival: &Arrival) {
        let Some(counters) = self.0 else { return };
        // SAFETY: as above, and the index is masked to the array's length.
        let cell = unsafe {
            match verdict {
                Verdict::Pass(pass) => {
                    (&raw mut (*counters).passed).cast::<Count>().add(bounded::<LAST_PASS>(pass as u32))
                }
                Verdict::Drop(reason) => {
                    (&raw mut (*counters).dropped).cast::<Count>().add(bounded::<LAST_REASON>(reason as u32))
                }
                Verdict::Observe(reason) => {
                    (&raw mut (*counters).observed).cast::<Count>().add(bounded::<LAST_REASON>(reason as u32))
                }
            }
        };
        // SAFETY: as above.
        count(unsafe { &mut *cell }, arrival);
    }

    /// Counts a packet and its verdict, where nothing went wrong in between.
    #[inline(always)]
    pub(crate) fn ended(&self, verdict: Verdict, arrival: &Arrival) {
        self.received(arrival);
        self.judged(verdict, arrival);
    }

    /// Counts the way out.
    #[inline(always)]
    pub(crate) fn left(&self, way: Way, arrival: &Arrival) {
        let Some(counters) = self.0 else { return };
        // SAFETY: as above, and the index is masked to the array's length.
        let cell =
            unsafe { (&raw mut (*counters).ways).cast::<Count>().add(bounded::<LAST_WAY>(way as u32)) };
        // SAFETY: as above.
        count(unsafe { &mut *cell }, arrival);
    }
}

const LAST_WAY: u32 = WAY_CAPACITY as u32 - 1;
const LAST_PASS: u32 = PASS_CAPACITY as u32 - 1;
const LAST_REASON: u32 = REASON_CAPACITY as u32 - 1;

#[inline(always)]
fn count(cell: &mut Count, arrival: &Arrival) {
    cell.packets += arrival.packets as u64;
    cell.bytes += arrival.length as u64;
}

/// True of a drop, of what would be one, and of a flow's first packet, unless so many were told of that this one is only
/// counted.
#[inline(always)]
pub(crate) fn is_to_be_told(device: DeviceId, verdict: Verdict) -> bool {
    if tells_all() {
        return true;
    }
    if !is_worth_telling(verdict) {
        return false;
    }
    let spent = is_spent(device, verdict, Maps.now());
    if spent {
        keep_silent();
    }
    !spent
}

/// Tells of a packet if the budget allows; the verdict stands either way.
#[inline(always)]
pub(crate) fn report(case: &Case, verdict: Verdict) {
    let Some(counters) = EVENT_COUNTERS.get_ptr_mut(0) else { return };
    let now = Maps.now();
    let outcome = if tells_all() || within_budget(case, verdict, now) {
        send(case, verdict, now)
    } else {
        Outcome::Suppressed
    };
    // SAFETY: a live per-CPU map value that only this CPU writes.
    let counters = unsafe { &mut *counters };
    match outcome {
        Outcome::Sent => counters.sent += 1,
        Outcome::Suppressed => counters.suppressed += 1,
        Outcome::Lost => counters.lost += 1,
    }
}

#[inline(always)]
const fn is_worth_telling(verdict: Verdict) -> bool {
    match verdict {
        Verdict::Drop(_) | Verdict::Observe(_) | Verdict::Pass(Pass::Opened | Pass::WitnessAlarm) => true,
        Verdict::Pass(
            Pass::Transit
            | Pass::Neighbour
            | Pass::LinkControl
            | Pass::Established
            | Pass::Gtpu
            | Pass::IcmpError
            | Pass::Witness
            | Pass::Host,
        ) => false,
    }
}

enum Outcome {
    Sent,
    Suppressed,
    Lost,
}

/// True if the budget of this device and verdict is spent, so that nobody will be told of one more.
#[inline(always)]
pub(crate) fn is_spent(device: DeviceId, verdict: Verdict, now: u64) -> bool {
    let Some(budget) = EVENT_BUDGETS.get_ptr(bucket(device, verdict.code())) else { return false };
    // SAFETY: a live per-CPU map value that only this CPU writes.
    let budget = unsafe { &*budget };
    budget.window == now >> EVENT_WINDOW_SHIFT && budget.used >= EVENTS_PER_BUCKET
}

/// Counts a packet that nobody is told of.
#[inline(always)]
pub(crate) fn keep_silent() {
    if let Some(counters) = EVENT_COUNTERS.get_ptr_mut(0) {
        // SAFETY: as above.
        unsafe { (*counters).suppressed += 1 };
    }
}

/// Spends one event of the bucket of this device and reason, and one of the CPU.
///
/// Before the ring is touched: its lock is shared by all CPUs, so a flood must not reach it.
#[inline(always)]
fn within_budget(case: &Case, verdict: Verdict, now: u64) -> bool {
    let window = now >> EVENT_WINDOW_SHIFT;
    let bucket = bucket(case.evidence.device, verdict.code());
    spend(bucket, window, EVENTS_PER_BUCKET) && spend(EVENT_BUCKETS, window, EVENTS_PER_CPU)
}

#[inline(always)]
fn bucket(device: DeviceId, code: u16) -> u32 {
    // Fibonacci hashing (Knuth, TAOCP 6.4): spreads neighbouring device numbers.
    let mixed = (device.0 ^ ((code as u32) << 20)).wrapping_mul(0x9e37_79b1);
    (mixed >> 16) % EVENT_BUCKETS
}

#[inline(always)]
fn spend(bucket: u32, window: u64, limit: u64) -> bool {
    let Some(budget) = EVENT_BUDGETS.get_ptr_mut(bucket) else { return false };
    // SAFETY: a live per-CPU map value that only this CPU writes.
    let budget = unsafe { &mut *budget };
    if budget.window != window {
        budget.window = window;
        budget.used = 0;
    }
    if budget.used >= limit {
        return false;
    }
    budget.used += 1;
    true
}

#[inline(always)]
fn send(case: &Case, verdict: Verdict, now: u64) -> Outcome {
    let Some(mut entry) = EVENTS.reserve(0) else { return Outcome::Lost };
    entry.write(Event::of(case, verdict, now));
    // The agent polls on a timer: a wake-up for each event would cost microseconds.
    entry.submit(BPF_RB_NO_WAKEUP.into());
    Outcome::Sent
}
