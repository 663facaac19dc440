//! Random numbers that come again for the same seed.

/// SplitMix64 (Steele, Lea and Flood, 2014): small, and every seed is a good one.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts from a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub const fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// True in `percent` of all cases.
    pub const fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of several.
    ///
    /// # Panics
    /// If there is none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// Some of several, between `least` and `most`, in their order.
    pub fn some<'a, T>(&mut self, from: &'a [T], least: usize, most: usize) -> Vec<&'a T> {
        let wanted = (least + self.below(most - least + 1)).min(from.len());
        let mut left = wanted;
        let mut chosen = Vec::with_capacity(wanted);
        for (index, item) in from.iter().enumerate() {
            if self.below(from.len() - index) < left {
                chosen.push(item);
                left -= 1;
            }
        }
        chosen
    }

    /// A byte.
    pub const fn byte(&mut self) -> u8 {
        self.next() as u8
    }
}

/// The seed of a run: `BULKHEAD_SEED`, or the given one. Printed, so that a failure can be repeated.
pub fn seed(default: u64) -> u64 {
    let given = std::env::var("BULKHEAD_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or(default);
    eprintln!("seed {seed} (BULKHEAD_SEED repeats a run)");
    seed
}

/// How many frames a differential test judges: `BULKHEAD_FRAMES` for a long run, or the given number.
pub fn volume(default: usize) -> usize {
    let given = std::env::var("BULKHEAD_FRAMES").ok().and_then(|text| text.parse().ok());
    given.unwrap_or(default)
}
