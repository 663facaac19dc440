//! One test for each bug that was found, named after the issue in which it was.

use std::net::{Ipv4Addr, Ipv6Addr};

use bulkhead::tables::Image;
use bulkhead_common::parse::Kind;
use bulkhead_common::verdict::{DropReason, Pass, Verdict};
use tests::frame::{ACK, DESTINATION, FIN, Frame, HOP_BY_HOP, RST, SYN, eth};
use tests::generate::World;

/// Two private APNs use the same pool, and one has its servers inside it.
const SHARED_POOL: &str = r"
apiVersion: bulkhead/v1
kind: Network
metadata: {name: acme}
spec:
  seenOn: [{interface: acc0}, {interface: core0}]
  pools: [10.45.0.0/16]
  infrastructure: [10.45.255.0/24]
  services: {dns: [10.45.255.53]}
---
kind: Network
metadata: {name: blue}
spec: {seenOn: [{interface: acc0, vlan: 7}, {interface: core0, vlan: 7}], pools: [10.45.0.0/16]}
---
kind: Device
metadata: {name: charger}
spec: {network: acme, addresses: [10.45.0.17]}
---
kind: Policy
metadata: {name: base}
spec: {subject: {device: charger}, allow: [{name: names, to: {services: [dns]}}]}
";

const ACC0: u32 = 11;
const ACC1: u32 = 12;
const CORE0: u32 = 21;
const CHARGER: Ipv4Addr = Ipv4Addr::new(10, 45, 0, 17);
const DNS: Ipv4Addr = Ipv4Addr::new(10, 45, 255, 53);

#[test]
fn issue_2_infrastructure_inside_a_shared_pool_may_answer() {
    let world = World::written(SHARED_POOL);
    let image = Image::new(&world.compiled.tables);
    let query = eth().ip(CHARGER, DNS).udp(50_000, 53).payload(b"?").build();
    assert_eq!(image.judge(&query, ACC0).0, Verdict::Pass(Pass::Opened));
    let answer = eth().ip(DNS, CHARGER).udp(53, 50_000).payload(b"!").build();
    assert_eq!(image.judge(&answer, CORE0).0, Verdict::Pass(Pass::Established));
    let begun_by_the_server = eth().ip(DNS, CHARGER).tcp(53, 22).flags(SYN).build();
    assert!(!image.judge(&begun_by_the_server, CORE0).0.passes());
}

#[test]
fn issue_2_a_source_route_does_not_lead_around_the_policy() {
    let world = World::written(SHARED_POOL);
    let image = Image::new(&world.compiled.tables);
    // To the DNS server, which a rule allows, and from there to another device.
    let via = [131, 7, 4, 10, 45, 0, 18];
    let packet = eth().ip(CHARGER, DNS).ip_options(&via).udp(50_000, 53).build();
    assert_eq!(image.judge(&packet, ACC0).0, Verdict::Drop(DropReason::UnsupportedExtension));
}

#[test]
fn issue_2_a_fragment_header_ends_the_longest_chain_too() {
    let world = World::written(SHARED_POOL);
    let image = Image::new(&world.compiled.tables);
    let (from, to) = ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
    let options = (0..5).fold(eth().ipv6(from, to), |frame, _| frame.extension(DESTINATION, &[0; 6]));
    // What follows belongs to a later part of the packet, so it is not a seventh header.
    let part = options.fragment_header(8, true).extension(DESTINATION, &[0; 6]);
    let (_, case) = image.judge(&part.build(), CORE0);
    assert_eq!(case.packet.kind, Kind::Fragment);
}

#[test]
fn issue_2_a_rule_s_idle_time_bounds_half_open_connections_too() {
    let world = World::written(&SHARED_POOL.replace("services: [dns]}", "services: [dns]}, idle: 30s"));
    let image = Image::new(&world.compiled.tables);
    let open = eth().ip(CHARGER, DNS).tcp(50_000, 53).flags(SYN).build();
    assert_eq!(image.judge(&open, ACC0).0, Verdict::Pass(Pass::Opened));
    image.set_now(31_000_000_000, 31_000_000_000);
    let answer = eth().ip(DNS, CHARGER).tcp(53, 50_000).flags(SYN | ACK).build();
    assert_eq!(image.judge(&answer, CORE0).0, Verdict::Drop(DropReason::Unsolicited));
}

