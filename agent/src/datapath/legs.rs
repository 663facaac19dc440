//! Interfaces on the fast way: two banks of rows, of which packets read one.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use bulkhead_common::abi::map::{LEG_BANK, LEGS, SUBINTERFACE_ROWS};
use bulkhead_common::abi::{Leg, LegRow, SubinterfaceKey};

use super::maps::{self, Source};
use super::mmap::Mmap;
use super::wait_for_packets;

/// Legs by [`SubinterfaceKey::entry`] and [`SubinterfaceKey::exit`].
pub type Legs = BTreeMap<SubinterfaceKey, Leg>;

/// The maps of legs.
pub(super) struct LegRows {
    rows: Mmap<LegRow>,
    bank: Mmap<u64>,
}

impl LegRows {
    /// Opens the maps `LEGS` and `LEG_BANK`.
    pub(super) fn open(source: &mut impl Source) -> Result<Self> {
        Ok(Self { rows: maps::array(source, LEGS)?, bank: maps::array(source, LEG_BANK)? })
    }

    /// Makes packets find these legs and no others; false if they do already.
    ///
    /// Waits until every packet that may have found the ones before is through: they are overwritten next time.
    pub(super) fn publish(&mut self, legs: &Legs) -> Result<bool> {
        let bank = self.bank.word(0, 0).map_or(0, |word| word.load(Ordering::SeqCst)) as u32 & 1;
        if self.read(bank) == placed(legs, bank) {
            return Ok(false);
        }
        let other = bank ^ 1;
        self.fill(other, &placed(legs, other)).context("write the map LEGS")?;
        self.bank.store(0, 0, u64::from(other)).context("write the map LEG_BANK")?;
        wait_for_packets()?;
        Ok(true)
    }

    fn read(&self, bank: u32) -> BTreeMap<u32, LegRow> {
        let rows = numbers(bank).filter_map(|row| Some((row, self.rows.read(row)?)));
        rows.filter(|(_, row)| *row != FREE).collect()
    }

    fn fill(&mut self, bank: u32, wanted: &BTreeMap<u32, LegRow>) -> Option<()> {
        numbers(bank).try_for_each(|row| self.rows.write(row, wanted.get(&row).copied().unwrap_or(FREE)))
    }
}

/// The rows of legs in a bank. What finds none, beside more than a thousand others, is not on the fast way.
fn placed(legs: &Legs, bank: u32) -> BTreeMap<u32, LegRow> {
    let mut rows = BTreeMap::new();
    for (key, leg) in legs {
        let key = key.in_bank(bank);
        if let Some(row) = key.seek(|row| !rows.contains_key(&row)) {
            rows.insert(row, LegRow { key, leg: *leg });
        }
    }
    rows
}

fn numbers(bank: u32) -> std::ops::Range<u32> {
    bank * SUBINTERFACE_ROWS..(bank + 1) * SUBINTERFACE_ROWS
}

/// A row that is nobody's.
const FREE: LegRow = LegRow {
    key: SubinterfaceKey::new(0, 0, 0, 0),
    leg: Leg { ifindex: 0, port: 0, tags: [0; 2], mac: [0; 6], _pad: [0; 2] },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leg_has_a_row_of_its_bank_and_too_many_have_some() {
        let legs = |count: u32| -> Legs {
            let leg = |ifindex| Leg { ifindex, port: 2, ..Leg::default() };
            (0..count).map(|n| (SubinterfaceKey::entry(2, n as u16, 0), leg(100 + n))).collect()
        };
        for bank in [0, 1] {
            let rows = placed(&legs(1000), bank);
            assert_eq!(rows.len(), 1000);
            assert!(rows.iter().all(|(row, held)| numbers(bank).contains(row) && held.key.bank() == bank));
        }
        assert!((1000..=4096).contains(&placed(&legs(60_000), 0).len()));
    }
}
