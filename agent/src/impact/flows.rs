//! Live flows that a change would cut.
//!
//! Each flow's first packet and an answer to it are judged by the tables in force and by those to
//! come, as they would arrive now. Only what passes by the first and not by the second is cut; a
//! flow that the tables in force do not pass as it was put together again is not judged at all, and counted as such.

use bulkhead_common::abi::key::VLAN_OTHER;
use bulkhead_common::abi::value::{DEVICE_MAC_BOUND, INITIATOR_LOCAL, ROLE_CORE};
use bulkhead_common::abi::{Addr, DeviceId, Flow, NetworkId};
use bulkhead_common::parse::{Kind, Packet};
use bulkhead_common::wire::{ether_type, icmp, ip_proto, l4};

use crate::policy::{Compiled, Portless};
use crate::tables::{Image, Place, Tables};

/// Examples that are kept for people.
const EXAMPLES: usize = 5;
/// Between two flows, so that none counts against the limits of another.
const STEP_NS: u64 = 1_000_000_000_000;
/// TCP's acknowledgement flag (RFC 9293 section 3.1).
const ACK: u8 = 0x10;

/// What would become of one flow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Judged {
    /// It goes on.
    Holds,
    /// It would be cut.
    Cut,
    /// It cannot be told.
    Unknown,
}

/// Live flows by what a change does to them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flows {
    /// How many live.
    pub live: u64,
    /// Those that would be cut.
    pub cut: Vec<Flow>,
    /// How many could not be judged.
    pub unknown: u64,
    /// Some of those that would be cut, as `charger-1 → 203.0.113.10 tcp/443, allowed by ev/ocpp`.
    pub examples: Vec<String>,
}

impl Flows {
    /// Judges every live flow by both, at a boot time in nanoseconds.
    pub fn judge(before: &Compiled, after: &Compiled, live: &[Flow], boot: u64) -> Self {
        let mut flows = Self { live: live.len() as u64, ..Self::default() };
        if live.is_empty() {
            return flows;
        }
        let bench = Bench { before, images: [Image::new(&before.tables), Image::new(&after.tables)], boot };
        for (flow, turn) in live.iter().zip(1..) {
            match bench.judge(flow, turn) {
                Judged::Holds => {}
                Judged::Cut => flows.cut.push(*flow),
                Judged::Unknown => flows.unknown += 1,
            }
        }
        flows.examples = flows.cut.iter().take(EXAMPLES).map(|flow| describe(flow, before)).collect();
        flows
    }
}

/// Both sets of tables.
struct Bench<'a> {
    before: &'a Compiled,
    images: [Image; 2],
    boot: u64,
}

/// A packet and everywhere that it may arrive.
struct Arriving {
    packet: Packet,
    places: Vec<Place>,
}

impl Bench<'_> {
    fn judge(&self, flow: &Flow, turn: u64) -> Judged {
        let exchange = self.exchange(flow);
        let [before, after] = self.images.each_ref().map(|image| {
            image.set_now(turn.saturating_mul(STEP_NS), self.boot);
            image.forget_flows();
            exchange.iter().all(|arriving| arriving.passes(image))
        });
        match (before, after) {
            (true, true) => Judged::Holds,
            (true, false) => Judged::Cut,
            (false, _) => Judged::Unknown,
        }
    }

    /// The first packet, and an answer where one has come or may come.
    fn exchange(&self, flow: &Flow) -> Vec<Arriving> {
        let by_local = self.by_local(flow);
        let by_remote = self.by_remote(flow);
        let (first, answer) = match flow.initiator == INITIATOR_LOCAL {
            true => (by_local, by_remote),
            false => (by_remote, by_local),
        };
        let first = Arriving { packet: opening(first.packet), ..first };
        let answer = Arriving { packet: answering(answer.packet), ..answer };
        // A peer that never answered has no place yet.
        if answer.places.is_empty() { vec![first] } else { vec![first, answer] }
    }

    fn by_local(&self, flow: &Flow) -> Arriving {
        let places = accessed(flow.access[0]).into_iter().collect();
        let packet =
            packet(flow, (flow.key.local, flow.key.local_port), (flow.key.remote, flow.key.remote_port));
        self.of_device(flow.key.device, flow.key.network, packet, places)
    }

    fn by_remote(&self, flow: &Flow) -> Arriving {
        let packet =
            packet(flow, (flow.key.remote, flow.key.remote_port), (flow.key.local, flow.key.local_port));
        match flow.peer.is_none() {
            true => Arriving { packet, places: core_places(&self.before.tables, flow.key.network) },
            false => {
                let places = accessed(flow.access[1]).into_iter().collect();
                self.of_device(flow.peer, flow.key.network, packet, places)
            }
        }
    }

    /// Adds what a frame of the device carries: the MAC address and the tunnel that it is bound to now.
    fn of_device(
        &self,
        device: DeviceId,
        network: NetworkId,
        mut packet: Packet,
        places: Vec<Place>,
    ) -> Arriving {
        if let Some(row) = self.before.tables.devices.get(&device) {
            if row.flags & DEVICE_MAC_BOUND != 0 {
                packet.source_mac = row.mac;
            }
            packet.teid = row.teid;
        }
        if packet.teid == 0 {
            packet.teid = places.first().map_or(0, |place| any_teid(&self.before.tables, *place, network));
        }
        Arriving { packet, places }
    }
}