/// `blue` has its devices where `acme` says that a meter is.
const SERVICE_IN_A_FOREIGN_POOL: &str = r"
apiVersion: bulkhead/v1
kind: Network
metadata: {name: acme}
spec:
  seenOn: [{interface: acc0}, {interface: core0}]
  pools: [10.45.0.0/16]
  infrastructure: [10.99.0.0/24]
  services: {meter: {addresses: [10.47.0.7], ports: [udp/502]}}
---
kind: Network
metadata: {name: blue}
spec: {seenOn: [{interface: acc0, vlan: 7}, {interface: core0, vlan: 7}], pools: [10.47.0.0/16]}
---
kind: Device
metadata: {name: charger}
spec: {network: acme, addresses: [10.45.0.17]}
---
kind: Device
metadata: {name: pump}
spec: {network: blue, addresses: [10.47.0.7]}
---
kind: Policy
metadata: {name: base}
spec: {subject: {device: charger}, allow: [{name: read, to: {services: [meter]}}]}
";

#[test]
fn issue_2_a_service_does_not_reach_another_network_s_device() {
    let refused =
        World::read(SERVICE_IN_A_FOREIGN_POOL).expect_err("udp 10.45.0.17 -> 10.47.0.7:502 would pass");
    let text = refused.render(false);
    assert!(text.contains("meter names 10.47.0.7") && text.contains("pools of blue"), "{text}");
    // What the network itself calls infrastructure is its own, whatever others have there.
    let own = SERVICE_IN_A_FOREIGN_POOL.replace("[10.99.0.0/24]", "[10.47.0.7/32]");
    let image = Image::new(&World::written(&own).compiled.tables);
    let meter = Ipv4Addr::new(10, 47, 0, 7);
    let read = eth().ip(CHARGER, meter).udp(50_000, 502).build();
    assert_eq!(image.judge(&read, ACC0).0, Verdict::Pass(Pass::Opened));
    let answer = eth().ip(meter, CHARGER).udp(502, 50_000).build();
    assert_eq!(image.judge(&answer, CORE0).0, Verdict::Pass(Pass::Established));
}

#[test]
fn issue_2_a_redundant_gateway_may_answer_for_its_virtual_mac() {
    let world = World::written(SHARED_POOL);
    let image = Image::new(&world.compiled.tables);
    let (gateway, host) = (Ipv4Addr::new(192, 0, 2, 2), Ipv4Addr::new(192, 0, 2, 1));
    // GLBP and NLB: the frame's sender is one station, the address belongs to another's MAC.
    let answer = |sender, target| eth().arp(2, sender, target).set(8, &[0, 7, 0xb4, 0, 1, 2]).build();
    assert_eq!(image.judge(&answer(gateway, host), CORE0).0, Verdict::Pass(Pass::Neighbour));
    let of_a_device = answer(CHARGER, Ipv4Addr::new(10, 45, 0, 1));
    assert_eq!(image.judge(&of_a_device, ACC0).0, Verdict::Drop(DropReason::SpoofedNeighbour));
    assert_eq!(image.judge(&of_a_device, CORE0).0, Verdict::Drop(DropReason::SpoofedNeighbour));
}

/// Two devices of one network that may speak to each other.
const CAMERAS: &str = r"
apiVersion: bulkhead/v1
kind: Network
metadata: {name: acme}
spec: {seenOn: [{interface: acc0}, {interface: core0}], pools: [10.45.0.0/16]}
---
kind: Device
metadata: {name: nvr}
spec: {network: acme, addresses: [10.45.0.17]}
---
kind: Device
metadata: {name: camera}
spec: {network: acme, addresses: [10.45.0.18]}
---
kind: Policy
metadata: {name: pull}
spec:
  between: {initiator: {device: nvr}, responder: {device: camera}}
  allow: [{name: rtsp, ports: [tcp/554]}]
";

