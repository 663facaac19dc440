//! The words of one slot.

use super::tag::{GUARD, Tag};
use super::{Handle, Memory, TRIES};
use crate::abi::value::{FLOWS_BY_DEVICE, FLOWS_BY_OTHERS, INITIATOR_LOCAL, INITIATOR_REMOTE};
use crate::abi::{DeviceId, Flow, FlowKey, Generation, RuleId};
use crate::decide::{FlowStart, FlowUpdate, FlowWords};
use crate::tunnel::Binding;

/// Which word is what.
pub(super) mod word {
    pub(crate) const TAG: usize = 0;
    pub(crate) const KEY: usize = 1;
    pub(crate) const DECISION: usize = 7;
    pub(crate) const ACCESS: usize = 8;
    pub(crate) const STATE: usize = 10;
    pub(crate) const OPENED: usize = 11;
    pub(crate) const SENT: usize = 12;
    pub(crate) const RECEIVED: usize = 14;
}

/// `guard | stamp << 24 | vouched << 23 | rule`.
const STAMP_SHIFT: u32 = 24;
const RULE: u64 = VOUCHED - 1;
/// The flow is vouched for in the generation of its stamp: one word with it, so that no stamp gets another's.
const VOUCHED: u64 = 1 << 23;

/// `guard | flags << 49 | idle << 32 | peer`.
const IDLE_SHIFT: u32 = 32;
const IDLE: u64 = 0x1_ffff;
const FLAGS_SHIFT: u32 = 49;
const FLAGS: u64 = 0x3f;
/// The flag beside those of [`Flow::state`].
const REMOTE_OPENED: u64 = 1 << 55;

/// The words that deciding reads.
pub(super) struct Entry {
    decision: u64,
    access: [u64; 2],
    state: u64,
}

impl Entry {
    #[inline(always)]
    pub(super) fn load<M: Memory + ?Sized>(memory: &M, row: M::Row) -> Self {
        Self {
            decision: memory.load(row, word::DECISION),
            access: [memory.load(row, word::ACCESS), memory.load(row, word::ACCESS + 1)],
            state: memory.load(row, word::STATE),
        }
    }

    /// As [`Flow::decision`].
    #[inline(always)]
    pub(super) const fn decision(&self) -> u64 {
        let value = self.decision & !GUARD;
        (value >> STAMP_SHIFT) << 32 | value & RULE
    }

    /// As [`FlowWords::vouched`].
    #[inline(always)]
    pub(super) const fn vouched(&self) -> bool {
        self.decision & VOUCHED != 0
    }

    /// As [`FlowWords::access`].
    #[inline(always)]
    pub(super) const fn access(&self) -> [u64; 2] {
        [self.access[0] & !GUARD, self.access[1] & !GUARD]
    }

    /// As [`Flow::state`].
    #[inline(always)]
    pub(super) const fn state(&self) -> u64 {
        (self.state >> IDLE_SHIFT & IDLE) << 32 | self.state >> FLAGS_SHIFT & FLAGS
    }

    /// As [`Flow::initiator`].
    #[inline(always)]
    pub(super) const fn initiator(&self) -> u32 {
        if self.state & REMOTE_OPENED == 0 { INITIATOR_LOCAL } else { INITIATOR_REMOTE }
    }
}

/// The rule that allows the slot's flow, or did.
#[inline(always)]
pub(super) fn rule<M: Memory + ?Sized>(memory: &M, row: M::Row) -> RuleId {
    RuleId((memory.load(row, word::DECISION) & RULE) as u32)
}

/// A decision as a slot holds it, without the guard.
#[inline(always)]
const fn decision(decision: u64) -> u64 {
    (decision >> 32) << STAMP_SHIFT | decision & RULE
}

/// Idle time and flags as a slot holds them.
#[inline(always)]
const fn state(state: u64) -> u64 {
    (state & FLAGS) << FLAGS_SHIFT | (state >> 32 & IDLE) << IDLE_SHIFT
}

