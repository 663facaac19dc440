//! Sets of addresses as sorted, disjoint ranges.

use crate::policy::address::AddressRange;

/// A set of addresses. Ranges that touch are one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::policy) struct RangeSet(Vec<AddressRange>);

impl RangeSet {
    /// The ranges, sorted and disjoint.
    pub(in crate::policy) fn ranges(&self) -> &[AddressRange] {
        &self.0
    }

    /// True if any address of a range is in the set.
    pub(in crate::policy) fn touches(&self, range: AddressRange) -> bool {
        self.0.get(self.after(range.first)).is_some_and(|next| next.overlaps(range))
    }

    /// True if every address of a range is in the set.
    pub(in crate::policy) fn covers(&self, range: AddressRange) -> bool {
        self.0.get(self.after(range.first)).is_some_and(|next| next.contains(range))
    }

    /// What a range has that the set has not.
    pub(in crate::policy) fn left_of(&self, range: AddressRange) -> Vec<AddressRange> {
        let mut left = Vec::new();
        let mut first = range.first;
        for taken in self.0[self.after(range.first)..].iter().take_while(|taken| taken.first <= range.last) {
            if taken.first > first {
                left.push(AddressRange { first, last: taken.first - 1 });
            }
            match taken.last.checked_add(1) {
                Some(next) if taken.last < range.last => first = next,
                _ => return left,
            }
        }
        left.push(AddressRange { first, last: range.last });
        left
    }

    /// The set without what another has.
    pub(in crate::policy) fn without(&self, other: &Self) -> Self {
        self.0.iter().flat_map(|range| other.left_of(*range)).collect()
    }

    /// Index of the first range that ends at or after an address.
    fn after(&self, address: u128) -> usize {
        self.0.partition_point(|range| range.last < address)
    }
}

impl FromIterator<AddressRange> for RangeSet {
    fn from_iter<I: IntoIterator<Item = AddressRange>>(ranges: I) -> Self {
        let mut ranges: Vec<AddressRange> = ranges.into_iter().collect();
        ranges.sort();
        let mut merged: Vec<AddressRange> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match merged.last_mut() {
                Some(last) if range.first <= last.last.saturating_add(1) => {
                    last.last = last.last.max(range.last)
                }
                _ => merged.push(range),
            }
        }
        Self(merged)
    }
}

/// Ranges in any order as sorted, disjoint ones.
pub fn merged(ranges: Vec<AddressRange>) -> Vec<AddressRange> {
    ranges.into_iter().collect::<RangeSet>().0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: &[(u128, u128)]) -> RangeSet {
        ranges.iter().map(|(first, last)| AddressRange { first: *first, last: *last }).collect()
    }

    #[test]
    fn ranges_that_touch_become_one() {
        assert_eq!(set(&[(5, 9), (0, 2), (3, 4), (8, 12)]), set(&[(0, 12)]));
        assert_eq!(set(&[(u128::MAX, u128::MAX), (0, u128::MAX)]), set(&[(0, u128::MAX)]));
    }

    #[test]
    fn what_is_left_has_exact_edges() {
        let taken = set(&[(2, 3), (5, 5), (9, 20)]);
        assert_eq!(taken.left_of(AddressRange { first: 0, last: 10 }), set(&[(0, 1), (4, 4), (6, 8)]).0);
        assert_eq!(taken.left_of(AddressRange { first: 2, last: 3 }), []);
        assert_eq!(taken.left_of(AddressRange { first: 3, last: 4 }), set(&[(4, 4)]).0);
        let all = set(&[(0, u128::MAX)]);
        assert_eq!(all.left_of(AddressRange { first: 7, last: u128::MAX }), []);
    }

    #[test]
    fn subtraction_agrees_with_counting() {
        for seed in 0..200u128 {
            let pick = |n: u128| (seed.wrapping_mul(2_654_435_761) >> n) % 24;
            let a = set(&[(pick(1), pick(1) + pick(2)), (pick(3), pick(3) + pick(4))]);
            let b = set(&[(pick(5), pick(5) + pick(6) % 5), (pick(7), pick(7) + pick(8) % 9)]);
            let rest = a.without(&b);
            for n in 0..64 {
                let point = AddressRange { first: n, last: n };
                assert_eq!(rest.covers(point), a.covers(point) && !b.touches(point), "seed {seed} at {n}");
            }
        }
    }
}