#[test]
fn issue_2_what_comes_back_from_the_core_is_counted_once_and_closes_nothing() {
    let image = Image::new(&World::written(CAMERAS).compiled.tables);
    let camera = Ipv4Addr::new(10, 45, 0, 18);
    let pull = |flags| eth().ip(CHARGER, camera).tcp(50_000, 554).flags(flags).build();
    assert_eq!(image.judge(&pull(SYN), ACC0).0, Verdict::Pass(Pass::Opened));
    assert_eq!(image.judge(&pull(SYN), CORE0).0, Verdict::Pass(Pass::Established));
    assert_eq!(image.flows()[0].sent[0], 1, "one packet, though it was seen twice");
    let answer = eth().ip(camera, CHARGER).tcp(554, 50_000).flags(SYN | ACK).build();
    assert_eq!(image.judge(&answer, ACC0).0, Verdict::Pass(Pass::Established));
    // A reset that somebody at the core makes up would leave an established connection four minutes.
    let (before, reset) = (image.flows()[0], pull(RST));
    assert_eq!(image.judge(&reset, CORE0).0, Verdict::Pass(Pass::Established));
    assert_eq!(image.flows()[0], before);
}

const SECOND: u64 = 1_000_000_000;

/// Seconds and frames, one after the other; each must be answered like this.
fn conversation(image: &Image, steps: &[(u64, u32, Vec<u8>, Verdict)]) {
    for (at, (seconds, ifindex, frame, expected)) in steps.iter().enumerate() {
        image.set_now(seconds * SECOND, seconds * SECOND);
        assert_eq!(image.judge(frame, *ifindex).0, *expected, "step {at}");
    }
}

#[test]
fn issue_3_the_called_side_revives_no_connection_and_the_device_may_use_its_ports_again() {
    let image = Image::new(&World::written(SHARED_POOL).compiled.tables);
    let up = |flags| eth().ip(CHARGER, DNS).tcp(50_000, 53).flags(flags).build();
    let down = |flags| eth().ip(DNS, CHARGER).tcp(53, 50_000).flags(flags).build();
    let (opened, holds) = (Verdict::Pass(Pass::Opened), Verdict::Pass(Pass::Established));
    let unsolicited = Verdict::Drop(DropReason::Unsolicited);
    conversation(
        &image,
        &[
            (1, ACC0, up(SYN), opened),
            (1, CORE0, down(SYN | ACK), holds),
            (2, CORE0, down(SYN), unsolicited),
            (100, ACC0, up(FIN | ACK), holds),
            // One side is done, the other goes on.
            (300, CORE0, down(ACK), holds),
            (300, ACC0, up(ACK), holds),
            (301, CORE0, down(FIN | ACK), holds),
            (302, ACC0, up(ACK), holds),
            (303, CORE0, down(SYN), unsolicited),
            (304, ACC0, up(SYN), holds),
            (305, CORE0, down(SYN | ACK), holds),
            (306, ACC0, up(RST), holds),
            (315, CORE0, down(ACK), holds),
            (317, CORE0, down(ACK), unsolicited),
            (317, CORE0, down(SYN), unsolicited),
            (318, ACC0, up(SYN), opened),
        ],
    );
}

#[test]
fn issue_5_nobody_outside_keeps_a_flow_alive() {
    let image = Image::new(&World::written(SHARED_POOL).compiled.tables);
    let query = || eth().ip(CHARGER, DNS).udp(50_000, 53).build();
    let answer = || eth().ip(DNS, CHARGER).udp(53, 50_000).build();
    let (opened, holds) = (Verdict::Pass(Pass::Opened), Verdict::Pass(Pass::Established));
    let unsolicited = Verdict::Drop(DropReason::Unsolicited);
    conversation(
        &image,
        &[
            (1, ACC0, query(), opened),
            (100, CORE0, answer(), holds),
            (200, CORE0, answer(), holds),
            (300, CORE0, answer(), holds),
            (302, CORE0, answer(), unsolicited),
        ],
    );
}

#[test]
fn issue_5_a_device_that_moved_is_heard_once_it_was_silent_where_it_was() {
    let moving = SHARED_POOL.replacen("{interface: core0}]", "{interface: core0}, {interface: acc1}]", 1);
    let image = Image::new(&World::written(&moving).compiled.tables);
    let query = || eth().ip(CHARGER, DNS).udp(50_000, 53).build();
    let answer = || eth().ip(DNS, CHARGER).udp(53, 50_000).build();
    let (opened, holds) = (Verdict::Pass(Pass::Opened), Verdict::Pass(Pass::Established));
    let spoofed = Verdict::Drop(DropReason::SpoofedSource);
    conversation(
        &image,
        &[
            (1, ACC0, query(), opened),
            (2, CORE0, answer(), holds),
            (3, ACC1, query(), spoofed),
            (200, CORE0, answer(), holds),
            (290, ACC1, query(), spoofed),
            (300, CORE0, answer(), holds),
            (302, ACC1, query(), opened),
            (303, CORE0, answer(), holds),
        ],
    );
}

