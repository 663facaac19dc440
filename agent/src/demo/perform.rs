//! Performs a case and observes what came of it, at both ends.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Result;

use super::case::{Act, Case, SCANNED, Source};
use crate::lab::client::{Client, Outcome};
use crate::lab::server::{Endpoint, Servers};
use crate::lab::topology::{DNS, FORBIDDEN, SERVER};
use crate::lab::witness::{Match, Witness};
use crate::lab::{Lab, Namespace};

/// What is sent and must come back: more than one packet holds.
const PAYLOAD: usize = 4096;
/// How long an attempt waits; a refused one waits this long in full.
const PATIENCE: Duration = Duration::from_millis(400);
/// How long one port of a scan waits.
const GLANCE: Duration = Duration::from_millis(40);

/// What came of an attempt.
#[derive(Clone, Debug)]
pub(crate) struct Observation {
    /// What the actor saw.
    pub(crate) outcome: Outcome,
    /// The payload came back unchanged.
    pub(crate) echoed: bool,
    /// Packets of the attempt that the kernel of the receiver counted.
    pub(crate) arrived: u64,
}

/// Starts the servers of the demo: those that devices may use, those they may not, and what runs on the devices.
pub(crate) fn start_servers(lab: &Lab) -> Result<Servers> {
    let servers = Servers::new();
    let dn = lab.namespace("dn")?;
    for cloud in SERVER.both() {
        let ports = [22, 23, 443, 8443, 8883, 9443];
        servers.start(dn, &ports.map(|port| Endpoint::tcp(cloud, port)))?;
    }
    for (forbidden, dns) in FORBIDDEN.both().into_iter().zip(DNS.both()) {
        servers.start(dn, &[Endpoint::tcp(forbidden, 443), Endpoint::udp(dns, 53)])?;
    }
    for device in &lab.topology().devices {
        let any: IpAddr = std::net::Ipv6Addr::UNSPECIFIED.into();
        servers.start(lab.namespace(&device.name)?, &[22, 502, 554].map(|port| Endpoint::tcp(any, port)))?;
    }
    Ok(servers)
}

/// Performs `case` once.
pub(crate) fn perform(lab: &Lab, case: &Case) -> Result<Observation> {
    let payload: Vec<u8> = (0..PAYLOAD).map(|i| i.to_le_bytes()[0]).collect();
    let witness = witness(lab, case.source.address(), case.act.target())?;
    let client = client(lab.namespace(case.actor)?, case.source);
    let outcome = match case.act {
        Act::Tcp(to) => client.tcp(to, &payload)?,
        // One packet each: fragments are a subject of their own.
        Act::Udp(to) => client.udp(to, &payload[..512])?,
        Act::Ping(to) => client.ping(to, &payload[..512])?,
        Act::Scan(to) => scan(&client.timeout(GLANCE), to)?,
    };
    let wanted = if matches!(case.act, Act::Tcp(_)) { &payload[..] } else { &payload[..512] };
    let echoed = outcome.echoed(wanted);
    Ok(Observation { echoed, outcome, arrived: witness.seen()? })
}

/// Opens the counter of packets from `source` at the host that has `target`.
pub(crate) fn witness(lab: &Lab, source: IpAddr, target: IpAddr) -> Result<Witness> {
    let device = lab.topology().devices.iter().find(|device| device.address.both().contains(&target));
    let (role, interface) = device.map_or(("dn", "n6"), |device| (device.name.as_str(), "radio"));
    Witness::open(lab.namespace(role)?, interface, Match { source: Some(source), destination: Some(target) })
}

fn client(namespace: &Namespace, source: Source) -> Client<'_> {
    let client = Client::new(namespace).timeout(PATIENCE);
    match source {
        Source::Own(address) => client.from(address),
        Source::Spoofed(address) => client.spoofing(address).timeout(GLANCE),
    }
}

/// Tries each port and an echo; anything but silence is a find.
fn scan(client: &Client<'_>, target: IpAddr) -> Result<Outcome> {
    let silent = |outcome: &Outcome| *outcome == Outcome::TimedOut;
    for port in SCANNED {
        let outcome = client.tcp(SocketAddr::new(target, port), b"hello")?;
        if !silent(&outcome) {
            return Ok(outcome);
        }
    }
    client.ping(target, b"hello")
}
