//! The fast way as the loaded program takes it, or does not; `tests/enforcement/forwarding.rs` has live frames.

use std::fs;
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use bulkhead::tables::Image;
use bulkhead_common::abi::value::{NETWORK_FORWARDS, ROLE_ACCESS};
use bulkhead_common::abi::{Leg, SubinterfaceKey};
use bulkhead_common::case::Case;
use bulkhead_common::forward::{self, Header, NextHop, Routes};
use bulkhead_common::frame::Frame as Frames;
use bulkhead_common::verdict::{Pass, Verdict, Way};
use nix::sched::{CloneFlags, unshare};
use tests::frame::{Frame, eth};
use tests::kernel::{Kernel, XDP_PASS, privilege};
use tests::small;

/// What fits into the first buffer of `BPF_PROG_TEST_RUN`.
pub(super) const FIRST_BUFFER: u32 = 3520;
/// What `BPF_PROG_TEST_RUN` says that frames entered by.
pub(super) const LOOPBACK: u32 = 1;

/// How a packet of a network that forwards by XDP must leave where there is no interface on the fast way; nothing if it is
/// of another network, or of no live flow.
pub(super) fn way(frame: &[u8], case: &Case, verdict: Verdict) -> Option<Way> {
    let linear = FIRST_BUFFER.min(frame.len() as u32);
    if !forward::is_wanted(case, verdict) {
        return None;
    }
    if case.packet.teid != 0 {
        return Some(Way::Tunnel);
    }
    forward::forward(frame, &case.arrival, linear, &Nowhere).err()
}

/// A host without an interface on the fast way.
struct Nowhere;

impl Routes for Nowhere {
    fn leg(&self, _key: SubinterfaceKey) -> Option<Leg> {
        None
    }

    fn next_hop<F: Frames + ?Sized>(&self, _: &F, _: &Header, _: u32) -> Result<NextHop, Way> {
        Err(Way::OtherRoute)
    }

    fn takes_turn(&self, _place: u32) -> bool {
        false
    }
}

#[test]
fn what_the_kernel_s_routing_table_says_is_counted() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    // A namespace of its own, which goes with the thread: loopback alone, and settings that nobody else has.
    thread::scope(|scope| scope.spawn(in_a_namespace).join())
        .map_err(|_| anyhow!("the thread in the namespace panicked"))?
}

fn in_a_namespace() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
    let mut tables = small::tables(&[(LOOPBACK, ROLE_ACCESS)], &[(11, 5000)]);
    tables.networks.values_mut().for_each(|network| network.flags = NETWORK_FORWARDS);
    let mut kernel = Kernel::load_attached(16)?;
    kernel.count_on(LOOPBACK)?;
    kernel.fill(Image::new(&tables).layout())?;
    let packet = || eth().to_mac([0; 6]).ip(small::address(11), small::REMOTE);
    let datagram = |packet: Frame| packet.udp(40_000, 5000).payload(&[0; 18]).build();
    let frame = datagram(packet());
    ensure!(kernel.runner()?.run(&frame)? == XDP_PASS);
    ensure!(kernel.counters(LOOPBACK)?.of(Verdict::Pass(Pass::Opened)).packets == 1, "the flow is new");
    let expect = |kernel: &Kernel, frame: &[u8], way: Way| -> Result<()> {
        let before = kernel.counters(LOOPBACK)?;
        ensure!(kernel.runner()?.run(frame)? == XDP_PASS);
        let after = kernel.counters(LOOPBACK)?;
        let grown: Vec<Way> =
            Way::ALL.iter().copied().filter(|way| after.way(*way) != before.way(*way)).collect();
        ensure!(grown == [way], "{grown:?} instead of {way:?}");
        let established = |counters: &bulkhead_common::abi::counter::Counters| {
            counters.of(Verdict::Pass(Pass::Established)).packets
        };
        ensure!(established(&after) == established(&before) + 1, "the verdict is what it was");
        Ok(())
    };
    expect(&kernel, &frame, Way::Entry)?;
    let leg = Leg { ifindex: LOOPBACK, port: LOOPBACK, tags: [0; 2], mac: [0; 6], _pad: [0; 2] };
    kernel.forward_by(&[(SubinterfaceKey::entry(LOOPBACK, 0, 0), leg)])?;
    forward_ipv4(false)?;
    expect(&kernel, &frame, Way::ForwardingOff)?;
    forward_ipv4(true)?;
    // There is no route to anywhere.
    expect(&kernel, &frame, Way::NotForwarded)?;
    expect(&kernel, &datagram(packet().ttl(1)), Way::HopLimit)?;
    expect(&kernel, &datagram(eth().to_mac([2; 6]).ip(small::address(11), small::REMOTE)), Way::Receiver)?;
    expect(&kernel, &[frame.clone(), vec![0; 60]].concat(), Way::Header)
}

fn forward_ipv4(on: bool) -> Result<()> {
    let value = if on { "1" } else { "0" };
    fs::write("/proc/sys/net/ipv4/conf/all/forwarding", value).context("set net.ipv4.conf.all.forwarding")
}
