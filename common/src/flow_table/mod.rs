//! The table of flows: slots of sixteen words in an array, shared by every CPU without a lock.
//!
//! ```text
//! line one   tag        1–6 key                         7 stamp, vouched, rule
//! line two   8–9 access   10 state, idle, peer   11 opened   12–13 sent   14–15 received
//! ```
//!
//! Where no device is at the other end, the second word of access has room for the tunnel that the first one's packets come
//! through ([`crate::tunnel::Binding`]).
//!
//! A key belongs to two buckets of eight slots, by a keyed hash, and is compared in full. The tag says
//! whose turn it is: it holds kind, sequence and deadline in one word, so taking a slot, publishing it,
//! extending its deadline and giving it up are one compare-and-exchange each.
//!
//! ```text
//!            take              publish                      take (deadline behind)
//! unused ──────────► busy(n) ──────────► live(n, deadline) ──────────────────────► busy(n+1)
//!                      ▲                   │ sweep, yield
//!                      └────── empty(n) ◄──┘
//! ```
//!
//! - A reader takes the tag before and after the words: what it read belongs to one life of the slot.
//! - Every word that decides anything carries the low bits of the sequence, and is only ever exchanged
//!   against a value with them. A write that comes too late fails; a late count may land on the next owner.
//! - A device's count is raised before its flow takes a slot, so it never says less than there are. Whoever takes or
//!   sweeps a dead flow, and only it, gives its place back.
//! - Two CPUs may open one flow at once, in two slots. Each looks again after publishing, and the
//!   slot that comes later in the key's buckets yields.

mod hash;
mod open;
mod slot;
mod tag;

#[cfg(test)]
mod model;

use crate::abi::{DeviceId, Flow, FlowGeometry, FlowKey, Generation, RuleId};
use crate::decide::{FlowStart, FlowUpdate, FlowWords};
use crate::express::{Sought, Voucher};

use hash::{Probe, WINDOW};
pub use open::{Attempt, attempt, begin, open, reclaim};
use slot::{Entry, Owner, word};
pub use tag::{Kinds, Tag, ticks};

/// Slots of a bucket; a key has two.
pub const BUCKET: u32 = 8;
/// How often an exchange is tried again that another CPU was faster at.
const TRIES: u32 = 4;

/// Memory that several CPUs share: rows of words, each read and written whole.
pub trait Memory {
    /// Where a row is.
    type Row: Copy;

    /// The table's size and the secret of its hash.
    fn geometry(&self) -> Option<&FlowGeometry>;
    /// A slot of the table.
    fn slot(&self, index: u32) -> Option<Self::Row>;
    /// A device's own row: limits and how many flows it has.
    fn device(&self, device: DeviceId) -> Option<Self::Row>;
    /// Reads a word.
    fn load(&self, row: Self::Row, word: usize) -> u64;
    /// Writes a word of a row that is the caller's alone.
    fn store(&self, row: Self::Row, word: usize, value: u64);
    /// Writes `to` if the word is `from`, and says whether it was; nothing passes it in either direction.
    fn exchange(&self, row: Self::Row, word: usize, from: u64, to: u64) -> bool;
    /// Adds to a word, modulo 2^64.
    fn add(&self, row: Self::Row, word: usize, value: u64);

    /// As [`locate`]; the kernel side calls it as a subprogram.
    #[inline(always)]
    fn locate(&self, key: &FlowKey, then: u64, kinds: Kinds) -> Found {
        locate(self, key, then, kinds)
    }
    /// True if a flow of a key lived then, if nobody has taken its place since.
    #[inline(always)]
    fn lived(&self, key: &FlowKey, then: u64) -> bool {
        self.locate(key, then, Kinds::REMEMBERED) != NONE
    }
    /// As [`attempt`].
    #[inline(always)]
    fn attempt(&self, key: &FlowKey, start: &FlowStart, joins: bool) -> Attempt {
        attempt(self, key, start, joins)
    }
    /// As [`reclaim`].
    #[inline(always)]
    fn reclaim(&self, key: &FlowKey, now: u64) {
        reclaim(self, key, now);
    }
}

/// Number of a slot and something about it; [`NONE`] is no slot.
pub type Found = u64;
/// There is none.
pub const NONE: Found = u64::MAX;

/// One life of a slot, as it was found.
#[derive(Clone, Copy, Debug)]
pub struct Handle<R> {
    row: R,
    tag: Tag,
    state: u64,
}

/// Finds the live flow of a key and takes its words.
#[inline(always)]
pub fn find<M: Memory>(memory: &M, key: &FlowKey, now: u64) -> Option<(Handle<M::Row>, FlowWords)> {
    let found = memory.locate(key, now, Kinds::LIVING);
    if found == NONE {
        return None;
    }
    taken(memory, memory.slot(found as u32)?, found >> 32)
}

/// Looks for the live flow that is vouched for in a generation, whose key is this one but for the device.
///
/// Looks where most flows lie: in the first of a key's buckets.
#[inline(always)]
pub fn seek_vouched<M: Memory>(
    memory: &M,
    key: &FlowKey,
    generation: Generation,
    now: u64,
) -> Sought<Handle<M::Row>> {
    let words = key.words();
    let Some(geometry) = memory.geometry() else { return Sought::Other };
    let probe = Probe::of(geometry, &words);
    for step in 0..BUCKET {
        let Some(row) = probe.slot(step).and_then(|index| memory.slot(index)) else { return Sought::Other };
        let tag = Tag(memory.load(row, word::TAG));
        if tag.is_unused() {
            break;
        }
        if tag.is_live_at(now) && slot::is_of_anybody(memory, row, &words) {
            return match taken(memory, row, tag.life()) {
                Some((handle, words)) if words.vouched && words.stamp() == generation.0 => {
                    Sought::Vouched(handle, words)
                }
                _ => Sought::Other,
            };
        }
    }
    Sought::Nothing
}

