//! What a device may do, and that it is nobody else's loss.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bulkhead_common::verdict::{DropReason, Pass, Verdict};
use tests::frame::eth;
use tests::netns::{Client, Endpoint, Injector, Servers};

use crate::core::Core;
use crate::networks::apply_text;

const CLOUD: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10));
const LIMITED: Ipv4Addr = Ipv4Addr::new(10, 45, 0, 11);
const PORT: u16 = 5000;
/// What passes is answered within this time, on a busy machine too.
const ANSWER: Duration = Duration::from_secs(20);
/// What does not pass is waited for so long.
const SILENCE: Duration = Duration::from_millis(300);
/// The neighbour's calls while the other device floods.
const CALLS: u64 = 200;
/// Frames of the flood at least, and as many at once as every queue on the way has room for.
const FLOOD: u64 = 3000;
const BURST: u16 = 16;

/// charger-1 in a segment with limits, charger-2 in none.
fn policy(limits: &str, life: &str) -> String {
    format!(
        "apiVersion: bulkhead/v1
kind: Network
metadata: {{name: acme}}
spec:
  seenOn: [{{interface: acc0}}, {{interface: n6}}]
  pools: [10.45.0.0/16]
  timeouts: {{udp: {life}, udpUnanswered: {life}}}
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
fn call(core: &Core, role: &str, patience: Duration) -> Result<bool> {
    let client = Client::new(core.lab.namespace(role)?).timeout(patience);
    Ok(client.udp(SocketAddr::new(CLOUD, PORT), b"hello")?.echoed(b"hello"))
}

fn passes(core: &Core) -> Result<()> {
    ensure!(call(core, "charger-1", ANSWER)?, "refused within its limit: {:?}", core.drops("acc0")?);
    Ok(())
}

fn refused(core: &Core) -> Result<()> {
    ensure!(!call(core, "charger-1", SILENCE)?, "it passed over its limit");
    Ok(())
}

#[test]
fn a_changed_limit_holds_at_once_and_outlives_the_agent() -> Result<()> {
    let Some(mut core) = Core::start()? else { return Ok(()) };
    let servers = Servers::new();
    servers.start(core.lab.namespace("dn")?, &[Endpoint::udp(CLOUD, PORT)])?;
    apply_text(&mut core, &policy("flows: 1", "1h"))?;
    passes(&core)?;
    refused(&core)?;
    apply_text(&mut core, &policy("flows: 3", "1h"))?;
    passes(&core)?;
    passes(&core)?;
    core.datapath = None;
    refused(&core).context("no agent, and the limit holds")?;
    core.open()?;
    refused(&core).context("the next agent finds what is counted")?;
    let counted = core.counters("acc0")?.of(Verdict::Drop(DropReason::FlowQuota)).packets;
    assert_eq!(counted, 3, "{:?}", core.drops("acc0")?);
    apply_text(&mut core, &policy("newFlowsPerSecond: 100", "1h"))?;
    passes(&core).context("without the limit any number may be there")
}

/// charger-1 begins one flow after another, and goes on with each.
fn flood(access: &Injector, sent: &AtomicU64, over: &AtomicBool) -> Result<()> {
    while !over.load(Ordering::Relaxed) || sent.load(Ordering::Relaxed) < FLOOD {
        for port in 0..BURST {
            access.send(&eth().ip(LIMITED, CLOUD).udp(1024 + port, PORT).build())?;
        }
        sent.fetch_add(BURST.into(), Ordering::Relaxed);
        // The two devices share a link, and only its limit is on trial here.
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// How many of the neighbour's calls are answered while the other device is at its limit.
fn answered_under(core: &Core, access: &Injector) -> Result<u64> {
    let (sent, over) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let flood = scope.spawn(|| flood(access, &sent, &over));
        while sent.load(Ordering::Relaxed) < FLOOD / 10 && !flood.is_finished() {
            thread::sleep(Duration::from_millis(1));
        }
        let calls: Result<Vec<bool>> = (0..CALLS).map(|_| call(core, "charger-2", ANSWER)).collect();
        over.store(true, Ordering::Relaxed);
        flood.join().expect("the flood panicked")?;
        Ok(calls?.iter().map(|answered| u64::from(*answered)).sum())
    })
}

#[test]
fn a_device_at_its_limit_costs_its_neighbour_no_packet() -> Result<()> {
    let Some(mut core) = Core::start()? else { return Ok(()) };
    apply_text(&mut core, &policy("packetsPerSecond: 20, newFlowsPerSecond: 5", "1h"))?;
    let servers = Servers::new();
    servers.start(core.lab.namespace("dn")?, &[Endpoint::udp(CLOUD, PORT)])?;
    let access = Injector::open(core.lab.namespace("ran")?, "acc0")?;
    let started = Instant::now();
    let answered = answered_under(&core, &access)?;
    let seconds = started.elapsed().as_secs() + 1;
    ensure!(answered == CALLS, "{} of the neighbour's calls were lost", CALLS - answered);
    let counters = core.counters("acc0")?;
    let [packets, flows, opened, established] = [
        Verdict::Drop(DropReason::RateLimited),
        Verdict::Drop(DropReason::FlowRateLimited),
        Verdict::Pass(Pass::Opened),
        Verdict::Pass(Pass::Established),
    ]
    .map(|verdict| counters.of(verdict).packets);
    ensure!(packets > 0 && flows > 0, "the flood met too few limits: {:?}", core.drops("acc0")?);
    // A second's worth at once, and then a second's worth each second.
    let (passed, most) = (opened + established, CALLS + 20 * (seconds + 1));
    ensure!(passed <= most, "{passed} packets passed in {seconds} s, {most} may");
    Ok(())
}
