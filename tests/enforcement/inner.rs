//! Tunnels from devices: only rules that name them open them, and answers pass on the live flow.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;
use bulkhead_common::verdict::{DropReason, Pass, Verdict};
use tests::frame::eth;
use tests::netns::Injector;

use crate::core::Core;
use crate::networks::apply_text;

const POLICY: &str = r#"
apiVersion: bulkhead/v1
kind: Network
metadata: {name: acme}
spec: {seenOn: [{interface: acc0}, {interface: n6}], pools: [10.45.0.0/16]}
---
kind: Device
metadata: {name: router}
spec: {network: acme, addresses: [10.45.0.11]}
---
kind: Policy
metadata: {name: site}
spec:
  subject: {device: router}
  allow:
    - {name: wide, to: {cidrs: [203.0.113.0/24]}, ports: [any]}
    - {name: vpn, to: {cidrs: [203.0.113.10]}, ports: [gre, udp/4789]}
"#;

const ROUTER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 45, 0, 11));
const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10));
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 11));

#[test]
fn a_tunnel_passes_by_its_own_rule_only() -> Result<()> {
    let Some(mut core) = Core::start()? else { return Ok(()) };
    apply_text(&mut core, POLICY)?;
    let access = Injector::open(core.lab.namespace("ran")?, "acc0")?;
    let outside = Injector::open(core.lab.namespace("dn")?, "n6")?;
    let portless = |from, to, protocol| eth().ip(from, to).protocol(protocol).payload(&[0; 40]).build();
    let vxlan = |to| eth().ip(ROUTER, to).udp(40_000, 4789).build();

    core.expect("n6", &outside, &portless(GATEWAY, ROUTER, 47), Verdict::Drop(DropReason::Unsolicited))?;
    core.expect("acc0", &access, &portless(ROUTER, GATEWAY, 47), Verdict::Pass(Pass::Opened))?;
    core.expect("n6", &outside, &portless(GATEWAY, ROUTER, 47), Verdict::Pass(Pass::Established))?;
    core.expect("n6", &outside, &portless(OTHER, ROUTER, 47), Verdict::Drop(DropReason::Unsolicited))?;
    core.expect("acc0", &access, &portless(ROUTER, OTHER, 47), Verdict::Drop(DropReason::NoRule))?;
    core.expect("acc0", &access, &portless(ROUTER, GATEWAY, 50), Verdict::Drop(DropReason::NoRule))?;
    core.expect(
        "acc0",
        &access,
        &portless(ROUTER, GATEWAY, 89),
        Verdict::Drop(DropReason::UnsupportedProtocol),
    )?;
    core.expect("acc0", &access, &vxlan(GATEWAY), Verdict::Pass(Pass::Opened))?;
    core.expect("acc0", &access, &vxlan(OTHER), Verdict::Drop(DropReason::NoRule))
}