/// True if the slot's key is this one.
#[inline(always)]
pub(super) fn holds<M: Memory + ?Sized>(memory: &M, row: M::Row, words: &[u64; 6]) -> bool {
    is_of_anybody(memory, row, words) && memory.load(row, word::KEY) == words[0]
}

/// True if the slot's key is this one but for the device.
#[inline(always)]
pub(super) fn is_of_anybody<M: Memory + ?Sized>(memory: &M, row: M::Row, words: &[u64; 6]) -> bool {
    let mut difference = u64::from((memory.load(row, word::KEY) ^ words[0]) as u32);
    let mut at = 1;
    while at < words.len() {
        difference |= memory.load(row, word::KEY + at) ^ words[at];
        at += 1;
    }
    difference == 0
}

/// Writes a slot that is the caller's; everything but the tag.
#[inline(always)]
pub(super) fn fill<M: Memory + ?Sized>(
    memory: &M,
    row: M::Row,
    tag: Tag,
    words: &[u64; 6],
    start: &FlowStart,
) {
    let update = &start.update;
    for (at, value) in words.iter().enumerate() {
        memory.store(row, word::KEY + at, *value);
    }
    memory.store(row, word::DECISION, tag.guarded(decision(update.decision)));
    let side = update.side & 1;
    memory.store(row, word::ACCESS + side, tag.guarded(update.access));
    memory.store(row, word::ACCESS + (1 - side), tag.guarded(0));
    let opened = if start.initiator == INITIATOR_REMOTE { REMOTE_OPENED } else { 0 };
    memory.store(row, word::STATE, tag.guarded(state(update.state) | opened | start.peer.0 as u64));
    memory.store(row, word::OPENED, start.opened);
    for at in [word::SENT, word::SENT + 1, word::RECEIVED, word::RECEIVED + 1] {
        memory.store(row, at, 0);
    }
    count(memory, row, update);
}

/// Counts a packet, or all of one buffer.
#[inline(always)]
pub(super) fn count<M: Memory + ?Sized>(memory: &M, row: M::Row, update: &FlowUpdate) {
    let at = if update.side == 0 { word::SENT } else { word::RECEIVED };
    memory.add(row, at, update.packets as u64);
    memory.add(row, at + 1, update.bytes as u64);
}

/// Adds what a slot has counted to another one.
#[inline(always)]
pub(super) fn add_counts<M: Memory + ?Sized>(memory: &M, to: M::Row, from: M::Row) {
    for at in [word::SENT, word::SENT + 1, word::RECEIVED, word::RECEIVED + 1] {
        memory.add(to, at, memory.load(from, at));
    }
}

/// Changes the decision of one life; another one than before is vouched for by nobody.
#[inline(always)]
pub(super) fn decide<M: Memory + ?Sized>(memory: &M, row: M::Row, life: Tag, wanted: u64) {
    let current = memory.load(row, word::DECISION);
    let wanted = life.guarded(decision(wanted));
    if current & !VOUCHED != wanted && life.guards(current) {
        memory.exchange(row, word::DECISION, current, wanted);
    }
}

/// Vouches for a decision in a generation, if it still is the one that was found.
#[inline(always)]
pub(super) fn vouch<M: Memory + ?Sized>(
    memory: &M,
    row: M::Row,
    life: Tag,
    flow: &FlowWords,
    stamp: Generation,
) {
    let found = life.guarded(decision(flow.decision) | if flow.vouched { VOUCHED } else { 0 });
    let vouched = life.guarded(decision(Flow::decision_word(stamp, flow.rule())) | VOUCHED);
    memory.exchange(row, word::DECISION, found, vouched);
}

