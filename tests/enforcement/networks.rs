//! Two private APNs with the same addresses on one link, told apart by VLAN: they never meet.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;
use bulkhead::policy::{self, Ids, SourceFile};
use bulkhead::tables::{Host, HostInterface};
use bulkhead_common::verdict::{DropReason, Pass, Verdict};
use tests::frame::{Frame, eth};
use tests::netns::Injector;

use crate::core::{Core, LINKS};

const AGENT: &str = r"
apiVersion: bulkhead/v1
kind: Agent
metadata: {name: core}
spec:
  interfaces:
    - {name: acc0, roles: [access], transit: drop}
    - {name: acc1, roles: [access], transit: drop}
    - {name: n6, roles: [core], transit: pass}
";

/// `red` may open tcp/443 to the server, `blue` may not; both have 10.45.0.7. `bound` must enter by acc0.
const POLICY: &str = r#"
apiVersion: bulkhead/v1
kind: Network
metadata: {name: red}
spec:
  seenOn: [{interface: acc0, vlan: 10}, {interface: acc1, vlan: 10}, {interface: acc1, vlan: 30, innerVlan: 7}, {interface: n6, vlan: 10}]
  pools: [10.45.0.0/16]
---
apiVersion: bulkhead/v1
kind: Network
metadata: {name: blue}
spec: {seenOn: [{interface: acc1, vlan: 20}, {interface: n6, vlan: 20}], pools: [10.45.0.0/16]}
---
apiVersion: bulkhead/v1
kind: Segment
metadata: {name: red-ones}
spec: {members: {matchLabels: {colour: red}}}
---
apiVersion: bulkhead/v1
kind: Device
metadata: {name: red-7, labels: {colour: red}}
spec: {network: red, addresses: [10.45.0.7]}
---
apiVersion: bulkhead/v1
kind: Device
metadata: {name: red-bound, labels: {colour: red}}
spec: {network: red, addresses: [10.45.0.8], binding: {interface: acc0}}
---
apiVersion: bulkhead/v1
kind: Device
metadata: {name: blue-7, labels: {colour: blue}}
spec: {network: blue, addresses: [10.45.0.7]}
---
apiVersion: bulkhead/v1
kind: Policy
metadata: {name: red}
spec:
  subject: {segment: red-ones}
  allow: [{name: web, to: {cidrs: [203.0.113.10/32]}, ports: [tcp/443]}]
"#;

const SEVEN: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 45, 0, 7));
const BOUND: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 45, 0, 8));
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10));

#[test]
fn networks_with_the_same_addresses_never_meet() -> Result<()> {
    let Some(mut core) = Core::start()? else { return Ok(()) };
    apply(&mut core)?;
    let access = Injector::open(core.lab.namespace("ran")?, "acc1")?;
    let outside = Injector::open(core.lab.namespace("dn")?, "n6")?;
    let up = |tags: fn(Frame) -> Frame| tags(eth()).ip(SEVEN, SERVER).tcp(40_000, 443).build();
    let down = |tags: fn(Frame) -> Frame| tags(eth()).ip(SERVER, SEVEN).tcp(443, 40_000).build();

    core.expect("acc1", &access, &up(|f| f.vlan(20)), Verdict::Drop(DropReason::NoRule))?;
    core.expect("acc1", &access, &up(|f| f.vlan(10)), Verdict::Pass(Pass::Opened))?;
    core.expect("acc1", &access, &up(|f| f.vlan(10)), Verdict::Pass(Pass::Established))?;
    // The live flow of red is nothing to blue, whichever way.
    core.expect("acc1", &access, &up(|f| f.vlan(20)), Verdict::Drop(DropReason::NoRule))?;
    core.expect("n6", &outside, &down(|f| f.vlan(20)), Verdict::Drop(DropReason::Unsolicited))?;
    core.expect("n6", &outside, &down(|f| f.vlan(10)), Verdict::Pass(Pass::Established))?;
    // Nor is it anything to a place where no network is seen.
    core.expect("acc1", &access, &up(|f| f.vlan(11)), Verdict::Drop(DropReason::UnknownVlan))?;
    core.expect("acc1", &access, &up(|f| f), Verdict::Drop(DropReason::UnknownVlan))?;
    core.expect("n6", &outside, &down(|f| f.service_vlan(10).vlan(7)), Verdict::Drop(DropReason::UnknownVlan))
}

#[test]
fn a_live_flow_from_another_link_or_vlan_is_spoofed() -> Result<()> {
    let Some(mut core) = Core::start()? else { return Ok(()) };
    apply(&mut core)?;
    let first = Injector::open(core.lab.namespace("ran")?, "acc0")?;
    let second = Injector::open(core.lab.namespace("ran")?, "acc1")?;
    let up = |tags: fn(Frame) -> Frame| tags(eth()).ip(SEVEN, SERVER).tcp(40_000, 443).build();

    core.expect("acc0", &first, &up(|f| f.vlan(10)), Verdict::Pass(Pass::Opened))?;
    core.expect("acc1", &second, &up(|f| f.vlan(10)), Verdict::Drop(DropReason::SpoofedSource))?;
    let stacked = up(|f| f.service_vlan(30).vlan(7));
    core.expect("acc1", &second, &stacked, Verdict::Drop(DropReason::SpoofedSource))?;
    core.expect("acc0", &first, &up(|f| f.vlan(10)), Verdict::Pass(Pass::Established))?;

    // A bound device is held to its place without any flow.
    let bound = eth().vlan(10).ip(BOUND, SERVER).tcp(40_000, 443).build();
    core.expect("acc1", &second, &bound, Verdict::Drop(DropReason::SpoofedSource))?;
    core.expect("acc0", &first, &bound, Verdict::Pass(Pass::Opened))
}

fn apply(core: &mut Core) -> Result<()> {
    apply_text(core, POLICY)
}

/// Compiles a policy for the lab's core and puts it in force.
pub(crate) fn apply_text(core: &mut Core, policy: &str) -> Result<()> {
    let agent = policy::parse_agent(vec![SourceFile::new("agent.yaml", AGENT)]).map_err(readable)?;
    let loaded =
        policy::parse(vec![SourceFile::new("policy.yaml", policy)], Some(&agent)).map_err(readable)?;
    let mut host = Host::default();
    // As the lab's wiring numbers the links.
    for ((name, _), net) in LINKS.into_iter().zip(1..) {
        let addresses = vec![format!("10.99.{net}.1/30").parse()?, format!("fd00:99:{net}::1/64").parse()?];
        let interface = HostInterface { ifindex: core.ifindex(name)?, addresses, ..HostInterface::default() };
        host.interfaces.insert(name.to_owned(), interface);
    }
    let compiled = policy::compile(&loaded.policy, &agent, &host, &mut Ids::default()).map_err(readable)?;
    core.apply(&compiled.tables)
}

fn readable(problems: policy::Diagnostics) -> anyhow::Error {
    anyhow::anyhow!(problems.render(false))
}
