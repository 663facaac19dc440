//! The whole path: live frames out of one end of a veth pair, and what becomes of them at the other.

use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::{Context as _, Result, bail};
use bulkhead::tables::{Image, Tables};
use bulkhead_common::abi::value::NETWORK_FORWARDS;
use bulkhead_common::abi::{Leg, SubinterfaceKey};
use tests::kernel::Kernel;
use tests::netns::mac;

use super::bytecode::Shuffle;
use super::fleet::{self, FIRST, STRANGER, Sample};
use super::lab::{self, Lab, ROUTER_MAC};
use super::options::{Options, Size};
use super::peers::Peer;
use super::program::{Link, Program, Run, XDP_DROP, XDP_PASS};
use super::table::Table;

/// Frames of one sample, and at least so many for each device.
const FRAMES: u32 = 300_000;

/// How often a sample is taken until no frame is lost.
const TRIES: u32 = 5;

/// Sends frames of many devices.
struct Generator {
    lab: Lab,
    program: Program,
    sample: Sample,
    frames: u32,
}

impl Generator {
    /// `base` is the first device's address.
    fn new(lab: Lab, size: Size, base: u32) -> Result<Self> {
        let sample = fleet::routed(base);
        let shuffle = Shuffle { bits: size.bits, at: sample.source_at, base, lap: None };
        let program = Program::sending(shuffle, &sample.frame, lab.out)?;
        Ok(Self { lab, program, sample, frames: FRAMES.max(size.devices()) })
    }

    /// Nanoseconds a frame; `counted` is the interface that must have received them all. Where another thread of the CPU took
    /// over what the frames cause, some found no room: that tells nothing, and they are sent again.
    fn send(&self, counted: &str) -> Result<f64> {
        let mut lost = 0;
        for _ in 0..TRIES {
            let before = lab::received(counted)?;
            let frame = &self.sample.frame;
            let took = self.program.run(Run { frame, times: self.frames, live: Some(self.lab.out) })?;
            // Neighbour discovery of the interfaces themselves may add to them; lost ones would make it look fast.
            lost = u64::from(self.frames).saturating_sub(lab::received(counted)? - before);
            if lost == 0 {
                return Ok(took);
            }
        }
        bail!("{lost} of {} frames did not reach {counted}, and some each time before", self.frames)
    }
}

/// Frames of unknown devices, dropped where they enter.
pub(crate) fn dropped(lab: Lab, options: &Options, table: &mut Table) -> Result<()> {
    for size in options.dropped {
        let peers =
            prepare(&[Peer::XdpFilter, Peer::NftNetdev, Peer::NftConntrack, Peer::Ipset], *size, table);
        let generator = Generator::new(lab, *size, STRANGER)?;
        let (_kernel, bulkhead) = bulkhead(lab, *size)?;
        let bare = Program::answering(XDP_DROP)?;
        for _ in 0..options.rounds {
            for (name, program) in [("bare XDP_DROP", bare.fd()), ("Bulkhead", bulkhead.as_fd())] {
                let _link = Link::xdp(program, lab.into)?;
                table.sample(name, *size, || generator.send("into"))?;
            }
            against(&peers, *size, table, || generator.send("into"))?;
        }
        clear(&peers)?;
    }
    Ok(())
}

/// Frames of known devices on flows that exist, forwarded by the kernel, or by XDP past it.
pub(crate) fn forwarded(lab: Lab, options: &Options, table: &mut Table) -> Result<()> {
    for size in options.forwarded {
        let peers = prepare(&[Peer::NftConntrack, Peer::Ipset], *size, table);
        let generator = Generator::new(lab, *size, FIRST)?;
        let (_kernel, bulkhead) = bulkhead(lab, *size)?;
        let (_fast_kernel, fast) = fast(lab, *size)?;
        // Without a program of its own a veth takes no frames from XDP.
        let end = Program::answering(XDP_DROP)?;
        for program in [&bulkhead, &fast] {
            let _links = (Link::xdp(end.fd(), lab.sink)?, Link::xdp(program.as_fd(), lab.into)?);
            generator.send("sink").context("open the flows")?;
        }
        let pass = Program::answering(XDP_PASS)?;
        for _ in 0..options.rounds {
            table.sample("no firewall", *size, || generator.send("sink"))?;
            let link = Link::xdp(pass.fd(), lab.into)?;
            table.sample("bare XDP_PASS", *size, || generator.send("sink"))?;
            drop(link);
            let link = Link::xdp(bulkhead.as_fd(), lab.into)?;
            table.sample("Bulkhead", *size, || generator.send("sink"))?;
            drop(link);
            if table.wants(FAST) {
                let _links = (Link::xdp(end.fd(), lab.sink)?, Link::xdp(fast.as_fd(), lab.into)?);
                table.sample(FAST, *size, || generator.send("sink"))?;
            }
            against(&peers, *size, table, || generator.send("sink"))?;
        }
        clear(&peers)?;
    }
    Ok(())
}

/// The row of what `forwarding: xdp` does.
const FAST: &str = "Bulkhead, forwarding: xdp";

/// The product's program and tables for so many devices.
fn bulkhead(lab: Lab, size: Size) -> Result<(Kernel, OwnedFd)> {
    let devices = size.devices();
    judging(lab, devices, &fleet::tables(devices, lab.into))
}

/// The same where their network asks for forwarding by XDP, and the way is open.
fn fast(lab: Lab, size: Size) -> Result<(Kernel, OwnedFd)> {
    let devices = size.devices();
    let mut tables = fleet::tables(devices, lab.into);
    tables.networks.values_mut().for_each(|network| network.flags |= NETWORK_FORWARDS);
    let (mut kernel, fd) = judging(lab, devices, &tables)?;
    let leg = |ifindex, mac| Leg { ifindex, port: ifindex, mac, ..Leg::default() };
    kernel.forward_by(&[
        (SubinterfaceKey::entry(lab.into, 0, 0), leg(lab.into, ROUTER_MAC)),
        (SubinterfaceKey::exit(lab.core), leg(lab.core, mac("core")?)),
    ])?;
    Ok((kernel, fd))
}

fn judging(lab: Lab, devices: u32, tables: &Tables) -> Result<(Kernel, OwnedFd)> {
    let mut kernel = Kernel::load_attached(devices)?;
    kernel.count_on(lab.into)?;
    kernel.fill(Image::new(tables).layout())?;
    let fd = kernel.program_fd()?;
    Ok((kernel, fd))
}

/// Those that are wanted and can be had; the others are named.
fn prepare(peers: &[Peer], size: Size, table: &Table) -> Vec<Peer> {
    let wanted = peers.iter().copied().filter(|peer| table.wants(peer.name()));
    wanted
        .filter(|peer| match peer.prepare(size.devices()) {
            Ok(()) => true,
            Err(error) => {
                eprintln!("{} is not measured with {} devices: {error:#}", peer.name(), size.name);
                false
            }
        })
        .collect()
}

fn against(peers: &[Peer], size: Size, table: &mut Table, send: impl Fn() -> Result<f64>) -> Result<()> {
    peers.iter().try_for_each(|peer| {
        // Twice: connections are made by the first time.
        let took = peer.while_hooked(size.devices(), || send().and_then(|_| send()));
        table.add(peer.name(), size, took.with_context(|| peer.name())?);
        Ok(())
    })
}

fn clear(peers: &[Peer]) -> Result<()> {
    peers.iter().try_for_each(|peer| peer.clear())
}
