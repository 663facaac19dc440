//! The loaded XDP program, run on frames by `BPF_PROG_TEST_RUN`, with maps filled by hand.
//!
//! Writes the rows of a [`Layout`] where the program expects them at generation 1 in bank 0. That
//! is on purpose not what `reconcile` does: a mistake there must not hide one in the program.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use aya::maps::{Array, Map, MapData, PerCpuArray, ProgramArray, RingBuf};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use bulkhead::datapath::{
    AddressRows, EGRESS_PROGRAM, FRAGS, FlowRows, OBJECT, PointCounters, Row, has_frags, load_around,
    short_program, xdp_program,
};
use bulkhead::tables::Layout;
use bulkhead_common::abi::counter::{Counters, EventCounters};
use bulkhead_common::abi::event::Event;
use bulkhead_common::abi::{
    DeviceId, DeviceState, Epoch, Flow, FlowGeometry, FlowKey, FlowSlot, Generation, Leg, LegRow,
    ReplayInput, Subinterface, SubinterfaceKey, SubinterfaceRow, map,
};
use bulkhead_common::address_table;
use bulkhead_common::case::{Case, LinkType};
use bulkhead_common::flow_table::{BUCKET, Memory as _};
use bulkhead_common::fragment::{FragmentPlace, PLACES};

use crate::generate::Random;

pub mod pair;
pub mod privilege;
mod raw;
pub mod stack;

pub use raw::Raw;

/// What XDP answers (linux/bpf.h).
pub const XDP_DROP: u32 = 1;
/// As above.
pub const XDP_PASS: u32 = 2;
/// What tcx answers: the next program is asked (linux/bpf.h).
const TCX_NEXT: u32 = u32::MAX;
/// As above.
const TCX_DROP: u32 = 2;
/// Packets that leave by this interface are given to [`Kernel::leave`]: the loopback of every namespace.
pub const LOOPBACK: u32 = 1;
/// Shorter frames are refused by `BPF_PROG_TEST_RUN` itself (net/bpf/test_run.c).
pub const SHORTEST: usize = 14;

/// The program with its maps.
pub struct Kernel {
    ebpf: Ebpf,
    maps: Maps,
}

/// Whether this kernel hands on frames in several buffers, as the program is told.
fn frags() -> &'static u32 {
    if has_frags() { &1 } else { &0 }
}

/// The maps that are written and read by hand.
struct Maps {
    generation: Array<MapData, u64>,
    subinterfaces: Array<MapData, Raw<SubinterfaceRow>>,
    /// Rows of it that are not free.
    placed: Vec<u32>,
    addresses: AddressRows,
    flows: FlowRows,
    counters: PointCounters,
    event_counters: PerCpuArray<MapData, Raw<EventCounters>>,
    events: RingBuf<MapData>,
    replay: Array<MapData, Raw<ReplayInput>>,
    /// Numbers of the index of addresses, and of its rows.
    address_ids: [u32; 2],
}

impl Kernel {
    /// Loads the program for replay: interface and clock come from a map.
    ///
    /// # Errors
    /// Whatever the kernel refuses.
    pub fn load(flow_capacity: u32) -> Result<Self> {
        Self::load_by(&mut EbpfLoader::new(), flow_capacity)
    }

    /// As [`Self::load`], by a loader that knows more.
    fn load_by(loader: &mut EbpfLoader<'_>, flow_capacity: u32) -> Result<Self> {
        let mut ebpf = loader
            .override_global("REPLAY", &1u32, true)
            .override_global(FRAGS, frags(), true)
            .map_max_entries(map::FLOWS, flow_capacity)
            .map_max_entries(map::ADDRESS_INDEX, address_table::size(ADDRESSES))
            .map_max_entries(map::ADDRESSES, ADDRESSES)
            .load(OBJECT)
            .context("create the maps")?;
        let program: &mut Xdp = ebpf.program_mut(xdp_program()).context("find the program")?.try_into()?;
        program.load().context("load the program")?;
        load_around(&mut ebpf)?;
        let maps = Maps::taken(&mut ebpf, flow_capacity)?;
        let mut kernel = Self { ebpf, maps };
        kernel.count_on(0)?;
        Ok(kernel)
    }

