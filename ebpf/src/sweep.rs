//! The sweep: a timer in a pinned map gives up dead flows, whether an agent runs or not.
//!
//! A timer lives as long as its map is pinned and holds the program of its callback, so it outlives the
//! agent. Each tick looks at a part of the table, some tens of microseconds of a softirq.

use aya_ebpf::bindings::{bpf_timer, xdp_action::XDP_DROP};
use aya_ebpf::btf_maps::Array;
use aya_ebpf::helpers::generated::{bpf_timer_init, bpf_timer_set_callback, bpf_timer_start};
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;
use bulkhead_common::abi::map::{SWEEP_DELAY_NS, SWEEP_PERIODS_NS, SWEEP_ROUND_NS, SWEEP_SLOTS};
use bulkhead_common::decide::Tables as _;
use bulkhead_common::flow_table::{BUCKET, Memory as _};
use core::ffi::c_void;

use crate::maps::Maps;
use crate::subprogram;

/// The timer, and where its next tick goes on.
#[repr(C)]
struct Sweeper {
    timer: bpf_timer,
    next: u64,
}

#[btf_map]
static SWEEPER: Array<Sweeper, 1> = Array::new();

/// `CLOCK_MONOTONIC` (linux/time.h).
const CLOCK: u64 = 1;

/// Starts the sweep, or takes it over from an older program; the agent runs this once.
#[xdp]
fn bulkhead_sweep(_context: XdpContext) -> u32 {
    let Some(sweeper) = SWEEPER.get_ptr_mut(0) else { return XDP_DROP };
    // SAFETY: `sweeper` is a live map value, its timer is touched by these helpers alone, and the callback
    // is one of this program. A timer that is there already is kept, its callback is not.
    unsafe {
        let timer = &raw mut (*sweeper).timer;
        bpf_timer_init(timer, (&raw const SWEEPER).cast_mut().cast(), CLOCK);
        bpf_timer_set_callback(timer, tick as *mut c_void);
        bpf_timer_start(timer, SWEEP_PERIODS_NS[1], 0);
    }
    XDP_DROP
}

/// Sweeps a part of the table and sets the timer again.
#[inline(never)]
extern "C" fn tick(_map: *mut c_void, _key: *mut u32, sweeper: *mut Sweeper) -> i32 {
    let slots = slots();
    // SAFETY: the kernel hands over the map's live value; no other tick runs at the same time.
    unsafe {
        (*sweeper).next = sweep_part((*sweeper).next, slots);
        bpf_timer_start(&raw mut (*sweeper).timer, period_ns(slots), 0);
    }
    0
}

/// Sweeps some slots from one on; returns where the next tick goes on.
#[inline(always)]
fn sweep_part(first: u64, slots: u64) -> u64 {
    let now = Maps.now().saturating_sub(SWEEP_DELAY_NS);
    let mut next = first;
    for _ in 0..SWEEP_SLOTS {
        subprogram::sweep_slot(next as u32, now);
        next += 1;
        if next >= slots {
            // A table that is smaller than a tick is not swept twice in one.
            return 0;
        }
    }
    next
}

/// How many slots the table has.
#[inline(always)]
fn slots() -> u64 {
    Maps.geometry().map_or(0, |geometry| geometry.buckets as u64 * BUCKET as u64)
}

/// How long the next tick may wait.
#[inline(always)]
fn period_ns(slots: u64) -> u64 {
    let ticks = slots / SWEEP_SLOTS as u64;
    let period = SWEEP_ROUND_NS.checked_div(ticks).unwrap_or(SWEEP_ROUND_NS);
    period.clamp(SWEEP_PERIODS_NS[0], SWEEP_PERIODS_NS[1])
}
