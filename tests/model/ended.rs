//! Pieces and errors, which say little themselves, when what they belong to has ended or was never judged here.

use std::net::Ipv4Addr;

use bulkhead::reconcile::{Memory, Reconciler};
use bulkhead::tables::Image;
use bulkhead_common::verdict::{DropReason, Pass, Verdict};
use tests::frame::{Frame, eth};
use tests::generate::World;

use super::CAPACITY;

/// Two devices that may speak with each other, and one with a server, for a second at a time.
const POLICY: &str = r"
apiVersion: bulkhead/v1
kind: Network
metadata: {name: acme}
spec: {seenOn: [{interface: acc0}, {interface: core0}], pools: [10.45.0.0/16]}
---
kind: Device
metadata: {name: a}
spec: {network: acme, addresses: [10.45.0.17]}
---
kind: Device
metadata: {name: b}
spec: {network: acme, addresses: [10.45.0.18]}
---
kind: Policy
metadata: {name: out}
spec: {subject: {device: a}, allow: [{name: log, to: {cidrs: [203.0.113.10/32]}, ports: [udp/514], idle: 1s}]}
---
kind: Policy
metadata: {name: across}
spec: {between: {initiator: {device: a}, responder: {device: b}}, allow: [{name: coap, ports: [udp/5683]}]}
";

const ACC0: u32 = 11;
const CORE0: u32 = 21;
const A: Ipv4Addr = Ipv4Addr::new(10, 45, 0, 17);
const B: Ipv4Addr = Ipv4Addr::new(10, 45, 0, 18);
const LOG: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);
const MILLISECOND: u64 = 1_000_000;

const EARLY: Verdict = Verdict::Drop(DropReason::FragmentEarly);
const ESTABLISHED: Verdict = Verdict::Pass(Pass::Established);
const OPENED: Verdict = Verdict::Pass(Pass::Opened);
const UNRELATED: Verdict = Verdict::Drop(DropReason::IcmpErrorUnrelated);

/// The piece of a datagram that begins at a byte and has sixteen.
fn piece(to: Ipv4Addr, from: u16, more: bool) -> Vec<u8> {
    let port = if to == LOG { 514 } else { 5683 };
    let frame = eth().ipv4(A, to).fragment(from, more).identified(7);
    if from == 0 { frame.udp(5000, port).payload(&[1; 8]) } else { frame.protocol(17).payload(&[2; 16]) }
        .build()
}

/// A router in the data network says of A's datagram to the log that it is too big.
fn too_big(frame: impl FnOnce(Frame) -> Frame) -> Vec<u8> {
    let inside = eth().ipv4(A, LOG).udp(5000, 514).payload(&[0; 12]).build();
    frame(eth().ipv4(ROUTER, A)).icmp(3, 4, [0, 0, 2, 0]).payload(&inside[14..]).build()
}

fn image() -> Image {
    let image = Image::new(&World::written_where(POLICY, |_| true).compiled.tables);
    image.set_now(MILLISECOND, MILLISECOND);
    image
}

#[test]
fn a_piece_whose_flow_has_ended_begins_none() {
    let image = image();
    assert_eq!(image.judge(&piece(LOG, 0, true), ACC0).0, OPENED);
    image.set_now(900 * MILLISECOND, 900 * MILLISECOND);
    assert_eq!(image.judge(&piece(LOG, 16, true), ACC0).0, ESTABLISHED);
    // The next is in time, and the flow has been silent for more than its second.
    image.set_now(1_950 * MILLISECOND, 1_950 * MILLISECOND);
    assert_eq!(image.judge(&piece(LOG, 32, false), ACC0).0, EARLY);
}

#[test]
fn from_the_core_no_piece_comes_before_it_has_entered() {
    let image = image();
    for (ifindex, at, more, verdict) in [
        (CORE0, 0, true, Verdict::Drop(DropReason::SpoofedSource)),
        (ACC0, 0, true, OPENED),
        (CORE0, 0, true, ESTABLISHED),
        (CORE0, 16, true, EARLY),
        (ACC0, 16, true, ESTABLISHED),
        (CORE0, 16, true, ESTABLISHED),
        (CORE0, 32, false, EARLY),
        (ACC0, 32, false, ESTABLISHED),
        (CORE0, 32, false, ESTABLISHED),
        (CORE0, 48, false, EARLY),
    ] {
        assert_eq!(image.judge(&piece(B, at, more), ifindex).0, verdict, "{at} at {ifindex}");
    }
}

#[test]
fn an_error_in_pieces_reaches_nobody() {
    let image = image();
    assert_eq!(image.judge(&piece(LOG, 0, true), ACC0).0, OPENED);
    assert_eq!(image.judge(&too_big(|frame| frame), CORE0).0, Verdict::Pass(Pass::IcmpError));
    assert_eq!(image.judge(&too_big(|frame| frame.fragment(0, true).identified(9)), CORE0).0, UNRELATED);
}

#[test]
fn an_error_about_what_is_not_allowed_any_more_reaches_nobody() {
    let before = World::written_where(POLICY, |_| true);
    let after = World::written_where(&POLICY.replace("udp/514", "udp/515"), |_| true);
    let mut memory = Memory::new(CAPACITY);
    let mut reconciler = Reconciler::observe(&mut memory).expect("empty memory");
    for (world, verdict) in [(&before, Verdict::Pass(Pass::IcmpError)), (&after, UNRELATED)] {
        reconciler.apply(&mut memory, &world.compiled.tables).expect("there is room");
        memory.set_now(MILLISECOND, MILLISECOND);
        memory.judge(&piece(LOG, 0, true), ACC0);
        assert_eq!(memory.judge(&too_big(|frame| frame), CORE0).0, verdict);
    }
}