    /// Loads the program as it is attached to an interface, with room for so many devices, an address of either
    /// family for each, and three flows for each.
    ///
    /// # Errors
    /// Whatever the kernel refuses.
    pub fn load_attached(devices: u32) -> Result<Self> {
        Self::load_attached_by(&mut EbpfLoader::new(), devices, flows_of(devices))
    }

    /// As [`Self::load_attached`], with so many slots for flows: a power of two.
    ///
    /// # Errors
    /// Whatever the kernel refuses.
    pub fn load_attached_with(devices: u32, flows: u32) -> Result<Self> {
        Self::load_attached_by(&mut EbpfLoader::new(), devices, flows)
    }

    /// As [`Self::load_attached`], by a loader that knows more.
    fn load_attached_by(loader: &mut EbpfLoader<'_>, devices: u32, flows: u32) -> Result<Self> {
        let rows = rows_of(devices);
        loader.override_global(FRAGS, frags(), true);
        for (name, entries) in [
            (map::FLOWS, flows),
            (map::ADDRESS_INDEX, address_table::size(rows * 2)),
            (map::ADDRESSES, rows * 2),
            (map::DEVICES, rows * 2),
            (map::DEVICE_STATES, rows),
            (map::ERROR_BUDGETS, rows),
            (map::FRAGMENTS, rows * PLACES),
        ] {
            loader.map_max_entries(name, entries);
        }
        let mut ebpf = loader.load(OBJECT).context("create the maps")?;
        let program: &mut Xdp = ebpf.program_mut(xdp_program()).context("find the program")?.try_into()?;
        program.load().context("load the program")?;
        load_around(&mut ebpf)?;
        let maps = Maps::taken(&mut ebpf, flows)?;
        Ok(Self { ebpf, maps })
    }

    /// A file descriptor of the program that packets enter by, to attach it or to call it from another.
    ///
    /// # Errors
    /// It is not there.
    pub fn program_fd(&self) -> Result<OwnedFd> {
        let program: &Xdp = self.ebpf.program(short_program()).context("find the program")?.try_into()?;
        Ok(program.fd()?.as_fd().try_clone_to_owned()?)
    }

    /// Makes room for an interface's counters; what has none is counted for interface 0.
    ///
    /// # Errors
    /// The kernel's.
    pub fn count_on(&mut self, ifindex: u32) -> Result<()> {
        self.maps.counters.count_on(ifindex)
    }

    /// Takes the program away that the short way hands on to.
    ///
    /// # Errors
    /// The kernel's.
    pub fn lose_the_whole_way(&mut self) -> Result<()> {
        let slot = self.ebpf.map_mut(map::ONWARD).context("find the slot")?;
        Ok(ProgramArray::try_from(slot)?.clear_index(&map::ONWARD_WHOLE)?)
    }

    /// Forgets an interface's counters.
    pub fn stop_counting(&mut self, ifindex: u32) {
        self.maps.counters.forget(ifindex);
    }

    /// Forgets every flow and puts these tables in force.
    ///
    /// # Errors
    /// The kernel's.
    pub fn fill(&mut self, layout: &Layout) -> Result<()> {
        self.forget()?;
        for (key, row) in &layout.subinterfaces {
            self.maps.place(*key, *row)?;
        }
        for (key, slot) in &layout.addresses {
            let identity = layout.identities.get(*slot as usize).context("an address without identity")?;
            self.maps.addresses.insert(*key, *slot, identity.words()[0])?;
        }
        let devices = layout.devices.iter().map(|row| row.device.0 as usize + 1).max().unwrap_or_default();
        self.rows(map::ERROR_BUDGETS, &vec![0u64; devices])?;
        self.rows(map::FRAGMENTS, &vec![FragmentPlace::default(); devices * PLACES as usize])?;
        self.rows(map::NETWORKS, &layout.networks)?;
        self.rows(map::SCOPES, &layout.scopes)?;
        self.rows(map::DEVICES, &layout.devices)?;
        self.rows(map::PROFILES, &layout.profiles)?;
        self.rows(map::RULE_SETS, &layout.rule_sets)?;
        self.rows(map::RANGES, &layout.ranges)?;
        self.rows(map::PEERS, &layout.peers)?;
        self.rows(map::WINDOWS, &layout.windows)?;
        self.rows(map::PORTS, &layout.ports)?;
        let epoch = Epoch { generation: Generation(1), bank: 0 };
        self.maps.generation.set(0, epoch.to_word(), 0).context("put the tables in force")
    }

