//! The objects of one kind, in buckets by their names: copies share the buckets that are the same.

use std::cmp::Ordering;
use std::sync::{Arc, LazyLock, OnceLock};

use super::digest::{Sum, sum_of};
use crate::api::types::Object;
use crate::processors;

/// How many buckets a kind has: about as many as objects in each, of a million.
pub(super) const BUCKETS: usize = 1024;
/// So many buckets without a digest are shared out among processors.
const MANY: usize = 64;

/// An object here and what it is there, of one name.
pub(super) type Pair<'a> = (Option<&'a Arc<Object>>, Option<&'a Arc<Object>>);

/// Whether objects are the same.
pub(super) type Same = fn(&Object, &Object) -> bool;

/// What is taken as it is, without being asked for.
#[derive(Clone, Copy)]
pub(super) struct Whole {
    /// What is here where the others have nothing.
    pub(super) here: bool,
    /// What the others have where there is nothing here.
    pub(super) there: bool,
}

/// Objects of one kind, by name.
#[derive(Clone)]
pub(super) struct Buckets(Arc<Filled>);

struct Filled {
    buckets: Vec<Arc<Bucket>>,
    len: usize,
    digest: OnceLock<Sum>,
}

#[derive(Default)]
struct Bucket {
    /// In the order of their names.
    objects: Vec<Arc<Object>>,
    digest: OnceLock<Sum>,
}

/// What all kinds begin with, so that buckets in which nothing ever was are the same.
static EMPTY: LazyLock<Buckets> = LazyLock::new(|| Buckets::filled(vec![Arc::default(); BUCKETS]));

impl Buckets {
    /// No object.
    pub(super) fn none<'n>() -> &'n Self {
        &EMPTY
    }

    /// Objects of one kind; of those of one name the last.
    pub(super) fn of(objects: impl IntoIterator<Item = Arc<Object>>) -> Self {
        let mut sorted = vec![Vec::new(); BUCKETS];
        for object in objects {
            sorted[bucket_of(&object.name)].push(object);
        }
        let mut buckets = EMPTY.0.buckets.clone();
        for (bucket, mut objects) in buckets.iter_mut().zip(sorted).filter(|(_, objects)| !objects.is_empty())
        {
            // The last of them comes first, and the others go.
            objects.reverse();
            objects.sort_by(|a, b| a.name.cmp(&b.name));
            objects.dedup_by(|later, first| later.name == first.name);
            *bucket = Arc::new(Bucket::of(objects));
        }
        Self::filled(buckets)
    }

    fn filled(buckets: Vec<Arc<Bucket>>) -> Self {
        let len = buckets.iter().map(|bucket| bucket.objects.len()).sum();
        Self(Arc::new(Filled { buckets, len, digest: OnceLock::new() }))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len
    }

    /// The object of a name.
    pub(super) fn get(&self, name: &str) -> Option<&Arc<Object>> {
        let objects = &self.0.buckets[bucket_of(name)].objects;
        objects.binary_search_by(|object| object.name.as_str().cmp(name)).ok().map(|at| &objects[at])
    }

