//! A candidate in the kernel: the program once more, over tables of its own, called behind the enforced policy's.
//!
//! Its pins lie below those of the enforced policy, so that it goes on counting without an agent, and is taken over by
//! the next one. Flows are the enforced policy's; the candidate only reads them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::maps::{Map, MapData, PerCpuArray, PerCpuValues, ProgramArray};
use aya::util::nr_cpus;
use bulkhead_common::abi::counter::{CandidateCounters, Would};
use bulkhead_common::abi::{DeviceId, RuleId, map};
use bulkhead_common::case::LinkType;
use bytemuck::Zeroable as _;

use super::load::{self, CANDIDATE_PINS};
use super::maps::{self, Maps, Source};
use super::mmap::Mmap;
use super::pod::Abi;
use super::programs::{self, Variant};
use super::{grace, make_folder};
use crate::tables::Capacities;

/// Where a candidate's own pins lie below those of the enforced policy.
const FOLDER: &str = "candidate";
/// Slots of [`map::CANDIDATES`] and of [`map::LEAVING`].
const ENTERING: [u32; 2] = [LinkType::Ethernet as u32, LinkType::RawIp as u32];
const LEAVING: [u32; 1] = [0];

/// A candidate's programs, tables and counters.
pub struct Candidate {
    pins: PathBuf,
    sizes: Capacities,
    loaded: BTreeMap<Variant, Ebpf>,
    maps: Maps,
    slots: Slots,
    counters: PerCpuArray<MapData, Abi<CandidateCounters>>,
    devices: Mmap<Would>,
    rules: Mmap<Would>,
}

impl Candidate {
    /// Loads a candidate over the maps pinned below those at `pins`, creating what is missing, with counters for so many
    /// rules; nothing calls it yet.
    ///
    /// # Errors
    /// A map of another layout, no memory for another set of tables, a program that the kernel refuses.
    pub(super) fn open(pins: &Path, sizes: &Capacities, rules: u32) -> Result<Self> {
        make_folder(&pins.join(FOLDER))?;
        let entering = Variant::Ingress(LinkType::Ethernet);
        let first = load::load_candidate(pins, &pins.join(FOLDER), sizes, rules, entering)?;
        let mut source = Pins(pins);
        let counters = PerCpuArray::try_from(Map::PerCpuArray(source.open(map::WOULD)?));
        Ok(Self {
            pins: pins.to_owned(),
            sizes: *sizes,
            loaded: BTreeMap::from([(entering, first)]),
            maps: Maps::open(&mut source)?,
            slots: Slots::open(&mut source)?,
            counters: counters.with_context(|| format!("open the map {}", map::WOULD))?,
            devices: maps::array(&mut source, map::WOULD_DEVICES)?,
            rules: maps::array(&mut source, map::WOULD_RULES)?,
        })
    }

    /// The tables, row by row.
    pub const fn rows(&mut self) -> &mut Maps {
        &mut self.maps
    }

    /// For how many rules there are counters.
    pub const fn rule_rows(&self) -> usize {
        self.rules.rows()
    }

    /// Loads a copy for each of these hooks too.
    pub(super) fn cover(&mut self, variants: impl Iterator<Item = Variant>) -> Result<()> {
        for variant in variants {
            if !self.loaded.contains_key(&variant) {
                let (folder, rules) = (self.pins.join(FOLDER), self.rules.rows() as u32);
                let copy = load::load_candidate(&self.pins, &folder, &self.sizes, rules, variant)?;
                self.loaded.insert(variant, copy);
            }
        }
        Ok(())
    }

    /// Lets the enforced policy's programs call it from now on.
    ///
    /// # Errors
    /// The kernel's.
    pub fn engage(&mut self) -> Result<()> {
        for (variant, copy) in &mut self.loaded {
            let engaged = match variant {
                Variant::Ingress(link) => {
                    self.slots.entering.set(*link as u32, programs::xdp(copy)?.fd()?, 0)
                }
                Variant::Egress => self.slots.leaving.set(0, programs::classifier(copy)?.fd()?, 0),
            };
            engaged.context("let packets go on to the candidate")?;
        }
        Ok(())
    }

