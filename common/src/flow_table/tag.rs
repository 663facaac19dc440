//! The word that says whose turn a slot is.

/// Kind, sequence and time of a slot: `kind << 62 | sequence << 40 | ticks`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(transparent)]
pub struct Tag(pub u64);

/// Kinds of slots, as a set: so that looking for one or the other takes no branch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(transparent)]
pub struct Kinds(pub u64);

impl Kinds {
    /// Slots that flows have.
    pub const LIVING: Self = Self(1 << LIVE);
    /// Those too whose places were given up: the words stay until somebody takes them.
    pub const REMEMBERED: Self = Self(1 << LIVE | 1);
}

/// Nanoseconds in a tick, as a shift: about a millisecond, finer than the coarse clock.
const TICK_SHIFT: u32 = 20;
const KIND_SHIFT: u32 = 62;
const SEQUENCE_SHIFT: u32 = 40;
/// 36 years of uptime.
const TICKS: u64 = (1 << SEQUENCE_SHIFT) - 1;
const SEQUENCE: u64 = (1 << (KIND_SHIFT - SEQUENCE_SHIFT)) - 1;
const LIVE: u64 = 1;
const BUSY: u64 = 2;
/// Bits of the sequence that every word of a slot carries that decides anything.
const GUARD_SHIFT: u32 = 56;

/// A busy slot of this age was left behind: no program runs for so long, the kernel calls it a stall.
pub(super) const GRACE_NS: u64 = 64_000_000_000;

/// Time in ticks, as tags hold it.
#[inline(always)]
pub const fn ticks(nanoseconds: u64) -> u64 {
    (nanoseconds >> TICK_SHIFT) & TICKS
}

impl Tag {
    #[inline(always)]
    const fn of(kind: u64, sequence: u64, ticks: u64) -> Self {
        Self(kind << KIND_SHIFT | (sequence & SEQUENCE) << SEQUENCE_SHIFT | ticks)
    }

    #[inline(always)]
    const fn kind(self) -> u64 {
        self.0 >> KIND_SHIFT
    }

    /// Counts the lives of the slot.
    #[inline(always)]
    pub const fn sequence(self) -> u64 {
        self.0 >> SEQUENCE_SHIFT & SEQUENCE
    }

    /// True if no flow ever had the slot.
    #[inline(always)]
    pub const fn is_unused(self) -> bool {
        self.0 == 0
    }

    /// True while a flow has the slot, dead or alive.
    #[inline(always)]
    pub const fn is_live(self) -> bool {
        self.kind() == LIVE
    }

    /// True if the slot's flow has time left.
    #[inline(always)]
    pub const fn is_live_at(self, now: u64) -> bool {
        self.is_live() && self.0 & TICKS > ticks(now)
    }

    /// True if the slot is of one of these kinds and its flow had time left then; one that was ended before its time
    /// has none at any time.
    #[inline(always)]
    pub const fn had_time_at(self, then: u64, kinds: Kinds) -> bool {
        kinds.0 >> self.kind() & 1 != 0 && self.0 & TICKS > ticks(then)
    }

    /// True while somebody writes the slot.
    #[inline(always)]
    pub const fn is_busy(self) -> bool {
        self.kind() == BUSY
    }

    /// True for a slot whose writer never came back.
    #[inline(always)]
    pub const fn is_abandoned_at(self, now: u64) -> bool {
        self.is_busy() && (self.0 & TICKS) + ticks(GRACE_NS) <= ticks(now)
    }

    /// Kind and sequence: what stays as long as one flow has the slot.
    #[inline(always)]
    pub const fn life(self) -> u64 {
        self.0 >> SEQUENCE_SHIFT
    }

    /// True if both are tags of one flow.
    #[inline(always)]
    pub const fn is_same_life(self, other: Self) -> bool {
        self.life() == other.life()
    }

    /// True if somebody may take the slot for a flow of another key.
    #[inline(always)]
    pub const fn is_free_at(self, now: u64) -> bool {
        if self.is_busy() { self.is_abandoned_at(now) } else { !self.is_live_at(now) }
    }

