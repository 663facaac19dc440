//! The coarse monotonic clock, asked once for each of its ticks.

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns};
use aya_ebpf::macros::btf_map;

/// What the clock has said, and at which tick.
#[derive(Clone, Copy)]
#[repr(C)]
struct Reading {
    jiffies: u64,
    nanoseconds: u64,
}

#[btf_map]
static CLOCK: PerCpuArray<Reading, 1> = PerCpuArray::new();

/// `CLOCK_MONOTONIC_COARSE` in nanoseconds; behind it by a tick at most.
///
/// The kernel moves that clock right after it has counted a tick (`tick_do_update_jiffies64`, kernel/time/tick-sched.c), so
/// it stands still while the count does. The count is a load (the verifier writes it in place of the call), the clock two
/// calls: a tenth of what an established packet costs.
#[inline(always)]
pub(crate) fn coarse() -> u64 {
    // SAFETY: the helper takes no arguments; and no tick is number 0, which an empty entry has.
    let jiffies = unsafe { bpf_jiffies64() };
    let Some(last) = CLOCK.get_ptr_mut(0) else { return ask() };
    // SAFETY: a live per-CPU map value, and programs do not nest on a CPU.
    let last = unsafe { &mut *last };
    if last.jiffies != jiffies {
        *last = Reading { jiffies, nanoseconds: ask() };
    }
    last.nanoseconds
}

#[inline(always)]
fn ask() -> u64 {
    // SAFETY: the helper takes no arguments.
    unsafe { bpf_ktime_get_coarse_ns() }
}
