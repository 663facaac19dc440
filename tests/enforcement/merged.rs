//! Generic mode sits behind the driver: what the sender's stack, or the driver, has merged comes as one frame.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use bulkhead::datapath::{Hook, Mode};
use bulkhead::tables::Tables;
use bulkhead_common::abi::value::ROLE_ACCESS;
use bulkhead_common::case::LinkType;
use bulkhead_common::verdict::{DropReason, Pass, Verdict};
use tests::command::ip;
use tests::frame::{ACK, eth};
use tests::merged::{Merger, header};
use tests::netns::Injector;
use tests::small;
use tests::tun::Tun;

use crate::core::{Core, DEVICE};

const MTU: usize = 1500;
/// What one segment carries, and what many do that are one packet.
const SEGMENT: u16 = 1400;
const MERGED: usize = 40 * SEGMENT as usize;
const OPEN: u16 = 5000;
const ETHERNET: usize = 14;

/// The device may reach one TCP port by this interface.
fn tables(ifindex: u32) -> Tables {
    let mut tables = small::tables(&[(ifindex, ROLE_ACCESS)], &[(DEVICE, OPEN)]);
    for rules in tables.profiles.values_mut() {
        let ports = Arc::make_mut(rules).outbound.iter_mut().flat_map(|remote| &mut remote.ports);
        ports.for_each(|port| port.protocol = 6);
    }
    tables
}

fn tcp(device: u8, port: u16, length: usize) -> Vec<u8> {
    let frame = eth().ip(small::address(device), small::REMOTE).tcp(40_000, port).flags(ACK);
    frame.payload(&vec![0x5a; length]).build()
}

/// Attaches generically to an interface in the core, and puts its tables in force.
fn guard(core: &mut Core, interface: &str, link: LinkType) -> Result<()> {
    let ifindex = core.ifindex(interface)?;
    let lab = Arc::clone(&core.lab);
    let (datapath, _) = core.datapath.as_mut().context("no agent")?;
    let hook = Hook { link, mode: Mode::Generic };
    lab.namespace("core")?.run(|| datapath.attach(interface, ifindex, hook))??;
    core.apply(&tables(ifindex))
}

/// Sends merged segments and single ones of the same conversations: they are judged alike, and each is counted whole.
fn judged_alike(
    core: &Core,
    interface: &str,
    send: impl Fn(&[u8]) -> Result<()>,
    before: usize,
) -> Result<()> {
    const NOBODY: u8 = 200;
    let no_rule = Verdict::Drop(DropReason::NoRule);
    for (device, port, length, verdict) in [
        (DEVICE, OPEN + 1, MERGED, no_rule),
        (DEVICE, OPEN + 1, SEGMENT.into(), no_rule),
        (NOBODY, OPEN, MERGED, Verdict::Drop(DropReason::UnknownDevice)),
        (DEVICE, OPEN, MERGED, Verdict::Pass(Pass::Opened)),
        (DEVICE, OPEN, SEGMENT.into(), Verdict::Pass(Pass::Established)),
        (DEVICE, OPEN, MERGED, Verdict::Pass(Pass::Established)),
    ] {
        let frame = tcp(device, port, length);
        let counted = core.counters(interface)?.of(verdict);
        core.expect_of(interface, || send(&frame), verdict)?;
        let now = core.counters(interface)?.of(verdict);
        let (packets, bytes) = (now.packets - counted.packets, now.bytes - counted.bytes);
        let wanted = (frame.len() - before) as u64;
        ensure!(
            (packets, bytes) == (1, wanted),
            "{verdict:?}: {packets} packets of {bytes} bytes, not {wanted}"
        );
    }
    let sent = 2 * MERGED as u64 + u64::from(SEGMENT) + 3 * (40 + ETHERNET - before) as u64;
    let flows = core.datapath()?.flows();
    ensure!(flows.iter().any(|flow| flow.sent == [3, sent]), "not {sent} bytes in three packets: {flows:?}");
    Ok(())
}

#[test]
fn merged_segments_on_a_link_are_judged_as_single_ones_are() -> Result<()> {
    let Some(mut core) = Core::start()? else { return Ok(()) };
    core.lab.namespace("core")?.run(|| -> Result<()> {
        ip("link add gso0 type veth peer name gso1")?;
        ip("link set gso0 up")?;
        ip("link set gso1 up")
    })??;
    guard(&mut core, "gso0", LinkType::Ethernet)?;
    let peer = core.lab.namespace("core")?;
    let (one, many) = (Injector::open(peer, "gso1")?, Merger::open(peer, "gso1")?);
    let send = |frame: &[u8]| if frame.len() > MTU { many.send(frame, SEGMENT) } else { one.send(frame) };
    judged_alike(&core, "gso0", send, 0)
}

#[test]
fn merged_segments_that_a_packet_core_writes_are_judged_as_single_ones_are() -> Result<()> {
    let Some(mut core) = Core::start()? else { return Ok(()) };
    let tun = Tun::merging(core.lab.namespace("core")?, "ogstun")?;
    core.lab.namespace("core")?.run(|| ip("link set ogstun up"))??;
    guard(&mut core, "ogstun", LinkType::RawIp)?;
    let send = |frame: &[u8]| {
        let segment = if frame.len() > MTU { header(0, SEGMENT) } else { [0; 10] };
        tun.write(&[&segment, &frame[ETHERNET..]].concat())
    };
    judged_alike(&core, "ogstun", send, ETHERNET)
}

#[test]
fn a_jumbo_frame_is_judged_whole_in_generic_mode_too() -> Result<()> {
    const JUMBO: usize = 9000;
    let Some(mut core) = Core::start()? else { return Ok(()) };
    core.lab.namespace("core")?.run(|| -> Result<()> {
        ip("link add jumbo0 mtu 9000 type veth peer name jumbo1 mtu 9000")?;
        ip("link set jumbo0 up")?;
        ip("link set jumbo1 up")
    })??;
    guard(&mut core, "jumbo0", LinkType::Ethernet)?;
    let injector = Injector::open(core.lab.namespace("core")?, "jumbo1")?;
    for (port, verdict) in
        [(OPEN, Verdict::Pass(Pass::Opened)), (OPEN + 1, Verdict::Drop(DropReason::NoRule))]
    {
        let frame = tcp(DEVICE, port, JUMBO - 40);
        core.expect("jumbo0", &injector, &frame, verdict)?;
        let counted = core.counters("jumbo0")?.of(verdict);
        ensure!((counted.packets, counted.bytes) == (1, frame.len() as u64), "{verdict:?}: {counted:?}");
    }
    Ok(())
}
