//! Where an address leads: an index of lines of eight words, in an array that the agent writes and packets read.
//!
//! ```text
//! line 0     how many lines of entries follow: a power of two
//! line 1–n   eight entries each: mark << 32 | slot + 1; the first 0 ends what is looked for in the line and behind it
//! line n+1–  a filter for each of those lines, eight to a line
//! ```
//!
//! A key's entry is in one line, by a hash, and where that is full in another, by more of the hash: a lookup of what nobody
//! has reads one cache line, and of what a device has a second, its row, which holds the key in full. The kernel's own hash
//! map takes a call for each, and touches a line for every key that it compares; its element is the agent's by a system
//! call, an entry here by a store.
//!
//! Whoever floods a network from addresses that nobody has would have packets wait for a line each. So the lines have Bloom
//! filters (Bloom, "Space/time trade-offs in hash coding with allowable errors", 1970), a word for each with three bits for
//! every key that belongs there, wherever its entry is. What lacks one of its bits is nobody's, and all filters together are an
//! eighth of the lines: those of 100,000 devices stay in a core's cache.
//!
//! One writes. Rows and bits of filters are written before the entry that leads there is stored, and an entry that was taken
//! away leads to a row that is not used again before a grace period is over. Packets so find the row of a key or none; what
//! they read in it tells since when it holds. Bits are taken away after the last entry that may need them.

/// Entries of a line.
pub const ENTRIES: usize = 8;
/// How many lines a key may be looked for in. With half of all entries free a line is full for one key in twenty: nearly
/// all find a place in the first, and in none of these one of a table that nobody has memory for.
const TRIES: u32 = 8;
/// An entry that was given up: it leads nowhere, and what follows is looked at.
pub const GIVEN_UP: u64 = 1 << 32;

/// Lines of entries for so many addresses.
pub const fn lines(addresses: u32) -> u32 {
    let lines = addresses.div_ceil(ENTRIES as u32 / 2);
    if lines == 0 { 1 } else { lines.next_power_of_two() }
}

/// All lines of an index for so many addresses.
pub const fn size(addresses: u32) -> u32 {
    let lines = lines(addresses);
    1 + lines + lines.div_ceil(ENTRIES as u32)
}

/// The index and the rows that it leads to.
pub trait Index {
    /// Where a line is.
    type Line: Copy;

    /// A line by its number.
    fn line(&self, number: u32) -> Option<Self::Line>;
    /// Reads a word of it.
    fn load(&self, line: Self::Line, word: usize) -> u64;
    /// True if a slot's row has these words of a key.
    fn has(&self, slot: u32, key: [u64; 3]) -> bool;
}

/// Where an entry is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Position {
    /// Number of the line.
    pub line: u32,
    /// Word of it.
    pub word: usize,
}

/// The slot that a key leads to, by its words.
#[inline(always)]
pub fn find<I: Index + ?Sized>(index: &I, key: [u64; 3]) -> Option<u32> {
    let mut probe = Probe::of(index, key)?;
    for _ in 0..TRIES {
        let line = index.line(probe.line())?;
        probe.go_on();
        for word in 0..ENTRIES {
            let entry = index.load(line, word);
            if entry == 0 {
                return None;
            }
            let slot = slot(entry);
            if mark(entry) == probe.mark && index.has(slot, key) {
                return Some(slot);
            }
        }
    }
    None
}

/// True if filter or first line of a key tell that it leads nowhere; few lines are so full that [`find`] must.
#[inline(always)]
pub fn is_absent<I: Index + ?Sized>(index: &I, key: [u64; 3]) -> bool {
    let Some(probe) = Probe::of(index, key) else { return true };
    // Without a filter anybody may be there.
    if filter_at(index, probe).is_some_and(|(_, filter)| filter | bits(probe.mark) != filter) {
        return true;
    }
    let Some(line) = index.line(probe.line()) else { return true };
    for word in 0..ENTRIES {
        let entry = index.load(line, word);
        if entry == 0 || mark(entry) == probe.mark {
            return entry == 0;
        }
    }
    false
}

/// Touches what is written for a key, and answers something that depends on it.
pub fn touch<I: Index + ?Sized>(index: &I, key: [u64; 3]) -> u64 {
    let Some(probe) = Probe::of(index, key) else { return 0 };
    let first = index.line(probe.line()).map_or(0, |line| index.load(line, 0));
    first ^ filter_at(index, probe).map_or(0, |(_, filter)| filter)
}

