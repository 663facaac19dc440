//! A large ordered map that is copied in no time, so that a small change of it costs what changed.
//!
//! What the map was built of lies in one piece, in order, and is shared by its copies; what changed since lies above it,
//! and is merged into it before it gets so much that copies would cost again.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::btree_map::{self, BTreeMap, Entry};
use std::fmt;
use std::iter::Peekable;
use std::ops::{Bound, Index, RangeInclusive};
use std::slice;
use std::sync::Arc;

use crate::side_by_side::side_by_side;

/// So many changes may lie above a small map.
const FEW: usize = 1024;
/// And one for so many entries above a large one.
const SHARE: usize = 64;

/// An ordered map whose copies share what is the same.
#[derive(Clone)]
pub struct Layered<K, V> {
    /// By ascending keys, each once.
    base: Arc<Vec<(K, V)>>,
    /// What differs from the base: another value, or none any more.
    above: BTreeMap<K, Option<V>>,
    len: usize,
}

impl<K, V> Default for Layered<K, V> {
    fn default() -> Self {
        Self { base: Arc::default(), above: BTreeMap::new(), len: 0 }
    }
}

impl<K: Ord, V> Layered<K, V> {
    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        // Mostly nothing is above, and then nothing is looked for there.
        if self.above.is_empty() {
            return self.below(key);
        }
        self.above.get(key).map_or_else(|| self.below(key), Option::as_ref)
    }

    /// The value that a key has in the base.
    fn below<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        place(&self.base, key).ok().map(|at| &self.base[at].1)
    }

    /// The values of many keys, in their order: one search waits for its memory while the others go on.
    pub fn get_all<'m, 'q, Q: Ord + ?Sized + 'q>(
        &'m self,
        keys: impl IntoIterator<Item = &'q Q>,
    ) -> Vec<Option<&'m V>>
    where
        K: Borrow<Q>,
    {
        let keys: Vec<&Q> = keys.into_iter().collect();
        let found = keys.iter().zip(places(&self.base, &keys)).map(|(key, at)| {
            let below = || self.base.get(at).filter(|(known, _)| known.borrow() == *key);
            match self.above.is_empty() {
                true => below().map(|(_, value)| value),
                false => self.above.get(*key).map_or_else(|| below().map(|(_, value)| value), Option::as_ref),
            }
        });
        found.collect()
    }

    /// True if there is a value of a key.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// How many entries there are.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True if there is none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All entries, by ascending keys.
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter { base: self.base.iter().peekable(), above: self.above.iter().peekable() }
    }

    /// All keys, ascending.
    pub fn keys(&self) -> impl Iterator<Item = &K> + Clone {
        self.iter().map(|(key, _)| key)
    }

    /// All values, by ascending keys.
    pub fn values(&self) -> impl Iterator<Item = &V> + Clone {
        self.iter().map(|(_, value)| value)
    }

    /// True if a key of a range has a value.
    pub fn any_in(&self, range: RangeInclusive<K>) -> bool {
        let above = self
            .above
            .range((Bound::Included(range.start()), Bound::Included(range.end())))
            .any(|(_, value)| value.is_some());
        let first = self.base.partition_point(|(key, _)| key < range.start());
        let below = self.base[first..].iter().map(|(key, _)| key).take_while(|key| *key <= range.end());
        above || below.into_iter().any(|key| !self.above.contains_key(key))
    }

    /// The highest key.
    pub fn last_key(&self) -> Option<&K> {
        let above = self.above.iter().rev().find(|(_, value)| value.is_some()).map(|(key, _)| key);
        let base = self.base.iter().rev().map(|(key, _)| key).find(|key| !self.above.contains_key(*key));
        above.max(base)
    }

    /// What differs between two maps, each key once, ascending: what is here and what is there. Costs what lies above
    /// one base if they have the same, and a walk through both otherwise.
    pub fn differences<'m>(&'m self, other: &'m Self) -> Vec<(&'m K, Option<&'m V>, Option<&'m V>)>
    where
        V: PartialEq,
    {
        let differ = |(_, here, there): &(&'m K, Option<&'m V>, Option<&'m V>)| here != there;
        if !self.shares(other) {
            return side_by_side(self, other).filter(differ).collect();
        }
        let keys = side_by_side(&self.above, &other.above).map(|(key, ..)| key);
        keys.map(|key| (key, self.get(key), other.get(key))).filter(differ).collect()
    }
}

