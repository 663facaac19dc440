//! The program over maps that nothing else uses, run on one frame at a time by `BPF_PROG_TEST_RUN`.
//!
//! No interface is touched and nothing is pinned: all of it goes with this value, or with the process.

use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use aya::maps::{MapData, RingBuf};
use aya::programs::{TestRun, TestRunOptions};
use bulkhead_common::abi::event::Event;
use bulkhead_common::abi::{ReplayInput, map};
use bulkhead_common::case::LinkType;

use super::maps::{self, Loaded, Maps};
use super::mmap::Mmap;
use super::{load, programs};
use crate::tables::Capacities;

/// Shorter frames are refused by `BPF_PROG_TEST_RUN` itself: an Ethernet header (`bpf_test_init`, net/bpf/test_run.c).
pub const SHORTEST: usize = 14;
/// The first bytes of a frame that the program is shown: what fits into a page beside headroom and tail.
pub const SHOWN: usize = 3520;

/// How a frame enters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Entry {
    /// The number of the interface in the tables.
    pub ifindex: u32,
    /// What the frame begins with.
    pub link: LinkType,
    /// Its length on the wire, which may be more than is shown.
    pub length: u32,
    /// The clock, in nanoseconds; it should not go back.
    pub now: u64,
    /// The boot clock, in nanoseconds.
    pub boot: u64,
}

/// The isolated program with its maps.
pub struct Isolated {
    ebpf: Ebpf,
    maps: Maps,
    input: Mmap<ReplayInput>,
    ring: RingBuf<MapData>,
}

impl Isolated {
    /// Loads the program over new maps.
    ///
    /// # Errors
    /// Whatever the kernel refuses.
    pub fn load(sizes: &Capacities) -> Result<Self> {
        let mut ebpf = load::load_isolated(sizes)?;
        let mut source = Loaded(&mut ebpf);
        let maps = Maps::open(&mut source)?;
        let input = maps::array(&mut source, map::REPLAY_INPUT)?;
        let ring = maps::ring(&mut source)?;
        Ok(Self { ebpf, maps, input, ring })
    }

    /// The tables, row by row.
    pub fn rows(&mut self) -> &mut Maps {
        &mut self.maps
    }

    /// How many flows there is room for.
    pub const fn flow_capacity(&self) -> u32 {
        self.maps.flows.capacity()
    }

    /// Gives up flows that are dead; returns how many.
    pub fn sweep_flows(&self, now_ns: u64) -> usize {
        self.maps.flows.sweep(now_ns).len()
    }

    /// Runs the program on a frame of [`SHORTEST`] to [`SHOWN`] bytes; returns what it says of it.
    ///
    /// # Errors
    /// The kernel's; or the program told of no packet, or of several.
    pub fn run(&mut self, shown: &[u8], entry: Entry) -> Result<Event> {
        self.enter(entry)?;
        let options = TestRunOptions { data_in: Some(shown), repeat: 1, ..TestRunOptions::new() };
        programs::xdp(&mut self.ebpf)?.test_run(options).context("run the XDP program on a frame")?;
        let told = self.told()?;
        ensure!(self.ring.next().is_none(), "the XDP program told of one frame twice");
        told.context("the XDP program told nothing of a frame")
    }

    fn enter(&mut self, entry: Entry) -> Result<()> {
        let Entry { ifindex, link, length, now, boot } = entry;
        let input = ReplayInput { now, boot, ifindex, link: link as u32, length, _pad: 0 };
        self.input.write(0, input).with_context(|| format!("the map {} has no row", map::REPLAY_INPUT))
    }

    fn told(&mut self) -> Result<Option<Event>> {
        let Some(bytes) = self.ring.next() else { return Ok(None) };
        let event = bytemuck::try_pod_read_unaligned(&bytes);
        event.map(Some).map_err(|error| anyhow::anyhow!("an event of {} bytes: {error}", bytes.len()))
    }
}
