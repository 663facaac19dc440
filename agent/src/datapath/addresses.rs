//! The addresses of devices in the kernel: an index, and the rows that it leads to.

use std::hint::black_box;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, ensure};
use aya::maps::MapData;
use bulkhead_common::abi::{AddressKey, AddressRow, IndexLine, Versioned, map};
use bulkhead_common::address_table::{self, Index, Position};

use super::maps;
use super::mmap::Mmap;

/// Both maps. Nobody else writes them, but for the word of a row's tunnel.
#[derive(Debug)]
pub struct AddressRows {
    index: Mmap<IndexLine>,
    rows: Mmap<AddressRow>,
    /// How many keys had to pass each line: for none of them it must seem to go on.
    passed: Vec<u32>,
}

impl AddressRows {
    /// Maps both into memory, and makes a new index one.
    ///
    /// # Errors
    /// The maps are not what the ABI says, or not of one size.
    pub fn map(index: &MapData, rows: &MapData) -> Result<Self> {
        let mut index: Mmap<IndexLine> = maps::mapped(index, map::ADDRESS_INDEX)?;
        let rows: Mmap<AddressRow> = maps::mapped(rows, map::ADDRESSES)?;
        let (lines, wanted) =
            (address_table::lines(rows.rows() as u32), address_table::size(rows.rows() as u32));
        ensure!(
            index.rows() == wanted as usize,
            "the index of addresses has {} lines and {} addresses take {wanted}: run `bulkhead detach` to start afresh",
            index.rows(),
            rows.rows()
        );
        index.store(0, 0, lines.into()).context("write the index of addresses")?;
        let passed = vec![0; lines as usize + 1];
        let mut found = Self { index, rows, passed };
        for (line, key, _) in found.entries().collect::<Vec<_>>() {
            found.pass(key, line, 1);
        }
        Ok(found)
    }

    /// How many addresses there is room for.
    pub const fn capacity(&self) -> u32 {
        self.rows.rows() as u32
    }

    /// Every address with its slot.
    pub fn all(&self) -> Vec<(AddressKey, u32)> {
        self.entries().map(|(_, key, slot)| (AddressKey::from_words(key), slot)).collect()
    }

    /// Every entry: the line in which it is, the words of its key, and its slot.
    fn entries(&self) -> impl Iterator<Item = (u32, [u64; 3], u32)> {
        let slots = |line| address_table::slots(self, line).map(move |slot| (line, slot));
        let entries = (1..self.passed.len() as u32).flat_map(slots);
        entries.filter_map(|(line, slot)| Some((line, self.rows.read(slot)?.key, slot)))
    }

    /// Whom a slot leads to.
    pub fn identity(&self, slot: u32) -> Option<Versioned> {
        self.rows.read(slot).map(|row| row.identity)
    }

    /// Stores one word of a slot's identity.
    pub fn store_identity(&mut self, slot: u32, word: usize, value: u64) -> Option<()> {
        self.rows.store(slot, word, value)
    }

    /// Forgets which tunnel a slot's address came through.
    pub fn forget_tunnel(&mut self, slot: u32) -> Option<()> {
        self.rows.store(slot, AddressRow::TUNNEL, 0)
    }

    /// Reads where keys belong: the processor waits for them all at once, and not for each when it is inserted.
    pub fn look_ahead<'k>(&self, keys: impl Iterator<Item = &'k AddressKey>) {
        black_box(keys.fold(0, |all, key| all ^ address_table::touch(self, key.words())));
    }

    /// Writes the row of an address, and then lets its key lead there.
    ///
    /// # Errors
    /// There is no such row, or no room where the key is looked for; nothing leads there.
    pub fn insert(&mut self, key: AddressKey, slot: u32, identity: u64) -> Result<()> {
        let identity = Versioned::from_words([identity, 0]);
        let row = AddressRow { identity, key: key.words(), ..AddressRow::default() };
        self.rows.write(slot, row).with_context(|| format!("there is no slot {slot} for an address"))?;
        let (at, entry) = address_table::place(self, key.words(), slot)
            .with_context(|| format!("the index of addresses is full where {} belongs", key.address()))?;
        self.filter(address_table::admitting(self, key.words()))?;
        self.store(at, entry)?;
        self.pass(key.words(), at.line, 1);
        Ok(())
    }

    /// Lets a key lead nowhere, if it led anywhere.
    ///
    /// # Errors
    /// None that is known of: the entry was found.
    pub fn remove(&mut self, key: &AddressKey) -> Result<()> {
        let Some(at) = address_table::position(self, key.words()) else { return Ok(()) };
        self.store(at, address_table::GIVEN_UP)?;
        let passed = self.pass(key.words(), at.line, u32::MAX);
        passed.into_iter().chain([at.line]).try_for_each(|line| self.close(line))
    }

    /// Counts a key more or less that had to pass lines on the way to where it is; returns those.
    fn pass(&mut self, key: [u64; 3], at: u32, by: u32) -> Vec<u32> {
        let lines: Vec<u32> = address_table::passed(self, key, at).collect();
        for line in &lines {
            if let Some(count) = self.passed.get_mut(*line as usize) {
                *count = count.wrapping_add(by);
            }
        }
        lines
    }

    /// Ends a line behind its last entry, so that nobody looks further, and lets its filter tell of nobody else, unless
    /// somebody had to pass it.
    fn close(&mut self, line: u32) -> Result<()> {
        if self.passed.get(line as usize).is_none_or(|count| *count != 0) {
            return Ok(());
        }
        if let Some(at) = address_table::end(self, line) {
            self.store(at, 0)?;
        }
        self.filter(address_table::renewed(self, line))
    }

    /// Writes the filter of a line.
    fn filter(&mut self, wanted: Option<(Position, u64)>) -> Result<()> {
        let (at, filter) = wanted.context("a line of the index of addresses has no filter")?;
        self.store(at, filter)
    }

    fn store(&mut self, at: Position, entry: u64) -> Result<()> {
        self.index.store(at.line, at.word, entry).context("an entry lies behind the index of addresses")
    }
}

impl Index for AddressRows {
    type Line = u32;

    fn line(&self, number: u32) -> Option<u32> {
        ((number as usize) < self.index.rows()).then_some(number)
    }

    fn load(&self, line: u32, word: usize) -> u64 {
        self.index.word(line, word).map_or(0, |word| word.load(Ordering::SeqCst))
    }

    fn has(&self, slot: u32, key: [u64; 3]) -> bool {
        self.rows.read(slot).is_some_and(|row| row.key == key)
    }
}
