//! Both ends of a packet, its own or one that an error is about, and the key of the flow that it belongs to.

use crate::abi::key::{ECHO_BY_LOCAL, ECHO_BY_REMOTE};
use crate::abi::{Addr, DeviceId, FlowKey, NetworkId};
use crate::parse::{Kind, Packet};
use crate::wire::embedded::Embedded;
use crate::wire::l4::Ports;

/// Who says what to whom.
#[derive(Clone, Copy, Debug)]
pub struct Ends<'a> {
    source: &'a Addr,
    destination: &'a Addr,
    source_port: u16,
    destination_port: u16,
    protocol: u8,
    kind: Kind,
}

impl<'a> Ends<'a> {
    /// The ends of a packet that is judged.
    #[inline(always)]
    pub const fn of(packet: &'a Packet) -> Self {
        Self {
            source: &packet.source,
            destination: &packet.destination,
            source_port: packet.source_port,
            destination_port: packet.destination_port,
            protocol: packet.protocol,
            kind: packet.kind,
        }
    }

    /// The ends of a packet with ports.
    #[inline(always)]
    pub const fn plain(source: &'a Addr, destination: &'a Addr, ports: Ports, protocol: u8) -> Self {
        let Ports { source: source_port, destination: destination_port } = ports;
        Self { source, destination, source_port, destination_port, protocol, kind: Kind::Ports }
    }

    /// The ends of a packet inside an ICMP error.
    #[inline(always)]
    pub const fn inside(packet: &'a Embedded) -> Self {
        Self {
            source: &packet.source,
            destination: &packet.destination,
            source_port: packet.source_port,
            destination_port: packet.destination_port,
            protocol: packet.protocol,
            kind: packet.kind,
        }
    }

    /// The key of their flow as the device `local` sees it; `sent` says that it is the source.
    #[inline(always)]
    pub const fn key(&self, network: NetworkId, local: DeviceId, sent: bool) -> FlowKey {
        let mut key = FlowKey {
            network,
            device: local,
            local: if sent { *self.source } else { *self.destination },
            remote: if sent { *self.destination } else { *self.source },
            local_port: if sent { self.source_port } else { self.destination_port },
            remote_port: if sent { self.destination_port } else { self.source_port },
            protocol: self.protocol,
            _pad: [0; 3],
        };
        // An echo has its identifier on both sides: the remote one says who asks (Chosen in a function of its own, it takes
        // 24 of the stack's 512 bytes more.)
        match self.kind {
            Kind::EchoRequest => key.remote_port = if sent { ECHO_BY_LOCAL } else { ECHO_BY_REMOTE },
            Kind::EchoReply => key.remote_port = if sent { ECHO_BY_REMOTE } else { ECHO_BY_LOCAL },
            Kind::Ports
            | Kind::Portless
            | Kind::IcmpError
            | Kind::IcmpOther
            | Kind::Fragment
            | Kind::OtherProtocol
            | Kind::Arp
            | Kind::Neighbour
            | Kind::RouterSolicitation
            | Kind::RouterOnly
            | Kind::LinkControl => {}
        }
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: Addr = Addr::from_v4([10, 45, 0, 17]);
    const OTHER: Addr = Addr::from_v4([203, 0, 113, 9]);

    fn key(kind: Kind, sent: bool) -> FlowKey {
        let mut packet = Packet { protocol: 17, kind, ..Packet::EMPTY };
        let (source, destination) = if sent { ((DEVICE, 7), (OTHER, 9)) } else { ((OTHER, 9), (DEVICE, 7)) };
        (packet.source, packet.source_port) = source;
        (packet.destination, packet.destination_port) = destination;
        Ends::of(&packet).key(NetworkId(1), DeviceId(2), sent)
    }

    #[test]
    fn both_directions_have_one_key() {
        let there = key(Kind::Ports, true);
        assert_eq!(there, key(Kind::Ports, false));
        assert_eq!((there.local, there.local_port), (DEVICE, 7));
        assert_eq!((there.remote, there.remote_port), (OTHER, 9));
    }

    #[test]
    fn an_echo_belongs_to_who_asks() {
        let local = [key(Kind::EchoRequest, true), key(Kind::EchoReply, false)];
        let remote = [key(Kind::EchoReply, true), key(Kind::EchoRequest, false)];
        assert_eq!(local.map(|key| key.remote_port), [ECHO_BY_LOCAL; 2]);
        assert_eq!(remote.map(|key| key.remote_port), [ECHO_BY_REMOTE; 2]);
    }
}