/// Where the filter of a key's line is, and what it has to be before an entry leads from the key to a row.
pub fn admitting<I: Index + ?Sized>(index: &I, key: [u64; 3]) -> Option<(Position, u64)> {
    let probe = Probe::of(index, key)?;
    let (at, filter) = filter_at(index, probe)?;
    Some((at, filter | bits(probe.mark)))
}

/// Where the filter of a line is that no key had to pass, and what it has to be by now: of what lies there.
pub fn renewed<I: Index + ?Sized>(index: &I, line: u32) -> Option<(Position, u64)> {
    let row = index.line(line)?;
    let (at, _) = filter_at(index, Probe::at(index, line)?)?;
    let entries = (0..ENTRIES).map(|word| index.load(row, word)).filter(|entry| *entry as u32 != 0);
    Some((at, entries.fold(0, |filter, entry| filter | bits(mark(entry)))))
}

/// Where the filter of the line that is looked at is, and what it is.
#[inline(always)]
fn filter_at<I: Index + ?Sized>(index: &I, probe: Probe) -> Option<(Position, u64)> {
    let (line, word) = probe.filter();
    Some((Position { line, word }, index.load(index.line(line)?, word)))
}

/// Where the entry of a key is, for who writes.
pub fn position<I: Index + ?Sized>(index: &I, key: [u64; 3]) -> Option<Position> {
    let probe = Probe::of(index, key)?;
    let ours = |entry| mark(entry) == probe.mark && index.has(slot(entry), key);
    probe
        .entries(index)
        .take_while(|(_, entry)| *entry != 0)
        .find(|(_, entry)| ours(*entry))
        .map(|(at, _)| at)
}

/// Where an entry for a key goes that has none, and what it is; nothing if there is no room where it is looked for.
pub fn place<I: Index + ?Sized>(index: &I, key: [u64; 3], slot: u32) -> Option<(Position, u64)> {
    let probe = Probe::of(index, key)?;
    let (at, _) = probe.entries(index).find(|(_, entry)| *entry as u32 == 0)?;
    Some((at, u64::from(probe.mark) << 32 | u64::from(slot.wrapping_add(1))))
}

/// The lines that had no room for a key, before the one where its entry is. Until it is gone, they must hold no 0.
pub fn passed<I: Index + ?Sized>(index: &I, key: [u64; 3], at: u32) -> impl Iterator<Item = u32> {
    Probe::of(index, key).into_iter().flat_map(Probe::lines).take_while(move |line| *line != at)
}

/// Where a 0 may be stored in a line that no key had to pass: behind the last entry that leads anywhere.
pub fn end<I: Index + ?Sized>(index: &I, line: u32) -> Option<Position> {
    let row = index.line(line)?;
    let last = (0..ENTRIES).rev().find(|word| index.load(row, *word) as u32 != 0);
    let word = last.map_or(0, |last| last + 1);
    (word < ENTRIES).then_some(Position { line, word })
}

/// Every slot that an entry of a line leads to.
pub fn slots<I: Index + ?Sized>(index: &I, line: u32) -> impl Iterator<Item = u32> {
    let words = index.line(line).into_iter().flat_map(|line| (0..ENTRIES).map(move |word| (line, word)));
    words.map(|(line, word)| index.load(line, word)).filter(|entry| *entry as u32 != 0).map(slot)
}

/// The slot of an entry; of one that leads nowhere one that no table has.
#[inline(always)]
const fn slot(entry: u64) -> u32 {
    (entry as u32).wrapping_sub(1)
}

#[inline(always)]
const fn mark(entry: u64) -> u32 {
    (entry >> 32) as u32
}

/// The bits of a key in the filter of its line.
#[inline(always)]
const fn bits(mark: u32) -> u64 {
    1 << (mark & 63) | 1 << (mark >> 6 & 63) | 1 << (mark >> 12 & 63)
}

/// Where a key is looked for: moves from line to line, because the first one beside is a number more on the BPF stack.
#[derive(Clone, Copy)]
struct Probe {
    mark: u32,
    at: u32,
    mask: u32,
}

impl Probe {
    /// Nothing if the index was not made yet.
    #[inline(always)]
    fn of<I: Index + ?Sized>(index: &I, key: [u64; 3]) -> Option<Self> {
        let hash = hash(key);
        Some(Self { mark: (hash >> 32) as u32, at: hash as u32, mask: Self::mask(index)? })
    }

