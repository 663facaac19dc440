//! Two walks as one.

use std::cmp::Ordering;

/// Two walks by ascending keys side by side, each key once.
pub(crate) fn side_by_side<K: Ord, A, B>(
    left: impl IntoIterator<Item = (K, A)>,
    right: impl IntoIterator<Item = (K, B)>,
) -> impl Iterator<Item = (K, Option<A>, Option<B>)> {
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    std::iter::from_fn(move || {
        let order = match (left.peek(), right.peek()) {
            (Some((a, _)), Some((b, _))) => a.cmp(b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return None,
        };
        let a = if order.is_le() { left.next() } else { None };
        let b = if order.is_ge() { right.next() } else { None };
        match (a, b) {
            (Some((key, a)), Some((_, b))) => Some((key, Some(a), Some(b))),
            (Some((key, a)), None) => Some((key, Some(a), None)),
            (None, Some((key, b))) => Some((key, None, Some(b))),
            (None, None) => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn two_maps_are_walked_together() {
        let left = BTreeMap::from([(1, 'a'), (2, 'b'), (5, 'e')]);
        let right = BTreeMap::from([(2, 'B'), (3, 'C'), (5, 'E'), (6, 'F')]);
        let seen: Vec<_> =
            side_by_side(&left, &right).map(|(k, a, b)| (*k, a.copied(), b.copied())).collect();
        let expected = [
            (1, Some('a'), None),
            (2, Some('b'), Some('B')),
            (3, None, Some('C')),
            (5, Some('e'), Some('E')),
            (6, None, Some('F')),
        ];
        assert_eq!(seen, expected);
    }
}