/// A charger in the whole of a `/56`, which its policy lets out; its network passes options.
const PREFIX: &str = r#"
apiVersion: bulkhead/v1
kind: Network
metadata: {name: acme}
spec: {seenOn: [{interface: acc0}, {interface: core0}], pools: ["fd00:45::/32"], ipOptions: pass}
---
kind: Device
metadata: {name: charger}
spec: {network: acme, addresses: ["fd00:45:0:1700::/56"]}
---
kind: Policy
metadata: {name: base}
spec: {subject: {device: charger}, allow: [{name: world, to: {cidrs: ["::/0"]}, ports: [any]}]}
"#;

#[test]
fn issue_3_a_prefix_shorter_than_64_is_its_device_s_to_the_last_address_and_no_further() {
    let image = Image::new(&World::written(PREFIX).compiled.tables);
    let cloud: Ipv6Addr = "2001:db8::10".parse().unwrap();
    let from = |source: &str| {
        let source: Ipv6Addr = source.parse().unwrap();
        let asked = eth().ipv6(source, cloud).udp(50_000, 53).payload(b"?").build();
        let answer = eth().ipv6(cloud, source).udp(53, 50_000).payload(b"!").build();
        [image.judge(&asked, ACC0).0, image.judge(&answer, CORE0).0]
    };
    for inside in ["fd00:45:0:1700::", "fd00:45:0:1742::1", "fd00:45:0:17ff:ffff:ffff:ffff:ffff"] {
        assert_eq!(from(inside), [Pass::Opened, Pass::Established].map(Verdict::Pass), "{inside}");
    }
    for beside in ["fd00:45:0:16ff:ffff:ffff:ffff:ffff", "fd00:45:0:1800::"] {
        assert_eq!(from(beside), [DropReason::UnknownDevice; 2].map(Verdict::Drop), "{beside}");
    }
}

/// Nobody's packets to a group could be held against a device's rules, so none may join: not by a rule that
/// lets out to everything, nor where the network passes the router alert that reports have (RFC 3376, RFC 3810).
#[test]
fn issue_3_groups_are_neither_joined_nor_spoken_to() {
    const ROUTER_ALERT_V4: [u8; 4] = [0x94, 4, 0, 0];
    const ROUTER_ALERT_V6: [u8; 6] = [5, 2, 0, 0, 1, 0];
    const IGMP: u8 = 2;
    const REPORT_V3: [u8; 16] = [0x22, 0, 0xe7, 0xf9, 0, 0, 0, 1, 4, 0, 0, 0, 239, 1, 1, 1];
    let v4 = PREFIX.replace("fd00:45::/32", "10.45.0.0/16").replace("fd00:45:0:1700::/56", "10.45.0.17");
    let v4 = v4.replace("::/0", "0.0.0.0/0");
    let [v4, v6] = [&v4, PREFIX].map(|policy| Image::new(&World::written(policy).compiled.tables));
    let told = |image: &Image, frame: Frame| {
        assert_eq!(image.judge(&frame.build(), ACC0).0, Verdict::Drop(DropReason::Multicast))
    };
    let joins = eth().ip(CHARGER, Ipv4Addr::new(224, 0, 0, 22)).ip_options(&ROUTER_ALERT_V4);
    told(&v4, joins.protocol(IGMP).payload(&REPORT_V3));
    told(&v4, eth().ip(CHARGER, Ipv4Addr::new(239, 1, 1, 1)).udp(50_000, 5000));
    let six = |to: &str| eth().ipv6("fd00:45:0:1700::1".parse().unwrap(), to.parse().unwrap());
    told(&v6, six("ff02::16").extension(HOP_BY_HOP, &ROUTER_ALERT_V6).icmpv6(143, 0, [0; 4]));
    told(&v6, six("ff1e::1").udp(50_000, 5000));
}