    /// Of the numbers of lines with entries; nothing if the index was not made yet.
    #[inline(always)]
    fn mask<I: Index + ?Sized>(index: &I) -> Option<u32> {
        (index.load(index.line(0)?, 0) as u32).checked_sub(1)
    }

    /// The number of the line that is looked at.
    #[inline(always)]
    const fn line(self) -> u32 {
        (self.at & self.mask) + 1
    }

    /// A key that belongs into this line.
    fn at<I: Index + ?Sized>(index: &I, line: u32) -> Option<Self> {
        Some(Self { mark: 0, at: line.checked_sub(1)?, mask: Self::mask(index)? })
    }

    /// Line and word of the filter of the line that is looked at.
    #[inline(always)]
    const fn filter(self) -> (u32, usize) {
        let number = self.at & self.mask;
        (self.mask + 2 + number / ENTRIES as u32, number as usize % ENTRIES)
    }

    /// By an odd stride every line is reached, and full lines lead to different ones.
    #[inline(always)]
    const fn go_on(&mut self) {
        self.at = self.at.wrapping_add(self.mark | 1);
    }

    /// The lines that are looked at, in their order.
    fn lines(mut self) -> impl Iterator<Item = u32> {
        (0..TRIES).map(move |_| {
            let line = self.line();
            self.go_on();
            line
        })
    }

    fn entries<I: Index + ?Sized>(self, index: &I) -> impl Iterator<Item = (Position, u64)> {
        let found = self.lines().filter_map(|number| Some((number, index.line(number)?)));
        found.flat_map(move |(number, line)| {
            (0..ENTRIES).map(move |word| (Position { line: number, word }, index.load(line, word)))
        })
    }
}

