//! A device's quota of flows, when nobody is left who could give anything back but the kernel.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::netns::{Client, Endpoint, SERVER, Servers};

use super::host::{Host, PATIENCE, POLICIES_OF_THE_DEMO, polled, words};

const PORT: u16 = 5000;
/// How long a flow lives: longer than it takes to fill the quota and to see that it is full, on a busy machine too.
const LIFE: Duration = Duration::from_secs(20);
/// What passes is answered within this time.
const ANSWER: Duration = Duration::from_secs(10);
/// What does not pass is waited for so long.
const SILENCE: Duration = Duration::from_millis(300);
/// What a dead flow keeps its place for, at most, and as much again for a busy machine.
const SWEPT: Duration = Duration::from_secs(60);

/// The demo's network with short flows, its chargers with room for two each, and one more port for them.
fn policy() -> Result<String> {
    let text = std::fs::read_to_string(Path::new(POLICIES_OF_THE_DEMO).join("10-network.yaml"))?;
    let life = LIFE.as_secs();
    let timeouts = format!("\nspec:\n  timeouts: {{udp: {life}s, udpUnanswered: {life}s}}\n");
    ensure!(text.contains("\nspec:\n"), "the demo's network is written in another way");
    Ok(text.replacen("\nspec:\n", &timeouts, 1)
        + &format!(
            "---
apiVersion: bulkhead/v1
kind: Segment
metadata: {{name: ev-chargers}}
spec: {{members: {{matchLabels: {{class: ev-charger}}}}, limits: {{flows: 2}}}}
---
apiVersion: bulkhead/v1
kind: Policy
metadata: {{name: quota}}
spec:
  subject: {{segment: ev-chargers}}
  allow: [{{name: coap, to: {{cidrs: [{}]}}, ports: [udp/{PORT}]}}]
",
            SERVER.v4
        ))
}

/// A call from a port of its own, so a flow of its own.
fn call(host: &Host, device: &str, patience: Duration) -> Result<bool> {
    let client = Client::new(host.lab.namespace(device)?).timeout(patience);
    Ok(client.udp(SocketAddr::new(IpAddr::V4(SERVER.v4), PORT), b"hello")?.echoed(b"hello"))
}

fn over_quota(host: &Host) -> Result<u64> {
    let status = host.status()?;
    let interfaces = status.json["interfaces"].as_array().cloned().unwrap_or_default();
    Ok(interfaces.iter().filter_map(|interface| interface["reasons"]["flow_quota"].as_u64()).sum())
}

#[test]
fn a_full_quota_has_room_again_after_the_timeout_with_the_agent_killed() -> Result<()> {
    let Some(mut host) = Host::enforcing()? else { return Ok(()) };
    let servers = Servers::new();
    servers.start(host.lab.namespace("dn")?, &[Endpoint::udp(SERVER.v4, PORT)])?;
    let applied = host.apply_text(&policy()?)?;
    ensure!(applied.status.success(), "{}", words(&applied));
    host.kill()?;
    let filled = Instant::now();
    for flow in 1..=2 {
        ensure!(call(&host, "charger-1", ANSWER)?, "flow {flow} is within the quota");
    }
    ensure!(!call(&host, "charger-1", SILENCE)?, "the third flow is over the quota");
    ensure!(call(&host, "charger-2", ANSWER)?, "and its neighbour has a quota of its own");
    ensure!(filled.elapsed() < LIFE, "it took {:?} to fill the quota", filled.elapsed());
    let again = polled(LIFE + SWEPT, || call(&host, "charger-1", SILENCE), |passes| *passes)?;
    ensure!(again, "{:?} later there is still no room: nobody sweeps", filled.elapsed());
    ensure!(
        filled.elapsed() >= LIFE,
        "there was room after {:?}: live flows were given up",
        filled.elapsed()
    );
    host.start()?;
    let refused = polled(PATIENCE, || over_quota(&host), |refused| *refused > 0)?;
    ensure!(refused > 0, "what was refused is counted as flow_quota: {}", host.status()?.text);
    Ok(())
}
