//! Copies of the program: one for each kind of hook and of frame, loaded when it is first needed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::xdp::XdpLink;
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode};
use bulkhead_common::case::LinkType;

use super::feature::require_tcx;
use super::link::Mode;
use super::load::{self, EGRESS_PROGRAM};
use crate::tables::Capacities;

/// What an interface is and how the program is to be hooked in there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hook {
    /// What frames begin with.
    pub link: LinkType,
    /// How.
    pub mode: Mode,
}

impl Hook {
    /// In the driver of an Ethernet interface.
    pub const NATIVE: Self = Self { link: LinkType::Ethernet, mode: Mode::Native };

    pub(super) const fn variant(self) -> Variant {
        match self.mode {
            Mode::Native | Mode::Generic => Variant::Ingress(self.link),
            Mode::Tcx => Variant::Egress,
        }
    }
}

/// A copy of the program.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Variant {
    /// XDP, for frames that begin like this.
    Ingress(LinkType),
    /// tcx egress of devices without Ethernet header.
    Egress,
}

impl Variant {
    /// True if a program of its own takes the short way in front of it.
    pub(super) const fn has_short_way(self) -> bool {
        matches!(self, Self::Ingress(LinkType::Ethernet))
    }

    /// What its frames begin with.
    pub(super) const fn link(self) -> LinkType {
        match self {
            Self::Ingress(link) => link,
            Self::Egress => LinkType::RawIp,
        }
    }
}

/// The copies that are loaded, all over the same pinned maps.
pub(super) struct Programs {
    pins: PathBuf,
    sizes: Capacities,
    loaded: BTreeMap<Variant, Ebpf>,
}

impl Programs {
    /// Loads the copy that every host needs first, and creates the maps with it.
    pub(super) fn load(pins: &Path, sizes: &Capacities) -> Result<Self> {
        let mut programs = Self { pins: pins.to_owned(), sizes: *sizes, loaded: BTreeMap::new() };
        programs.copy(Variant::Ingress(LinkType::Ethernet))?;
        Ok(programs)
    }

    /// Starts the sweep of dead flows, or takes it over from another agent; the table must have its geometry.
    pub(super) fn start_sweep(&mut self) -> Result<()> {
        load::start_sweep(self.copy(Variant::Ingress(LinkType::Ethernet))?)
    }

    /// The copies that were needed so far.
    pub(super) fn variants(&self) -> impl Iterator<Item = Variant> {
        self.loaded.keys().copied()
    }

    /// How large the tables are that a copy makes.
    pub(super) const fn sizes(&self) -> &Capacities {
        &self.sizes
    }

    fn copy(&mut self, variant: Variant) -> Result<&mut Ebpf> {
        if !self.loaded.contains_key(&variant) {
            self.loaded.insert(variant, load::load(&self.pins, &self.sizes, variant)?);
        }
        self.loaded.get_mut(&variant).context("a program that was just loaded is gone")
    }

    /// Hooks the program in on an interface that has no link of ours.
    pub(super) fn attach(&mut self, interface: &str, ifindex: u32, hook: Hook) -> Result<FdLink> {
        let link = match hook.mode {
            Mode::Native => self.attach_xdp(ifindex, hook, XdpMode::Driver),
            Mode::Generic => self.attach_xdp(ifindex, hook, XdpMode::Skb),
            Mode::Tcx => return self.attach_tcx(interface, hook),
        };
        link.map_err(|error| explain(error, interface))
    }

    fn attach_xdp(&mut self, ifindex: u32, hook: Hook, mode: XdpMode) -> Result<FdLink> {
        let program = entered(self.copy(hook.variant())?, hook.variant())?;
        let id = program.attach_to_if_index(ifindex, mode)?;
        let link = program.take_link(id)?;
        // aya falls back to a netlink attachment, which dies with the agent: worse than none that looks like one.
        FdLink::try_from(link).map_err(|_| anyhow!("the kernel offers no BPF link for it"))
    }

    fn attach_tcx(&mut self, interface: &str, hook: Hook) -> Result<FdLink> {
        ensure!(
            hook.link == LinkType::RawIp,
            "`downlink: egress` works on devices without an Ethernet header (TUN, WireGuard): judge downlink of \
             {interface} on a core interface"
        );
        require_tcx()?;
        let program = classifier(self.copy(hook.variant())?)?;
        let options = TcAttachOptions::TcxOrder(LinkOrder::default());
        let id = program.attach_with_options(interface, TcAttachType::Egress, options)?;
        let link = program.take_link(id)?;
        FdLink::try_from(link).map_err(|_| anyhow!("the kernel offers no BPF link for it"))
    }

    /// Swaps the program of a link in one step.
    pub(super) fn replace(&mut self, link: FdLink, hook: Hook) -> Result<FdLink> {
        let copy = self.copy(hook.variant())?;
        match hook.mode {
            Mode::Native | Mode::Generic => {
                let program = entered(copy, hook.variant())?;
                let id = program.attach_to_link(XdpLink::try_from(link)?)?;
                Ok(FdLink::try_from(program.take_link(id)?)?)
            }
            Mode::Tcx => {
                let program = classifier(copy)?;
                let id = program.attach_to_link(SchedClassifierLink::try_from(link)?)?;
                Ok(FdLink::try_from(program.take_link(id)?)?)
            }
        }
    }
}

/// The program that judges what enters.
pub(super) fn xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp> {
    named(ebpf, load::xdp_program())
}

/// The program by which packets enter a copy.
fn entered(ebpf: &mut Ebpf, variant: Variant) -> Result<&mut Xdp> {
    named(ebpf, if variant.has_short_way() { load::short_program() } else { load::xdp_program() })
}

/// An XDP program of the object.
pub(super) fn named<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut Xdp> {
    let program = ebpf.program_mut(name).with_context(|| format!("the object holds no program {name}"))?;
    program.try_into().with_context(|| format!("{name} is not an XDP program"))
}

pub(super) fn classifier(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier> {
    let program = ebpf.program_mut(EGRESS_PROGRAM).context("the object holds no program for egress")?;
    program.try_into().context("the program for egress is not a classifier")
}

/// What the kernel's refusal means.
fn explain(error: anyhow::Error, interface: &str) -> anyhow::Error {
    match error.downcast_ref::<ProgramError>().and_then(code) {
        Some(libc::EBUSY | libc::EEXIST) => anyhow!(
            "another XDP program is attached there (see `ip -d link show dev {interface}`); Bulkhead never replaces a \
             program that is not its own: detach it first"
        ),
        Some(libc::EOPNOTSUPP) => anyhow!(
            "the driver of {interface} has no native XDP: write attachMode: generic for it in agent.yaml, which is \
             slower, and restart"
        ),
        Some(libc::ERANGE | libc::EINVAL) => anyhow!(
            "the MTU of {interface} is too large for native XDP with this driver: lower it, or write attachMode: \
             generic for it in agent.yaml, which is slower, and restart"
        ),
        Some(libc::EPERM) => anyhow!("not permitted: it takes CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"),
        _ => error,
    }
}

fn code(error: &ProgramError) -> Option<i32> {
    if let ProgramError::SyscallError(call) = error { call.io_error.raw_os_error() } else { None }
}
