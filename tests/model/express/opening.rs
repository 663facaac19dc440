//! A flow's first packet opens it on the short way where the policy's plainest words say so, and nowhere else.

use std::net::Ipv6Addr;
use std::sync::Arc;

use bulkhead_common::abi::Addr;
use bulkhead_common::abi::counter::EVENT_WINDOW_SHIFT;
use bulkhead_common::abi::value::ROLE_ACCESS;
use bulkhead_common::verdict::{DropReason, Verdict};
use tests::frame::{ACK, FIN, Frame, SYN, eth};
use tests::generate::{Shot, World};
use tests::small;

use super::Side;
use super::ends::{BEGUN, OPENED, WHOLE, dropped, judged};

const SECOND: u64 = 1 << EVENT_WINDOW_SHIFT;
const ACC0: u32 = 11;
const ACC1: u32 = 12;
const DEVICE: [u8; 4] = [10, 45, 0, 17];
const DEVICE_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x45, 0, 0x17, 0, 0, 0, 5);
const BEHIND: [u8; 4] = [192, 168, 50, 20];
const NEIGHBOUR: [u8; 4] = [10, 45, 0, 18];
const SERVER: [u8; 4] = [203, 0, 113, 10];
const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);

/// What is said of one device that may speak with a server; `device`, `segment` and `rule` may say more.
#[derive(Clone, Copy, Default)]
struct Said {
    device: &'static str,
    segment: &'static str,
    rule: &'static str,
}

fn world(said: Said) -> World {
    let Said { device, segment, rule } = said;
    World::written(&format!(
        r#"
apiVersion: bulkhead/v1
kind: Network
metadata: {{name: acme}}
spec:
  seenOn: [{{interface: acc0}}, {{interface: acc1}}, {{interface: n3}}, {{interface: core0}}]
  pools: [10.45.0.0/16, "fd00:45::/32", 192.168.50.0/24]
---
kind: Segment
metadata: {{name: chargers}}
spec: {{members: {{matchLabels: {{class: charger}}}}{segment}}}
---
kind: Device
metadata: {{name: charger, labels: {{class: charger}}}}
spec: {{network: acme, addresses: [10.45.0.17, "fd00:45:0:17::/64"], framedRoutes: [192.168.50.0/24]{device}}}
---
kind: Device
metadata: {{name: neighbour}}
spec: {{network: acme, addresses: [10.45.0.18]}}
---
kind: Policy
metadata: {{name: ev}}
spec:
  subject: {{device: charger}}
  allow:
    - {{name: all, to: {{cidrs: [0.0.0.0/0, "::/0"]}}, ports: [udp/1-65535, tcp/1-65535]{rule}}}
"#
    ))
}

fn side(said: Said) -> Side {
    let mut side = Side::new().expect("empty tables");
    side.apply(&world(said)).expect("it fits");
    side
}

fn sent(frame: Frame) -> Shot {
    Shot { now: SECOND, ifindex: ACC0, from_host: false, bytes: frame.payload(b"?").build() }
}

fn first(side: &Side, frame: Frame) -> (Verdict, bool) {
    judged(side, &sent(frame))
}

fn plain() -> Frame {
    eth().ip(DEVICE, SERVER).udp(50_000, 514)
}

#[test]
fn what_the_policy_says_plainly_is_opened_shortly() {
    let side = side(Said::default());
    let v6 = || eth().ip(DEVICE_V6, SERVER_V6);
    for frame in [
        plain(),
        eth().ip(DEVICE, SERVER).tcp(50_001, 443).flags(SYN),
        eth().ip(DEVICE, SERVER).tcp(50_002, 443).flags(ACK),
        v6().udp(50_000, 514),
        v6().tcp(50_001, 443).flags(SYN),
    ] {
        assert_eq!(first(&side, frame), BEGUN);
    }
    assert_eq!(first(&side, plain()), WHOLE, "its flow is there");
}

