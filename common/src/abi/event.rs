//! The record that the program writes to the ring buffer.

use bytemuck::{Pod, Zeroable};

use super::addr::Addr;
use super::id::{DeviceId, Generation, NetworkId, RuleId};
use crate::case::Case;
use crate::verdict::Verdict;

/// A drop, or the first packet of a flow.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Event {
    /// Coarse monotonic time in nanoseconds.
    pub time: u64,
    /// The generation that judged the packet.
    pub generation: Generation,
    /// Where the frame entered.
    pub ifindex: u32,
    /// The network, or none.
    pub network: NetworkId,
    /// The device it is about, or none.
    pub device: DeviceId,
    /// The device at the other end, or none.
    pub peer: DeviceId,
    /// The deciding rule, or none.
    pub rule: RuleId,
    /// The packet's source (ARP: sender).
    pub source: Addr,
    /// The packet's destination (ARP and ND: target).
    pub destination: Addr,
    /// Source port; ICMP echo: identifier.
    pub source_port: u16,
    /// Destination port; ICMP echo: identifier.
    pub destination_port: u16,
    /// Outer VLAN number, 0 untagged.
    pub outer_vlan: u16,
    /// Inner VLAN number, 0 if none.
    pub inner_vlan: u16,
    /// The frame's length in bytes.
    pub length: u32,
    /// The GTP-U peer whose tunnel it came through, unspecified without one.
    pub tunnel_peer: Addr,
    /// TEID of that tunnel, 0 without one.
    pub teid: u32,
    /// EtherType as read, native order.
    pub ether_type: u16,
    /// The frame's source MAC address.
    pub source_mac: [u8; 6],
    /// [`crate::verdict::Verdict::code`].
    pub verdict: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// TCP flags, or the ICMP type.
    pub detail: u8,
    /// [`crate::verdict::Direction`] as a number.
    pub direction: u8,
    /// [`crate::parse::Kind`] as a number.
    pub kind: u8,
    /// Zero.
    pub _pad: [u8; 2],
}

impl Event {
    /// What is told of a packet at the end of its way.
    #[inline(always)]
    pub const fn of(case: &Case, verdict: Verdict, time: u64) -> Self {
        let Case { packet, evidence, .. } = case;
        Self {
            time,
            generation: case.epoch.generation,
            ifindex: case.arrival.ifindex,
            network: evidence.network,
            device: evidence.device,
            peer: evidence.peer,
            rule: evidence.rule,
            source: packet.source,
            destination: packet.destination,
            source_port: packet.source_port,
            destination_port: packet.destination_port,
            outer_vlan: packet.outer_vlan,
            inner_vlan: packet.inner_vlan,
            length: packet.length,
            tunnel_peer: packet.tunnel_peer,
            teid: packet.teid,
            ether_type: packet.ether_type,
            source_mac: packet.source_mac,
            verdict: verdict.code(),
            protocol: packet.protocol,
            detail: packet.detail,
            direction: evidence.direction as u8,
            kind: packet.kind as u8,
            _pad: [0; 2],
        }
    }
}