/// Notes which tunnels a flow's packets come through, if it is not so already; false if there is no room for it: a device
/// is at the other end, or was.
#[inline(always)]
pub(super) fn bind<M: Memory + ?Sized>(
    memory: &M,
    row: M::Row,
    life: Tag,
    flow: &FlowWords,
    tunnel: Binding,
) -> bool {
    let found = flow.access[1];
    if tunnel.is_none() || tunnel == flow.tunnel() {
        return true;
    }
    (found == 0 || !flow.tunnel().is_none())
        && memory.exchange(row, word::ACCESS + 1, life.guarded(found), life.guarded(tunnel.0))
}

/// Changes what differs between the state as it was found and as it shall be; what another CPU
/// changed meanwhile stays.
#[inline(always)]
pub(super) fn amend_state<M: Memory + ?Sized>(memory: &M, handle: Handle<M::Row>, wanted: u64) {
    let (before, after) = (state(handle.state), state(wanted));
    if before == after {
        return;
    }
    for _ in 0..2 {
        let current = memory.load(handle.row, word::STATE);
        let merged = current & !(before & !after) | after & !before;
        if !handle.tag.guards(current) || memory.exchange(handle.row, word::STATE, current, merged) {
            return;
        }
    }
}

/// A device, and which of its counts a flow is in.
#[derive(Clone, Copy)]
pub(super) struct Owner {
    device: DeviceId,
    count: usize,
}

impl Owner {
    #[inline(always)]
    const fn new(device: DeviceId, by_others: bool) -> Self {
        Self { device, count: if by_others { FLOWS_BY_OTHERS } else { FLOWS_BY_DEVICE } }
    }

    /// Whose flow is in a slot.
    #[inline(always)]
    pub(super) fn of<M: Memory + ?Sized>(memory: &M, row: M::Row) -> Self {
        let device = DeviceId((memory.load(row, word::KEY) >> 32) as u32);
        Self::new(device, memory.load(row, word::STATE) & REMOTE_OPENED != 0)
    }

    /// Whose flow is to be opened.
    #[inline(always)]
    pub(super) const fn opening(key: &FlowKey, start: &FlowStart) -> Self {
        Self::new(key.device, start.initiator == INITIATOR_REMOTE)
    }

    /// Counts one flow more; false if the device has as many as it may have.
    #[inline(always)]
    pub(super) fn reserve<M: Memory + ?Sized>(self, memory: &M, quota: u32) -> bool {
        let Some(row) = memory.device(self.device) else { return true };
        if quota == 0 {
            memory.add(row, self.count, 1);
            return true;
        }
        for _ in 0..TRIES {
            let count = memory.load(row, self.count);
            if count >= quota as u64 {
                return false;
            }
            if memory.exchange(row, self.count, count, count + 1) {
                return true;
            }
        }
        // So many CPUs at once: the limit holds, whoever loses.
        false
    }

    /// Counts one flow less.
    #[inline(always)]
    pub(super) fn give_back<M: Memory + ?Sized>(self, memory: &M) {
        self.add(memory, u64::MAX);
    }

    #[inline(always)]
    fn add<M: Memory + ?Sized>(self, memory: &M, value: u64) {
        if let Some(row) = memory.device(self.device) {
            memory.add(row, self.count, value);
        }
    }
}

/// All words of a slot.
pub(super) fn flow<M: Memory + ?Sized>(memory: &M, row: M::Row, tag: Tag) -> Flow {
    let load = |word| memory.load(row, word);
    let entry = Entry::load(memory, row);
    let mut key = [0; 6];
    key.iter_mut().enumerate().for_each(|(at, word)| *word = load(word::KEY + at));
    Flow {
        key: FlowKey::from_words(key),
        decision: entry.decision(),
        deadline: tag.deadline(),
        access: entry.access().map(|word| if Binding(word).is_none() { word } else { 0 }),
        state: entry.state(),
        initiator: entry.initiator(),
        peer: DeviceId(entry.state as u32),
        opened: load(word::OPENED),
        sent: [load(word::SENT), load(word::SENT + 1)],
        received: [load(word::RECEIVED), load(word::RECEIVED + 1)],
    }
}
