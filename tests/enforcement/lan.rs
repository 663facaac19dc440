//! A LAN behind a device: its hosts may what the SIM may, and only what a rule names is reached.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Result;
use bulkhead_common::verdict::{DropReason, Pass, Verdict};
use tests::frame::eth;
use tests::lan::{NEIGHBOUR, PLC, ROLE, put_behind};
use tests::netns::{Client, Endpoint, Injector, Servers};

use crate::core::Core;
use crate::networks::apply_text;

const POLICY: &str = r#"
apiVersion: bulkhead/v1
kind: Network
metadata: {name: acme}
spec: {seenOn: [{interface: acc0}, {interface: n6}], pools: [10.45.0.0/16]}
---
kind: Device
metadata: {name: charger-1}
spec: {network: acme, addresses: [10.45.0.11], framedRoutes: [192.168.50.0/24]}
---
kind: Policy
metadata: {name: site}
spec:
  subject: {device: charger-1}
  allow:
    - {name: cloud, to: {cidrs: [203.0.113.10]}, ports: [udp/5000]}
    - {name: own, inbound: true, from: {cidrs: [198.51.100.7]}, ports: [udp/7000]}
    - {name: plc, inbound: true, from: {cidrs: [198.51.100.7]}, ports: [udp/502], behind: [192.168.50.20]}
"#;

const CLOUD: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10));
const SCADA: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));
const DEVICE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 45, 0, 11));

#[test]
fn a_lan_behind_a_device_reaches_what_the_sim_may_and_one_host_of_it_is_reached() -> Result<()> {
    let Some(mut core) = Core::start()? else { return Ok(()) };
    apply_text(&mut core, POLICY)?;
    put_behind(&core.lab)?;
    let servers = Servers::new();
    let outside = [5000, 5001].map(|port| Endpoint::udp(CLOUD, port));
    servers.start(core.lab.namespace("dn")?, &outside)?;
    let inside = [PLC, NEIGHBOUR].map(|host| Endpoint::udp(host, 502));
    servers.start(core.lab.namespace(ROLE)?, &inside)?;

    let answered = udp(&core, ROLE, PLC, SocketAddr::new(CLOUD, 5000))?;
    assert!(answered, "what the SIM may; dropped: {:?} {:?}", core.drops("acc0")?, core.drops("n6")?);
    assert!(!udp(&core, ROLE, PLC, SocketAddr::new(CLOUD, 5001))?, "and no more");
    assert_eq!(servers.received(SocketAddr::new(CLOUD, 5001)).datagrams, 0, "counted by the server");

    assert!(udp(&core, "dn", SCADA, SocketAddr::new(PLC, 502))?, "an inbound rule with `behind`");
    assert!(!udp(&core, "dn", SCADA, SocketAddr::new(NEIGHBOUR, 502))?, "opens one host");
    assert_eq!(servers.received(SocketAddr::new(NEIGHBOUR, 502)).datagrams, 0, "counted by the neighbour");
    assert!(core.counters("n6")?.of(Verdict::Drop(DropReason::Unsolicited)).packets >= 1);
    Ok(())
}

#[test]
fn a_rule_about_the_device_opens_nothing_behind_it_and_the_link_has_no_lan() -> Result<()> {
    let Some(mut core) = Core::start()? else { return Ok(()) };
    apply_text(&mut core, POLICY)?;
    let outside = Injector::open(core.lab.namespace("dn")?, "n6")?;
    let access = Injector::open(core.lab.namespace("ran")?, "acc0")?;
    let inbound = |to, port| eth().ip(SCADA, to).udp(40_000, port).build();
    core.expect("n6", &outside, &inbound(DEVICE, 7000), Verdict::Pass(Pass::Opened))?;
    core.expect("n6", &outside, &inbound(PLC, 7000), Verdict::Drop(DropReason::Unsolicited))?;
    core.expect("n6", &outside, &inbound(DEVICE, 502), Verdict::Drop(DropReason::Unsolicited))?;

    let arp = |sender: IpAddr| match sender {
        IpAddr::V4(sender) => eth().arp(1, sender, Ipv4Addr::new(10, 45, 0, 1)).build(),
        IpAddr::V6(_) => Vec::new(),
    };
    core.expect("acc0", &access, &arp(DEVICE), Verdict::Pass(Pass::Neighbour))?;
    core.expect("acc0", &access, &arp(PLC), Verdict::Drop(DropReason::SpoofedNeighbour))?;
    // A LAN that nobody has is the data network, from where no device sends.
    let stranger = eth().ip(Ipv4Addr::new(192, 168, 51, 20), CLOUD).udp(40_000, 5000).build();
    core.expect("acc0", &access, &stranger, Verdict::Drop(DropReason::SpoofedSource))
}

fn udp(core: &Core, role: &str, from: IpAddr, to: SocketAddr) -> Result<bool> {
    Ok(Client::new(core.lab.namespace(role)?).from(from).udp(to, b"lan")?.echoed(b"lan"))
}
