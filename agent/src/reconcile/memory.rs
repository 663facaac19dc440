//! The tables in memory: what `reconcile` does to the kernel, without one.
//!
//! The engine runs on it as on the kernel's maps, so an apply can be stopped after every write and
//! what packets would see can be looked at.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use bulkhead_common::abi::map::{NETWORK_CAPACITY, SCOPE_CAPACITY};
use bulkhead_common::abi::{
    AddressKey, Device, DeviceId, Epoch, Flow, FlowKey, Generation, Limits, Network, Peer, PortRange, Range,
    RuleSet, ScopeRange, Subinterface, SubinterfaceKey, Versioned, Window,
};
use bulkhead_common::case::Case;
use bulkhead_common::decide::{FlowStart, FlowUpdate, FlowWords, Flows, Tables};
use bulkhead_common::express::{Sought, Vouched, Voucher};
use bulkhead_common::limits::Toll;
use bulkhead_common::tunnel::Tunnels;
use bulkhead_common::verdict::{DropReason, Verdict};

use super::op::{Capacity, Op, Rows};
use crate::tables::{FlowTable, Passing, TunnelTable, passes_on};

/// Tables of a fixed size.
#[derive(Clone, Debug)]
pub struct Memory {
    epoch: Epoch,
    places: BTreeMap<SubinterfaceKey, Subinterface>,
    networks: Vec<Network>,
    scopes: Vec<ScopeRange>,
    addresses: BTreeMap<AddressKey, u32>,
    identities: Vec<Versioned>,
    devices: Vec<Device>,
    profiles: Vec<Versioned>,
    rule_sets: Vec<RuleSet>,
    ranges: Vec<Range>,
    peers: Vec<Peer>,
    ports: Vec<PortRange>,
    windows: Vec<Window>,
    flows: FlowTable,
    tunnels: TunnelTable,
    passing: Passing,
}

impl Memory {
    /// Empty tables of this size.
    pub fn new(capacity: Capacity) -> Self {
        Self {
            epoch: Epoch::default(),
            places: BTreeMap::new(),
            networks: vec![Network::default(); 2 * NETWORK_CAPACITY as usize],
            scopes: vec![ScopeRange::default(); 2 * SCOPE_CAPACITY as usize],
            addresses: BTreeMap::new(),
            identities: vec![Versioned::default(); capacity.addresses as usize],
            devices: vec![Device::default(); capacity.device_rows as usize],
            profiles: vec![Versioned::default(); capacity.profiles as usize],
            rule_sets: vec![RuleSet::default(); capacity.rule_sets as usize],
            ranges: vec![Range::default(); capacity.ranges as usize],
            peers: vec![Peer::default(); capacity.peers as usize],
            ports: vec![PortRange::default(); capacity.ports as usize],
            windows: vec![Window::default(); capacity.windows as usize],
            flows: FlowTable::default(),
            tunnels: TunnelTable::default(),
            passing: Passing::default(),
        }
    }

    /// Sets the monotonic clock and the boot clock, in nanoseconds.
    pub fn set_now(&self, now: u64, boot: u64) {
        self.flows.set_now(now, boot);
    }

    /// Every flow, dead ones too.
    pub fn flows(&self) -> Vec<Flow> {
        self.flows.all()
    }

    /// Gives up flows that are dead, as the kernel's timer does.
    pub fn sweep_flows(&self) {
        self.flows.sweep();
    }

    /// Parses and judges a frame that enters by an interface, as the XDP program does.
    pub fn judge(&self, frame: &[u8], ifindex: u32) -> (Verdict, Case) {
        crate::tables::judge(self, frame, ifindex)
    }

    fn store(words: &mut [Versioned], row: u32, word: usize, value: u64) -> Option<()> {
        let cell = words.get_mut(row as usize)?;
        let mut pair = cell.words();
        *pair.get_mut(word)? = value;
        *cell = Versioned::from_words(pair);
        Some(())
    }
}

fn write<T>(rows: &mut [T], row: u32, value: T) -> Option<()> {
    rows.get_mut(row as usize).map(|cell| *cell = value)
}

/// What a map held before is nobody's business.
fn done<T>(_held: T) -> Option<()> {
    Some(())
}

fn read<T: Copy>(rows: &[T], row: u32) -> Option<T> {
    rows.get(row as usize).copied()
}

impl Rows for Memory {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn capacity(&self) -> Capacity {
        let len = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        Capacity {
            addresses: len(self.identities.len()),
            device_rows: len(self.devices.len()),
            profiles: len(self.profiles.len()),
            rule_sets: len(self.rule_sets.len()),
            ranges: len(self.ranges.len()),
            peers: len(self.peers.len()),
            ports: len(self.ports.len()),
            windows: len(self.windows.len()),
        }
    }

    fn places(&self) -> Result<Vec<(SubinterfaceKey, Subinterface)>> {
        Ok(self.places.iter().map(|(key, row)| (*key, *row)).collect())
    }

    fn addresses(&self) -> Result<Vec<(AddressKey, u32)>> {
        Ok(self.addresses.iter().map(|(key, slot)| (*key, *slot)).collect())
    }

    fn network(&self, index: u32) -> Option<Network> {
        read(&self.networks, index)
    }

    fn scope(&self, index: u32) -> Option<ScopeRange> {
        read(&self.scopes, index)
    }

    fn identity(&self, slot: u32) -> Option<Versioned> {
        read(&self.identities, slot)
    }

    fn device(&self, row: u32) -> Option<Device> {
        read(&self.devices, row)
    }

    fn profile(&self, profile: u32) -> Option<Versioned> {
        read(&self.profiles, profile)
    }