impl<K, V> Layered<K, V> {
    /// True if what differs between two maps lies above one base, so that to find it costs no walk.
    pub fn shares(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.base, &other.base)
    }
}

impl<K: Ord + Clone, V: Clone> Layered<K, V> {
    /// Sets the value of a key.
    pub fn insert(&mut self, key: K, value: V) {
        // What stands behind all others, or has its place already, moves nothing.
        let Some(base) = self.alone() else {
            self.len += usize::from(!self.contains_key(&key));
            self.above.insert(key, Some(value));
            return;
        };
        match place(base, &key) {
            Ok(at) => return base[at].1 = value,
            Err(at) if at == base.len() => base.push((key, value)),
            Err(_) => _ = self.above.insert(key, Some(value)),
        }
        self.len += 1;
    }

    /// Removes a key and its value; true if there was one.
    pub fn remove(&mut self, key: &K) -> bool {
        if !self.contains_key(key) {
            return false;
        }
        self.len -= 1;
        self.make_room();
        if self.below(key).is_some() {
            self.above.insert(key.clone(), None);
        } else {
            self.above.remove(key);
        }
        true
    }

    /// Sets the values of many keys, each once, or removes them.
    pub fn set_all(&mut self, entries: impl IntoIterator<Item = (K, Option<V>)>) {
        let entries: Vec<(K, Option<V>)> = entries.into_iter().collect();
        let gone = entries.iter().filter(|(_, value)| value.is_none());
        let gone: Vec<K> = gone.map(|(key, _)| key.clone()).collect();
        self.extend(entries.into_iter().filter_map(|(key, value)| Some((key, value?))));
        gone.iter().for_each(|key| _ = self.remove(key));
    }

    /// The value of a key, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        if self.alone().is_some() {
            let at = place(&self.base, key).ok()?;
            return Arc::get_mut(&mut self.base)?.get_mut(at).map(|(_, value)| value);
        }
        let Self { base, above, .. } = self;
        match above.entry(key.clone()) {
            Entry::Occupied(entry) => entry.into_mut().as_mut(),
            Entry::Vacant(entry) => {
                let (_, value) = base.get(place(base, key).ok()?)?;
                entry.insert(Some(value.clone())).as_mut()
            }
        }
    }

    /// All values, by ascending keys, to be changed: what is shared is copied.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.merge();
        Arc::make_mut(&mut self.base).iter_mut().map(|(_, value)| value)
    }

    /// Merges what has become too much to lie above into a base of its own.
    fn make_room(&mut self) {
        if self.above.len() >= FEW.max(self.base.len() / SHARE) {
            self.merge();
        }
    }

    /// The base, if it may be changed: no copy shares it and nothing lies above it, with room for one thing more.
    fn alone(&mut self) -> Option<&mut Vec<(K, V)>> {
        self.make_room();
        if self.above.is_empty() { Arc::get_mut(&mut self.base) } else { None }
    }

    /// Gives it a base of its own with nothing above, unless nothing is.
    fn merge(&mut self) {
        if !self.above.is_empty() {
            let merged = self.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
            (self.base, self.above) = (Arc::new(merged), BTreeMap::new());
        }
    }
}

/// Where a key is, or would be.
///
/// The standard library's search waits for each comparison before it looks for the next key. Here the processor guesses
/// and looks ahead, which takes half the time where keys are not in its cache.
fn place<K: Borrow<Q>, V, Q: Ord + ?Sized>(base: &[(K, V)], key: &Q) -> Result<usize, usize> {
    let (mut low, mut high) = (0, base.len());
    while low < high {
        let at = low + (high - low) / 2;
        match base[at].0.borrow().cmp(key) {
            Ordering::Less => low = at + 1,
            Ordering::Greater => high = at,
            Ordering::Equal => return Ok(at),
        }
    }
    Err(low)
}