    /// Forgets every flow, of the devices up to this number.
    pub fn forget_flows(&self, devices: u32) {
        let flows = &self.maps.flows;
        cleared(flows, (0..flows.capacity()).filter_map(|slot| flows.slot(slot)), SLOT_WORDS);
        cleared(flows, (0..=devices).filter_map(|device| flows.device(DeviceId(device))), DEVICE_WORDS);
    }

    fn forget(&mut self) -> Result<()> {
        let Maps { subinterfaces, placed, addresses, .. } = &mut self.maps;
        for row in placed.drain(..) {
            subinterfaces.set(row, Raw(SubinterfaceRow::default()), 0)?;
        }
        addresses.all().iter().try_for_each(|(key, _)| addresses.remove(key))?;
        self.forget_flows(DEVICES);
        Ok(())
    }

    fn rows<T: bytemuck::Pod>(&mut self, name: &str, rows: &[T]) -> Result<()> {
        let map = self.ebpf.map_mut(name).with_context(|| format!("find the map {name}"))?;
        let mut array = Array::<_, Raw<T>>::try_from(map)?;
        for (index, row) in (0u32..).zip(rows) {
            array.set(index, Raw(*row), 0).with_context(|| format!("write row {index} of {name}"))?;
        }
        Ok(())
    }

    /// Lets packets enter and leave by these interfaces past the kernel's stack, beside those that there are.
    ///
    /// # Errors
    /// The kernel's.
    pub fn forward_by(&mut self, legs: &[(SubinterfaceKey, Leg)]) -> Result<()> {
        let map = self.ebpf.map_mut(map::LEGS).context("find the legs")?;
        let mut rows = Array::<_, Raw<LegRow>>::try_from(map)?;
        for (key, leg) in legs {
            let free = |row| rows.get(&row, 0).is_ok_and(|row| row.0 == LegRow::default());
            let row = key.seek(free).context("find a row for a leg")?;
            rows.set(row, Raw(LegRow { key: *key, leg: *leg }), 0)?;
        }
        Ok(())
    }

    /// Sets the interface and the clocks of the frames to come.
    ///
    /// # Errors
    /// The kernel's.
    pub fn enter(&mut self, ifindex: u32, now: u64, boot: u64) -> Result<()> {
        self.enter_by(LinkType::Ethernet, ifindex, now, boot)
    }

    /// As [`Self::enter`], by a link whose frames begin like this.
    ///
    /// # Errors
    /// The kernel's.
    pub fn enter_by(&mut self, link: LinkType, ifindex: u32, now: u64, boot: u64) -> Result<()> {
        let input = ReplayInput { now, boot, ifindex, link: link as u32, ..ReplayInput::default() };
        Ok(self.maps.replay.set(0, Raw(input), 0)?)
    }

