//! The flow table as the agent sees it: the kernel's memory, without a system call.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use aya::maps::MapData;
use bulkhead_common::abi::{DeviceId, DeviceState, Flow, FlowGeometry, FlowSlot, RuleId};
use bulkhead_common::flow_table::{self, BUCKET, Memory};
use bytemuck::bytes_of_mut;

use super::mmap::Mmap;

/// Slots, their geometry, and the rows of devices.
#[derive(Debug)]
pub struct FlowRows {
    slots: Mmap<FlowSlot>,
    geometry: FlowGeometry,
    devices: Mmap<DeviceState>,
}

impl FlowRows {
    /// Maps the three maps into memory, and gives a new table its secret.
    ///
    /// # Errors
    /// The maps are not what the ABI says, or no flow table.
    pub fn map(slots: &MapData, geometry: &MapData, devices: &MapData) -> Result<Self> {
        let slots: Mmap<FlowSlot> = mapped(slots)?;
        let mut geometry: Mmap<FlowGeometry> = mapped(geometry)?;
        let mut known = geometry.read(0).context("the flow table has no geometry")?;
        if known.buckets == 0 {
            known = fresh(slots.rows())?;
            geometry.write(0, known).context("write the flow table's geometry")?;
        }
        let expected = known.buckets as usize * BUCKET as usize;
        ensure!(
            expected == slots.rows(),
            "the flow table has {} slots and its geometry says {expected}: run `bulkhead detach` to start afresh",
            slots.rows()
        );
        Ok(Self { slots, geometry: known, devices: mapped(devices)? })
    }

    /// How many flows there is room for.
    pub const fn capacity(&self) -> u32 {
        self.geometry.buckets * BUCKET
    }

    /// Every flow, dead ones too.
    pub fn all(&self) -> Vec<Flow> {
        let found = (0..self.capacity()).filter_map(|slot| flow_table::snapshot(self, slot));
        found.filter(|(tag, _)| tag.is_live()).map(|(_, flow)| flow).collect()
    }

    /// Every flow of some rules whose words are there: those too whose places were given up and not taken since.
    pub fn remembered(&self, rules: &BTreeSet<RuleId>) -> Vec<Flow> {
        let slots = 0..self.capacity();
        let theirs = slots.filter(|slot| flow_table::rule(self, *slot).is_some_and(|r| rules.contains(&r)));
        let found = theirs.filter_map(|slot| flow_table::snapshot(self, slot)).map(|(_, flow)| flow);
        // Another flow may have taken the place in between.
        found.filter(|flow| rules.contains(&flow.rule())).collect()
    }

    /// Gives up what is dead, and returns its last words.
    pub fn sweep(&self, now: u64) -> Vec<Flow> {
        let slots = 0..self.capacity();
        slots.filter_map(|slot| self.sweep_slot(slot, now)).collect()
    }

    fn sweep_slot(&self, slot: u32, now: u64) -> Option<Flow> {
        // Most slots need no more than a look at this word.
        flow_table::tag(self, slot).filter(|tag| tag.is_live() && !tag.is_live_at(now))?;
        let (_, flow) = flow_table::snapshot(self, slot)?;
        flow_table::sweep(self, slot, now).then_some(flow)
    }

    fn word(&self, row: Row, word: usize) -> Option<&AtomicU64> {
        match row {
            Row::Slot(index) => self.slots.word(index, word),
            Row::Device(device) => self.devices.word(device.0, word),
        }
    }
}

fn mapped<T: bytemuck::Pod>(map: &MapData) -> Result<Mmap<T>> {
    let rows = map.info().context("ask for the size of a map")?.max_entries();
    Mmap::new(map.fd().as_fd(), rows as usize).context("map the flow table into memory")
}

/// The geometry of a table that is empty.
fn fresh(slots: usize) -> Result<FlowGeometry> {
    let buckets = u32::try_from(slots)? / BUCKET;
    ensure!(
        buckets.is_power_of_two(),
        "{slots} slots are no flow table: a power of two and at least {BUCKET}"
    );
    let mut geometry = FlowGeometry { buckets, ..FlowGeometry::default() };
    let mut random = File::open("/dev/urandom").context("open /dev/urandom")?;
    random.read_exact(bytes_of_mut(&mut geometry.secret)).context("read /dev/urandom")?;
    Ok(geometry)
}

/// A row that the agent shares with packets.
#[derive(Clone, Copy, Debug)]
pub enum Row {
    /// A slot.
    Slot(u32),
    /// A device's row.
    Device(DeviceId),
}

/// A row was looked for before it is read, so a missing word cannot be.
impl Memory for FlowRows {
    type Row = Row;

    fn geometry(&self) -> Option<&FlowGeometry> {
        Some(&self.geometry)
    }

    fn slot(&self, index: u32) -> Option<Row> {
        self.slots.word(index, 0).map(|_| Row::Slot(index))
    }

    fn device(&self, device: DeviceId) -> Option<Row> {
        self.devices.word(device.0, 0).map(|_| Row::Device(device))
    }

    fn load(&self, row: Row, word: usize) -> u64 {
        self.word(row, word).map_or(0, |word| word.load(Ordering::SeqCst))
    }

    fn store(&self, row: Row, word: usize, value: u64) {
        self.word(row, word).into_iter().for_each(|word| word.store(value, Ordering::SeqCst));
    }

    fn exchange(&self, row: Row, word: usize, from: u64, to: u64) -> bool {
        let exchange = |word: &AtomicU64| word.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst);
        self.word(row, word).is_some_and(|word| exchange(word).is_ok())
    }

    fn add(&self, row: Row, word: usize, value: u64) {
        self.word(row, word).into_iter().for_each(|word| {
            word.fetch_add(value, Ordering::SeqCst);
        });
    }
}
