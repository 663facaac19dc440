//! What the rest of the agent may ask of the kernel.
//!
//! Program, maps and links live below one pin directory and outlive the agent. Opening the datapath
//! adopts what lies there only if it fits; attaching adopts a pinned link by swapping its program;
//! dropping a [`Datapath`] leaves everything enforcing.

mod addresses;
mod candidate;
mod capability;
mod counters;
mod ended;
mod ethtool;
mod feature;
mod flows;
mod grace;
mod isolated;
mod kind;
mod legs;
mod link;
mod load;
mod maps;
mod mmap;
mod offload;
mod pod;
mod programs;
mod rows;
mod syscall;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use aya::maps::{MapData, RingBuf};
use aya::programs::links::FdLink;
use bulkhead_common::abi::counter::{Counters, EventCounters};
use bulkhead_common::abi::{Epoch, Flow, RuleId};
use bulkhead_common::case::LinkType;

pub use addresses::AddressRows;
pub use candidate::Candidate;
pub use capability::require_capabilities;
pub use counters::PointCounters;
use ended::Ended;
pub use feature::{has_frags, require_features, require_tcx};
pub use flows::{FlowRows, Row};
pub use grace::wait_for_packets;
pub use isolated::{Entry, Isolated, SHORTEST, SHOWN};
pub use kind::link_type;
pub use legs::Legs;
pub use link::{Attachment, Mode};
pub use load::{
    CANDIDATE, CANDIDATE_PINS, EGRESS_PROGRAM, FRAGS, LEAVE_PLAIN_PROGRAM, LEAVE_PROGRAM, LINK_TYPE, OBJECT,
    PINNED, PLAIN_PROGRAM, PROGRAM, SHORT_PLAIN_PROGRAM, SHORT_PROGRAM, SWEEP_PROGRAM, load_around,
    short_program, start_sweep, xdp_program,
};
pub use maps::Maps;
pub use offload::keep_vlan_tags;
pub use programs::Hook;

use crate::reconcile::Rows as _;
use crate::tables::Capacities;
use maps::Pinned;
use programs::Programs;

/// The kernel side of one agent.
pub struct Datapath {
    pins: PathBuf,
    programs: Programs,
    maps: Maps,
    ended: Ended,
    /// Links that this agent holds, by [`Attachment::point`].
    links: BTreeMap<u32, (FdLink, Attachment)>,
}

impl Datapath {
    /// Loads the program over the maps pinned below `pins`, creating what is missing.
    ///
    /// # Errors
    /// No bpffs there, a map of another layout, a program that the kernel refuses.
    pub fn open(pins: &Path, sizes: &Capacities) -> Result<Self> {
        make_folder(&pins.join("links"))?;
        let mut programs = Programs::load(pins, sizes)?;
        let maps = Maps::open(&mut Pinned(pins))?;
        programs.start_sweep()?;
        let ended = Ended::from_now_on(&maps.flows);
        Ok(Self { pins: pins.to_owned(), programs, maps, ended, links: BTreeMap::new() })
    }

    /// True if an agent left links below `pins`.
    pub fn present(pins: &Path) -> bool {
        link::pinned(pins).is_ok_and(|links| !links.is_empty())
    }

    /// Attaches to an interface, or takes over the link that is pinned for it.
    ///
    /// A pinned link keeps its mode: to change it would leave the interface open in between.
    ///
    /// # Errors
    /// What stands in the way, and what to do about it.
    pub fn attach(&mut self, interface: &str, ifindex: u32, hook: Hook) -> Result<Attachment> {
        // Before a link is let go of to be pinned: a pin that fails takes the link with it.
        make_folder(&self.pins.join("links"))?;
        self.drop_defunct()?;
        let point = hook.mode.point(ifindex);
        self.maps.counters.count_on(point)?;
        let pinned = link::pinned(&self.pins)?.into_iter().find(|(_, a)| a.point() == point);
        let (link, attachment) = match (pinned, self.links.remove(&point)) {
            // Somebody removed the pin; the link lives by our descriptor and is pinned again.
            (None, Some((link, attachment))) => (link::pin(link, &self.pins, &attachment)?, attachment),
            (Some((_, attachment)), Some((link, _))) => (link, attachment),
            (Some((path, attachment)), None) => (self.adopt(&path, &attachment, hook.link)?, attachment),
            (None, None) => self.attach_first(interface, ifindex, hook)?,
        };
        self.links.insert(point, (link, attachment.clone()));
        Ok(attachment)
    }

