//! The packet inside an ICMP error: its IP header and at least eight bytes more (RFC 792, RFC 4443 section 3).
//!
//! It is cut off, so no length of it is believed; where ports would lie behind the cut there are none.

use super::{icmp, ip_proto, l4};
use crate::abi::Addr;
use crate::frame::{Frame, Window};
use crate::parse::Kind;

/// Bytes of ports, or of an echo's type and identifier, that every error carries.
const CARRIED: usize = 8;

/// What an ICMP error is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct Embedded {
    /// Who sent the packet.
    pub source: Addr,
    /// Whom it was for.
    pub destination: Addr,
    /// Source port, or the identifier of an echo.
    pub source_port: u16,
    /// Destination port, or the identifier of an echo.
    pub destination_port: u16,
    /// IP protocol.
    pub protocol: u8,
    /// [`Kind::Ports`], [`Kind::EchoRequest`], [`Kind::EchoReply`] or [`Kind::Portless`].
    pub kind: Kind,
}

impl Embedded {
    /// Nothing read yet.
    pub const EMPTY: Self = Self {
        source: Addr::UNSPECIFIED_V6,
        destination: Addr::UNSPECIFIED_V6,
        source_port: 0,
        destination_port: 0,
        protocol: 0,
        kind: Kind::OtherProtocol,
    };

    /// Reads an IPv4 packet inside an error; nothing if it cannot be of any flow.
    #[inline(always)]
    pub fn load_v4<F: Frame + ?Sized>(window: &Window<'_, F>, at: u32) -> Option<Self> {
        let header: [u8; 20] = window.load(at)?;
        let header_len = (header[0] & 0x0f) as u32 * 4;
        let later_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0;
        if header[0] >> 4 != 4 || header_len < 20 || later_fragment {
            return None;
        }
        let [source, destination] =
            [12, 16].map(|at| Addr::from_v4([header[at], header[at + 1], header[at + 2], header[at + 3]]));
        Self {
            source,
            destination,
            source_port: 0,
            destination_port: 0,
            protocol: header[9],
            kind: Kind::Ports,
        }
        .with_transport(window.load(at + header_len)?)
    }

    /// Reads an IPv6 packet inside an error; a first fragment may be one, another extension header may not.
    #[inline(always)]
    pub fn load_v6<F: Frame + ?Sized>(window: &Window<'_, F>, at: u32) -> Option<Self> {
        let [version, _, _, _, _, _, next, _]: [u8; 8] = window.load(at)?;
        let source = Addr::from_v6(window.load(at + 8)?);
        let destination = Addr::from_v6(window.load(at + 24)?);
        if version >> 4 != 6 || source.is_v4() || destination.is_v4() {
            return None;
        }
        let (mut protocol, mut transport) = (next, at + 40);
        if protocol == ip_proto::FRAGMENT {
            let [behind, _, high, low, ..]: [u8; 8] = window.load(transport)?;
            if u16::from_be_bytes([high, low]) & 0xfff8 != 0 {
                return None;
            }
            (protocol, transport) = (behind, transport + 8);
        }
        Self { source, destination, source_port: 0, destination_port: 0, protocol, kind: Kind::Ports }
            .with_transport(window.load(transport)?)
    }

    #[inline(always)]
    fn with_transport(mut self, bytes: [u8; CARRIED]) -> Option<Self> {
        let id = u16::from_be_bytes([bytes[4], bytes[5]]);
        self.kind = match (self.protocol, bytes[0]) {
            (ip_proto::TCP | ip_proto::UDP | ip_proto::SCTP, _) => {
                let ports = l4::ports([bytes[0], bytes[1], bytes[2], bytes[3]]);
                (self.source_port, self.destination_port) = (ports.source, ports.destination);
                return Some(self);
            }
            (ip_proto::ICMP, icmp::ECHO_REQUEST_V4) | (ip_proto::ICMPV6, icmp::ECHO_REQUEST_V6) => {
                Kind::EchoRequest
            }
            (ip_proto::ICMP, icmp::ECHO_REPLY_V4) | (ip_proto::ICMPV6, icmp::ECHO_REPLY_V6) => {
                Kind::EchoReply
            }
            (protocol, _) if ip_proto::is_portless(protocol) => {
                return Some(Self { kind: Kind::Portless, ..self });
            }
            _ => return None,
        };
        (self.source_port, self.destination_port) = (id, id);
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn v4(changes: &[(usize, u8)]) -> Vec<u8> {
        let mut bytes = std::vec![0u8; 28];
        (bytes[0], bytes[9]) = (0x45, 17);
        bytes[12..20].copy_from_slice(&[10, 45, 0, 17, 203, 0, 113, 10]);
        bytes[20..24].copy_from_slice(&[0x9c, 0x40, 1, 0xbb]);
        changes.iter().for_each(|(at, value)| bytes[*at] = *value);
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Embedded> {
        Embedded::load_v4(&Window::new(bytes, bytes.len() as u32).unwrap(), 0)
    }

    #[test]
    fn ports_lie_behind_the_options() {
        let plain = read(&v4(&[])).unwrap();
        assert_eq!((plain.source_port, plain.destination_port), (40_000, 443));
        let mut options = v4(&[(0, 0x46)]);
        options.splice(20..20, [1, 1, 1, 0]);
        assert_eq!(read(&options), read(&v4(&[])));
    }

    #[test]
    fn what_has_no_ports_is_refused() {
        assert_eq!(read(&v4(&[(7, 1)])), None, "a later fragment");
        assert!(read(&v4(&[(6, 0x20)])).is_some(), "a first fragment");
        assert_eq!(read(&v4(&[(0, 0x44)])), None, "a short header");
        assert_eq!(read(&v4(&[(0, 0x65)])), None, "another version");
        assert_eq!(read(&v4(&[(9, 1), (20, 3)])), None, "an error about an error");
        for len in 0..28 {
            assert_eq!(read(&v4(&[])[..len]), None, "{len}");
        }
    }

    #[test]
    fn a_first_fragment_of_ipv6_has_ports() {
        let mut bytes = std::vec![0u8; 56];
        (bytes[0], bytes[6], bytes[8], bytes[24], bytes[40]) = (0x60, 44, 0xfd, 0x20, 17);
        bytes[48..52].copy_from_slice(&[0, 7, 0, 9]);
        let read = |bytes: &[u8]| Embedded::load_v6(&Window::new(bytes, bytes.len() as u32).unwrap(), 0);
        assert_eq!(
            read(&bytes).map(|it| (it.protocol, it.source_port, it.destination_port)),
            Some((17, 7, 9))
        );
        for len in 0..56 {
            assert_eq!(read(&bytes[..len]), None, "{len}");
        }
        bytes[43] = 8;
        assert_eq!(read(&bytes), None, "a later fragment");
    }
}
