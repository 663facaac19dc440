//! One header of a frame, and how it is completed when its content is known.

use super::checksum::{crc32c, internet};

/// Which header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// Both MAC addresses.
    Ethernet,
    /// The control information of a tag with this tag protocol.
    Tag(u16),
    Arp,
    Ipv4,
    Ipv6,
    /// An IPv6 extension header of this type.
    Extension(u8),
    Tcp,
    Udp,
    Sctp,
    Icmp,
    Icmpv6,
    /// GTP-U with its optional fields and extension headers.
    Gtpu,
    Payload,
}

impl Body {
    pub(super) fn is_ip(&self) -> bool {
        matches!(self, Self::Ipv4 | Self::Ipv6)
    }

    /// The EtherType, or tag protocol, that announces this header.
    fn ether_type(self) -> Option<u16> {
        match self {
            Self::Tag(protocol) => Some(protocol),
            Self::Arp => Some(0x0806),
            Self::Ipv4 => Some(0x0800),
            Self::Ipv6 => Some(0x86dd),
            Self::Ethernet
            | Self::Extension(_)
            | Self::Tcp
            | Self::Udp
            | Self::Sctp
            | Self::Icmp
            | Self::Icmpv6
            | Self::Gtpu
            | Self::Payload => None,
        }
    }

    /// The IP protocol number that announces this header.
    fn protocol(self) -> Option<u8> {
        Some(match self {
            Self::Ipv4 => 4,
            Self::Ipv6 => 41,
            Self::Extension(kind) => kind,
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
            Self::Icmp => 1,
            Self::Icmpv6 => 58,
            Self::Ethernet | Self::Tag(_) | Self::Arp | Self::Gtpu | Self::Payload => return None,
        })
    }
}

/// A header with its own bytes; what depends on the content is filled in by [`Layer::assemble`].
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub(super) body: Body,
    pub(super) header: Vec<u8>,
    /// Overrides the number that announces the next header.
    pub(super) next: Option<u16>,
    /// Bytes put over the finished header.
    pub(super) overrides: Vec<(usize, Vec<u8>)>,
}

/// No next header (RFC 8200 section 4.7); in IPv4 the number is merely unassigned to a real protocol here.
const NO_NEXT: u8 = 59;
/// EtherType for local experiments (IEEE 802).
const EXPERIMENTAL: u16 = 0x88b5;

impl Layer {
    pub(super) fn new(body: Body, header: Vec<u8>) -> Self {
        Self { body, header, next: None, overrides: Vec::new() }
    }

    /// Returns the finished header followed by `content`; `outer` are the headers before, for the pseudo-header.
    pub(super) fn assemble(&self, outer: &[Self], following: Option<&Self>, content: Vec<u8>) -> Vec<u8> {
        let mut header = self.header.clone();
        match self.body {
            Body::Ethernet | Body::Tag(_) => header.extend(self.ether_type(following).to_be_bytes()),
            Body::Ipv4 => self.finish_ipv4(&mut header, following, &content),
            Body::Ipv6 => {
                header[4..6].copy_from_slice(&(content.len() as u16).to_be_bytes());
                header[6] = self.protocol(following);
            }
            Body::Extension(_) => header[0] = self.protocol(following),
            Body::Tcp => put(&mut header, 16, pseudo(outer, 6, &self.header, &content)),
            Body::Udp => finish_udp(&mut header, outer, &content),
            Body::Sctp => {
                let sum = crc32c(&[&header[..], &content].concat());
                header[8..12].copy_from_slice(&sum.to_le_bytes());
            }
            Body::Icmp => put(&mut header, 2, internet(&[&self.header, &content])),
            Body::Icmpv6 => put(&mut header, 2, pseudo(outer, 58, &self.header, &content)),
            // TS 29.281 clause 5.1: the length counts from behind the eight mandatory bytes.
            Body::Gtpu => {
                let length = header.len() - 8 + content.len();
                put(&mut header, 2, length as u16);
            }
            Body::Arp | Body::Payload => {}
        }
        for (at, bytes) in &self.overrides {
            header[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        header.extend(content);
        header
    }

    fn finish_ipv4(&self, header: &mut [u8], following: Option<&Self>, content: &[u8]) {
        put(header, 2, (header.len() + content.len()) as u16);
        header[9] = self.protocol(following);
        put(header, 10, internet(&[header]));
    }

    fn ether_type(&self, following: Option<&Self>) -> u16 {
        self.next.or_else(|| following?.body.ether_type()).unwrap_or(EXPERIMENTAL)
    }

    fn protocol(&self, following: Option<&Self>) -> u8 {
        let known = following.and_then(|layer| layer.body.protocol()).unwrap_or(NO_NEXT);
        self.next.map_or(known, |next| next.to_be_bytes()[1])
    }
}

fn finish_udp(header: &mut [u8], outer: &[Layer], content: &[u8]) {
    put(header, 4, (header.len() + content.len()) as u16);
    let sum = pseudo(outer, 17, header, content);
    // RFC 768: an all-zero checksum means that there is none.
    put(header, 6, if sum == 0 { 0xffff } else { sum });
}

/// The checksum over the pseudo-header of the nearest IP header (RFC 9293 section 3.1, RFC 8200 section 8.1).
fn pseudo(outer: &[Layer], protocol: u8, header: &[u8], content: &[u8]) -> u16 {
    let ip = outer.iter().rev().find(|layer| layer.body.is_ip());
    let addresses =
        ip.map_or(&[][..], |ip| if ip.body == Body::Ipv4 { &ip.header[12..20] } else { &ip.header[8..40] });
    let length = (header.len() + content.len()) as u32;
    internet(&[addresses, &length.to_be_bytes(), &[0, protocol], header, content])
}

fn put(header: &mut [u8], at: usize, value: u16) {
    header[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