    /// Attaches the program where it is not, and pins the link.
    fn attach_first(&mut self, interface: &str, ifindex: u32, hook: Hook) -> Result<(FdLink, Attachment)> {
        let wanted = Attachment { interface: interface.to_owned(), ifindex, mode: hook.mode, defunct: false };
        let act = || format!("attach the program to {interface} ({})", hook.mode.as_str());
        let link = self.programs.attach(interface, ifindex, hook).with_context(act)?;
        let link = link::pin(link, &self.pins, &wanted).with_context(act)?;
        Ok((link, wanted))
    }

    /// Takes over a pinned link and swaps its program in one step.
    fn adopt(&mut self, path: &Path, pinned: &Attachment, link: LinkType) -> Result<FdLink> {
        let act = || format!("take over the pinned link of {} at {}", pinned.interface, path.display());
        let hook = Hook { link, mode: pinned.mode };
        self.programs.replace(link::pinned_link(path).with_context(act)?, hook).with_context(act)
    }

    /// True if this agent's program runs at a point of an interface, held by a pin.
    pub fn is_attached(&self, point: u32) -> bool {
        let pinned = || link::pinned(&self.pins).unwrap_or_default();
        self.links.contains_key(&point) && pinned().iter().any(|(_, a)| a.point() == point && !a.defunct)
    }

    /// How the program that this agent holds is hooked in at a point.
    pub fn mode(&self, point: u32) -> Option<Mode> {
        self.links.get(&point).map(|(_, attachment)| attachment.mode)
    }

    /// Every pinned link.
    ///
    /// # Errors
    /// The pin directory cannot be read.
    pub fn attachments(&self) -> Result<Vec<Attachment>> {
        attachments(&self.pins)
    }

    /// Removes the link at one point.
    ///
    /// # Errors
    /// The pin cannot be removed.
    pub fn detach_point(&mut self, point: u32) -> Result<()> {
        for (path, attachment) in link::pinned(&self.pins)? {
            if attachment.point() == point {
                link::unpin(&path)?;
            }
        }
        // The descriptor goes too: a link without pin and descriptor is gone.
        self.links.remove(&point);
        Ok(())
    }

    /// Removes every link and then every map below `pins`; names the interfaces that nothing guards now.
    ///
    /// # Errors
    /// What could not be removed; what was removed before stays removed.
    pub fn detach(pins: &Path) -> Result<Vec<Attachment>> {
        let links = link::pinned(pins)?;
        for (path, _) in &links {
            link::detach(path)?;
        }
        Candidate::remove(pins)?;
        load::unpin(pins, &PINNED)?;
        for folder in [pins.join("links"), pins.to_owned()] {
            if folder.exists() {
                fs::remove_dir(&folder).with_context(|| format!("remove {}", folder.display()))?;
            }
        }
        Ok(links.into_iter().map(|(_, attachment)| attachment).collect())
    }

    /// Loads a candidate beside what is enforced, or takes over the one that is pinned.
    ///
    /// # Errors
    /// As [`Self::open`], and no memory for a second set of tables.
    pub fn candidate(&self, rules: u32) -> Result<Candidate> {
        Candidate::open(&self.pins, self.programs.sizes(), rules)
    }

    /// Loads copies of a candidate for every hook that there is.
    ///
    /// # Errors
    /// A program that the kernel refuses.
    pub fn covered_by(&self, candidate: &mut Candidate) -> Result<()> {
        candidate.cover(self.programs.variants())
    }