    fn rule_set(&self, row: u32) -> Option<RuleSet> {
        read(&self.rule_sets, row)
    }

    fn range(&self, row: u32) -> Option<Range> {
        read(&self.ranges, row)
    }

    fn peer(&self, row: u32) -> Option<Peer> {
        read(&self.peers, row)
    }

    fn port(&self, row: u32) -> Option<PortRange> {
        read(&self.ports, row)
    }

    fn window(&self, row: u32) -> Option<Window> {
        read(&self.windows, row)
    }

    fn perform(&mut self, op: &Op) -> Result<()> {
        let written = match *op {
            Op::Port(row, value) => write(&mut self.ports, row, value),
            Op::Range(row, value) => write(&mut self.ranges, row, value),
            Op::Window(row, value) => write(&mut self.windows, row, value),
            Op::Peer(row, value) => write(&mut self.peers, row, value),
            Op::RuleSet(row, value) => write(&mut self.rule_sets, row, value),
            Op::Device(row, value) => write(&mut self.devices, row, value),
            Op::Network(row, value) => write(&mut self.networks, row, value),
            Op::Scope(row, value) => write(&mut self.scopes, row, value),
            Op::Identity { slot, word, value } => Self::store(&mut self.identities, slot, word, value),
            Op::Profile { profile, word, value } => Self::store(&mut self.profiles, profile, word, value),
            Op::ForgetTunnel(slot) => {
                self.tunnels.forget(slot);
                Some(())
            }
            Op::InsertAddress { key, slot, value } => {
                self.tunnels.forget(slot);
                let written = write(&mut self.identities, slot, Versioned::from_words([value, 0]));
                written.and_then(|()| done(self.addresses.insert(key, slot)))
            }
            Op::RemoveAddress(key) => done(self.addresses.remove(&key)),
            Op::InsertPlace(key, value) => done(self.places.insert(key, value)),
            Op::RemovePlace(key) => done(self.places.remove(&key)),
            Op::Flip(epoch) => done(std::mem::replace(&mut self.epoch, epoch)),
            Op::Wait => Some(()),
        };
        written.with_context(|| format!("{op:?} lies behind the table's end"))
    }
}

impl Tables for Memory {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn now(&self) -> u64 {
        self.flows.now()
    }

    fn boot_now(&self) -> u64 {
        self.flows.boot_now()
    }

    fn subinterface(&self, key: &SubinterfaceKey) -> Option<&Subinterface> {
        self.places.get(key)
    }

    fn network(&self, index: u32) -> Option<&Network> {
        self.networks.get(index as usize)
    }

    fn scope(&self, index: u32) -> Option<&ScopeRange> {
        self.scopes.get(index as usize)
    }

    fn address(&self, key: &AddressKey) -> Option<u32> {
        self.addresses.get(key).copied()
    }

    fn identity(&self, slot: u32) -> Option<Versioned> {
        read(&self.identities, slot)
    }

    fn device(&self, index: u32) -> Option<&Device> {
        self.devices.get(index as usize)
    }

    fn profile(&self, index: u32) -> Option<Versioned> {
        read(&self.profiles, index)
    }

    fn rule_set(&self, index: u32) -> Option<&RuleSet> {
        self.rule_sets.get(index as usize)
    }

    fn range(&self, index: u32) -> Option<&Range> {
        self.ranges.get(index as usize)
    }

    fn peer(&self, index: u32) -> Option<&Peer> {
        self.peers.get(index as usize)
    }

    fn port(&self, index: u32) -> Option<&PortRange> {
        self.ports.get(index as usize)
    }

    fn window(&self, index: u32) -> Option<&Window> {
        self.windows.get(index as usize)
    }
}

passes_on!(Memory);

impl Tunnels for Memory {
    fn tunnel(&self, slot: u32) -> Option<u64> {
        self.tunnels.tunnel(slot)
    }

    fn bind(&self, slot: u32, seen: u64, word: u64) -> bool {
        self.tunnels.bind(slot, seen, word)
    }
}

impl Vouched for Memory {
    fn vouched(&self, key: &FlowKey, generation: Generation, now: u64) -> Sought<Self::Handle> {
        self.flows.vouched(key, generation, now)
    }

    fn begin(&self, key: &FlowKey, start: &FlowStart) -> bool {
        self.flows.begin(key, start)
    }

    fn vouch(&self, flow: Self::Handle, key: &FlowKey, words: &FlowWords, voucher: Voucher) {
        self.flows.vouch(flow, key, words, voucher);
    }
}

impl Flows for Memory {
    type Handle = <FlowTable as Flows>::Handle;

    fn flow(&self, key: &FlowKey) -> Option<(Self::Handle, FlowWords)> {
        self.flows.flow(key)
    }

    fn lived(&self, key: &FlowKey, then: u64) -> bool {
        Flows::lived(&self.flows, key, then)
    }

    fn update(&self, flow: Self::Handle, key: &FlowKey, update: &FlowUpdate) {
        self.flows.update(flow, key, update);
    }

    fn end(&self, flow: Self::Handle, key: &FlowKey) {
        self.flows.end(flow, key);
    }

    fn charge(&self, device: DeviceId, limits: &Limits, toll: Toll, now: u64) -> Result<(), DropReason> {
        self.flows.charge(device, limits, toll, now)
    }

    fn refund(&self, device: DeviceId, limits: &Limits, toll: Toll) {
        self.flows.refund(device, limits, toll);
    }

    fn open(&self, key: &FlowKey, start: &FlowStart) -> Result<(), DropReason> {
        self.flows.open(key, start)
    }
}
