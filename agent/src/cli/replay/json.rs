//! A replay for programs: one object a packet, and the summary as the last one.

use std::io::{self, Write};
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::replay::{By, Summary, Told};
use crate::telemetry::{Label, Outcome};

/// Writes objects, one a line.
pub(super) struct Json;

impl Json {
    /// One packet.
    pub(super) fn packet(&self, told: &Told, out: &mut dyn Write) -> io::Result<()> {
        line(&Packet::of(told), out)
    }

    /// What became of all; the only object with the key `summary`.
    pub(super) fn summary(&self, summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
        line(&Last { summary }, out)
    }
}

fn line(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

#[derive(Serialize)]
struct Last<'a> {
    summary: &'a Summary,
}

/// The fields of a packet. The first are in every object, `null` if there is nothing to say; the others are absent then.
/// Names and meaning are those of [`crate::telemetry::Record`].
#[derive(Serialize)]
struct Packet<'a> {
    n: u64,
    #[serde(serialize_with = "microseconds")]
    time: Option<Timestamp>,
    interface: Option<&'a Label>,
    verdict: Option<Outcome>,
    reason: Option<&'a Label>,
    device: Option<&'a Label>,
    rule: Option<&'a Label>,
    direction: Option<&'a Label>,
    network: Option<&'a Label>,
    segment: Option<&'a Label>,
    peer: Option<&'a Label>,
    source: Option<IpAddr>,
    source_port: Option<u16>,
    destination: Option<IpAddr>,
    destination_port: Option<u16>,
    protocol: Option<&'a Label>,
    bytes: Option<u64>,
    judged_by: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    captured_bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nearest: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vlan: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inner_vlan: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tunnel_peer: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    teid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ether_type: Option<&'a Label>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp_flags: Option<&'a Label>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp_type: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_mac: Option<&'a Label>,
}

impl<'a> Packet<'a> {
    fn of(told: &'a Told) -> Self {
        let record = &told.record;
        Self {
            n: told.number,
            time: told.time,
            interface: record.interface.as_ref(),
            verdict: record.verdict,
            reason: record.reason.as_ref(),
            device: record.device.as_ref(),
            rule: record.rule.as_ref(),
            direction: record.direction.as_ref(),
            network: record.network.as_ref(),
            segment: record.segment.as_ref(),
            peer: record.peer.as_ref(),
            source: record.source,
            source_port: record.source_port,
            destination: record.destination,
            destination_port: record.destination_port,
            protocol: record.protocol.as_ref(),
            bytes: record.bytes,
            judged_by: judged_by(told.by),
            captured_bytes: told.captured,
            nearest: record.nearest.as_deref(),
            vlan: record.vlan,
            inner_vlan: record.inner_vlan,
            tunnel_peer: record.tunnel_peer,
            teid: record.teid,
            ether_type: record.ether_type.as_ref(),
            tcp_flags: record.tcp_flags.as_ref(),
            icmp_type: record.icmp_type,
            source_mac: record.source_mac.as_ref(),
        }
    }
}

const fn judged_by(by: By) -> Option<&'static str> {
    match by {
        By::Program => Some("program"),
        By::Engine => Some("engine"),
        By::NobodyLeaves | By::NobodyCut => None,
    }
}

/// Always six digits, as records have them.
fn microseconds<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.collect_str(&format_args!("{time:.6}")),
        None => serializer.serialize_none(),
    }
}
