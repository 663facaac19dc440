//! Which slots of the address table are in use.

/// One bit a slot.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Slots(Vec<u64>);

/// Slots of one word.
const BITS: u32 = u64::BITS;

impl Slots {
    /// Notes that a slot is in use, or free. There is room up to its number: it must be one of a table's.
    pub(super) fn set(&mut self, slot: u32, used: bool) {
        let (word, bit) = ((slot / BITS) as usize, 1 << (slot % BITS));
        if used && word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        match self.0.get_mut(word) {
            Some(word) if used => *word |= bit,
            Some(word) => *word &= !bit,
            None => {}
        }
        // Equal contents are equal values.
        while self.0.pop_if(|last| *last == 0).is_some() {}
    }

    /// The first free slot from one on.
    pub(super) fn free_from(&self, first: u32) -> u32 {
        let mut at = (first / BITS) as usize;
        // What lies before the first one is as good as used.
        let mut used = self.word(at) | ((1_u64 << (first % BITS)) - 1);
        while used == u64::MAX {
            at += 1;
            used = self.word(at);
        }
        u32::try_from(at).map_or(u32::MAX, |at| at.saturating_mul(BITS).saturating_add(used.trailing_ones()))
    }

    fn word(&self, at: usize) -> u64 {
        self.0.get(at).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_slots_are_found_lowest_first() {
        let mut slots = Slots::default();
        assert_eq!((slots.free_from(0), slots.free_from(64), slots.free_from(63)), (0, 64, 63));
        (0..200).for_each(|slot| slots.set(slot, true));
        assert_eq!(slots.free_from(3), 200);
        for slot in [70, 128] {
            slots.set(slot, false);
        }
        assert_eq!((slots.free_from(0), slots.free_from(71), slots.free_from(129)), (70, 128, 200));
        (0..200).for_each(|slot| slots.set(slot, false));
        assert_eq!(slots, Slots::default(), "nothing is left");
    }
}
