//! The loaded XDP program, run on frames by `BPF_PROG_TEST_RUN`, with maps filled by hand.
//!
//! Writes the rows of a [`Layout`] where the program expects them at generation 1 in bank 0. That
//! is on purpose not what `reconcile` does: a mistake there must not hide one in the program.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray, PerCpuHashMap, PerCpuValues, RingBuf};
use aya::programs::{TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use bulkhead::datapath::{OBJECT, PROGRAM};
use bulkhead::tables::Layout;
use bulkhead_common::abi::counter::{Counters, EventCounters};
use bulkhead_common::abi::event::Event;
use bulkhead_common::abi::{
    AddressKey, Epoch, Flow, FlowKey, Generation, ReplayInput, Subinterface, SubinterfaceKey, map,
};
use bytemuck::Zeroable as _;

pub mod privilege;
mod raw;

pub use raw::Raw;

/// What XDP answers (linux/bpf.h).
pub const XDP_DROP: u32 = 1;
/// As above.
pub const XDP_PASS: u32 = 2;
/// Shorter frames are refused by `BPF_PROG_TEST_RUN` itself (net/bpf/test_run.c).
pub const SHORTEST: usize = 14;

/// The program with its maps.
pub struct Kernel {
    ebpf: Ebpf,
    maps: Maps,
}

/// The maps that are written and read by hand.
struct Maps {
    generation: Array<MapData, u64>,
    subinterfaces: HashMap<MapData, Raw<SubinterfaceKey>, Raw<Subinterface>>,
    addresses: HashMap<MapData, Raw<AddressKey>, u32>,
    flows: HashMap<MapData, Raw<FlowKey>, Raw<Flow>>,
    counters: PerCpuHashMap<MapData, u32, Raw<Counters>>,
    event_counters: PerCpuArray<MapData, Raw<EventCounters>>,
    events: RingBuf<MapData>,
    replay: Array<MapData, Raw<ReplayInput>>,
    /// Numbers of the maps of flows and addresses.
    shared: [u32; 2],
}

impl Kernel {
    /// Loads the program for replay: interface and clock come from a map.
    ///
    /// # Errors
    /// Whatever the kernel refuses.
    pub fn load(flow_capacity: u32) -> Result<Self> {
        let mut ebpf = EbpfLoader::new()
            .override_global("REPLAY", &1u32, true)
            .map_max_entries(map::FLOWS, flow_capacity)
            .map_max_entries(map::ADDRESSES, 1024)
            .load(OBJECT)
            .context("create the maps")?;
        let program: &mut Xdp = ebpf.program_mut(PROGRAM).context("find the program")?.try_into()?;
        program.load().context("load the program")?;
        let maps = Maps::taken(&mut ebpf)?;
        let mut kernel = Self { ebpf, maps };
        kernel.count_on(0)?;
        Ok(kernel)
    }

    /// Makes room for an interface's counters; what has none is counted for interface 0.
    ///
    /// # Errors
    /// The kernel's.
    pub fn count_on(&mut self, ifindex: u32) -> Result<()> {
        let zero = vec![Raw(Counters::zeroed()); cpus()?];
        Ok(self.maps.counters.insert(ifindex, PerCpuValues::try_from(zero)?, 0)?)
    }

    /// Forgets every flow and puts these tables in force.
    ///
    /// # Errors
    /// The kernel's.
    pub fn fill(&mut self, layout: &Layout) -> Result<()> {
        self.forget()?;
        for (key, row) in &layout.subinterfaces {
            self.maps.subinterfaces.insert(Raw(*key), Raw(*row), 0)?;
        }
        for (key, slot) in &layout.addresses {
            self.maps.addresses.insert(Raw(*key), slot, 0)?;
        }
        self.rows(map::IDENTITIES, &layout.identities)?;
        self.rows(map::TUNNELS, &vec![0u64; layout.identities.len()])?;
        self.rows(map::NETWORKS, &layout.networks)?;
        self.rows(map::SCOPES, &layout.scopes)?;
        self.rows(map::DEVICES, &layout.devices)?;
        self.rows(map::PROFILES, &layout.profiles)?;
        self.rows(map::RULE_SETS, &layout.rule_sets)?;
        self.rows(map::RANGES, &layout.ranges)?;
        self.rows(map::PEERS, &layout.peers)?;
        self.rows(map::PORTS, &layout.ports)?;
        let epoch = Epoch { generation: Generation(1), bank: 0 };
        self.maps.generation.set(0, epoch.to_word(), 0).context("put the tables in force")
    }

    fn forget(&mut self) -> Result<()> {
        let Maps { subinterfaces, addresses, flows, .. } = &mut self.maps;
        emptied(subinterfaces)?;
        emptied(addresses)?;
        emptied(flows)
    }

    fn rows<T: bytemuck::Pod>(&mut self, name: &str, rows: &[T]) -> Result<()> {
        let map = self.ebpf.map_mut(name).with_context(|| format!("find the map {name}"))?;
        let mut array = Array::<_, Raw<T>>::try_from(map)?;
        for (index, row) in (0u32..).zip(rows) {
            array.set(index, Raw(*row), 0).with_context(|| format!("write row {index} of {name}"))?;
        }
        Ok(())
    }

    /// Sets the interface and the clock of the frames to come.
    ///
    /// # Errors
    /// The kernel's.
    pub fn enter(&mut self, ifindex: u32, now: u64) -> Result<()> {
        Ok(self.maps.replay.set(0, Raw(ReplayInput { now, ifindex, ..ReplayInput::default() }), 0)?)
    }

    /// The program, for threads that run it side by side.
    ///
    /// # Errors
    /// It is not there.
    pub fn runner(&self) -> Result<Runner<'_>> {
        Ok(Runner(self.ebpf.program(PROGRAM).context("find the program")?.try_into()?))
    }

    /// This CPU's and all others' counters of an interface.
    ///
    /// # Errors
    /// The kernel's.
    pub fn counters(&self, ifindex: u32) -> Result<Counters> {
        let mut sum = Counters::zeroed();
        self.maps.counters.get(&ifindex, 0)?.iter().for_each(|cpu| sum.add(&cpu.0));
        Ok(sum)
    }

    /// What became of events.
    ///
    /// # Errors
    /// The kernel's.
    pub fn event_counters(&self) -> Result<EventCounters> {
        let cpus = self.maps.event_counters.get(&0, 0)?;
        Ok(cpus.iter().fold(EventCounters::default(), |sum, cpu| EventCounters {
            sent: sum.sent + cpu.0.sent,
            suppressed: sum.suppressed + cpu.0.suppressed,
            lost: sum.lost + cpu.0.lost,
        }))
    }

    /// Takes what lies in the ring.
    pub fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(bytes) = self.maps.events.next() {
            events.push(bytemuck::pod_read_unaligned(&bytes));
        }
        events
    }

    /// Every flow by its key.
    ///
    /// # Errors
    /// The kernel's.
    pub fn flows(&self) -> Result<BTreeMap<FlowKey, Flow>> {
        self.maps
            .flows
            .iter()
            .map(|entry| entry.map(|(key, flow)| (key.0, flow.0)).map_err(Into::into))
            .collect()
    }

    /// Gives away the maps of addresses and flows, to change them while the program runs.
    ///
    /// # Errors
    /// The kernel's.
    pub fn shared(&self) -> Result<Shared> {
        let [flows, addresses] = self.maps.shared;
        let flows = Map::HashMap(MapData::from_id(flows)?);
        let addresses = Map::HashMap(MapData::from_id(addresses)?);
        Ok(Shared { flows: flows.try_into()?, addresses: addresses.try_into()? })
    }
}