    /// The program that packets enter by, for threads that run it side by side.
    ///
    /// # Errors
    /// It is not there.
    pub fn runner(&self) -> Result<Runner<'_>> {
        Ok(Runner(self.ebpf.program(short_program()).context("find the program")?.try_into()?))
    }

    /// Loads the program for what leaves too, over the same maps.
    ///
    /// # Errors
    /// Whatever the kernel refuses.
    pub fn load_leaving(&mut self) -> Result<()> {
        let program = self.ebpf.program_mut(EGRESS_PROGRAM).context("find the program for what leaves")?;
        let program: &mut SchedClassifier = program.try_into()?;
        program.load().context("load the program for what leaves")
    }

    /// Runs the program for what leaves on a packet of at least [`SHORTEST`] bytes; true if it goes on.
    ///
    /// # Errors
    /// It is not loaded; the kernel's.
    pub fn leave(&self, packet: &[u8], leaving: Leaving) -> Result<bool> {
        let program = self.ebpf.program(EGRESS_PROGRAM).context("find the program for what leaves")?;
        let program: &SchedClassifier = program.try_into()?;
        let context = leaving.context();
        let options =
            TestRunOptions { data_in: Some(packet), ctx_in: Some(&context), ..TestRunOptions::new() };
        match program.test_run(options).context("run the program for what leaves")?.return_value {
            TCX_NEXT => Ok(true),
            TCX_DROP => Ok(false),
            answer => bail!("it answers {answer}"),
        }
    }

    /// This CPU's and all others' counters of an interface.
    ///
    /// # Errors
    /// The kernel's.
    pub fn counters(&self, ifindex: u32) -> Result<Counters> {
        self.maps.counters.of(ifindex)
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

    /// What the last packet of each CPU has left that went the whole way, as it lies in memory.
    ///
    /// # Errors
    /// The kernel's.
    pub fn cases(&self) -> Result<Vec<Vec<u8>>> {
        let map = self.ebpf.map("CASES").context("find the case at hand")?;
        let cases = PerCpuArray::<_, Raw<[u8; size_of::<Case>()]>>::try_from(map)?.get(&0, 0)?;
        Ok(cases.iter().map(|case| case.0.to_vec()).collect())
    }

    /// Every flow by its key.
    pub fn flows(&self) -> BTreeMap<FlowKey, Flow> {
        self.maps.flows.all().into_iter().map(|flow| (flow.key, flow)).collect()
    }

    /// The flow table, to be changed while the program runs.
    pub const fn flow_table(&self) -> &FlowRows {
        &self.maps.flows
    }

    /// The addresses, to be changed while the program runs.
    ///
    /// # Errors
    /// The kernel's.
    pub fn addresses(&self) -> Result<AddressRows> {
        let [index, rows] = self.maps.address_ids;
        AddressRows::map(&MapData::from_id(index)?, &MapData::from_id(rows)?)
    }
}

/// What the kernel knows of a packet that leaves.
#[derive(Clone, Copy, Debug)]
pub struct Leaving {
    /// Packets that the stack has put into one.
    pub segments: u32,
    /// The interface by which it entered, unless the host itself has sent it.
    pub entered: Option<u32>,
}

impl Leaving {
    /// `struct __sk_buff` (linux/bpf.h), in words.
    fn context(self) -> [u8; 192] {
        const INGRESS_IFINDEX: usize = 36;
        const GSO_SEGMENTS: usize = 164;
        let mut context = [0; 192];
        context[INGRESS_IFINDEX..][..4].copy_from_slice(&self.entered.unwrap_or(0).to_ne_bytes());
        context[GSO_SEGMENTS..][..4].copy_from_slice(&self.segments.to_ne_bytes());
        context
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
        Ok(self.timed(frame, times)?.0)
    }

    /// As [`Self::repeat`], with the time that the kernel measured for one run.
    ///
    /// # Errors
    /// The kernel's.
    pub fn timed(self, frame: &[u8], times: u32) -> Result<(u32, Duration)> {
        let options = TestRunOptions { data_in: Some(frame), repeat: times, ..TestRunOptions::new() };
        let ran = self.0.test_run(options).context("run the program")?;
        Ok((ran.return_value, ran.duration))
    }
}

impl Maps {
    fn place(&mut self, key: SubinterfaceKey, value: Subinterface) -> Result<()> {
        let rows = &mut self.subinterfaces;
        let free = |row| rows.get(&row, 0).is_ok_and(|row| row.0 == SubinterfaceRow::default());
        let row = key.seek(free).context("find a row for a place")?;
        self.placed.push(row);
        Ok(rows.set(row, Raw(SubinterfaceRow { key, value }), 0)?)
    }