    /// Lets nobody call it until it is engaged again; waits for packets that are with it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn disengage(&mut self) -> Result<()> {
        self.slots.clear()?;
        grace::wait_for_packets()
    }

    /// What it has counted, summed over the CPUs.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn counters(&self) -> Result<CandidateCounters> {
        let mut sum = CandidateCounters::zeroed();
        let cpus = self.counters.get(&0, 0).with_context(|| format!("read the map {}", map::WOULD))?;
        cpus.iter().for_each(|cpu| sum.add(&cpu.0));
        Ok(sum)
    }

    /// Devices of which it would treat packets otherwise; number 0 stands for packets of none.
    pub fn devices(&self) -> Vec<(DeviceId, Would)> {
        counted(&self.devices).map(|(row, would)| (DeviceId(row), would)).collect()
    }

    /// Rules for which it would treat packets otherwise; number 0 stands for none.
    pub fn rules(&self) -> Vec<(RuleId, Would)> {
        counted(&self.rules).map(|(row, would)| (RuleId(row), would)).collect()
    }

    /// Begins to count anew; only while it is disengaged.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn forget(&mut self) -> Result<()> {
        let cpus = nr_cpus().map_err(|(file, error)| anyhow::anyhow!("{file}: {error}"))?;
        let zero = PerCpuValues::try_from(vec![Abi(CandidateCounters::zeroed()); cpus])?;
        self.counters.set(0, zero, 0).with_context(|| format!("clear the map {}", map::WOULD))?;
        for counts in [&mut self.devices, &mut self.rules] {
            for row in 0..counts.rows() as u32 {
                counts.write(row, Would::default()).context("clear a row of counters")?;
            }
        }
        Ok(())
    }

    /// Removes whatever a candidate has left below `pins`; nothing calls it any more.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn remove(pins: &Path) -> Result<()> {
        let folder = pins.join(FOLDER);
        if !folder.exists() {
            return Ok(());
        }
        Slots::open(&mut Pins(pins))?.clear()?;
        load::unpin(&folder, &CANDIDATE_PINS)?;
        fs::remove_dir(&folder).with_context(|| format!("remove {}", folder.display()))
    }
}

/// Rows in which something was counted.
fn counted(rows: &Mmap<Would>) -> impl Iterator<Item = (u32, Would)> {
    let all = (0..rows.rows() as u32).filter_map(|row| rows.read(row).map(|would| (row, would)));
    all.filter(|(_, would)| *would != Would::default())
}

/// From where the enforced policy's programs call a candidate.
struct Slots {
    entering: ProgramArray<MapData>,
    leaving: ProgramArray<MapData>,
}

impl Slots {
    fn open(source: &mut impl Source) -> Result<Self> {
        let mut slots = |name| {
            ProgramArray::try_from(Map::ProgramArray(source.open(name)?))
                .with_context(|| format!("open the map {name}"))
        };
        Ok(Self { entering: slots(map::CANDIDATES)?, leaving: slots(map::LEAVING)? })
    }

    fn clear(&mut self) -> Result<()> {
        let entering = ENTERING.iter().map(|slot| self.entering.clear_index(slot));
        let cleared = entering.chain(LEAVING.iter().map(|slot| self.leaving.clear_index(slot)));
        for result in cleared {
            match result {
                Err(error) if !maps::is_absent(&error) && !is_empty_slot(&error) => {
                    return Err(error).context("call the candidate no more");
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
}

/// What the kernel says of a slot where nothing is.
fn is_empty_slot(error: &aya::maps::MapError) -> bool {
    let aya::maps::MapError::SyscallError(call) = error else { return false };
    call.io_error.raw_os_error() == Some(libc::ENOENT)
}

/// A candidate's maps: its own below its folder, the enforced policy's where they are.
struct Pins<'a>(&'a Path);

impl Source for Pins<'_> {
    fn open(&mut self, name: &str) -> Result<MapData> {
        let own = CANDIDATE_PINS.contains(&name);
        let path = if own { self.0.join(FOLDER).join(name) } else { self.0.join(name) };
        MapData::from_pin(path).with_context(|| format!("open the map {name}"))
    }
}
