//! What a packet is wrapped in, and how many buffers it lies in, changes no verdict.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use bulkhead::tables::Image;
use bulkhead_common::abi::{Epoch, Flow, FlowKey};
use bulkhead_common::case::{Arrival, Case, LinkType};
use bulkhead_common::decide::Tables as _;
use bulkhead_common::verdict::{DropReason, Verdict};
use tests::compare::hex;
use tests::frame::eth;
use tests::generate::{Random, Traffic, World, seed};
use tests::kernel::{Kernel, SHORTEST, XDP_DROP, XDP_PASS, privilege};
use tests::small;

use super::{FRAMES, ROOM, geometry};

pub(super) const ETHERNET: usize = 14;
/// What fits into the first buffer of `BPF_PROG_TEST_RUN`.
const FIRST_BUFFER: usize = 3520;

#[test]
fn a_packet_without_its_ethernet_header_has_the_same_verdict() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let mut kernel = Kernel::load(ROOM)?;
    let mut random = Random::new(seed(7));
    let mut compared = 0;
    for _ in 0..20 {
        // Limits count whole frames, and these are not equally long.
        let world = World::draw(&mut random).unlimited();
        // There is no MAC address to be bound to.
        let mut tables = world.compiled.tables.clone();
        tables.devices.values_mut().for_each(|device| device.flags = 0);
        let wrapped = Image::new(&tables).with_flows(geometry(ROOM));
        let bare = Image::new(&tables).with_flows(geometry(ROOM));
        kernel.fill(bare.layout())?;
        let traffic =
            Traffic::new(&world, random.next()).filter(|shot| is_plain_ip(&shot.bytes) && !shot.from_host);
        for shot in traffic.take(FRAMES / 2) {
            wrapped.set_now(shot.now, shot.boot());
            bare.set_now(shot.now, shot.boot());
            let (expected, _) = wrapped.judge(&shot.bytes, shot.ifindex);
            let verdict = judge_bare(&bare, &shot.bytes[ETHERNET..], shot.ifindex);
            let wrong = || format!("{}: {expected:?} wrapped, {verdict:?} bare", hex(&shot.bytes));
            ensure!(verdict == expected, wrong());
            kernel.enter_by(LinkType::RawIp, shot.ifindex, shot.now, shot.boot())?;
            let answer = kernel.runner()?.run(&shot.bytes[ETHERNET..])?;
            ensure!(answer == if expected.passes() { XDP_PASS } else { XDP_DROP }, wrong());
            compared += 1;
        }
        ensure!(flows(&bare) == flows(&wrapped), "the flows differ:\n{}", world.text);
    }
    ensure!(compared > 4_000, "only {compared} packets were plain IP");
    Ok(())
}

#[test]
fn headers_behind_the_first_buffer_are_read_and_the_whole_frame_is_counted() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let mut kernel = Kernel::load(ROOM)?;
    let image = Image::new(&small::tables(&[(11, bulkhead_common::abi::value::ROLE_ACCESS)], &[]));
    kernel.fill(image.layout())?;
    let (from, to) = ("2001:db8::1".parse()?, "2001:db8::2".parse()?);
    let options = [0u8; 2046];
    let start = || eth().ipv6(from, to).extension(60, &options).extension(60, &options);
    let whole = start().udp(1234, 7777).payload(&[0; 900]).build();
    let cut = start().protocol(17).payload(&[1, 2, 3, 4]).build();
    for (frame, ports) in [(&whole, (1234, 7777)), (&cut, (0, 0))] {
        ensure!(frame.len() > FIRST_BUFFER + SHORTEST, "{} bytes lie in one buffer", frame.len());
        let (verdict, _) = image.judge(frame, 11);
        kernel.enter(11, 1, 1)?;
        ensure!(kernel.runner()?.run(frame)? == XDP_DROP);
        let event = kernel.events().pop().context("nothing was told")?;
        ensure!(
            event.verdict == verdict.code(),
            "host {verdict:?}, kernel {:?}",
            Verdict::from_code(event.verdict)
        );
        ensure!((event.source_port, event.destination_port) == ports, "{event:?}");
        ensure!(event.length as usize == frame.len(), "{} of {} bytes", event.length, frame.len());
    }
    let dropped = kernel.counters(0)?.of(Verdict::Drop(DropReason::MalformedUdp));
    ensure!((dropped.packets, dropped.bytes) == (1, cut.len() as u64), "{dropped:?}");
    Ok(())
}

/// Every flow without its bytes: a header more is a header more.
fn flows(image: &Image) -> BTreeMap<FlowKey, Flow> {
    let without = |flow: Flow| Flow { sent: [flow.sent[0], 0], received: [flow.received[0], 0], ..flow };
    image.flows().into_iter().map(|flow| (flow.key, without(flow))).collect()
}

/// True for an untagged IP packet whose version is what the Ethernet header says.
pub(super) fn is_plain_ip(frame: &[u8]) -> bool {
    let version = match frame.get(12..14) {
        Some([0x08, 0x00]) => 4,
        Some([0x86, 0xdd]) => 6,
        Some(_) | None => return false,
    };
    frame.len() >= ETHERNET + SHORTEST && frame[ETHERNET] >> 4 == version
}

fn judge_bare(image: &Image, packet: &[u8], ifindex: u32) -> Verdict {
    let length = u32::try_from(packet.len()).unwrap_or(u32::MAX);
    let epoch: Epoch = image.epoch();
    let mut case = Case::new(epoch, Arrival::of(ifindex, LinkType::RawIp, length));
    bulkhead_common::judge(packet, image, &mut case)
}