    fn taken(ebpf: &mut Ebpf, flow_capacity: u32) -> Result<Self> {
        let (addresses, address_ids) = addresses(ebpf)?;
        let flows = flow_table(ebpf, flow_capacity)?;
        let counters = counters(ebpf)?;
        let mut take = |name| ebpf.take_map(name).with_context(|| format!("find the map {name}"));
        Ok(Self {
            generation: take(map::GENERATION)?.try_into()?,
            subinterfaces: take(map::SUBINTERFACES)?.try_into()?,
            placed: Vec::new(),
            addresses,
            flows,
            counters,
            event_counters: take(map::EVENT_COUNTERS)?.try_into()?,
            events: take(map::EVENTS)?.try_into()?,
            replay: take(map::REPLAY_INPUT)?.try_into()?,
            address_ids,
        })
    }
}

/// Rows for so many devices.
fn rows_of(devices: u32) -> u32 {
    devices.saturating_add(2).max(map::DEVICE_CAPACITY)
}

/// Slots for three flows of each device: at a quarter of its places taken a bucket is hardly ever full.
fn flows_of(devices: u32) -> u32 {
    rows_of(devices).saturating_mul(4).next_power_of_two()
}

/// The counters by interface.
fn counters(ebpf: &mut Ebpf) -> Result<PointCounters> {
    let Some(Map::PerCpuArray(counters)) = ebpf.take_map(map::COUNTERS) else {
        bail!("the counters are not an array for each CPU");
    };
    match ebpf.map(map::INTERFACES) {
        Some(Map::Array(interfaces)) => PointCounters::open(interfaces, counters),
        _ => bail!("the interfaces are not an array"),
    }
}

/// The flow table with a secret that tests know.
fn flow_table(ebpf: &mut Ebpf, capacity: u32) -> Result<FlowRows> {
    let geometry = ebpf.map_mut(map::FLOW_GEOMETRY).context("find the geometry")?;
    Array::<_, Raw<FlowGeometry>>::try_from(geometry)?.set(0, Raw(self::geometry(capacity)), 0)?;
    let [flows, geometry, devices] = arrays(ebpf, [map::FLOWS, map::FLOW_GEOMETRY, map::DEVICE_STATES])?;
    FlowRows::map(flows, geometry, devices)
}

/// The addresses, and the kernel's numbers of their maps.
fn addresses(ebpf: &Ebpf) -> Result<(AddressRows, [u32; 2])> {
    let [index, rows] = arrays(ebpf, [map::ADDRESS_INDEX, map::ADDRESSES])?;
    Ok((AddressRows::map(index, rows)?, [index.info()?.id(), rows.info()?.id()]))
}

/// Maps that are arrays.
fn arrays<'e, const N: usize>(ebpf: &'e Ebpf, names: [&str; N]) -> Result<[&'e MapData; N]> {
    let found = names.iter().map(|name| match ebpf.map(name) {
        Some(Map::Array(data)) => Ok(data),
        _ => bail!("{name} is not an array"),
    });
    found.collect::<Result<Vec<_>>>()?.try_into().map_err(|_| anyhow!("as many as there are names"))
}

/// What the flow table of a [`Kernel`] of this capacity is like.
pub fn geometry(capacity: u32) -> FlowGeometry {
    let mut random = Random::new(u64::from(capacity));
    let mut secret = [0; 13];
    secret.iter_mut().for_each(|word| *word = random.next());
    FlowGeometry { secret, buckets: capacity / BUCKET, _pad: 0 }
}

const SLOT_WORDS: usize = size_of::<FlowSlot>() / 8;
const DEVICE_WORDS: usize = size_of::<DeviceState>() / 8;
/// Room for addresses in a program for replay.
const ADDRESSES: u32 = 1024;
/// Device rows that tests use.
const DEVICES: u32 = 256;

fn cleared(flows: &FlowRows, rows: impl Iterator<Item = Row>, words: usize) {
    for row in rows {
        (0..words).for_each(|word| flows.store(row, word, 0));
    }
}