impl Arriving {
    fn passes(&self, image: &Image) -> bool {
        self.places.iter().any(|place| {
            let packet = Packet { outer_vlan: place.outer_vlan, inner_vlan: place.inner_vlan, ..self.packet };
            image.judge_packet(packet, place.ifindex).0.passes()
        })
    }
}

/// Where frames with this access word enter; nothing before the first.
fn accessed(word: u64) -> Option<Place> {
    let (ifindex, outer_vlan, inner_vlan) = Flow::place(word);
    (word != 0).then_some(Place { ifindex, outer_vlan, inner_vlan })
}

/// Where frames for devices of a network may enter: flows do not say where theirs did.
fn core_places(tables: &Tables, network: NetworkId) -> Vec<Place> {
    let fits = tables.subinterfaces.iter().filter(|(place, facts)| {
        facts.network == network && facts.roles & ROLE_CORE != 0 && place.outer_vlan != VLAN_OTHER
    });
    fits.map(|(place, _)| *place).collect()
}

/// A tunnel that leads to the network at a place; 0 where no tunnels end.
fn any_teid(tables: &Tables, place: Place, network: NetworkId) -> u32 {
    let Some(tunnels) = tables.subinterfaces.get(&place).map(|facts| &facts.tunnels) else { return 0 };
    if tunnels.endpoints.is_empty() {
        return 0;
    }
    let listed = tunnels.teids.iter().find(|range| range.scope == network.0);
    // TEIDs are the low bits of an address there.
    listed.map_or(u32::MAX, |range| range.first.low() as u32)
}

fn packet(flow: &Flow, from: (Addr, u16), to: (Addr, u16)) -> Packet {
    let v4 = flow.key.local.is_v4();
    let echo = matches!(flow.key.protocol, ip_proto::ICMP | ip_proto::ICMPV6);
    let kind = match flow.key.protocol {
        ip_proto::ICMP | ip_proto::ICMPV6 => Kind::EchoRequest,
        protocol if ip_proto::is_portless(protocol) => Kind::Portless,
        _ => Kind::Ports,
    };
    // The identifier of an echo is in the local port; the remote one says who asks.
    let port = |port| if echo { flow.key.local_port } else { port };
    Packet {
        source: from.0,
        destination: to.0,
        source_port: port(from.1),
        destination_port: port(to.1),
        length: 64,
        ether_type: if v4 { ether_type::IPV4 } else { ether_type::IPV6 },
        protocol: flow.key.protocol,
        kind,
        ..Packet::EMPTY
    }
}

fn opening(packet: Packet) -> Packet {
    let detail = match packet.protocol {
        ip_proto::TCP => l4::TCP_SYN,
        ip_proto::ICMP => icmp::ECHO_REQUEST_V4,
        ip_proto::ICMPV6 => icmp::ECHO_REQUEST_V6,
        _ => 0,
    };
    Packet { detail, ..packet }
}

fn answering(packet: Packet) -> Packet {
    let (kind, detail) = match packet.protocol {
        ip_proto::TCP => (packet.kind, l4::TCP_SYN | ACK),
        // Echo replies (RFC 792, RFC 4443).
        ip_proto::ICMP => (Kind::EchoReply, 0),
        ip_proto::ICMPV6 => (Kind::EchoReply, 129),
        _ => (packet.kind, 0),
    };
    Packet { kind, detail, ..packet }
}

fn describe(flow: &Flow, before: &Compiled) -> String {
    let catalogue = &before.catalogue;
    let device = catalogue.devices.get(&flow.key.device).map_or_else(|| "?".to_owned(), ToString::to_string);
    let remote = match catalogue.devices.get(&flow.peer) {
        Some(peer) => peer.to_string(),
        None => flow.key.remote.to_ip().to_string(),
    };
    let service = if flow.initiator == INITIATOR_LOCAL { flow.key.remote_port } else { flow.key.local_port };
    let port = match flow.key.protocol {
        ip_proto::TCP => format!("tcp/{service}"),
        ip_proto::UDP => format!("udp/{service}"),
        ip_proto::SCTP => format!("sctp/{service}"),
        ip_proto::ICMP | ip_proto::ICMPV6 => "icmp/echo".to_owned(),
        other => match Portless::from_number(other) {
            Some(portless) => portless.as_str().to_owned(),
            None => format!("protocol {other}"),
        },
    };
    let ends = if flow.initiator == INITIATOR_LOCAL { [device, remote] } else { [remote, device] };
    let rule =
        catalogue.rules.get(&flow.rule()).map(|rule| format!(", allowed by {rule}")).unwrap_or_default();
    format!("{} → {} {port}{rule}", ends[0], ends[1])
}