/// Where keys are, if they are there.
///
/// Every search takes its next step before one takes the step behind it: no step waits for the one before, so that the
/// processor reads for many keys at once what is not in its cache.
fn places<K: Borrow<Q>, V, Q: Ord + ?Sized>(base: &[(K, V)], keys: &[&Q]) -> Vec<usize> {
    let mut places = vec![0; keys.len()];
    let mut left = base.len();
    while left > 1 {
        let half = left / 2;
        for (place, key) in places.iter_mut().zip(keys) {
            let at = *place + half;
            *place = if base[at].0.borrow() <= *key { at } else { *place };
        }
        left -= half;
    }
    places
}

impl<K: Ord, V> From<BTreeMap<K, V>> for Layered<K, V> {
    fn from(entries: BTreeMap<K, V>) -> Self {
        entries.into_iter().collect()
    }
}

impl<K: Ord, V, const N: usize> From<[(K, V); N]> for Layered<K, V> {
    fn from(entries: [(K, V); N]) -> Self {
        entries.into_iter().collect()
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for Layered<K, V> {
    /// Of what has the same key the last counts, as in the standard library's maps.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut base: Vec<(K, V)> = entries.into_iter().collect();
        if !base.is_sorted_by(|(a, _), (b, _)| a < b) {
            base.sort_by(|(a, _), (b, _)| a.cmp(b));
            base.dedup_by(|later, first| {
                let same = later.0 == first.0;
                if same {
                    std::mem::swap(later, first);
                }
                same
            });
        }
        base.shrink_to_fit();
        Self { len: base.len(), base: Arc::new(base), above: BTreeMap::new() }
    }
}

impl<K: Ord + Clone, V: Clone> Extend<(K, V)> for Layered<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        let mut entries: Vec<(K, V)> = entries.into_iter().collect();
        // What is built whole is built fast.
        if self.is_empty() && !entries.is_empty() {
            *self = entries.into_iter().collect();
            return;
        }
        if let Some(base) = self.alone() {
            let places = places(base, &entries.iter().map(|(key, _)| key).collect::<Vec<_>>());
            let mut rest = Vec::new();
            for ((key, value), at) in entries.into_iter().zip(places) {
                match base.get_mut(at).filter(|(known, _)| *known == key) {
                    Some((_, known)) => *known = value,
                    None => rest.push((key, value)),
                }
            }
            entries = rest;
        }
        entries.into_iter().for_each(|(key, value)| self.insert(key, value));
    }
}

impl<K: Ord + PartialEq, V: PartialEq> PartialEq for Layered<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.differences(other).is_empty()
    }
}

impl<K: Ord + Eq, V: Eq> Eq for Layered<K, V> {}

impl<K: Ord + fmt::Debug, V: fmt::Debug> fmt::Debug for Layered<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<'m, K: Ord, V> IntoIterator for &'m Layered<K, V> {
    type Item = (&'m K, &'m V);
    type IntoIter = Iter<'m, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K: Ord + Borrow<Q>, V, Q: Ord + ?Sized> Index<&Q> for Layered<K, V> {
    type Output = V;

    /// # Panics
    /// There is no such key, as in the standard library's maps.
    fn index(&self, key: &Q) -> &V {
        self.get(key).expect("there is such a key")
    }
}

/// All entries of a map, by ascending keys.
pub struct Iter<'m, K, V> {
    base: Peekable<slice::Iter<'m, (K, V)>>,
    above: Peekable<btree_map::Iter<'m, K, Option<V>>>,
}

// Derived, it would ask for keys and values that can be cloned.
impl<K, V> Clone for Iter<'_, K, V> {
    fn clone(&self) -> Self {
        Self { base: self.base.clone(), above: self.above.clone() }
    }
}

