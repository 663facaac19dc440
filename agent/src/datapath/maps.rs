//! One typed accessor per map that the agent reads or writes.

use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result, bail};
use aya::Ebpf;
use aya::maps::{Map, MapData, MapError, PerCpuArray, RingBuf};
use bulkhead_common::abi::counter::EventCounters;
use bulkhead_common::abi::{
    Device, Network, Peer, PortRange, Range, RuleSet, ScopeRange, SubinterfaceRow, Versioned, Window, map,
};
use bytemuck::Pod;

use super::addresses::AddressRows;
use super::counters::PointCounters;
use super::flows::FlowRows;
use super::legs::LegRows;
use super::mmap::Mmap;
use super::pod::Abi;

/// Where the maps come from, by name.
pub(super) trait Source {
    /// Opens a map.
    fn open(&mut self, name: &str) -> Result<MapData>;
}

/// The maps, opened by themselves: independent of the program that uses them.
pub struct Maps {
    pub(super) generation: Mmap<u64>,
    pub(super) subinterfaces: Mmap<SubinterfaceRow>,
    pub(super) networks: Mmap<Network>,
    pub(super) scopes: Mmap<ScopeRange>,
    pub(super) addresses: AddressRows,
    pub(super) devices: Mmap<Device>,
    pub(super) profiles: Mmap<Versioned>,
    pub(super) rule_sets: Mmap<RuleSet>,
    pub(super) ranges: Mmap<Range>,
    pub(super) windows: Mmap<Window>,
    pub(super) peers: Mmap<Peer>,
    pub(super) ports: Mmap<PortRange>,
    pub(super) flows: FlowRows,
    pub(super) legs: LegRows,
    pub(super) counters: PointCounters,
    pub(super) event_counters: PerCpuArray<MapData, Abi<EventCounters>>,
}

impl Maps {
    /// Opens every map; their layout was checked when the program was loaded.
    pub(super) fn open(source: &mut impl Source) -> Result<Self> {
        Ok(Self {
            generation: array(source, map::GENERATION)?,
            subinterfaces: array(source, map::SUBINTERFACES)?,
            networks: array(source, map::NETWORKS)?,
            scopes: array(source, map::SCOPES)?,
            addresses: AddressRows::map(&source.open(map::ADDRESS_INDEX)?, &source.open(map::ADDRESSES)?)?,
            devices: array(source, map::DEVICES)?,
            profiles: array(source, map::PROFILES)?,
            rule_sets: array(source, map::RULE_SETS)?,
            ranges: array(source, map::RANGES)?,
            windows: array(source, map::WINDOWS)?,
            peers: array(source, map::PEERS)?,
            ports: array(source, map::PORTS)?,
            flows: FlowRows::map(
                &source.open(map::FLOWS)?,
                &source.open(map::FLOW_GEOMETRY)?,
                &source.open(map::DEVICE_STATES)?,
            )?,
            legs: LegRows::open(source)?,
            counters: PointCounters::open(&source.open(map::INTERFACES)?, source.open(map::COUNTERS)?)?,
            event_counters: PerCpuArray::try_from(Map::PerCpuArray(source.open(map::EVENT_COUNTERS)?))
                .with_context(|| opening(map::EVENT_COUNTERS))?,
        })
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

/// Opens the ring of events.
pub(super) fn ring(source: &mut impl Source) -> Result<RingBuf<MapData>> {
    RingBuf::try_from(Map::RingBuf(source.open(map::EVENTS)?)).with_context(|| opening(map::EVENTS))
}

/// True if the kernel says that a key is not there.
pub(super) const fn is_absent(error: &MapError) -> bool {
    matches!(error, MapError::KeyNotFound | MapError::ElementNotFound)
}

/// The maps pinned below a folder.
pub(super) struct Pinned<'a>(pub(super) &'a Path);

impl Source for Pinned<'_> {
    fn open(&mut self, name: &str) -> Result<MapData> {
        MapData::from_pin(self.0.join(name)).with_context(|| opening(name))
    }
}

/// The maps that a program was loaded with, taken from it.
pub(super) struct Loaded<'a>(pub(super) &'a mut Ebpf);

impl Source for Loaded<'_> {
    fn open(&mut self, name: &str) -> Result<MapData> {
        let taken = self.0.take_map(name).with_context(|| opening(name))?;
        let (Map::Array(map) | Map::PerCpuArray(map) | Map::RingBuf(map)) = taken else {
            bail!("{}: it is a {taken:?}", opening(name));
        };
        Ok(map)
    }
}

fn entries(map: &MapData, name: &str) -> Result<u32> {
    Ok(map.info().with_context(|| reading(name))?.max_entries())
}

/// Maps an array into memory.
pub(super) fn array<T: Pod>(source: &mut impl Source, name: &str) -> Result<Mmap<T>> {
    mapped(&source.open(name)?, name)
}

/// As [`array`], of a map that is open.
pub(super) fn mapped<T: Pod>(map: &MapData, name: &str) -> Result<Mmap<T>> {
    let rows = entries(map, name)? as usize;
    Mmap::new(map.fd().as_fd(), rows).with_context(|| format!("map {name} into memory"))
}

fn opening(name: &str) -> String {
    format!("open the map {name}")
}

fn reading(name: &str) -> String {
    format!("read the map {name}")
}
