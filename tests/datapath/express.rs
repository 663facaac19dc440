//! The loaded program takes the short way where it may: the stages of the whole one leave their case as it was.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use bulkhead::tables::Image;
use bulkhead_common::abi::counter::{EVENT_WINDOW_SHIFT, EVENTS_PER_BUCKET};
use bulkhead_common::verdict::{DropReason, Pass, Verdict};
use tests::cpu;
use tests::frame::{ACK, FIN, Frame, SYN, eth};
use tests::generate::World;
use tests::kernel::{Kernel, XDP_DROP, XDP_PASS, privilege};

use super::{ROOM, geometry};

#[path = "express/tunnels.rs"]
mod tunnels;

const ACC0: u32 = 11;
const CORE0: u32 = 21;
const DEVICE: [u8; 4] = [10, 45, 0, 17];
/// Of the pool, and nobody's.
const STRANGER: [u8; 4] = [10, 45, 0, 99];
const SERVER: [u8; 4] = [203, 0, 113, 10];
const SECOND: u64 = 1_000_000_000;

const POLICY: &str = r#"
apiVersion: bulkhead/v1
kind: Network
metadata: {name: acme}
spec: {seenOn: [{interface: acc0}, {interface: core0}], pools: [10.45.0.0/16]}
---
kind: Device
metadata: {name: charger}
spec: {network: acme, addresses: [10.45.0.17]}
---
kind: Policy
metadata: {name: ev}
spec:
  subject: {device: charger}
  allow:
    - {name: always, to: {cidrs: [203.0.113.10]}, ports: [udp/514, tcp/443]}
    - {name: once, to: {cidrs: [203.0.113.10]}, ports: [udp/515], notAfter: "2026-11-27T22:40:00Z"}
"#;

/// What a packet came to, and whether it took the short way.
#[derive(Debug, Eq, PartialEq)]
enum Way {
    Whole,
    Short,
    Dropped,
    DroppedShortly,
}

struct Host {
    kernel: Kernel,
    image: Image,
    now: u64,
    /// Why the image has dropped what it has.
    dropped: BTreeMap<DropReason, u64>,
}

impl Host {
    fn load() -> Result<Self> {
        Self::with(POLICY)
    }

    fn with(policy: &str) -> Result<Self> {
        // Cases are each CPU's own: what another one has left may look like what this packet leaves.
        cpu::stay()?;
        let mut kernel = Kernel::load(ROOM)?;
        let image = Image::new(&World::written(policy).compiled.tables).with_flows(geometry(ROOM));
        kernel.fill(image.layout())?;
        Ok(Self { kernel, image, now: SECOND, dropped: BTreeMap::new() })
    }

    /// Lets a packet enter behind one that is never plain, so that no case is left from one like it.
    fn way(&mut self, ifindex: u32, frame: Frame) -> Result<Way> {
        self.enters(ACC0, eth().ip(DEVICE, SERVER).echo_request(1, 1))?;
        let before = self.kernel.cases()?;
        let passes = self.enters(ifindex, frame)?;
        Ok(match (passes, before == self.kernel.cases()?) {
            (false, true) => Way::DroppedShortly,
            (false, false) => Way::Dropped,
            (true, true) => Way::Short,
            (true, false) => Way::Whole,
        })
    }

    /// Lets a packet enter here and in the image, where it goes the whole way; true if it passes.
    fn enters(&mut self, ifindex: u32, frame: Frame) -> Result<bool> {
        let bytes = frame.payload(b"?").build();
        self.image.set_now(self.now, self.now);
        self.kernel.enter(ifindex, self.now, self.now)?;
        let verdict = self.image.judge(&bytes, ifindex).0;
        if let Verdict::Drop(reason) = verdict {
            *self.dropped.entry(reason).or_default() += 1;
        }
        let passes = verdict.passes();
        let answer = self.kernel.runner()?.run(&bytes)?;
        ensure!(answer == if passes { XDP_PASS } else { XDP_DROP }, "XDP answers {answer}");
        Ok(passes)
    }