impl<'m, K: Ord, V> Iterator for Iter<'m, K, V> {
    type Item = (&'m K, &'m V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some((changed, value)) = self.above.peek() else { return self.base.next().map(entry) };
            match self.base.peek().map_or(Ordering::Greater, |(key, _)| key.cmp(changed)) {
                Ordering::Less => return self.base.next().map(entry),
                order @ (Ordering::Equal | Ordering::Greater) => {
                    let found = value.as_ref().map(|value| (*changed, value));
                    self.above.next();
                    if order.is_eq() {
                        self.base.next();
                    }
                    if found.is_some() {
                        return found;
                    }
                }
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let (base, above) = (self.base.len(), self.above.len());
        (base.saturating_sub(above), Some(base + above))
    }
}

const fn entry<K, V>((key, value): &(K, V)) -> (&K, &V) {
    (key, value)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A walk that comes by every state: shared or not, changes above or none, merged or not.
    #[test]
    fn it_is_the_map_that_it_stands_for_and_its_copies_are_what_they_were() {
        let mut random = 7_u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        let (mut map, mut expected) = (Layered::default(), BTreeMap::new());
        let mut copies: Vec<(Layered<u64, u64>, BTreeMap<u64, u64>)> = Vec::new();
        for turn in 0..60_000 {
            let (key, value) = (next(5_000), next(1_000));
            match next(4) {
                0 => assert_eq!(map.remove(&key), expected.remove(&key).is_some()),
                1 => assert_eq!(map.get_mut(&key).map(|v| *v += 1), expected.get_mut(&key).map(|v| *v += 1)),
                _ => {
                    map.insert(key, value);
                    expected.insert(key, value);
                }
            }
            assert_eq!((map.len(), map.get(&key)), (expected.len(), expected.get(&key)));
            if next(100) == 0 {
                let keys: Vec<u64> = (0..next(20)).map(|_| next(5_100)).collect();
                let found: Vec<_> = keys.iter().map(|key| expected.get(key)).collect();
                assert_eq!(map.get_all(&keys), found);
                map.extend(keys.iter().map(|key| (*key, turn)));
                expected.extend(keys.iter().map(|key| (*key, turn)));
                assert!(map.iter().eq(&expected));
                let set: BTreeMap<_, _> =
                    keys.iter().map(|key| (*key, (key % 3 != 0).then_some(turn + 1))).collect();
                expected.extend(set.iter().filter_map(|(key, value)| Some((*key, (*value)?))));
                expected.retain(|key, _| set.get(key).is_none_or(Option::is_some));
                map.set_all(set);
                assert!(map.iter().eq(&expected) && map.len() == expected.len());
            }
            if next(3_000) == 0 || turn == 59_999 {
                copies.push((map.clone(), expected.clone()));
                copies.truncate(if next(2) == 0 { 3 } else { 40 });
            }
        }
        for (copy, expected) in &copies {
            assert!(copy.iter().eq(expected) && copy.last_key() == expected.keys().next_back());
            assert_eq!(*copy, expected.clone().into());
            for (other, there) in &copies {
                let keys: BTreeSet<_> = expected.keys().chain(there.keys()).collect();
                let pairs = keys.into_iter().map(|key| (key, expected.get(key), there.get(key)));
                let differ: Vec<_> = pairs.filter(|(_, a, b)| a != b).collect();
                assert_eq!(copy.differences(other), differ);
                assert_eq!(copy == other, differ.is_empty());
            }
        }
        assert!(copies.len() > 3, "{}", copies.len());
    }

    #[test]
    fn it_is_built_of_what_is_in_no_order_and_of_what_comes_twice() {
        let entries = [(3, 'a'), (1, 'b'), (3, 'c'), (2, 'd'), (1, 'e')];
        assert!(Layered::from(entries).iter().eq(&BTreeMap::from(entries)));
        assert!(Layered::from_iter([(1, 'a'), (1, 'b')]).iter().eq([(&1, &'b')]));
    }

    #[test]
    fn a_copy_shares_what_it_was_built_of() {
        let map: Layered<u32, u32> = (0..10_000).map(|key| (key, key)).collect();
        let mut copy = map.clone();
        copy.insert(5, 0);
        copy.remove(&9_999);
        assert!(map.shares(&copy));
        assert_eq!(map.differences(&copy), [(&5, Some(&5), Some(&0)), (&9_999, Some(&9_999), None)]);
        assert_eq!((copy.last_key(), copy.len()), (Some(&9_998), 9_999));
        (0..2_000).for_each(|key| copy.insert(key, 7));
        assert!(!map.shares(&copy) && copy.above.is_empty(), "it has a base of its own");
    }
}
