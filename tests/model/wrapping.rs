//! For one inner packet, every way of wrapping it gives the same verdict.

use std::collections::BTreeMap;

use bulkhead::policy::{AgentConfig, Transit};
use bulkhead::tables::Image;
use bulkhead_common::case::{Arrival, Case, LinkType};
use bulkhead_common::decide::Tables as _;
use tests::compare::{hex, in_words};
use tests::frame::{Frame, eth};
use tests::generate::{Random, SLEPT, Traffic, World, seed};
use tests::oracle::Opinion;

/// One network that is seen in every way, with devices that are bound to none of them.
const POLICY: &str = r#"
apiVersion: bulkhead/v1
kind: Network
metadata: {name: acme}
spec:
  seenOn: [{interface: acc0}, {interface: acc0, vlan: 101}, {interface: acc0, vlan: 7, innerVlan: 9}, {interface: n3}, {interface: core0}]
  pools: [10.45.0.0/16, "fd00:45::/32"]
  infrastructure: [10.99.0.0/24]
  services: {dns: [10.99.0.53]}
  never: [tcp/23]
---
kind: Device
metadata: {name: a, labels: {class: camera}}
spec: {network: acme, addresses: [10.45.0.17, "fd00:45:0:17::/64"]}
---
kind: Device
metadata: {name: b, labels: {class: camera}}
spec: {network: acme, addresses: [10.45.0.18, "fd00:45:0:18::1"]}
---
kind: Policy
metadata: {name: out}
spec:
  subject: {matchLabels: {class: camera}}
  allow:
    - {name: world, to: {cidrs: [203.0.113.0/24, "2001:db8:cafe::/64"], services: [dns]}, ports: [tcp/any, udp/5000-5010, icmp/echo, sctp/any]}
---
kind: Policy
metadata: {name: across}
spec: {between: {initiator: {device: a}, responder: {device: b}}, allow: [{name: rtsp, ports: [tcp/554, icmp/echo]}]}
"#;

const ACC0: u32 = 11;
const N3: u32 = 51;
const TEID: u32 = 0x1a2b;
/// A PDU session container behind sequence and N-PDU number.
const CONTAINER: [u8; 8] = [0, 1, 0, 0x85, 1, 0, 9, 0];

type Wrap = fn(&[u8]) -> Frame;

/// Interface and wrapping.
const WRAPPINGS: [(&str, u32, Wrap); 7] = [
    ("untagged", ACC0, |packet| typed(eth(), packet)),
    ("vlan", ACC0, |packet| typed(eth().vlan(101), packet)),
    ("priority tag", ACC0, |packet| typed(eth().tag(0x8100, 0xe000), packet)),
    ("QinQ", ACC0, |packet| typed(eth().service_vlan(7).vlan(9), packet)),
    ("GTP-U", N3, |packet| v4().gtpu(0x30, 255, TEID, &[]).payload(packet)),
    ("GTP-U with a container", N3, |packet| v4().gtpu(0x34, 255, TEID, &CONTAINER).payload(packet)),
    ("GTP-U over IPv6", N3, |packet| {
        let [peer, local] =
            ["fd03::21", "fd03::10"].map(|text| text.parse::<std::net::IpAddr>().expect("an address"));
        eth().ip(peer, local).udp(2152, 2152).gtpu(0x32, 255, TEID, &[0, 1, 0, 0]).payload(packet)
    }),
];

fn v4() -> Frame {
    eth().ipv4([10, 3, 0, 21].into(), [10, 3, 0, 10].into()).udp(2152, 2152)
}

/// The packet as it is, announced by its version.
fn typed(frame: Frame, packet: &[u8]) -> Frame {
    let ether_type = if packet[0] >> 4 == 6 { 0x86dd } else { 0x0800 };
    frame.ether_type(ether_type).payload(packet)
}

/// IP packets of devices, honest and broken: what the traffic of a world has on its plain access link.
fn packets(world: &World, seed: u64) -> impl Iterator<Item = Vec<u8>> {
    Traffic::new(world, seed).filter(|shot| shot.ifindex == ACC0).filter_map(|shot| {
        let version = match shot.bytes.get(12..14)? {
            [8, 0] => 4,
            [0x86, 0xdd] => 6,
            _ => return None,
        };
        let packet = shot.bytes.get(14..)?.to_vec();
        // Neighbour discovery is about the link itself, and each link has prefixes of its own. What a link
        // announces as one version and is the other never comes through a tunnel as that.
        let discovery = version == 6 && packet.get(6) == Some(&58) && matches!(packet.get(40)?, 133..=137);
        (packet.first()? >> 4 == version && !discovery).then_some(packet)
    })
}

#[test]
fn every_wrapping_of_a_packet_gives_the_same_verdict() {
    // Whatever passes beside the tunnels: inside there are devices only.
    let passes =
        |agent: &AgentConfig, name| agent.interface(name).is_some_and(|it| it.transit == Transit::Pass);
    let world = World::written_where(POLICY, |agent| passes(agent, "n3") && !passes(agent, "acc0"));
    let mut random = Random::new(seed(21));
    let mut reasons = BTreeMap::<&str, u32>::new();
    for _ in 0..12 {
        let images = WRAPPINGS.map(|_| Image::new(&world.compiled.tables));
        let raw = Image::new(&world.compiled.tables);
        for (packet, second) in packets(&world, random.next()).take(400).zip(1u64..) {
            let judged = WRAPPINGS.iter().zip(&images).map(|((name, ifindex, wrap), image)| {
                image.set_now(second * 1_000_000_000, second * 1_000_000_000 + SLEPT);
                let frame = wrap(&packet).build();
                let (verdict, case) = image.judge(&frame, *ifindex);
                (*name, in_words(verdict, &case.evidence, &world.compiled.catalogue))
            });
            let mut opinions: Vec<(&str, Opinion)> = judged.collect();
            let length = packet.len() as u32;
            let arrival = Arrival::of(ACC0, LinkType::RawIp, length);
            let mut case = Case::new(raw.epoch(), arrival);
            raw.set_now(second * 1_000_000_000, second * 1_000_000_000 + SLEPT);
            let verdict = bulkhead_common::judge(&*packet, &raw, &mut case);
            opinions.push(("raw IP", in_words(verdict, &case.evidence, &world.compiled.catalogue)));
            let (_, plain) = &opinions[0];
            // A tunnel in a tunnel is what it is, and no device's packet.
            if opinions.iter().any(|(_, opinion)| opinion.reason.starts_with("gtpu")) {
                assert!(opinions.iter().all(|(_, opinion)| !opinion.passes), "{}", hex(&packet));
                continue;
            }
            for (name, opinion) in &opinions {
                assert_eq!(opinion, plain, "{name} of {}", hex(&packet));
            }
            *reasons.entry(plain.reason).or_default() += 1;
        }
    }
    eprintln!("{reasons:?}");
    for wanted in
        ["opened", "established", "no_rule", "segment_denied", "never", "spoofed_source", "malformed_tcp"]
    {
        assert!(reasons.contains_key(wanted), "never saw {wanted}: {reasons:?}");
    }
}
