//! One typed accessor per pinned map.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result};
use aya::maps::{HashMap, Map, MapData, MapError, PerCpuArray, PerCpuHashMap, RingBuf};
use bulkhead_common::abi::counter::{Counters, EventCounters};
use bulkhead_common::abi::{
    AddressKey, Device, Flow, FlowKey, Network, Peer, PortRange, Range, RuleSet, ScopeRange, Subinterface,
    SubinterfaceKey, Versioned, map,
};
use bytemuck::{Pod, Zeroable};

use super::mmap::Mmap;
use super::pod::Abi;

/// The pinned maps, opened anew: independent of the program that uses them.
pub(super) struct Maps {
    pub(super) generation: Mmap<u64>,
    pub(super) subinterfaces: HashMap<MapData, Abi<SubinterfaceKey>, Abi<Subinterface>>,
    pub(super) networks: Mmap<Network>,
    pub(super) scopes: Mmap<ScopeRange>,
    pub(super) addresses: HashMap<MapData, Abi<AddressKey>, u32>,
    pub(super) address_capacity: u32,
    pub(super) identities: Mmap<Versioned>,
    pub(super) tunnels: Mmap<u64>,
    pub(super) devices: Mmap<Device>,
    pub(super) profiles: Mmap<Versioned>,
    pub(super) rule_sets: Mmap<RuleSet>,
    pub(super) ranges: Mmap<Range>,
    pub(super) peers: Mmap<Peer>,
    pub(super) ports: Mmap<PortRange>,
    pub(super) flows: HashMap<MapData, Abi<FlowKey>, Abi<Flow>>,
    pub(super) flow_capacity: u32,
    pub(super) counters: PerCpuHashMap<MapData, u32, Abi<Counters>>,
    pub(super) event_counters: PerCpuArray<MapData, Abi<EventCounters>>,
}

impl Maps {
    /// Opens every map below `pins`; their layout was checked when the program was loaded.
    pub(super) fn open(pins: &Path) -> Result<Self> {
        let addresses = pinned(pins, map::ADDRESSES)?;
        let address_capacity = entries(&addresses, map::ADDRESSES)?;
        let flows = pinned(pins, map::FLOWS)?;
        let flow_capacity = entries(&flows, map::FLOWS)?;
        Ok(Self {
            generation: array(pins, map::GENERATION)?,
            subinterfaces: hash(pinned(pins, map::SUBINTERFACES)?, map::SUBINTERFACES)?,
            networks: array(pins, map::NETWORKS)?,
            scopes: array(pins, map::SCOPES)?,
            addresses: hash(addresses, map::ADDRESSES)?,
            address_capacity,
            identities: array(pins, map::IDENTITIES)?,
            tunnels: array(pins, map::TUNNELS)?,
            devices: array(pins, map::DEVICES)?,
            profiles: array(pins, map::PROFILES)?,
            rule_sets: array(pins, map::RULE_SETS)?,
            ranges: array(pins, map::RANGES)?,
            peers: array(pins, map::PEERS)?,
            ports: array(pins, map::PORTS)?,
            flows: hash(flows, map::FLOWS)?,
            flow_capacity,
            counters: PerCpuHashMap::try_from(Map::PerCpuHashMap(pinned(pins, map::COUNTERS)?))
                .with_context(|| opening(map::COUNTERS))?,
            event_counters: PerCpuArray::try_from(Map::PerCpuArray(pinned(pins, map::EVENT_COUNTERS)?))
                .with_context(|| opening(map::EVENT_COUNTERS))?,
        })
    }

    /// Counters by ifindex, summed over the CPUs.
    pub(super) fn counters(&self) -> Result<BTreeMap<u32, Counters>> {
        let mut sums = BTreeMap::new();
        for entry in self.counters.iter() {
            let (ifindex, cpus) = entry.with_context(|| reading(map::COUNTERS))?;
            let sum: &mut Counters = sums.entry(ifindex).or_insert_with(Counters::zeroed);
            cpus.iter().for_each(|cpu| sum.add(&cpu.0));
        }
        Ok(sums)
    }

    /// Event counters, summed over the CPUs.
    pub(super) fn event_counters(&self) -> Result<EventCounters> {
        let cpus = self.event_counters.get(&0, 0).with_context(|| reading(map::EVENT_COUNTERS))?;
        Ok(cpus.iter().fold(EventCounters::default(), |sum, cpu| EventCounters {
            sent: sum.sent.wrapping_add(cpu.0.sent),
            suppressed: sum.suppressed.wrapping_add(cpu.0.suppressed),
            lost: sum.lost.wrapping_add(cpu.0.lost),
        }))
    }
}

/// Opens the ring of events below `pins`.
pub(super) fn ring(pins: &Path) -> Result<RingBuf<MapData>> {
    RingBuf::try_from(Map::RingBuf(pinned(pins, map::EVENTS)?)).with_context(|| opening(map::EVENTS))
}

/// True if the kernel says that a key is not there.
pub(super) const fn is_absent(error: &MapError) -> bool {
    matches!(error, MapError::KeyNotFound | MapError::ElementNotFound)
}

fn pinned(pins: &Path, name: &str) -> Result<MapData> {
    MapData::from_pin(pins.join(name)).with_context(|| opening(name))
}

fn entries(map: &MapData, name: &str) -> Result<u32> {
    Ok(map.info().with_context(|| reading(name))?.max_entries())
}

fn array<T: Pod>(pins: &Path, name: &str) -> Result<Mmap<T>> {
    let map = pinned(pins, name)?;
    let rows = entries(&map, name)? as usize;
    Mmap::new(map.fd().as_fd(), rows).with_context(|| format!("map {name} into memory"))
}

fn hash<K: aya::Pod, V: aya::Pod>(map: MapData, name: &str) -> Result<HashMap<MapData, K, V>> {
    HashMap::try_from(Map::HashMap(map)).with_context(|| opening(name))
}

fn opening(name: &str) -> String {
    format!("open the pinned map {name}")
}

fn reading(name: &str) -> String {
    format!("read the map {name}")
}
