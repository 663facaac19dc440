//! The public record of a drop or a flow: one JSON object a line, documented in the crate's README.
//!
//! Fields are only ever added. A field that does not apply is absent.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};

use super::id::EventId;
use super::label::Label;

/// What a record tells of.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A packet was dropped.
    Drop,
    /// A packet passed a witness that no interface of this host had let through.
    Witness,
    /// A packet passed that policy refuses: everybody who does only observes.
    WouldDrop,
    /// A packet opened a flow.
    FlowOpen,
    /// A flow ended.
    FlowEnd,
    /// A flow is alive.
    Flow,
    /// Events that no record tells of.
    Gap,
}

/// What became of the packet, or of the flow's packets.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It went on.
    Pass,
    /// It ended at the interface.
    Drop,
}

/// Why a flow ended.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowEnd {
    /// A TCP FIN or RST was seen.
    Closed,
    /// Nothing was sent for as long as its rule allows.
    Idle,
    /// The responder never answered.
    Unanswered,
    /// A changed policy no longer allows it.
    Cut,
}

/// Events that no record tells of; interface counters hold them all the same.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Gap {
    /// All of the following together.
    pub not_shown: u64,
    /// Over the program's event budget.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub suppressed: u64,
    /// The ring was full.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u64,
    /// Not understood by this agent.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub undecodable: u64,
    /// Records that this reader was too slow for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skipped: u64,
    /// Of `suppressed` and `lost`, by reason, as far as the interface counters tell.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reasons: BTreeMap<Label, u64>,
}

/// A drop, a flow, or a gap in the telling.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Record {
    /// When it happened; RFC 3339 with microseconds. Of a folded record: when it last happened.
    #[serde(serialize_with = "microseconds")]
    pub time: Timestamp,
    /// What `explain` takes; drops and would-drops only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<EventId>,
    /// What the record tells of.
    pub event: EventKind,
    /// What became of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Outcome>,
    /// Why, a label of `bulkhead_common::verdict`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Label>,
    /// `up`, `down` or `transit`, from the device's view. Of a flow: of its first packet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<Label>,
    /// The network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Label>,
    /// Where the frame entered. Of a flow: where the device's frames enter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<Label>,
    /// Outer VLAN number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// Inner VLAN number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inner_vlan: Option<u16>,
    /// The device it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<Label>,
    /// That device's segment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment: Option<Label>,
    /// The device at the other end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<Label>,
    /// The deciding rule, as `policy/rule`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Label>,
    /// The rule that came nearest to allowing it, and what it lacked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
    /// The operator's policy number that was in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// The kernel's number of the tables that judged it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// Source address. Of a flow: its initiator's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// Source port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    /// Destination address. Of a flow: its responder's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<IpAddr>,
    /// Destination port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<u16>,
    /// `tcp`, `udp`, `sctp`, `icmp`, `icmpv6`, `arp`, or the IP protocol's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Label>,
    /// EtherType as `0x88cc`, if it is not IP or ARP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ether_type: Option<Label>,
    /// TCP flags as `SYN+ACK`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_flags: Option<Label>,
    /// ICMP type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_type: Option<u8>,
    /// The GTP-U peer whose tunnel it came through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tunnel_peer: Option<IpAddr>,
    /// TEID of that tunnel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teid: Option<u32>,
    /// The frame's source MAC address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_mac: Option<Label>,
    /// Packets; of a drop or a flow's first packet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets: Option<u64>,
    /// Bytes of these packets' frames.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Packets that the device sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets_up: Option<u64>,
    /// Bytes of these packets' frames.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_up: Option<u64>,
    /// Packets that were sent to the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets_down: Option<u64>,
    /// Bytes of these packets' frames.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_down: Option<u64>,
    /// From a flow's first packet to its last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Why a flow ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<FlowEnd>,
    /// How many events this record stands for, if more than one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The time over which they were counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_ms: Option<u64>,
    /// What is missing; of a gap only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
}

impl Record {
    /// A record that says nothing but when and of what.
    pub fn new(time: Timestamp, event: EventKind) -> Self {
        Self {
            time,
            event,
            id: None,
            verdict: None,
            reason: None,
            direction: None,
            network: None,
            interface: None,
            vlan: None,
            inner_vlan: None,
            device: None,
            segment: None,
            peer: None,
            rule: None,
            nearest: None,
            revision: None,
            generation: None,
            source: None,
            source_port: None,
            destination: None,
            destination_port: None,
            protocol: None,
            ether_type: None,
            tcp_flags: None,
            icmp_type: None,
            tunnel_peer: None,
            teid: None,
            source_mac: None,
            packets: None,
            bytes: None,
            packets_up: None,
            bytes_up: None,
            packets_down: None,
            bytes_down: None,
            duration_ms: None,
            end: None,
            count: None,
            window_ms: None,
            gap: None,
        }
    }

    /// A gap.
    pub fn of_gap(time: Timestamp, gap: Gap) -> Self {
        Self { gap: Some(gap), ..Self::new(time, EventKind::Gap) }
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Always six digits, so that lines sort as text.
fn microseconds<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.6}"))
}