#[test]
fn what_may_be_no_first_packet_takes_the_whole_way() {
    let side = side(Said::default());
    for (port, flags) in [(50_001, FIN | ACK), (50_002, SYN | ACK), (50_003, SYN | FIN)] {
        assert_eq!(first(&side, eth().ip(DEVICE, SERVER).tcp(port, 443).flags(flags)), OPENED);
    }
    let syn = || eth().ip(DEVICE, SERVER).tcp(50_004, 443).flags(SYN);
    assert_eq!([first(&side, syn()), first(&side, syn())], [BEGUN, WHOLE], "it may be repeated");
}

#[test]
fn what_no_device_may_send_is_not_opened() {
    let side = side(Said { segment: ", never: [tcp/23]", ..Said::default() });
    let to = |address| eth().ip(DEVICE, address);
    for (frame, reason) in [
        (to(SERVER).tcp(50_000, 23).flags(SYN), DropReason::Never),
        (to(SERVER).udp(50_000, 2152), DropReason::ControlProtocol),
        (to(NEIGHBOUR).udp(50_000, 514), DropReason::SegmentDenied),
        (to([10, 45, 0, 99]).udp(50_000, 514), DropReason::UnknownPeer),
        (to([224, 0, 0, 251]).udp(50_000, 514), DropReason::Multicast),
        (to([127, 0, 0, 1]).udp(50_000, 514), DropReason::MartianDestination),
        (eth().ip(NEIGHBOUR, SERVER).udp(50_000, 514), DropReason::NoRule),
    ] {
        assert_eq!(first(&side, frame), dropped(reason));
    }
    assert_eq!(first(&side, plain()), BEGUN);
}

/// Policy is never compiled to such tables: that their rules end at the pools is one more hurdle.
#[test]
fn rules_that_reach_too_far_let_no_more_begin() {
    let mut tables = small::tables(&[(ACC0, ROLE_ACCESS)], &[(17, 514), (18, 514)]);
    for rules in tables.profiles.values_mut() {
        for remote in &mut Arc::make_mut(rules).outbound {
            (remote.first, remote.last) = (Addr::from_v4([0; 4]), Addr::from_v4([255; 4]));
        }
    }
    let mut side = Side::new().expect("empty tables");
    side.reconciler.apply(&mut side.memory, &tables).expect("it fits");
    for address in [NEIGHBOUR, [10, 45, 0, 99], [224, 0, 0, 251], [127, 0, 0, 1], [255; 4]] {
        let (verdict, short) = first(&side, eth().ip(DEVICE, address).udp(50_000, 514));
        assert!(!verdict.passes() && !short, "to {address:?}: {verdict:?}");
    }
    assert_eq!(first(&side, plain()), BEGUN);
}

#[test]
fn what_is_to_be_asked_of_a_device_or_a_rule_is_asked_on_the_whole_way() {
    let behind = side(Said::default());
    assert_eq!(first(&behind, eth().ip(BEHIND, SERVER).udp(50_000, 514)), OPENED);
    for said in [
        Said { device: r#", binding: {mac: "02:00:00:00:00:01"}"#, ..Said::default() },
        Said { device: ", teid: 7", ..Said::default() },
        Said { segment: ", limits: {packetsPerSecond: 9}", ..Said::default() },
        Said { segment: ", limits: {flows: 9}", ..Said::default() },
        Said { rule: r#", notAfter: "2026-11-27T22:40:00Z""#, ..Said::default() },
        Said { rule: r#", when: {labels: {class: {is: pump}}}"#, ..Said::default() },
    ] {
        let (verdict, short) = first(&side(said), plain());
        assert!(!short, "{} {} {}: {verdict:?}", said.device, said.segment, said.rule);
    }
    let bound = side(Said { device: ", binding: {interface: acc1}", ..Said::default() });
    assert_eq!(first(&bound, plain()), dropped(DropReason::SpoofedSource));
    assert_eq!(judged(&bound, &Shot { ifindex: ACC1, ..sent(plain()) }), BEGUN);
}
