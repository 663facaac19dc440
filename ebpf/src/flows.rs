//! The flow table behind the engine's trait.
//!
//! An element of a hash map may be deleted and taken by another flow while a packet holds its
//! pointer. So each value carries its key: it is compared before the words are read and again after,
//! and before they are written. A late write can then at worst move a deadline of the newcomer.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use bulkhead_common::abi::{Flow, FlowKey};
use bulkhead_common::decide::{FlowStart, FlowUpdate, FlowWords, Flows};

use crate::atomic;
use crate::maps::{FLOWS, Maps, SCRATCH};

const EEXIST: i32 = -17;

impl Flows for Maps {
    type Handle = *mut Flow;

    #[inline(always)]
    fn flow(&self, key: &FlowKey) -> Option<(Self::Handle, FlowWords)> {
        let flow = FLOWS.get_ptr_mut(key)?;
        if !holds(flow, key) {
            return None;
        }
        // SAFETY: `flow` points to a live map value; fields are only named, not read, here.
        let words = unsafe {
            FlowWords {
                decision: atomic::load(&raw const (*flow).decision),
                deadline: atomic::load(&raw const (*flow).deadline),
                access: [
                    atomic::load((&raw const (*flow).access).cast()),
                    atomic::load((&raw const (*flow).access).cast::<u64>().wrapping_add(1)),
                ],
                state: atomic::load(&raw const (*flow).state),
                initiator: (&raw const (*flow).initiator).read_volatile(),
            }
        };
        holds(flow, key).then_some((flow, words))
    }

    #[inline(always)]
    fn update(&self, flow: Self::Handle, key: &FlowKey, update: &FlowUpdate) {
        if !holds(flow, key) {
            return;
        }
        // SAFETY: `flow` points to a live map value; each store is one aligned word.
        unsafe {
            atomic::store(&raw mut (*flow).deadline, update.deadline);
            atomic::store(&raw mut (*flow).state, update.state);
            if (*flow).decision != update.decision {
                atomic::store(&raw mut (*flow).decision, update.decision);
            }
            let counts = if update.side == 0 { &raw mut (*flow).sent } else { &raw mut (*flow).received };
            if update.access != 0 {
                let access = (&raw mut (*flow).access).cast::<u64>();
                atomic::store(if update.side == 0 { access } else { access.wrapping_add(1) }, update.access);
            }
            atomic::add(counts.cast(), 1);
            atomic::add(counts.cast::<u64>().wrapping_add(1), update.bytes as u64);
        }
    }

    #[inline(always)]
    fn end(&self, flow: Self::Handle, key: &FlowKey) {
        if holds(flow, key) {
            // SAFETY: `flow` points to a live map value.
            atomic::store(unsafe { &raw mut (*flow).deadline }, 0);
        }
    }

    #[inline(always)]
    fn open(&self, key: &FlowKey, start: &FlowStart) -> bool {
        let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return false };
        // SAFETY: the entry is this CPU's own and XDP does not nest on a CPU.
        let flow = unsafe {
            fill(scratch, key, start);
            &*scratch
        };
        match FLOWS.insert(key, flow, BPF_NOEXIST.into()) {
            Ok(()) => true,
            // A dead flow of the same key, or another CPU was first: either way this packet's verdict is the newer.
            // It may be swept away right now, so its place is taken whether it is still there or not.
            Err(EEXIST) => FLOWS.insert(key, flow, BPF_ANY.into()).is_ok(),
            Err(_) => false,
        }
    }
}

/// True while the element holds this flow.
#[inline(always)]
fn holds(flow: *const Flow, key: &FlowKey) -> bool {
    const WORDS: usize = size_of::<FlowKey>() / size_of::<u64>();
    let stored = flow.cast::<u64>();
    let wanted = (&raw const *key).cast::<u32>();
    let mut difference = 0;
    let mut word = 0;
    while word < WORDS {
        // SAFETY: both keys have 48 bytes; the wanted one is aligned to 4 only.
        let (low, high) = unsafe { (*wanted.add(2 * word), *wanted.add(2 * word + 1)) };
        let wanted_word = if cfg!(target_endian = "little") {
            (high as u64) << 32 | low as u64
        } else {
            (low as u64) << 32 | high as u64
        };
        difference |= atomic::load(stored.wrapping_add(word)) ^ wanted_word;
        word += 1;
    }
    difference == 0
}

/// Writes a new flow's first value.
///
/// # Safety
///
/// `flow` must be valid for writes and not shared.
#[inline(always)]
unsafe fn fill(flow: *mut Flow, key: &FlowKey, start: &FlowStart) {
    let outgoing = start.update.side == 0;
    let count = [1, start.update.bytes as u64];
    // SAFETY: as the caller promises.
    unsafe {
        (*flow).key = *key;
        (*flow).decision = start.update.decision;
        (*flow).deadline = start.update.deadline;
        (*flow).access = if outgoing { [start.update.access, 0] } else { [0, start.update.access] };
        (*flow).state = start.update.state;
        (*flow).initiator = start.initiator;
        (*flow).peer = start.peer;
        (*flow).opened = start.opened;
        (*flow).sent = if outgoing { count } else { [0; 2] };
        (*flow).received = if outgoing { [0; 2] } else { count };
    }
}
