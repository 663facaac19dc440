//! Taking a slot for a new flow.

use super::hash::{Probe, WINDOW};
use super::slot::{self, Owner, word};
use super::{Found, Memory, NONE, TRIES, Tag, sweep};
use crate::abi::FlowKey;
use crate::decide::FlowStart;
use crate::verdict::DropReason;

/// Opens a flow: over a dead one of the same key, in a free slot, or over any dead flow of its buckets.
///
/// # Errors
/// The device has as many as it may have, or every slot of the buckets has a live flow.
#[inline(always)]
pub fn open<M: Memory>(memory: &M, key: &FlowKey, start: &FlowStart) -> Result<(), DropReason> {
    let owner = Owner::opening(key, start);
    if !owner.reserve(memory, start.quota) {
        // Its own dead flow may lie where this one would.
        memory.reclaim(key, start.opened);
        if !owner.reserve(memory, start.quota) {
            return Err(DropReason::FlowQuota);
        }
    }
    let placed = place(memory, key, start);
    if !matches!(placed, Ok(true)) {
        owner.give_back(memory);
    }
    placed.map(drop)
}

/// Opens a flow of a device that may have any number, at the first attempt; false if there is one already or no slot is to be
/// had at once, and then all is as it was.
#[inline(always)]
pub fn begin<M: Memory>(memory: &M, key: &FlowKey, start: &FlowStart) -> bool {
    let owner = Owner::opening(key, start);
    if !owner.reserve(memory, start.quota) {
        return false;
    }
    let begun = matches!(memory.attempt(key, start, false), Attempt::Placed);
    if !begun {
        owner.give_back(memory);
    }
    begun
}

/// Puts a flow into a slot; false if another CPU has just opened it.
#[inline(always)]
fn place<M: Memory>(memory: &M, key: &FlowKey, start: &FlowStart) -> Result<bool, DropReason> {
    for _ in 0..TRIES {
        match memory.attempt(key, start, true) {
            Attempt::Placed => return Ok(true),
            Attempt::Known => return Ok(false),
            Attempt::Outpaced => {}
            Attempt::Full => break,
        }
    }
    Err(DropReason::FlowTableFull)
}

/// What came of one attempt to put a flow into a slot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum Attempt {
    /// It is there.
    Placed = 0,
    /// The flow is there already.
    Known = 1,
    /// Another CPU was faster at the slot.
    Outpaced = 2,
    /// Every slot of the buckets has a live flow.
    Full = 3,
}

impl Attempt {
    /// The one with this number; of none, that there was no room.
    #[inline(always)]
    pub const fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Placed,
            1 => Self::Known,
            2 => Self::Outpaced,
            _ => Self::Full,
        }
    }
}

/// Tries once to put a flow into a slot. If it is there already, the packet `joins` it and is counted there, or leaves it alone.
#[inline(always)]
pub fn attempt<M: Memory + ?Sized>(memory: &M, key: &FlowKey, start: &FlowStart, joins: bool) -> Attempt {
    let words = key.words();
    let Some(geometry) = memory.geometry() else { return Attempt::Full };
    let (probe, now) = (Probe::of(geometry, &words), start.opened);
    let chosen = choose(memory, probe, &words, now);
    let Some(row) = memory.slot(chosen as u32).filter(|_| chosen != NONE) else { return Attempt::Full };
    if chosen & KNOWN != 0 {
        if joins {
            slot::count(memory, row, &start.update);
        }
        return Attempt::Known;
    }
    if !take(memory, row, &words, start) {
        return Attempt::Outpaced;
    }
    settle(memory, probe, &words, chosen as u32, now);
    Attempt::Placed
}

/// Beside the number of a slot: the flow is there already.
const KNOWN: Found = 1 << 32;

/// Looks through the buckets once for the slot to take, or for the flow itself.
#[inline(always)]
fn choose<M: Memory + ?Sized>(memory: &M, probe: Probe, words: &[u64; 6], now: u64) -> Found {
    let (mut free, mut dead) = (NONE, NONE);
    for step in 0..WINDOW {
        let Some(index) = probe.slot(step) else { break };
        let Some(row) = memory.slot(index) else { return NONE };
        let tag = Tag(memory.load(row, word::TAG));
        if tag.is_live() && slot::holds(memory, row, words) {
            let known = if tag.is_live_at(now) { KNOWN } else { 0 };
            return known | index as Found;
        }
        let best = if tag.is_live() { &mut dead } else { &mut free };
        if tag.is_free_at(now) && *best == NONE {
            *best = index as Found;
        }
        if tag.is_unused() {
            break;
        }
    }
    if free == NONE { dead } else { free }
}

/// Takes a slot and publishes the flow in it; false if another CPU was faster.
#[inline(always)]
fn take<M: Memory + ?Sized>(memory: &M, row: M::Row, words: &[u64; 6], start: &FlowStart) -> bool {
    let tag = Tag(memory.load(row, word::TAG));
    let busy = tag.taken(start.opened);
    if !tag.is_free_at(start.opened) || !memory.exchange(row, word::TAG, tag.0, busy.0) {
        return false;
    }
    if tag.is_live() {
        Owner::of(memory, row).give_back(memory);
    }
    slot::fill(memory, row, busy, words, start);
    let live = busy.published(start.update.deadline);
    // It fails if this CPU stood still for so long that its slot was given to somebody else.
    memory.exchange(row, word::TAG, busy.0, live.0)
}

/// Gives up what is dead in the buckets of a key.
#[inline(always)]
pub fn reclaim<M: Memory + ?Sized>(memory: &M, key: &FlowKey, now: u64) {
    let Some(geometry) = memory.geometry() else { return };
    let probe = Probe::of(geometry, &key.words());
    for step in 0..WINDOW {
        let Some(index) = probe.slot(step) else { return };
        sweep(memory, index, now);
    }
}

/// Looks whether the same flow was opened in another slot meanwhile: the one that comes later yields.
///
/// Whoever of the two looks last sees both, because nothing passes an exchange.
#[inline(always)]
fn settle<M: Memory + ?Sized>(memory: &M, probe: Probe, words: &[u64; 6], own: u32, now: u64) {
    let mut first = NONE;
    for step in 0..WINDOW {
        let Some(index) = probe.slot(step) else { return };
        let Some(row) = memory.slot(index) else { return };
        let tag = Tag(memory.load(row, word::TAG));
        if tag.is_unused() {
            return;
        }
        if !tag.is_live_at(now) || index != own && !slot::holds(memory, row, words) {
            continue;
        }
        if first == NONE {
            first = index as Found;
        } else {
            give_way(memory, first as u32, index, tag);
        }
    }
}

/// Moves what a slot has counted to another of the same flow, and empties it.
#[inline(always)]
fn give_way<M: Memory + ?Sized>(memory: &M, to: u32, from: u32, tag: Tag) {
    let (Some(to), Some(from)) = (memory.slot(to), memory.slot(from)) else { return };
    let owner = Owner::of(memory, from);
    if memory.exchange(from, word::TAG, tag.0, tag.emptied().0) {
        owner.give_back(memory);
        slot::add_counts(memory, to, from);
    }
}