    /// From when on the flow is dead, in nanoseconds.
    #[inline(always)]
    pub const fn deadline(self) -> u64 {
        (self.0 & TICKS) << TICK_SHIFT
    }

    /// The same life with another deadline in nanoseconds.
    #[inline(always)]
    pub const fn with_deadline(self, deadline: u64) -> Self {
        Self(self.0 & !TICKS | ticks(deadline))
    }

    /// The next life, while its owner writes it.
    #[inline(always)]
    pub const fn taken(self, now: u64) -> Self {
        Self::of(BUSY, self.sequence() + 1, ticks(now))
    }

    /// The life that its owner has written.
    #[inline(always)]
    pub const fn published(self, deadline: u64) -> Self {
        Self::of(LIVE, self.sequence(), ticks(deadline))
    }

    /// The slot without a flow; the sequence goes on from here, and the deadline tells when it died.
    #[inline(always)]
    pub const fn emptied(self) -> Self {
        let empty = Self::of(0, self.sequence(), self.0 & TICKS);
        // Zero is for slots that nobody ever had.
        if empty.0 == 0 { Self(1) } else { empty }
    }

    /// A word of this life.
    #[inline(always)]
    pub const fn guarded(self, value: u64) -> u64 {
        self.sequence() << GUARD_SHIFT | value & !GUARD
    }

    /// True for a word of this life.
    #[inline(always)]
    pub const fn guards(self, word: u64) -> bool {
        word >> GUARD_SHIFT == self.sequence() & (GUARD >> GUARD_SHIFT)
    }
}

/// Where a word keeps the bits of the sequence.
pub(super) const GUARD: u64 = 0xff << GUARD_SHIFT;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_slot_lives_from_life_to_life() {
        let busy = Tag(0).taken(SECOND);
        assert!(busy.is_busy() && !busy.is_live() && busy.sequence() == 1);
        let live = busy.published(5 * SECOND);
        assert!(live.is_live_at(4 * SECOND) && !live.is_live_at(5 * SECOND) && live.is_live());
        assert!(live.is_same_life(live.with_deadline(9 * SECOND)));
        let empty = live.emptied();
        assert!(!empty.is_unused() && !empty.is_live() && !empty.is_busy() && !empty.is_same_life(live));
        let lived = |tag: Tag, then| tag.had_time_at(then, Kinds::REMEMBERED);
        assert!(lived(live, 4 * SECOND) && lived(empty, 4 * SECOND) && !lived(empty, 5 * SECOND));
        assert!(live.had_time_at(4 * SECOND, Kinds::LIVING) && !empty.had_time_at(4 * SECOND, Kinds::LIVING));
        assert!(!lived(busy, 0) && !lived(live.with_deadline(0), 0), "one that was ended had no time left");
        assert_eq!(empty.taken(SECOND).sequence(), 2);
    }

    #[test]
    fn the_sequence_wraps_into_an_unused_number_but_not_into_an_unused_tag() {
        let last = Tag(0x3f_ffff << SEQUENCE_SHIFT | 1);
        let next = last.taken(0).published(SECOND);
        assert_eq!(next.sequence(), 0);
        assert!(!next.emptied().is_unused());
    }

    #[test]
    fn a_word_of_another_life_is_told_apart() {
        let tag = Tag(0).taken(0).published(SECOND);
        let next = tag.taken(0).published(SECOND);
        let word = tag.guarded(u64::MAX);
        assert!(tag.guards(word) && !next.guards(word));
        assert_eq!(word & !GUARD, u64::MAX >> 8);
    }

    #[test]
    fn only_an_old_busy_slot_is_abandoned() {
        let busy = Tag(0).taken(SECOND);
        assert!(!busy.is_abandoned_at(GRACE_NS));
        assert!(busy.is_abandoned_at(GRACE_NS + 2 * SECOND));
        assert!(!busy.published(2 * SECOND).is_abandoned_at(u64::MAX >> 8));
    }
}
