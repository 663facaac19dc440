//! A remembered drop → the packet again, as far as deciding looks at it.

use bulkhead_common::parse::{Kind, Packet};
use bulkhead_common::verdict::DropReason;
use bulkhead_common::wire::{icmp, ip_proto};

use crate::policy::{Port, Portless, Protocol, first_packet};
use crate::telemetry::Record;

/// Bits in the order of RFC 9293 section 3.1, as records name them.
const TCP_FLAGS: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];

/// The reason that a record names.
pub(super) fn reason(record: &Record) -> Option<DropReason> {
    let label = record.reason.as_deref()?;
    DropReason::ALL.iter().find(|reason| reason.as_str() == label).copied()
}

/// The packet; nothing if its record does not hold all that deciding needs.
pub(super) fn packet(record: &Record) -> Option<Packet> {
    let (source, destination) = (record.source?, record.destination?);
    let first = first_packet(source, destination, port(record)?).ok()?;
    let mut packet = Packet {
        outer_vlan: record.vlan.unwrap_or_default(),
        inner_vlan: record.inner_vlan.unwrap_or_default(),
        teid: record.teid.unwrap_or_default(),
        tunnel_peer: record.tunnel_peer.map_or(first.tunnel_peer, Into::into),
        source_mac: record.source_mac.as_deref().and_then(mac).unwrap_or_default(),
        ..first
    };
    if first.kind == Kind::Ports {
        packet.source_port = record.source_port?;
        packet.detail = if first.protocol == ip_proto::TCP { flags(record) } else { 0 };
    } else if is_reply(record) {
        packet.kind = Kind::EchoReply;
        packet.detail = record.icmp_type?;
    }
    Some(packet)
}

fn port(record: &Record) -> Option<Port> {
    let name = record.protocol.as_deref()?;
    if let ("icmp" | "icmpv6", Some(kind)) = (name, record.icmp_type) {
        let request = matches!(kind, icmp::ECHO_REQUEST_V4 | icmp::ECHO_REQUEST_V6);
        return (request || is_reply(record)).then_some(Port::Echo);
    }
    if let Some(portless) = Portless::ALL.into_iter().find(|portless| portless.as_str() == name) {
        return Some(Port::Portless(portless));
    }
    let protocol = Protocol::ALL.into_iter().find(|protocol| protocol.as_str() == name)?;
    Some(Port::single(protocol, record.destination_port?))
}

/// Echo replies: type 0 (RFC 792) and 129 (RFC 4443).
fn is_reply(record: &Record) -> bool {
    matches!(record.icmp_type, Some(0 | 129))
}

fn flags(record: &Record) -> u8 {
    let set = record.tcp_flags.as_deref().unwrap_or_default().split('+');
    let bits = set.filter_map(|name| TCP_FLAGS.iter().position(|known| *known == name));
    bits.fold(0, |flags, bit| flags | (1 << bit))
}

fn mac(text: &str) -> Option<[u8; 6]> {
    let octets: Vec<u8> = text.split(':').map_while(|octet| u8::from_str_radix(octet, 16).ok()).collect();
    octets.try_into().ok()
}

#[cfg(test)]
mod tests {
    use bulkhead_common::wire::l4;
    use jiff::Timestamp;

    use super::*;
    use crate::telemetry::EventKind;

    fn record() -> Record {
        Record {
            reason: Some("no_rule".into()),
            source: Some([10, 45, 0, 11].into()),
            destination: Some([203, 0, 113, 10].into()),
            protocol: Some("tcp".into()),
            source_port: Some(40_000),
            destination_port: Some(443),
            tcp_flags: Some("SYN+ACK".into()),
            source_mac: Some("02:00:00:00:00:11".into()),
            vlan: Some(101),
            ..Record::new(Timestamp::UNIX_EPOCH, EventKind::Drop)
        }
    }

    #[test]
    fn a_record_holds_the_packet() {
        let again = packet(&record()).unwrap();
        assert_eq!((again.source_port, again.destination_port), (40_000, 443));
        assert_eq!((again.outer_vlan, again.inner_vlan), (101, 0));
        assert_eq!(again.source_mac, [2, 0, 0, 0, 0, 0x11]);
        assert_eq!(again.detail, l4::TCP_SYN | 0x10);
        assert_eq!(reason(&record()), Some(DropReason::NoRule));
    }

    #[test]
    fn an_echo_reply_stays_one() {
        let reply = Record { protocol: Some("icmp".into()), icmp_type: Some(0), ..record() };
        assert_eq!(packet(&reply).unwrap().kind, Kind::EchoReply);
        let error = Record { icmp_type: Some(3), ..reply };
        assert_eq!(packet(&error), None);
    }

    #[test]
    fn what_is_missing_is_not_made_up() {
        assert_eq!(packet(&Record { destination: None, ..record() }), None);
        assert_eq!(packet(&Record { destination_port: None, ..record() }), None);
        assert_eq!(packet(&Record { protocol: Some("132".into()), ..record() }), None);
    }
}
