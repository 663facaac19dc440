//! A flow table on the host, with a clock that is set by hand: the kernel's protocol over plain cells.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use bulkhead_common::abi::{
    DeviceId, DeviceState, Flow, FlowGeometry, FlowKey, FlowSlot, Generation, Limits,
};
use bulkhead_common::decide::{FlowStart, FlowUpdate, FlowWords, Flows};
use bulkhead_common::express::{Sought, Vouched, Voucher};
use bulkhead_common::flow_table::{self, BUCKET, Handle, Memory};
use bulkhead_common::limits::{self, Toll};
use bulkhead_common::verdict::DropReason;

/// Room for flows where nobody says how many; `check` and in-file tests open a few.
const DEFAULT_CAPACITY: u32 = 1024;
const SLOT_WORDS: usize = size_of::<FlowSlot>() / size_of::<u64>();
const DEVICE_WORDS: usize = size_of::<DeviceState>() / size_of::<u64>();

/// Slots and device rows.
#[derive(Clone, Debug)]
pub struct FlowTable {
    now: Cell<u64>,
    boot: Cell<u64>,
    geometry: FlowGeometry,
    slots: Vec<Cell<u64>>,
    devices: RefCell<BTreeMap<DeviceId, [u64; DEVICE_WORDS]>>,
}

impl Default for FlowTable {
    fn default() -> Self {
        let mut secret = [0; 13];
        let odd = 0x9e37_79b9_7f4a_7c15u64;
        // Any numbers do where nobody attacks; zeros would put all keys into one bucket.
        (1..).zip(&mut secret).for_each(|(at, word)| *word = odd.wrapping_mul(at).rotate_left(17));
        Self::new(FlowGeometry { secret, buckets: DEFAULT_CAPACITY / BUCKET, _pad: 0 })
    }
}

impl FlowTable {
    /// A table of this size and secret.
    pub fn new(geometry: FlowGeometry) -> Self {
        let words = geometry.buckets as usize * BUCKET as usize * SLOT_WORDS;
        Self {
            now: Cell::new(0),
            boot: Cell::new(0),
            geometry,
            slots: vec![Cell::new(0); words],
            devices: RefCell::default(),
        }
    }

    /// The monotonic clock, in nanoseconds.
    pub const fn now(&self) -> u64 {
        self.now.get()
    }

    /// The boot clock, in nanoseconds.
    pub const fn boot_now(&self) -> u64 {
        self.boot.get()
    }

    /// Sets both clocks, in nanoseconds: the monotonic one and the boot clock, which counts sleep too.
    pub fn set_now(&self, now: u64, boot: u64) {
        self.now.set(now);
        self.boot.set(boot);
    }

    /// Forgets every flow.
    pub fn clear(&self) {
        for slot in self.slots.chunks(SLOT_WORDS).filter(|slot| slot[0].get() != 0) {
            slot.iter().for_each(|word| word.set(0));
        }
        self.devices.borrow_mut().clear();
    }

    /// Gives up what is dead, as the kernel's timer does.
    pub fn sweep(&self) {
        let tags = (0..).zip(self.slots.iter().step_by(SLOT_WORDS));
        for (slot, _) in tags.filter(|(_, tag)| tag.get() != 0) {
            flow_table::sweep(self, slot, self.now());
        }
    }

    /// Every flow, dead ones too, that was not swept.
    pub fn all(&self) -> Vec<Flow> {
        let slots = 0..self.geometry.buckets * BUCKET;
        let flows = slots.filter_map(|slot| flow_table::snapshot(self, slot));
        flows.filter(|(tag, _)| tag.is_live()).map(|(_, flow)| flow).collect()
    }
}

/// A row of [`FlowTable`].
#[derive(Clone, Copy, Debug)]
pub enum Row {
    /// First word of a slot.
    Slot(usize),
    /// A device's row.
    Device(DeviceId),
}

impl FlowTable {
    /// Reads a word and writes what `next` makes of it.
    fn change(&self, row: Row, word: usize, next: impl FnOnce(u64) -> u64) -> u64 {
        match row {
            Row::Slot(first) => {
                let before = self.slots[first + word].get();
                self.slots[first + word].set(next(before));
                before
            }
            Row::Device(device) => {
                let mut devices = self.devices.borrow_mut();
                let cell = &mut devices.entry(device).or_default()[word];
                std::mem::replace(cell, next(*cell))
            }
        }
    }
}

impl Memory for FlowTable {
    type Row = Row;

    fn geometry(&self) -> Option<&FlowGeometry> {
        Some(&self.geometry)
    }

    fn slot(&self, index: u32) -> Option<Row> {
        let first = index as usize * SLOT_WORDS;
        (first < self.slots.len()).then_some(Row::Slot(first))
    }

    fn device(&self, device: DeviceId) -> Option<Row> {
        Some(Row::Device(device))
    }

    fn load(&self, row: Row, word: usize) -> u64 {
        self.change(row, word, |value| value)
    }

    fn store(&self, row: Row, word: usize, value: u64) {
        self.change(row, word, |_| value);
    }

    fn exchange(&self, row: Row, word: usize, from: u64, to: u64) -> bool {
        self.change(row, word, |value| if value == from { to } else { value }) == from
    }

    fn add(&self, row: Row, word: usize, value: u64) {
        self.change(row, word, |before| before.wrapping_add(value));
    }
}

impl Flows for FlowTable {
    type Handle = Handle<Row>;

    fn flow(&self, key: &FlowKey) -> Option<(Self::Handle, FlowWords)> {
        flow_table::find(self, key, self.now())
    }

    fn lived(&self, key: &FlowKey, then: u64) -> bool {
        Memory::lived(self, key, then)
    }

    fn update(&self, flow: Self::Handle, _key: &FlowKey, update: &FlowUpdate) {
        flow_table::update(self, flow, update);
    }

    fn end(&self, flow: Self::Handle, _key: &FlowKey) {
        flow_table::end(self, flow);
    }

    fn charge(&self, device: DeviceId, limits: &Limits, toll: Toll, now: u64) -> Result<(), DropReason> {
        limits::charge(self, device, limits, toll, now)
    }

    fn refund(&self, device: DeviceId, limits: &Limits, toll: Toll) {
        limits::refund(self, device, limits, toll);
    }

    fn open(&self, key: &FlowKey, start: &FlowStart) -> Result<(), DropReason> {
        flow_table::open(self, key, start)
    }
}

impl Vouched for FlowTable {
    fn vouched(&self, key: &FlowKey, generation: Generation, now: u64) -> Sought<Self::Handle> {
        flow_table::seek_vouched(self, key, generation, now)
    }

    fn begin(&self, key: &FlowKey, start: &FlowStart) -> bool {
        flow_table::begin(self, key, start)
    }

    fn vouch(&self, flow: Self::Handle, _key: &FlowKey, words: &FlowWords, voucher: Voucher) {
        flow_table::vouch(self, flow, words, voucher);
    }
}
