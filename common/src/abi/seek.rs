//! Where a key lies in a small table: an array whose rows are tried one after the other, from the key's own.
//!
//! The kernel's hash maps cost a call and a comparison through a pointer for each packet; here a key is found in the
//! row that is tried first, or in one beside it.

/// How many rows are tried for a key. A table is at most a quarter full, so that a key finds a free one among them.
pub const TRIES: u32 = 16;

/// The first of the rows of a key, of `rows` (a power of two, at most 65,536), that is wanted.
#[inline(always)]
pub fn seek(key: u32, rows: u32, mut wanted: impl FnMut(u32) -> bool) -> Option<u32> {
    let first = first(key);
    for step in 0..TRIES {
        let row = first.wrapping_add(step) & (rows - 1);
        if wanted(row) {
            return Some(row);
        }
    }
    None
}

/// Fibonacci hashing (Knuth, TAOCP 6.4): spreads neighbouring numbers.
#[inline(always)]
const fn first(key: u32) -> u32 {
    key.wrapping_mul(0x9e37_79b1) >> 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::SubinterfaceKey;
    use crate::abi::key::EGRESS;
    use crate::abi::map::{INTERFACE_CAPACITY, INTERFACE_ROWS, SUBINTERFACE_CAPACITY};
    use core::ops::Range;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    /// True if every key finds a row of its own.
    fn all_fit<K: Copy>(keys: &[K], seek: impl Fn(K, &BTreeSet<u32>) -> Option<u32>) -> bool {
        let mut taken = BTreeSet::new();
        keys.iter().all(|key| seek(*key, &taken).is_some_and(|row| taken.insert(row)))
    }

    /// Every combination of these numbers of interfaces, outer and inner VLANs.
    fn places(interfaces: Range<u32>, outer: u16, inner: u16) -> Vec<SubinterfaceKey> {
        let vlans = (0..outer).flat_map(|outer| (0..inner).map(move |inner| (outer, inner)));
        let keys = interfaces.flat_map(|interface| {
            vlans.clone().map(move |(outer, inner)| SubinterfaceKey::new(1, interface, outer, inner))
        });
        keys.collect()
    }

    #[test]
    fn as_many_places_as_there_may_be_find_rows() {
        for (interfaces, outer, inner) in [
            (2..3, 1024, 1),
            (1..1025, 1, 1),
            (70_000..70_256, 4, 1),
            (3..19, 64, 1),
            (5..6, 32, 32),
            (1_000_000..1_000_004, 16, 16),
        ] {
            let keys = places(interfaces.clone(), outer, inner);
            assert_eq!(keys.len(), SUBINTERFACE_CAPACITY as usize);
            let row = |key: SubinterfaceKey, taken: &BTreeSet<u32>| key.seek(|row| !taken.contains(&row));
            assert!(all_fit(&keys, row), "{interfaces:?}, {outer}, {inner}");
        }
    }

    #[test]
    fn as_many_interfaces_as_there_may_be_find_rows() {
        for first in [1, 1000, 70_000, 3_000_000] {
            let numbers = first..first + INTERFACE_CAPACITY / 2;
            let both: Vec<u32> = numbers.flat_map(|number| [number, number | EGRESS]).collect();
            let row = |key, taken: &BTreeSet<u32>| seek(key, INTERFACE_ROWS, |row| !taken.contains(&row));
            assert!(all_fit(&both, row), "from {first}");
        }
    }

    #[test]
    fn no_row_is_wanted_in_vain() {
        assert_eq!(seek(7, 64, |_| false), None);
        assert!(seek(7, 64, |row| row < 64).is_some());
    }
}
