//! What a device may do, and that it is nobody else's loss.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bulkhead_common::verdict::{DropReason, Verdict};
use tests::frame::eth;
use tests::netns::{Client, Endpoint, Injector, Servers};

use crate::core::Core;
use crate::networks::apply_text;

const CLOUD: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10));
const LIMITED: Ipv4Addr = Ipv4Addr::new(10, 45, 0, 11);
const PORT: u16 = 5000;

/// charger-1 in a segment with limits, charger-2 in none.
fn policy(limits: &str, patience: &str) -> String {
    format!(
        "apiVersion: bulkhead/v1
kind: Network
metadata: {{name: acme}}
spec:
  seenOn: [{{interface: acc0}}, {{interface: n6}}]
  pools: [10.45.0.0/16]
  timeouts: {{udp: {patience}, udpUnanswered: {patience}}}
---
kind: Segment
metadata: {{name: limited}}
spec: {{members: {{matchLabels: {{class: limited}}}}, limits: {{{limits}}}}}
---
kind: Device
metadata: {{name: charger-1, labels: {{class: limited, site: oslo}}}}
spec: {{network: acme, addresses: [10.45.0.11]}}
---
kind: Device
metadata: {{name: charger-2, labels: {{site: oslo}}}}
spec: {{network: acme, addresses: [10.45.0.12]}}
---
kind: Policy
metadata: {{name: cloud}}
spec:
  subject: {{matchLabels: {{site: oslo}}}}
  allow: [{{name: all, to: {{cidrs: [203.0.113.10]}}, ports: [udp/5000]}}]
"
    )
}

/// A call from a port of its own, so a flow of its own.
fn call(core: &Core, role: &str) -> Result<bool> {
    let client = Client::new(core.lab.namespace(role)?).timeout(Duration::from_millis(400));
    Ok(client.udp(SocketAddr::new(CLOUD, PORT), b"hello")?.echoed(b"hello"))
}

#[test]
fn a_full_quota_has_room_again_after_the_timeout_without_an_agent() -> Result<()> {
    let Some(mut core) = Core::start()? else { return Ok(()) };
    apply_text(&mut core, &policy("flows: 2", "1s"))?;
    let servers = Servers::new();
    servers.start(core.lab.namespace("dn")?, &[Endpoint::udp(CLOUD, PORT)])?;
    core.datapath = None;
    // Three at once: at most two within the second that a flow lives.
    let calls = [call(&core, "charger-1")?, call(&core, "charger-1")?, call(&core, "charger-1")?];
    assert_eq!(calls, [true, true, false], "the third is over the quota");
    // The second that they live, the time in which an agent would tell their end, and a round of the sweep.
    thread::sleep(Duration::from_secs(7));
    assert!(call(&core, "charger-1")?, "the timer has swept what was dead");
    core.open()?;
    let refused = core.counters("acc0")?.of(Verdict::Drop(DropReason::FlowQuota)).packets;
    assert_eq!(refused, 1, "{:?}", core.drops("acc0")?);
    Ok(())
}

#[test]
fn a_changed_limit_holds_at_once_and_outlives_the_agent() -> Result<()> {
    let Some(mut core) = Core::start()? else { return Ok(()) };
    let servers = Servers::new();
    servers.start(core.lab.namespace("dn")?, &[Endpoint::udp(CLOUD, PORT)])?;
    apply_text(&mut core, &policy("flows: 1", "60s"))?;
    assert_eq!([call(&core, "charger-1")?, call(&core, "charger-1")?], [true, false]);
    apply_text(&mut core, &policy("flows: 3", "60s"))?;
    assert_eq!([call(&core, "charger-1")?, call(&core, "charger-1")?], [true, true]);
    core.datapath = None;
    assert!(!call(&core, "charger-1")?, "no agent, and the limit holds");
    core.open()?;
    assert!(!call(&core, "charger-1")?, "the next agent finds what is counted");
    apply_text(&mut core, &policy("newFlowsPerSecond: 100", "60s"))?;
    assert!(call(&core, "charger-1")?, "without the limit any number may be there");
    Ok(())
}

#[test]
fn a_device_at_its_limit_costs_its_neighbour_no_packet() -> Result<()> {
    let Some(mut core) = Core::start()? else { return Ok(()) };
    apply_text(&mut core, &policy("packetsPerSecond: 20, newFlowsPerSecond: 5", "1s"))?;
    let servers = Servers::new();
    servers.start(core.lab.namespace("dn")?, &[Endpoint::udp(CLOUD, PORT)])?;
    let access = Injector::open(core.lab.namespace("ran")?, "acc0")?;
    let (started, over) = (Instant::now(), AtomicBool::new(false));
    let answered = thread::scope(|scope| -> Result<u64> {
        let flood = scope.spawn(|| -> Result<()> {
            for port in (1024..60_000).cycle() {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                access.send(&eth().ip(LIMITED, CLOUD).udp(port % 64 + 1024, PORT).build())?;
            }
            Ok(())
        });
        let answered =
            (0..200).map(|_| call(&core, "charger-2")).filter(|call| *call.as_ref().unwrap_or(&false));
        let answered = answered.count() as u64;
        over.store(true, Ordering::Relaxed);
        flood.join().expect("the flood panicked")?;
        Ok(answered)
    })?;
    let seconds = started.elapsed().as_secs() + 1;
    ensure!(answered == 200, "{} of the neighbour's calls were lost", 200 - answered);
    let counters = core.counters("acc0")?;
    let dropped = |reason| counters.of(Verdict::Drop(reason)).packets;
    let limited = dropped(DropReason::RateLimited) + dropped(DropReason::FlowRateLimited);
    ensure!(limited > 500, "the flood met no limit: {:?}", core.drops("acc0")?);
    let arrived = servers.received(SocketAddr::new(CLOUD, PORT)).datagrams;
    // A second's worth at once, and then a second's worth each second.
    let most = 200 + 20 * (seconds + 1);
    ensure!(arrived <= most, "{arrived} datagrams arrived in {seconds} s, {most} may");
    Ok(())
}
