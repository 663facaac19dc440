//! From one program to the next by a tail call, which the kernel patches into a jump: each has a stack of its own.
//!
//! Slots are filled before anything is attached that calls from them.

use aya_ebpf::btf_maps::ProgramArray;
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::XdpContext;
use bulkhead_common::abi::map::{ONWARD_LEAVE, ONWARD_SLOTS, ONWARD_WHOLE};

#[btf_map]
static ONWARD: ProgramArray<{ ONWARD_SLOTS as usize }> = ProgramArray::new();

/// Lets the program of the whole way judge the frame; comes back if there is none.
#[inline(always)]
pub(crate) fn judge(context: &XdpContext) {
    // SAFETY: nothing here waits to be dropped.
    unsafe { ONWARD.tail_call(context, ONWARD_WHOLE) };
}

/// Lets a frame that passes leave past the kernel's stack, if it can; comes back if no program is there to try.
#[inline(always)]
pub(crate) fn leave(context: &XdpContext) {
    // SAFETY: as above.
    unsafe { ONWARD.tail_call(context, ONWARD_LEAVE) };
}