    fn sent(&mut self, frame: impl FnOnce(Frame) -> Frame) -> Result<Way> {
        self.way(ACC0, frame(eth().ip(DEVICE, SERVER)))
    }

    /// A packet from an address that no device has.
    fn strange(&mut self) -> Result<Way> {
        self.way(ACC0, eth().ip(STRANGER, SERVER).tcp(50_000, 443).flags(SYN))
    }

    fn received(&mut self, frame: impl FnOnce(Frame) -> Frame) -> Result<Way> {
        self.way(CORE0, frame(eth().ip(SERVER, DEVICE)))
    }

    /// Both ways must have left the same in the flows, and have dropped for the same reasons.
    fn leaves_the_same(&self) -> Result<()> {
        let counters = self.kernel.counters(0)?;
        let told = DropReason::ALL.iter().map(|reason| (*reason, counters.dropped[*reason as usize].packets));
        let told: BTreeMap<_, _> = told.filter(|(_, packets)| *packets != 0).collect();
        ensure!(told == self.dropped, "dropped for {told:?}, and not for {:?}", self.dropped);
        let wanted = self.image.flows().into_iter().map(|flow| (flow.key, flow)).collect();
        ensure!(self.kernel.flows() == wanted, "flows differ: {:#?}\nand {wanted:#?}", self.kernel.flows());
        Ok(())
    }
}

#[test]
fn a_flow_comes_to_the_short_way_and_leaves_it_when_something_is_to_be_decided() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let mut host = Host::load()?;
    let question = |frame: Frame| frame.udp(50_000, 514);
    let answer = |frame: Frame| frame.udp(514, 50_000);
    for wanted in [Way::Whole, Way::Whole, Way::Short, Way::Short] {
        ensure!(host.sent(question)? == wanted, "not {wanted:?}");
    }
    for wanted in [Way::Whole, Way::Short] {
        ensure!(host.received(answer)? == wanted, "not {wanted:?}");
    }
    let tcp = |flags| move |frame: Frame| frame.tcp(50_001, 443).flags(flags);
    for flags in [SYN, SYN] {
        ensure!(host.sent(tcp(flags))? == Way::Whole, "a SYN may change its flow");
    }
    ensure!(host.received(|frame| frame.tcp(443, 50_001).flags(SYN | ACK))? == Way::Whole);
    ensure!(host.sent(tcp(ACK))? == Way::Short, "an acknowledgement decides nothing");
    ensure!(host.way(CORE0, tcp(ACK)(eth().ip(DEVICE, SERVER)))? == Way::Dropped);
    ensure!(host.sent(tcp(FIN | ACK))? == Way::Whole, "a FIN changes its flow");
    host.leaves_the_same()
}

#[test]
fn first_packets_take_the_short_way_once_nobody_is_told_of_them() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let mut host = Host::load()?;
    for window in 1..=2 {
        host.now = window << EVENT_WINDOW_SHIFT;
        for number in 0..2 * EVENTS_PER_BUCKET as u16 {
            let port = 50_000 + 100 * window as u16 + number;
            let wanted = if u64::from(number) < EVENTS_PER_BUCKET { Way::Whole } else { Way::Short };
            let way = match number % 3 {
                0 => host.sent(|frame| frame.tcp(port, 443).flags(SYN))?,
                1 => host.sent(|frame| frame.tcp(port, 443).flags(ACK))?,
                _ => host.sent(|frame| frame.udp(port, 514))?,
            };
            ensure!(way == wanted, "{way:?} of number {number}");
        }
    }
    // What no rule allows, what a clock ends, and what is there.
    ensure!(host.sent(|frame| frame.udp(51_000, 513))? == Way::Dropped);
    ensure!(host.sent(|frame| frame.udp(51_000, 515))? == Way::Whole);
    ensure!(host.sent(|frame| frame.tcp(50_215, 443).flags(SYN))? == Way::Whole);
    // Of each and of the packet before it somebody is told, or it is counted that nobody is: but for the last, which was
    // no first one.
    let events = host.kernel.event_counters()?;
    let packets = 2 * 2 * EVENTS_PER_BUCKET + 3;
    ensure!(events.sent + events.suppressed == 2 * packets - 1 && events.lost == 0, "{events:?}");
    ensure!(host.kernel.counters(0)?.passed[Pass::Opened as usize].packets == 2 * 2 * EVENTS_PER_BUCKET + 1);
    host.leaves_the_same()
}

