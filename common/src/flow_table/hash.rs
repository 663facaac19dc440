//! Where a key may lie: a keyed hash that nobody outside can aim.
//!
//! Multilinear hashing of pairs (Lemire and Kaser, "Strongly universal string hashing is fast", 2014):
//! six multiplications for twelve halves of a key, strongly universal for secret random numbers, and one
//! more that no pattern of keys goes through. What an attacker could learn about the numbers is which of its
//! own flows found a bucket full, and the limit of flows for each device keeps that from happening.

use super::BUCKET;
use crate::abi::FlowGeometry;

/// The slots of one key, in the order in which they are looked at: two buckets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Probe {
    bucket: u32,
    second: u32,
    first: u32,
}

/// Slots of one key at most.
pub(super) const WINDOW: u32 = 2 * BUCKET;

impl Probe {
    /// The slots of a key's words, whatever the device: it follows from the rest, and is not known at first.
    #[inline(always)]
    pub(super) fn of(geometry: &FlowGeometry, words: &[u64; 6]) -> Self {
        let [owner, local_high, local_low, remote_high, remote_low, ports] = *words;
        let network = owner & 0xffff_ffff;
        let words = [network, local_high, local_low, remote_high, remote_low, ports];
        let sum = stirred(sum(&geometry.secret, &words));
        let hash = (sum >> 32) as u32;
        let mask = geometry.buckets.wrapping_sub(1);
        let bucket = hash & mask;
        // Of other bits, and never the same bucket unless there is one only.
        let other = (sum >> 8) as u32 & mask;
        let second = if other == bucket { bucket ^ (1 & mask) } else { other };
        Self { bucket: bucket.wrapping_mul(BUCKET), second: second.wrapping_mul(BUCKET), first: hash >> 29 }
    }

    /// The slot that is looked at in this step; nothing once there are no more.
    ///
    /// The first one differs from key to key, so that most flows lie in the first slot that is looked at.
    #[inline(always)]
    pub(super) const fn slot(self, step: u32) -> Option<u32> {
        let within = (self.first + step) & (BUCKET - 1);
        if step < BUCKET {
            Some(self.bucket + within)
        } else if self.second != self.bucket {
            Some(self.second + within)
        } else {
            None
        }
    }
}

/// Lets every bit count for all above it: keys that go up evenly have sums that do, and would meet in few buckets under
/// some secrets (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
#[inline(always)]
const fn stirred(sum: u64) -> u64 {
    let mixed = (sum ^ sum >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ mixed >> 32
}

#[inline(always)]
fn sum(secret: &[u64; 13], words: &[u64; 6]) -> u64 {
    let mut sum = secret[12];
    let mut at = 0;
    while at < words.len() {
        let (low, high) = (words[at] & 0xffff_ffff, words[at] >> 32);
        let product = secret[2 * at].wrapping_add(low).wrapping_mul(secret[2 * at + 1].wrapping_add(high));
        sum = sum.wrapping_add(product);
        at += 1;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    /// A generator (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
    fn numbers(mut seed: u64) -> impl FnMut() -> u64 {
        move || {
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (seed ^ seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ mixed >> 31
        }
    }

    fn geometry(seed: u64, buckets: u32) -> FlowGeometry {
        let mut next = numbers(seed);
        let mut secret = [0; 13];
        secret.iter_mut().for_each(|word| *word = next());
        FlowGeometry { secret, buckets, _pad: 0 }
    }

    #[test]
    fn a_probe_visits_every_slot_of_two_buckets_once() {
        for (buckets, expected) in [(1, 1), (2, 2), (64, 2)] {
            for port in 0..1000 {
                let probe = Probe::of(&geometry(1, buckets), &[1, 2, 3, 4, 5, port]);
                let slots: Vec<u32> = (0..WINDOW).map_while(|step| probe.slot(step)).collect();
                let visited: BTreeSet<u32> = slots.iter().copied().collect();
                let of: BTreeSet<u32> = visited.iter().map(|slot| slot / BUCKET).collect();
                assert_eq!((slots.len(), visited.len(), of.len()), (expected * 8, expected * 8, expected));
                assert!(of.iter().all(|bucket| *bucket < buckets));
            }
        }
    }

    /// What no drawing of flows may do: fill both buckets of many keys while the table is half empty.
    #[test]
    fn a_half_full_table_has_room_for_almost_every_key() {
        for seed in 1..=32 {
            let refused = refused_half_full(&geometry(seed, BUCKETS));
            assert!(refused * 1000 < BUCKETS * BUCKET / 2, "secret {seed}: {refused} flows found no place");
        }
    }

    const BUCKETS: u32 = 4096;

    /// How many of the flows of devices in a row, each to ports in a row, find no place in a table for twice as many.
    fn refused_half_full(geometry: &FlowGeometry) -> u32 {
        let mut taken = std::vec![false; (BUCKETS * BUCKET) as usize];
        let mut refused = 0;
        for flow in 0..u64::from(BUCKETS * BUCKET / 2) {
            let key =
                [(flow / 500) << 32 | 1, 0, 0x0a2d_0000 + flow / 500, 0, 0xcb00_710a, (flow % 500) << 16];
            let probe = Probe::of(geometry, &key);
            let mut slots = (0..WINDOW).map_while(|step| probe.slot(step));
            match slots.find(|slot| !taken[*slot as usize]) {
                Some(slot) => taken[slot as usize] = true,
                None => refused += 1,
            }
        }
        refused
    }

    #[test]
    fn neighbouring_keys_spread_evenly() {
        let geometry = geometry(2, 256);
        let mut loads = [0u32; 256];
        for port in 0..4096u64 {
            let probe =
                Probe::of(&geometry, &[1 << 32 | 1, 0, 0x0a2d_0001, 0, 0xcb00_710a, port << 16 | 6 << 32]);
            loads[(probe.bucket / BUCKET) as usize] += 1;
        }
        let worst = loads.iter().max().copied().unwrap();
        assert!(worst < 40, "a bucket got {worst} of 4096 keys, 16 would be even");
    }

    #[test]
    fn keys_that_meet_under_one_secret_part_under_another() {
        let keys: Vec<[u64; 6]> = (0..64).map(|port| [1, 2, 3, 4, 5, port]).collect();
        let meeting = |seed| -> BTreeSet<usize> {
            let geometry = geometry(seed, 8);
            let bucket = |key| Probe::of(&geometry, key).bucket;
            (0..keys.len()).filter(|at| bucket(&keys[*at]) == bucket(&keys[0])).collect()
        };
        assert_ne!(meeting(3), meeting(4));
    }
}