/// Takes the words of a slot, if it is in this life of its still.
#[inline(always)]
fn taken<M: Memory>(memory: &M, row: M::Row, life: u64) -> Option<(Handle<M::Row>, FlowWords)> {
    let entry = Entry::load(memory, row);
    let tag = Tag(memory.load(row, word::TAG));
    if tag.life() != life {
        // Another flow has the slot by now.
        return None;
    }
    let words = FlowWords {
        decision: entry.decision(),
        vouched: entry.vouched(),
        deadline: tag.deadline(),
        access: entry.access(),
        state: entry.state(),
        initiator: entry.initiator(),
    };
    Some((Handle { row, tag, state: entry.state() }, words))
}

/// Finds the slot of a key's flow that had time left then: `life << 32 | slot`, or [`NONE`].
#[inline(always)]
pub fn locate<M: Memory + ?Sized>(memory: &M, key: &FlowKey, then: u64, kinds: Kinds) -> Found {
    let words = key.words();
    let Some(geometry) = memory.geometry() else { return NONE };
    let probe = Probe::of(geometry, &words);
    for step in 0..WINDOW {
        let Some(index) = probe.slot(step) else { return NONE };
        let Some(row) = memory.slot(index) else { return NONE };
        let tag = Tag(memory.load(row, word::TAG));
        if tag.is_unused() {
            // Nobody ever looked for a place behind it.
            return NONE;
        }
        if tag.had_time_at(then, kinds) && slot::holds(memory, row, &words) {
            return tag.life() << 32 | index as u64;
        }
    }
    NONE
}

/// Leaves in a flow what a packet of it changes, unless another flow has the slot by now.
#[inline(always)]
pub fn update<M: Memory>(memory: &M, handle: Handle<M::Row>, update: &FlowUpdate) {
    let Handle { row, tag, .. } = handle;
    slot::amend_state(memory, handle, update.state);
    slot::decide(memory, row, tag, update.decision);
    if update.access != 0 {
        let (found, access) = (tag.guarded(update.found), tag.guarded(update.access));
        memory.exchange(row, word::ACCESS + (update.side & 1), found, access);
    }
    if redate(memory, row, tag, update.deadline) {
        slot::count(memory, row, update);
    }
}

/// Vouches for a flow as it was found, in a generation; whatever has been decided since stands.
#[inline(always)]
pub fn vouch<M: Memory>(memory: &M, handle: Handle<M::Row>, flow: &FlowWords, voucher: Voucher) {
    let Handle { row, tag, .. } = handle;
    // Whoever finds the flow vouched for finds the tunnel of that generation, or one that says that it is of another.
    if slot::bind(memory, row, tag, flow, voucher.tunnel) {
        slot::vouch(memory, row, tag, flow, voucher.generation);
    }
}

/// Makes a flow dead at once.
#[inline(always)]
pub fn end<M: Memory>(memory: &M, handle: Handle<M::Row>) {
    redate(memory, handle.row, handle.tag, 0);
}

/// Changes the deadline of one life of a slot; false if that life is over.
#[inline(always)]
fn redate<M: Memory>(memory: &M, row: M::Row, life: Tag, deadline: u64) -> bool {
    let mut tag = life;
    for _ in 0..TRIES {
        let wanted = tag.with_deadline(deadline);
        if wanted.0 == tag.0 || memory.exchange(row, word::TAG, tag.0, wanted.0) {
            return true;
        }
        tag = Tag(memory.load(row, word::TAG));
        if !tag.is_same_life(life) {
            return false;
        }
    }
    // Others keep changing it: theirs is as good.
    true
}

/// Gives a slot up whose flow is dead; true if this call did it.
#[inline(always)]
pub fn sweep<M: Memory + ?Sized>(memory: &M, index: u32, now: u64) -> bool {
    let Some(row) = memory.slot(index) else { return false };
    let tag = Tag(memory.load(row, word::TAG));
    if !tag.is_live() || tag.is_live_at(now) {
        return false;
    }
    // The words stay until somebody takes the slot, and then the exchange fails.
    let owner = Owner::of(memory, row);
    let swept = memory.exchange(row, word::TAG, tag.0, tag.emptied().0);
    if swept {
        owner.give_back(memory);
    }
    swept
}

/// The word that says whose turn a slot is.
pub fn tag<M: Memory>(memory: &M, index: u32) -> Option<Tag> {
    memory.slot(index).map(|row| Tag(memory.load(row, word::TAG)))
}

/// The rule of the flow that a slot holds or last held: one look at one line, to see whether more is worth it.
pub fn rule<M: Memory>(memory: &M, index: u32) -> Option<RuleId> {
    let row = memory.slot(index)?;
    let tag = Tag(memory.load(row, word::TAG));
    (!tag.is_unused() && !tag.is_busy()).then(|| slot::rule(memory, row))
}

/// What a slot holds or last held, and in which life; nothing if it is being written, or never was.
pub fn snapshot<M: Memory>(memory: &M, index: u32) -> Option<(Tag, Flow)> {
    let row = memory.slot(index)?;
    let tag = Tag(memory.load(row, word::TAG));
    if tag.is_unused() || tag.is_busy() {
        return None;
    }
    let flow = slot::flow(memory, row, tag);
    Tag(memory.load(row, word::TAG)).is_same_life(tag).then_some((tag, flow))
}