/// The program alone.
#[derive(Clone, Copy)]
pub struct Runner<'k>(&'k Xdp);

impl Runner<'_> {
    /// Runs it once on a frame of at least [`SHORTEST`] bytes; returns what XDP answers.
    ///
    /// # Errors
    /// The kernel's.
    pub fn run(self, frame: &[u8]) -> Result<u32> {
        self.repeat(frame, 1)
    }

    /// Runs it often on one frame; returns the last answer. More than once costs two grace periods.
    ///
    /// # Errors
    /// The kernel's.
    pub fn repeat(self, frame: &[u8], times: u32) -> Result<u32> {
        let options = TestRunOptions { data_in: Some(frame), repeat: times, ..TestRunOptions::new() };
        Ok(self.0.test_run(options).context("run the program")?.return_value)
    }
}

/// Maps that may change under running packets.
pub struct Shared {
    /// As in the ABI.
    pub flows: HashMap<MapData, Raw<FlowKey>, Raw<Flow>>,
    /// Address → slot.
    pub addresses: HashMap<MapData, Raw<AddressKey>, u32>,
}

impl Maps {
    fn taken(ebpf: &mut Ebpf) -> Result<Self> {
        let shared = [number(ebpf, map::FLOWS)?, number(ebpf, map::ADDRESSES)?];
        let mut take = |name| ebpf.take_map(name).with_context(|| format!("find the map {name}"));
        Ok(Self {
            generation: take(map::GENERATION)?.try_into()?,
            subinterfaces: take(map::SUBINTERFACES)?.try_into()?,
            addresses: take(map::ADDRESSES)?.try_into()?,
            flows: take(map::FLOWS)?.try_into()?,
            counters: take(map::COUNTERS)?.try_into()?,
            event_counters: take(map::EVENT_COUNTERS)?.try_into()?,
            events: take(map::EVENTS)?.try_into()?,
            replay: take(map::REPLAY_INPUT)?.try_into()?,
            shared,
        })
    }
}

fn emptied<K: aya::Pod, V: aya::Pod>(map: &mut HashMap<MapData, K, V>) -> Result<()> {
    let keys: Vec<K> = map.keys().collect::<Result<_, _>>()?;
    keys.iter().try_for_each(|key| Ok(map.remove(key)?))
}

/// The kernel's number of a hash map.
fn number(ebpf: &Ebpf, name: &str) -> Result<u32> {
    match ebpf.map(name) {
        Some(Map::HashMap(map)) => Ok(map.info()?.id()),
        _ => bail!("{name} is not a hash map"),
    }
}

fn cpus() -> Result<usize> {
    aya::util::nr_cpus().map_err(|(file, error)| anyhow::anyhow!("read {file}: {error}"))
}