#[test]
fn where_nobody_is_behind_the_short_way_nothing_else_passes() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let mut host = Host::load()?;
    let frame = |port| eth().ip(DEVICE, SERVER).udp(port, 514).payload(b"?").build();
    for _ in 0..3 {
        host.enters(ACC0, eth().ip(DEVICE, SERVER).udp(50_000, 514))?;
    }
    host.kernel.lose_the_whole_way()?;
    for (frame, wanted) in [
        (frame(50_000), XDP_PASS),
        (frame(50_001), XDP_DROP),
        (eth().ip(DEVICE, SERVER).echo_request(1, 1).payload(b"?").build(), XDP_DROP),
        (eth().arp(1, DEVICE.into(), SERVER.into()).build(), XDP_DROP),
        (frame(50_000), XDP_PASS),
    ] {
        ensure!(host.kernel.runner()?.run(&frame)? == wanted);
    }
    let counters = host.kernel.counters(0)?;
    ensure!(counters.received.packets == 3 + 5);
    ensure!(counters.dropped[DropReason::InternalTable as usize].packets == 3, "{counters:?}");
    Ok(())
}

#[test]
fn a_flow_that_a_clock_ends_stays_on_the_whole_way() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let mut host = Host::load()?;
    for _ in 0..4 {
        ensure!(host.sent(|frame| frame.udp(50_000, 515))? == Way::Whole, "a window was not looked at");
    }
    host.leaves_the_same()
}

#[test]
fn a_flood_from_nobody_s_address_is_dropped_shortly_once_nobody_is_told_of_it() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let mut host = Host::load()?;
    for window in 1..=2 {
        host.now = window << EVENT_WINDOW_SHIFT;
        for told in 0..2 * EVENTS_PER_BUCKET {
            let wanted = if told < EVENTS_PER_BUCKET { Way::Dropped } else { Way::DroppedShortly };
            let way = host.strange()?;
            ensure!(way == wanted, "{way:?} after {told} that were told of");
        }
    }
    // Behind one another they are asked about before any flow is looked for; a device's packet among them is its own.
    let plain = |source| eth().ip(source, SERVER).udp(50_000, 514);
    for _ in 0..2 {
        ensure!(!host.enters(ACC0, plain(STRANGER))?, "it passes");
    }
    ensure!(
        host.enters(ACC0, plain(DEVICE))? && host.enters(ACC0, plain(DEVICE))?,
        "a device's does not pass"
    );
    ensure!(!host.enters(ACC0, plain(STRANGER))?, "it passes");
    for _ in 0..2 {
        ensure!(host.enters(ACC0, plain(DEVICE))?, "a device's does not pass");
    }
    // Each of them, and the packet before it, is sent or counted as one that is not.
    let frames = 2 * 2 * EVENTS_PER_BUCKET;
    let events = host.kernel.event_counters()?;
    // The three from nobody, and the flow that the device's first one has opened.
    ensure!(events.sent + events.suppressed == 2 * frames + 3 + 1 && events.lost == 0, "{events:?}");
    let dropped = host.kernel.counters(0)?.dropped[DropReason::UnknownDevice as usize];
    ensure!(dropped.packets == frames + 3, "{dropped:?}");
    host.leaves_the_same()
}