/// Spreads addresses in a row, and networks with the same addresses: the finalizer of splitmix64 (Steele, Lea and Flood,
/// "Fast splittable pseudorandom number generators", 2014). No secret is in it: whoever sends chooses a source, and
/// where the agent's entries are follows from the addresses of devices alone.
#[inline(always)]
const fn hash([owner, high, low]: [u64; 3]) -> u64 {
    let sum = low ^ (high ^ owner.wrapping_mul(0x9e37_79b9_7f4a_7c15)).rotate_left(32);
    let mixed = (sum ^ sum >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    use super::*;
    use crate::abi::{Addr, AddressKey, NetworkId};

    /// The words of a key.
    type Key = [u64; 3];

    /// An index and the keys of its rows.
    struct Memory {
        lines: Vec<[Cell<u64>; ENTRIES]>,
        rows: Vec<Option<Key>>,
        /// How many keys had to pass each line.
        passed: Vec<u32>,
    }

    impl Index for Memory {
        type Line = usize;

        fn line(&self, number: u32) -> Option<usize> {
            ((number as usize) < self.lines.len()).then_some(number as usize)
        }

        fn load(&self, line: usize, word: usize) -> u64 {
            self.lines[line][word].get()
        }

        fn has(&self, slot: u32, key: Key) -> bool {
            self.rows.get(slot as usize).is_some_and(|row| *row == Some(key))
        }
    }

    impl Memory {
        fn new(addresses: u32) -> Self {
            let lines = lines(addresses);
            let memory = Self {
                lines: (0..size(addresses)).map(|_| Default::default()).collect(),
                rows: std::vec![None; addresses as usize],
                passed: std::vec![0; lines as usize + 1],
            };
            memory.lines[0][0].set(lines.into());
            memory
        }

        /// True if there was room.
        fn insert(&mut self, key: Key, slot: u32) -> bool {
            self.rows[slot as usize] = Some(key);
            let Some((at, entry)) = place(self, key, slot) else { return false };
            self.set(admitting(self, key).unwrap());
            self.set((at, entry));
            let passed: Vec<u32> = passed(self, key, at.line).collect();
            passed.iter().for_each(|line| self.passed[*line as usize] += 1);
            true
        }

        fn remove(&mut self, key: Key) {
            let at = position(self, key).expect("it is there");
            self.lines[at.line as usize][at.word].set(GIVEN_UP);
            let passed: Vec<u32> = passed(self, key, at.line).collect();
            passed.iter().for_each(|line| self.passed[*line as usize] -= 1);
            for line in passed.into_iter().chain([at.line]).filter(|line| self.passed[*line as usize] == 0) {
                if let Some(end) = end(self, line) {
                    self.set((end, 0));
                }
                self.set(renewed(self, line).unwrap());
            }
        }

        fn set(&self, (at, word): (Position, u64)) {
            self.lines[at.line as usize][at.word].set(word);
        }

        /// The lines of entries.
        fn entries(&self) -> &[[Cell<u64>; ENTRIES]] {
            &self.lines[1..self.passed.len()]
        }

        /// True if a key's filter tells that it leads nowhere.
        fn filters(&self, key: Key) -> bool {
            let (_, filter) = filter_at(self, Probe::of(self, key).unwrap()).unwrap();
            admitting(self, key).unwrap().1 != filter
        }

        /// How many lines do not end what is looked for in them.
        fn open(&self) -> usize {
            self.entries().iter().filter(|line| line.iter().all(|word| word.get() != 0)).count()
        }

        /// In how many lines besides its own the key that is farthest away is looked for.
        fn farthest(&self) -> u32 {
            let keys = self.rows.iter().flatten();
            let steps = keys.map(|key| {
                let (probe, at) = (Probe::of(self, *key).unwrap(), position(self, *key).unwrap());
                probe.lines().position(|line| line == at.line).unwrap() as u32
            });
            steps.max().unwrap_or_default()
        }
    }

    fn v4(network: u32, address: u32) -> Key {
        AddressKey::host(NetworkId(network), Addr::from_v4(address.to_be_bytes())).words()
    }

    fn v6(high: u64, low: u64) -> Key {
        AddressKey::host(NetworkId(1), Addr::from_halves(high, low)).words()
    }

    #[test]
    fn as_many_addresses_as_there_may_be_find_places_and_nobody_else_is_found() {
        const MANY: u32 = 1 << 17;
        let patterns: [fn(u32) -> Key; 7] = [
            |at| v4(1, 0x0a00_0000 + at),
            |at| v4(1, at << 8),
            |at| v4(at % 256, 0x0a00_0000 + at / 256),
            |at| v4(1, 0x0a00_0000 + (at % 512) * 0x1_0000 + at / 512),
            |at| v6(0xfd00_0045_0000_0000 | u64::from(at), 0),
            |at| v6(0xfd00 << 48, u64::from(at) << 32 | 1),
            |at| {
                let address = Addr::from_halves(0xfd00 << 48 | u64::from(at) << 16, 9);
                AddressKey::prefix64(NetworkId(7), address).words()
            },
        ];
        for (pattern, key) in patterns.iter().enumerate() {
            let mut memory = Memory::new(MANY);
            for slot in 0..MANY {
                assert!(memory.insert(key(slot), slot), "pattern {pattern}: no room for {slot}");
            }
            for slot in 0..MANY {
                assert_eq!(find(&memory, key(slot)), Some(slot), "pattern {pattern}");
                assert_eq!(find(&memory, key(MANY + slot)), None, "pattern {pattern}");
                assert!(!is_absent(&memory, key(slot)), "pattern {pattern}");
            }
            let at_once = (0..MANY).filter(|slot| is_absent(&memory, key(MANY + slot))).count() as u32;
            assert!(at_once > MANY / 100 * 98, "pattern {pattern}: only {at_once} at once");
            let filtered = (0..MANY).filter(|slot| memory.filters(key(MANY + slot))).count() as u32;
            assert!(filtered > MANY / 100 * 98, "pattern {pattern}: only {filtered} by their filters");
            assert!(memory.farthest() <= 5, "pattern {pattern}: {}", memory.farthest());
        }
    }

    #[test]
    fn who_stays_is_found_whoever_comes_and_goes() {
        for size in [1, 2, 9, 64, 300] {
            let mut memory = Memory::new(size);
            let mut free: Vec<u32> = (0..size).collect();
            let mut held = BTreeMap::new();
            let mut number = u64::from(size);
            for _ in 0..4000 {
                number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let key = v4(1, (number >> 33) as u32 % (2 * size));
                match held.remove(&key) {
                    Some(slot) => {
                        memory.remove(key);
                        free.push(slot);
                    }
                    None => {
                        let Some(slot) = free.pop() else { continue };
                        assert!(memory.insert(key, slot), "no room for one of {size}");
                        held.insert(key, slot);
                    }
                }
                assert_eq!(find(&memory, key), held.get(&key).copied());
                assert!(!is_absent(&memory, key) || !held.contains_key(&key));
                // Each change is one store, so this is what packets find between any two.
                let all = held.iter().take(64).all(|(key, slot)| find(&memory, *key) == Some(*slot));
                assert!(all, "of {size}");
            }
            for address in 0..2 * size {
                let key = v4(1, address);
                assert_eq!(find(&memory, key), held.get(&key).copied(), "of {size}");
            }
            let lines = 1..memory.passed.len() as u32;
            let mut told: Vec<u32> = lines.flat_map(|line| slots(&memory, line)).collect();
            told.sort_unstable();
            let mut slots: Vec<u32> = held.values().copied().collect();
            slots.sort_unstable();
            assert_eq!(told, slots, "every entry is somebody's");
        }
    }

    #[test]
    fn what_was_pushed_into_the_next_line_is_found_when_its_own_has_room_again() {
        // Two lines: half of these keys belong into each, and one of them gets more than it holds.
        let mut memory = Memory::new(8);
        assert_eq!(memory.entries().len(), 2);
        let first = |key: &Key| Probe::of(&memory, *key).unwrap().line() == 1;
        let keys: Vec<Key> = (0..).map(|at| v4(1, at)).filter(first).take(8 + 2).collect();
        memory.rows.resize(16, None);
        for (slot, key) in (0..).zip(&keys) {
            assert!(memory.insert(*key, slot));
        }
        assert_eq!(memory.farthest(), 1);
        // From the front and from the back: the line never seems to have ended before it went on.
        for gone in [0, 7, 3, 6, 1, 2, 4, 5] {
            memory.remove(keys[gone]);
            assert_eq!(find(&memory, keys[gone]), None);
            assert_eq!((find(&memory, keys[8]), find(&memory, keys[9])), (Some(8), Some(9)));
        }
        assert!(memory.insert(keys[3], 3), "and what was given up is taken again");
        assert_eq!(position(&memory, keys[3]), Some(Position { line: 1, word: 0 }));
    }

    #[test]
    fn a_table_whose_addresses_are_replaced_again_and_again_does_not_get_slower() {
        const MANY: u32 = 4096;
        let mut memory = Memory::new(MANY);
        (0..MANY).for_each(|at| assert!(memory.insert(v4(1, at), at)));
        let (lines, fresh) = (memory.entries().len(), memory.open());
        for at in 0..64 * MANY {
            memory.remove(v4(1, at));
            assert!(memory.insert(v4(1, MANY + at), at % MANY));
        }
        // More than at first: who had to pass a line stays where it is when there is room again.
        let open = memory.open();
        assert!(fresh < lines / 10 && open < lines / 4, "{fresh}, then {open} of {lines}");
        assert!((0..MANY).all(|at| find(&memory, v4(1, 64 * MANY + at)) == Some(at)));
        assert!((0..MANY).all(|at| find(&memory, v4(1, at)).is_none()));
        let filtered = (0..MANY).filter(|at| memory.filters(v4(1, *at))).count() as u32;
        assert!(filtered > MANY / 10 * 9, "only {filtered} of {MANY} are told by their filters");
    }

    #[test]
    fn once_nobody_is_there_no_filter_has_a_bit() {
        const MANY: u32 = 512;
        let mut memory = Memory::new(MANY);
        (0..MANY).for_each(|at| assert!(memory.insert(v4(1, at), at)));
        assert!((0..MANY).all(|at| !memory.filters(v4(1, at))));
        (0..MANY).for_each(|at| memory.remove(v4(1, at)));
        let filters = &memory.lines[memory.passed.len()..];
        assert!(filters.iter().flatten().all(|filter| filter.get() == 0));
    }

    #[test]
    fn an_index_without_filters_tells_by_its_lines() {
        let mut memory = Memory::new(8);
        assert!(memory.insert(v4(1, 1), 0));
        memory.lines.truncate(memory.passed.len());
        assert!(!is_absent(&memory, v4(1, 1)) && is_absent(&memory, v4(1, 2)));
    }

    #[test]
    fn an_index_that_was_not_made_yet_leads_nowhere() {
        let memory = Memory { lines: std::vec![Default::default(); 2], rows: Vec::new(), passed: Vec::new() };
        assert_eq!(find(&memory, v4(1, 1)), None);
        assert_eq!(place(&memory, v4(1, 1), 0), None);
    }
}
