//! The kernel's tables as `reconcile` reads and writes them.

use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use bulkhead_common::abi::{
    AddressKey, Device, Epoch, Network, Peer, PortRange, Range, RuleSet, ScopeRange, Subinterface,
    SubinterfaceKey, SubinterfaceRow, Versioned, Window,
};

use super::{Maps, wait_for_packets};
use crate::reconcile::{Capacity, Op, Rows};

/// Writes that are looked at together.
const AHEAD: usize = 64;

impl Rows for Maps {
    fn epoch(&self) -> Epoch {
        let word = self.generation.word(0, 0);
        Epoch::from_word(word.map_or(0, |word| word.load(Ordering::SeqCst)))
    }

    fn capacity(&self) -> Capacity {
        Capacity {
            addresses: self.addresses.capacity(),
            device_rows: self.devices.rows() as u32,
            profiles: self.profiles.rows() as u32,
            rule_sets: self.rule_sets.rows() as u32,
            ranges: self.ranges.rows() as u32,
            windows: self.windows.rows() as u32,
            peers: self.peers.rows() as u32,
            ports: self.ports.rows() as u32,
        }
    }

    fn places(&self) -> Result<Vec<(SubinterfaceKey, Subinterface)>> {
        let rows = (0..self.subinterfaces.rows() as u32).filter_map(|row| self.subinterfaces.read(row));
        Ok(rows.filter(|row| row.key != FREE).map(|row| (row.key, row.value)).collect())
    }

    fn addresses(&self) -> Result<Vec<(AddressKey, u32)>> {
        Ok(self.addresses.all())
    }

    fn network(&self, index: u32) -> Option<Network> {
        self.networks.read(index)
    }

    fn scope(&self, index: u32) -> Option<ScopeRange> {
        self.scopes.read(index)
    }

    fn identity(&self, slot: u32) -> Option<Versioned> {
        self.addresses.identity(slot)
    }

    fn device(&self, row: u32) -> Option<Device> {
        self.devices.read(row)
    }

    fn profile(&self, profile: u32) -> Option<Versioned> {
        self.profiles.read(profile)
    }

    fn rule_set(&self, row: u32) -> Option<RuleSet> {
        self.rule_sets.read(row)
    }

    fn range(&self, row: u32) -> Option<Range> {
        self.ranges.read(row)
    }

    fn window(&self, row: u32) -> Option<Window> {
        self.windows.read(row)
    }

    fn peer(&self, row: u32) -> Option<Peer> {
        self.peers.read(row)
    }

    fn port(&self, row: u32) -> Option<PortRange> {
        self.ports.read(row)
    }

    fn perform(&mut self, op: &Op) -> Result<()> {
        let maps = self;
        let done = match *op {
            Op::Port(row, value) => maps.ports.write(row, value),
            Op::Range(row, value) => maps.ranges.write(row, value),
            Op::Window(row, value) => maps.windows.write(row, value),
            Op::Peer(row, value) => maps.peers.write(row, value),
            Op::RuleSet(row, value) => maps.rule_sets.write(row, value),
            Op::Device(row, value) => maps.devices.write(row, value),
            Op::Network(row, value) => maps.networks.write(row, value),
            Op::Scope(row, value) => maps.scopes.write(row, value),
            Op::Identity { slot, word, value } => maps.addresses.store_identity(slot, word, value),
            Op::Profile { profile, word, value } => maps.profiles.store(profile, word, value),
            Op::Flip(epoch) => maps.generation.store(0, 0, epoch.to_word()),
            Op::ForgetTunnel(slot) => maps.addresses.forget_tunnel(slot),
            Op::InsertAddress { key, slot, value } => Some(maps.addresses.insert(key, slot, value)?),
            Op::RemoveAddress(ref key) => Some(maps.addresses.remove(key)?),
            Op::InsertPlace(key, value) => maps.write_place(key, SubinterfaceRow { key, value }),
            Op::RemovePlace(key) => maps.write_place(key, SubinterfaceRow::default()).or(Some(())),
            Op::Wait => Some(wait_for_packets()?),
        };
        done.with_context(|| format!("{op:?} lies behind the table's end"))
    }

    /// Where many addresses go is looked at ahead: each belongs somewhere else, which no cache holds.
    fn perform_all(&mut self, ops: &[Op]) -> Result<()> {
        for ops in ops.chunks(AHEAD) {
            let new = ops
                .iter()
                .filter_map(|op| if let Op::InsertAddress { key, .. } = op { Some(key) } else { None });
            self.addresses.look_ahead(new);
            ops.iter().try_for_each(|op| self.perform(op))?;
        }
        Ok(())
    }
}

impl Maps {
    /// Writes the row of a key, or a free one if it has none.
    fn write_place(&mut self, key: SubinterfaceKey, value: SubinterfaceRow) -> Option<()> {
        let rows = &mut self.subinterfaces;
        let held = |wanted| key.seek(|row| rows.read(row).is_some_and(|row| row.key == wanted));
        let row = held(key).or_else(|| held(FREE))?;
        rows.write(row, value)
    }
}

/// The key of a row that is nobody's.
const FREE: SubinterfaceKey = SubinterfaceKey::new(0, 0, 0, 0);