    /// Removes the candidate that is pinned, if there is one.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn remove_candidate(&self) -> Result<()> {
        Candidate::remove(&self.pins)
    }

    /// The generation in force.
    pub fn epoch(&self) -> Epoch {
        self.maps.epoch()
    }

    /// Counters by [`Attachment::point`], summed over the CPUs; 0 counts for interfaces without an entry.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn counters(&self) -> Result<BTreeMap<u32, Counters>> {
        self.maps.counters.all()
    }

    /// What became of event records.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn event_counters(&self) -> Result<EventCounters> {
        self.maps.event_counters()
    }

    /// Every flow, dead ones too.
    pub fn flows(&self) -> Vec<Flow> {
        self.maps.flows.all()
    }

    /// Every flow of some rules whose words are there: those too whose places were given up and not taken since.
    pub fn remembered_flows(&self, rules: &BTreeSet<RuleId>) -> Vec<Flow> {
        self.maps.flows.remembered(rules)
    }

    /// How many flows there is room for.
    pub const fn flow_capacity(&self) -> u32 {
        self.maps.flows.capacity()
    }

    /// Last words of flows that have died since the last call; the kernel gives up their places.
    pub fn ended_flows(&mut self, now_ns: u64) -> Vec<Flow> {
        self.ended.since(&self.maps.flows, now_ns)
    }

    /// Makes packets of networks with `forwarding: xdp` enter and leave by these interfaces past the kernel's stack;
    /// false if they do already.
    ///
    /// # Errors
    /// The maps cannot be written.
    pub fn forward_by(&mut self, legs: &Legs) -> Result<bool> {
        self.maps.legs.publish(legs)
    }

    /// The tables, row by row.
    pub fn rows(&mut self) -> &mut Maps {
        &mut self.maps
    }

    /// The ring of events; one reader at a time.
    ///
    /// # Errors
    /// The map cannot be opened.
    pub fn events(&self) -> Result<EventRing> {
        Ok(EventRing(maps::ring(&mut Pinned(&self.pins))?))
    }

    /// The clock of flows and events: monotonic, coarse, in nanoseconds.
    pub fn now_ns() -> u64 {
        let clock = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC_COARSE);
        clock.map_or(0, |now| now.tv_sec().cast_unsigned() * 1_000_000_000 + now.tv_nsec().cast_unsigned())
    }

    /// The clock that goes on while the host sleeps, in nanoseconds: quarantine and windows end by it.
    pub fn boot_ns() -> u64 {
        let clock = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
        clock.map_or(0, |now| now.tv_sec().cast_unsigned() * 1_000_000_000 + now.tv_nsec().cast_unsigned())
    }

    /// Removes pins of links whose interface is gone: a new interface of that number could not be pinned.
    ///
    /// Their counters go too. An interface that comes and goes has a new number each time, and the table
    /// of counters, once full, would let no new one be guarded.
    fn drop_defunct(&mut self) -> Result<()> {
        for (path, attachment) in link::pinned(&self.pins)? {
            if attachment.defunct {
                link::unpin(&path)?;
                self.links.remove(&attachment.point());
                self.maps.counters.forget(attachment.point());
            }
        }
        Ok(())
    }
}

/// Every link pinned below `pins`, whether or not an agent runs.
///
/// # Errors
/// The pin directory cannot be read.
pub fn attachments(pins: &Path) -> Result<Vec<Attachment>> {
    Ok(link::pinned(pins)?.into_iter().map(|(_, attachment)| attachment).collect())
}

/// The ring of events.
pub struct EventRing(RingBuf<MapData>);

impl EventRing {
    /// Hands over every record that lies in the ring.
    pub fn drain(&mut self, mut each: impl FnMut(&[u8])) {
        while let Some(item) = self.0.next() {
            each(&item);
        }
    }
}

/// Makes the pin directory, readable by root alone, and makes sure that it is on a bpffs.
fn make_folder(folder: &Path) -> Result<()> {
    let created = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    let hint = if folder.to_string_lossy().contains('.') {
        " (the BPF file system refuses names with a dot)"
    } else {
        ""
    };
    created.with_context(|| format!("create the pin directory {}{hint}", folder.display()))?;
    let kind = nix::sys::statfs::statfs(folder).with_context(|| format!("look at {}", folder.display()))?;
    if kind.filesystem_type() != nix::sys::statfs::BPF_FS_MAGIC {
        bail!(
            "{} is not on a BPF file system, so nothing pinned there would outlive the agent: mount one with \
             `mount -t bpf bpf /sys/fs/bpf`",
            folder.display()
        );
    }
    Ok(())
}
