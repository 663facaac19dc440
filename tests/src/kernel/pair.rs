//! The program twice: of an enforced policy, and of a candidate that it hands every frame on to.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use aya::EbpfLoader;
use aya::maps::{Array, PerCpuArray, ProgramArray};
use aya::programs::Xdp;
use bulkhead::datapath::{CANDIDATE, xdp_program};
use bulkhead_common::abi::counter::{CandidateCounters, Would};
use bulkhead_common::abi::map;
use bulkhead_common::case::LinkType;
use bytemuck::Zeroable as _;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{Kernel, Raw};

/// Maps that both have in common.
const SHARED: [&str; 4] = [map::FLOWS, map::FLOW_GEOMETRY, map::DECIDED, map::CANDIDATES];

/// Both programs, each with tables of its own.
pub struct Pair {
    /// What is enforced.
    pub enforced: Kernel,
    /// What looks on.
    pub candidate: Kernel,
}

impl Pair {
    /// Loads both for replay, with one flow table.
    ///
    /// # Errors
    /// Whatever the kernel refuses.
    pub fn load(flow_capacity: u32) -> Result<Self> {
        Self::load_by(|loader| Kernel::load_by(loader, flow_capacity))
    }

    /// Loads both as they are attached to an interface, as [`Kernel::load_attached`].
    ///
    /// # Errors
    /// Whatever the kernel refuses.
    pub fn load_attached(devices: u32) -> Result<Self> {
        Self::load_by(|loader| Kernel::load_attached_by(loader, devices, super::flows_of(devices)))
    }

    fn load_by(load: impl Fn(&mut EbpfLoader<'_>) -> Result<Kernel>) -> Result<Self> {
        let pins = Pins::mount()?;
        let mut enforced = load(&mut pins.loader())?;
        let mut loader = pins.loader();
        loader.override_global(CANDIDATE, &1u32, true);
        let candidate = load(&mut loader)?;
        let program: &Xdp = candidate.ebpf.program(xdp_program()).context("find the program")?.try_into()?;
        let slots = enforced.ebpf.map_mut(map::CANDIDATES).context("find the slots")?;
        let mut slots = ProgramArray::try_from(slots)?;
        for link in [LinkType::Ethernet, LinkType::RawIp] {
            slots.set(link as u32, program.fd()?, 0).context("hand frames on")?;
        }
        Ok(Self { enforced, candidate })
    }
}

impl Kernel {
    /// What a candidate has counted.
    ///
    /// # Errors
    /// The kernel's.
    pub fn compared(&self) -> Result<CandidateCounters> {
        let counters = self.ebpf.map(map::WOULD).context("find the counters")?;
        let counters = PerCpuArray::<_, Raw<CandidateCounters>>::try_from(counters)?;
        let mut sum = CandidateCounters::zeroed();
        counters.get(&0, 0)?.iter().for_each(|cpu| sum.add(&cpu.0));
        Ok(sum)
    }

    /// The row of [`map::WOULD_DEVICES`] or [`map::WOULD_RULES`].
    ///
    /// # Errors
    /// The kernel's.
    pub fn would(&self, name: &str, row: u32) -> Result<Would> {
        let rows = self.ebpf.map(name).with_context(|| format!("find the map {name}"))?;
        Ok(Array::<_, Raw<Would>>::try_from(rows)?.get(&row, 0)?.0)
    }
}

/// A BPF file system of its own, for as long as two programs are loaded over the same maps.
struct Pins {
    folder: tempfile::TempDir,
}

impl Pins {
    fn mount() -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder")?;
        mount(Some("bpf"), folder.path(), Some("bpf"), MsFlags::empty(), None::<&Path>)
            .context("mount a BPF file system")?;
        Ok(Self { folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn loader(&self) -> EbpfLoader<'static> {
        let mut loader = EbpfLoader::new();
        for name in SHARED {
            loader.map_pin_path(name, self.path(name));
        }
        loader
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = umount2(self.folder.path(), MntFlags::MNT_DETACH);
    }
}