    /// All of them, in no order that means anything.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.0.buckets.iter().flat_map(|bucket| &bucket.objects)
    }

    /// What `pick` makes of each name that there is here or there, but for what is taken whole.
    pub(super) fn joined(
        &self,
        others: &Self,
        whole: Whole,
        pick: impl Fn(Pair<'_>) -> Option<Arc<Object>>,
    ) -> Self {
        let buckets = self.0.buckets.iter().zip(&others.0.buckets);
        let joined = buckets.map(|(here, there)| {
            if whole.here && there.objects.is_empty() {
                return Arc::clone(here);
            }
            if whole.there && here.objects.is_empty() {
                return Arc::clone(there);
            }
            settled(pairs(here, there).filter_map(&pick).collect(), [here, there])
        });
        Self::filled(joined.collect())
    }

    /// What is here and is not the same there, and what is there instead. What is shared costs nothing.
    pub(super) fn apart(&self, other: &Self, same: Same) -> [Self; 2] {
        let differ = |pair: &Pair<'_>| !matches!(pair, (Some(a), Some(b)) if Arc::ptr_eq(a, b) || same(a, b));
        let buckets = self.0.buckets.iter().zip(&other.0.buckets);
        let apart = buckets.map(|(here, there)| {
            if Arc::ptr_eq(here, there) {
                return <(Arc<Bucket>, Arc<Bucket>)>::default();
            }
            if here.objects.is_empty() || there.objects.is_empty() {
                return (Arc::clone(here), Arc::clone(there));
            }
            let differ: Vec<Pair<'_>> = pairs(here, there).filter(differ).collect();
            let here = differ.iter().filter_map(|(here, _)| here.cloned()).collect();
            let there = differ.iter().filter_map(|(_, there)| there.cloned()).collect();
            (Arc::new(Bucket::of(here)), Arc::new(Bucket::of(there)))
        });
        let (here, there) = apart.unzip();
        [here, there].map(Self::filled)
    }

    /// What differs, each name once, bucket by bucket. Those that are shared cost nothing.
    pub(super) fn differences<'b>(&'b self, other: &'b Self) -> impl Iterator<Item = Pair<'b>> {
        let buckets = self.0.buckets.iter().zip(&other.0.buckets);
        let differ = buckets.filter(|(here, there)| !Arc::ptr_eq(here, there));
        let pairs = differ.flat_map(|(here, there)| pairs(here, there));
        pairs.filter(|(here, there)| here != there)
    }

    /// How many buckets two have in common.
    #[cfg(test)]
    pub(super) fn in_common(&self, other: &Self) -> usize {
        let buckets = self.0.buckets.iter().zip(&other.0.buckets);
        buckets.filter(|(here, there)| Arc::ptr_eq(here, there)).count()
    }

    /// SHA-256 over the buckets that something is in, in their order: the number of each in two octets, and its digest.
    pub(super) fn digest(&self) -> Sum {
        *self.0.digest.get_or_init(|| {
            let buckets = &self.0.buckets;
            let open: Vec<_> = buckets.iter().filter(|bucket| bucket.digest.get().is_none()).collect();
            if open.len() >= MANY {
                let parts = open.chunks(open.len().div_ceil(processors::count()));
                processors::each(parts, |part| part.iter().for_each(|bucket| bucket.sum_up()));
            }
            let filled = (0_u16..).zip(buckets).filter(|(_, bucket)| !bucket.objects.is_empty());
            sum_of(filled.map(|(at, bucket)| [&at.to_be_bytes()[..], &bucket.digest()].concat()))
        })
    }
}

impl Bucket {
    /// Objects in the order of their names.
    const fn of(objects: Vec<Arc<Object>>) -> Self {
        Self { objects, digest: OnceLock::new() }
    }

    /// SHA-256 over name and text of each object, in the order of their names. How a text ends does not count.
    fn digest(&self) -> Sum {
        let parts = || self.objects.iter().flat_map(|object| [object.name.as_str(), object.text.trim_end()]);
        *self.digest.get_or_init(|| sum_of(parts()))
    }

    fn sum_up(&self) {
        self.digest();
    }
}

/// The bucket that a name is in: FNV-1a, 64 bits wide, folded.
fn bucket_of(name: &str) -> usize {
    let step = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let sum = name.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    (sum ^ (sum >> 32)) as usize % BUCKETS
}

/// A bucket with these objects: one of those that are there already, if it is the same.
fn settled(objects: Vec<Arc<Object>>, known: [&Arc<Bucket>; 2]) -> Arc<Bucket> {
    let same = |bucket: &&Arc<Bucket>| {
        bucket.objects.len() == objects.len()
            && bucket.objects.iter().zip(&objects).all(|(a, b)| Arc::ptr_eq(a, b))
    };
    let found = known.into_iter().find(same).map(Arc::clone);
    found.unwrap_or_else(|| Arc::new(Bucket::of(objects)))
}

/// The objects of two buckets, each name once.
fn pairs<'b>(here: &'b Bucket, there: &'b Bucket) -> impl Iterator<Item = Pair<'b>> {
    let (mut here, mut there) = (here.objects.iter().peekable(), there.objects.iter().peekable());
    std::iter::from_fn(move || {
        let order = match (here.peek(), there.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            // Mostly it is the same one, and then nobody has to read its name.
            (Some(a), Some(b)) if Arc::ptr_eq(a, b) => Ordering::Equal,
            (Some(a), Some(b)) => a.name.cmp(&b.name),
        };
        Some(match order {
            Ordering::Less => (here.next(), None),
            Ordering::Greater => (None, there.next()),
            Ordering::Equal => (here.next(), there.next()),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spread_and_stay_where_they_are() {
        let mut counts = vec![0_u32; BUCKETS];
        (0..100_000).for_each(|number| counts[bucket_of(&format!("meter-{number}"))] += 1);
        assert!(counts.iter().all(|count| (40..200).contains(count)), "{counts:?}");
        // What was written down depends on it.
        assert_eq!(["", "charger-1", "meter-4711"].map(bucket_of), [961, 600, 343]);
    }
}
