//! Counters by interface: a row of the array of counters for each, and a table that says which.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use aya::maps::{Map, MapData, PerCpuArray, PerCpuValues};
use bulkhead_common::abi::counter::Counters;
use bulkhead_common::abi::map::{self, INTERFACE_CAPACITY, INTERFACE_ROWS};
use bulkhead_common::abi::{InterfaceRow, seek::seek};
use bytemuck::Zeroable as _;

use super::maps;
use super::mmap::Mmap;
use super::pod::Abi;

/// The counters of every interface that has some, by [`super::Attachment::point`].
pub struct PointCounters {
    rows: Mmap<InterfaceRow>,
    counters: PerCpuArray<MapData, Abi<Counters>>,
}

/// What counts for points without counters of their own.
const OTHERS: u32 = 0;

impl PointCounters {
    /// Opens the maps `INTERFACES` and `COUNTERS`.
    ///
    /// # Errors
    /// They are not what they must be.
    pub fn open(interfaces: &MapData, counters: MapData) -> Result<Self> {
        let rows = maps::mapped(interfaces, map::INTERFACES)?;
        let counters = PerCpuArray::try_from(Map::PerCpuArray(counters)).context("open the map COUNTERS")?;
        Ok(Self { rows, counters })
    }

    /// Makes sure that a point has counters before a packet can enter; they begin at zero.
    ///
    /// # Errors
    /// As many points have some as there can be.
    pub fn count_on(&mut self, point: u32) -> Result<()> {
        if self.row(point).is_some() {
            return Ok(());
        }
        let held = self.points().len();
        let full = || format!("make room for an interface's counters: {held} have some");
        let free = seek(point, INTERFACE_ROWS, |row| self.at(row) == InterfaceRow::default());
        let (free, counters) = free.zip(self.unused()).with_context(full)?;
        self.clear(counters)?;
        self.rows.store(free, 0, InterfaceRow::new(point, counters).0).with_context(full)
    }

    /// Forgets the counters of a point that is gone.
    pub fn forget(&mut self, point: u32) {
        if let Some(row) = self.place(point) {
            self.rows.store(row, 0, InterfaceRow::default().0);
        }
    }

    /// What a point has counted, summed over the CPUs.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn of(&self, point: u32) -> Result<Counters> {
        let cpus = self.counters.get(&self.row(point).unwrap_or(OTHERS), 0);
        let mut sum = Counters::zeroed();
        cpus.context("read the map COUNTERS")?.iter().for_each(|cpu| sum.add(&cpu.0));
        Ok(sum)
    }

    /// What every point has counted; 0 stands for those without counters of their own.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn all(&self) -> Result<BTreeMap<u32, Counters>> {
        let points = self.points().into_iter().map(InterfaceRow::interface);
        std::iter::once(OTHERS).chain(points).map(|point| Ok((point, self.of(point)?))).collect()
    }

    /// The row of a point's counters.
    fn row(&self, point: u32) -> Option<u32> {
        self.place(point).map(|place| self.at(place).row())
    }

    /// Where the table says which row it is.
    fn place(&self, point: u32) -> Option<u32> {
        seek(point, INTERFACE_ROWS, |row| self.at(row).interface() == point)
    }

    fn at(&self, row: u32) -> InterfaceRow {
        self.rows.read(row).unwrap_or_default()
    }

    fn points(&self) -> Vec<InterfaceRow> {
        (0..INTERFACE_ROWS).map(|row| self.at(row)).filter(|row| *row != InterfaceRow::default()).collect()
    }

    /// A row of counters that nobody counts in.
    fn unused(&self) -> Option<u32> {
        let used: BTreeSet<u32> = self.points().into_iter().map(InterfaceRow::row).collect();
        (OTHERS + 1..INTERFACE_CAPACITY).find(|row| !used.contains(row))
    }

    fn clear(&mut self, row: u32) -> Result<()> {
        let cpus = aya::util::nr_cpus().map_err(|(file, error)| anyhow::anyhow!("read {file}: {error}"))?;
        let zero = PerCpuValues::try_from(vec![Abi(Counters::zeroed()); cpus])?;
        self.counters.set(row, zero, 0).context("clear an interface's counters")
    }
}
