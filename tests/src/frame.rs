//! Frames by hand: `eth().vlan(7).ipv4(a, b).udp(1, 2).payload(b"x").build()`.
//!
//! Shares no code with the parser it tests. Lengths, checksums and the numbers that name the next header are right by
//! default. Setters such as [`Frame::ttl`] change the last header they fit and leave the frame consistent;
//! [`Frame::set`] overwrites bytes of the last header after everything was computed, to make a frame malformed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

mod checksum;
mod layer;

use layer::{Body, Layer};

/// TCP flags (RFC 9293 section 3.1).
pub const FIN: u8 = 0x01;
/// Opens a connection.
pub const SYN: u8 = 0x02;
/// Ends a connection at once.
pub const RST: u8 = 0x04;
/// Acknowledges.
pub const ACK: u8 = 0x10;

/// IPv6 extension headers (RFC 8200 section 4).
pub const HOP_BY_HOP: u8 = 0;
/// Routing header.
pub const ROUTING: u8 = 43;
/// Fragment header.
pub const FRAGMENT: u8 = 44;
/// Authentication header (RFC 4302), whose length counts words of four bytes.
pub const AUTHENTICATION: u8 = 51;
/// Destination options.
pub const DESTINATION: u8 = 60;

/// A frame under construction, outermost header first.
#[derive(Clone, Debug)]
pub struct Frame {
    layers: Vec<Layer>,
}

/// Begins an Ethernet frame between two locally administered addresses.
pub fn eth() -> Frame {
    let macs = [[0x02, 0, 0, 0, 0, 0x02], [0x02, 0, 0, 0, 0, 0x01]].concat();
    Frame { layers: vec![Layer::new(Body::Ethernet, macs)] }
}

/// Begins in the middle: what follows has no Ethernet header (a TUN packet, or the inside of a tunnel).
pub fn bare() -> Frame {
    Frame { layers: Vec::new() }
}

impl Frame {
    /// Sets the source MAC address.
    pub fn from_mac(self, mac: [u8; 6]) -> Self {
        self.change(|body| matches!(body, Body::Ethernet), |header| header[6..12].copy_from_slice(&mac))
    }

    /// Sets the destination MAC address.
    pub fn to_mac(self, mac: [u8; 6]) -> Self {
        self.change(|body| matches!(body, Body::Ethernet), |header| header[..6].copy_from_slice(&mac))
    }

    /// Adds an IEEE 802.1Q tag (0x8100) with this VLAN number.
    pub fn vlan(self, id: u16) -> Self {
        self.tag(0x8100, id)
    }

    /// Adds an IEEE 802.1ad service tag (0x88a8) with this VLAN number.
    pub fn service_vlan(self, id: u16) -> Self {
        self.tag(0x88a8, id)
    }

    /// Adds a tag with any tag protocol and all sixteen bits of its control information.
    pub fn tag(self, protocol: u16, control: u16) -> Self {
        self.push(Body::Tag(protocol), control.to_be_bytes().to_vec())
    }

    /// Overrides the EtherType of the last Ethernet header or tag.
    pub fn ether_type(self, ether_type: u16) -> Self {
        self.next(|body| matches!(body, Body::Ethernet | Body::Tag(_)), ether_type)
    }

    /// Adds an ARP packet (RFC 826) from the frame's source MAC address; `operation` 1 asks, 2 answers.
    pub fn arp(self, operation: u8, sender: Ipv4Addr, target: Ipv4Addr) -> Self {
        let mac = self.layers.first().and_then(|layer| layer.header.get(6..12)).unwrap_or(&[0; 6]).to_vec();
        let fixed = [0, 1, 8, 0, 6, 4, 0, operation];
        self.push(Body::Arp, [&fixed[..], &mac, &sender.octets(), &[0; 6], &target.octets()].concat())
    }

    /// Adds an IPv4 header without options.
    pub fn ipv4(self, source: Ipv4Addr, destination: Ipv4Addr) -> Self {
        let fixed = [0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 0, 0, 0];
        self.push(Body::Ipv4, [&fixed[..], &source.octets(), &destination.octets()].concat())
    }

    /// Adds an IPv6 header.
    pub fn ipv6(self, source: Ipv6Addr, destination: Ipv6Addr) -> Self {
        let fixed = [0x60, 0, 0, 0, 0, 0, 0, 64];
        self.push(Body::Ipv6, [&fixed[..], &source.octets(), &destination.octets()].concat())
    }

    /// Adds an IPv4 or IPv6 header.
    ///
    /// # Panics
    ///
    /// If the two addresses are of different families.
    pub fn ip(self, source: impl Into<IpAddr>, destination: impl Into<IpAddr>) -> Self {
        match (source.into(), destination.into()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => self.ipv4(source, destination),
            (IpAddr::V6(source), IpAddr::V6(destination)) => self.ipv6(source, destination),
            (source, destination) => panic!("{source} and {destination} are of two families"),
        }
    }

    /// Appends IPv4 options, padded with zeroes to whole words.
    pub fn ip_options(self, options: &[u8]) -> Self {
        let mut padded = options.to_vec();
        padded.resize(options.len().next_multiple_of(4), 0);
        self.change(
            |body| matches!(body, Body::Ipv4),
            |header| {
                header.extend_from_slice(&padded);
                header[0] = header[0] & 0xf0 | (header.len() / 4) as u8;
            },
        )
    }

    /// Sets the time to live or the hop limit.
    pub fn ttl(self, ttl: u8) -> Self {
        self.change(Body::is_ip, |header| {
            let at = if header[0] >> 4 == 4 { 8 } else { 7 };
            header[at] = ttl;
        })
    }

    /// Makes the IPv4 packet a fragment at `offset` bytes, a multiple of eight.
    pub fn fragment(self, offset: u16, more: bool) -> Self {
        let bits = (offset / 8) | if more { 0x2000 } else { 0 };
        self.change(
            |body| matches!(body, Body::Ipv4),
            |header| header[6..8].copy_from_slice(&bits.to_be_bytes()),
        )
    }

    /// Sets the identification of the datagram that the fragment belongs to; behind a fragment header, that of IPv6.
    pub fn identified(self, id: u16) -> Self {
        self.change(
            |body| matches!(body, Body::Ipv4 | Body::Extension(FRAGMENT)),
            |header| {
                let at = if header[0] >> 4 == 4 { 4 } else { 6 };
                header[at..at + 2].copy_from_slice(&id.to_be_bytes());
            },
        )
    }

    /// Adds an IPv6 fragment header.
    pub fn fragment_header(self, offset: u16, more: bool) -> Self {
        let [high, low] = (offset & 0xfff8 | u16::from(more)).to_be_bytes();
        self.push(Body::Extension(FRAGMENT), vec![0, 0, high, low, 0, 0, 0, 7])
    }

    /// Adds an IPv6 extension header of this type; `content` follows the two first bytes and is padded with zeroes.
    pub fn extension(self, kind: u8, content: &[u8]) -> Self {
        let mut header = [&[0, 0][..], content].concat();
        header.resize(header.len().next_multiple_of(8), 0);
        // RFC 4302 section 2.2 counts words of four bytes less two, RFC 8200 words of eight less one.
        header[1] = if kind == AUTHENTICATION { header.len() / 4 - 2 } else { header.len() / 8 - 1 } as u8;
        self.push(Body::Extension(kind), header)
    }

    /// Overrides the number of the next header in the last IP or extension header.
    pub fn protocol(self, protocol: u8) -> Self {
        self.next(|body| body.is_ip() || matches!(body, Body::Extension(_)), protocol.into())
    }

    /// Adds a TCP header with ACK set.
    pub fn tcp(self, source: u16, destination: u16) -> Self {
        let rest = [0, 0, 0, 1, 0, 0, 0, 0, 0x50, ACK, 0xff, 0xff, 0, 0, 0, 0];
        self.push(Body::Tcp, [&ports(source, destination)[..], &rest].concat())
    }

    /// Sets the TCP flags.
    pub fn flags(self, flags: u8) -> Self {
        self.change(|body| matches!(body, Body::Tcp), |header| header[13] = flags)
    }

    /// Adds a UDP header.
    pub fn udp(self, source: u16, destination: u16) -> Self {
        self.push(Body::Udp, [&ports(source, destination)[..], &[0; 4]].concat())
    }

    /// Adds an SCTP common header (RFC 9260); its checksum covers the payload.
    pub fn sctp(self, source: u16, destination: u16) -> Self {
        self.push(Body::Sctp, [&ports(source, destination)[..], &[0, 0, 0, 1], &[0; 4]].concat())
    }

    /// Adds an ICMP header (RFC 792) with the four bytes behind the checksum.
    pub fn icmp(self, kind: u8, code: u8, rest: [u8; 4]) -> Self {
        self.push(Body::Icmp, [&[kind, code, 0, 0][..], &rest].concat())
    }

    /// Adds an ICMPv6 header (RFC 4443) with the four bytes behind the checksum.
    pub fn icmpv6(self, kind: u8, code: u8, rest: [u8; 4]) -> Self {
        self.push(Body::Icmpv6, [&[kind, code, 0, 0][..], &rest].concat())
    }

    /// Adds an echo request of the family of the header before.
    pub fn echo_request(self, identifier: u16, sequence: u16) -> Self {
        self.echo([8, 128], ports(identifier, sequence))
    }

    /// Adds an echo reply of the family of the header before.
    pub fn echo_reply(self, identifier: u16, sequence: u16) -> Self {
        self.echo([0, 129], ports(identifier, sequence))
    }

    /// Adds a neighbour solicitation (RFC 4861 section 4.3) and sets the hop limit to 255.
    pub fn neighbour_solicitation(self, target: Ipv6Addr) -> Self {
        self.ttl(255).icmpv6(135, 0, [0; 4]).payload(&target.octets())
    }

    /// Adds a solicited neighbour advertisement (RFC 4861 section 4.4) and sets the hop limit to 255.
    pub fn neighbour_advertisement(self, target: Ipv6Addr) -> Self {
        self.ttl(255).icmpv6(136, 0, [0x60, 0, 0, 0]).payload(&target.octets())
    }

    /// Adds a GTP-U header (TS 29.281 clause 5.1) with these flags, type and TEID; `rest` are its optional fields and
    /// extension headers.
    pub fn gtpu(self, flags: u8, message: u8, teid: u32, rest: &[u8]) -> Self {
        self.push(Body::Gtpu, [&[flags, message, 0, 0][..], &teid.to_be_bytes(), rest].concat())
    }

    /// Appends bytes that lengths and checksums cover.
    pub fn payload(self, bytes: &[u8]) -> Self {
        self.push(Body::Payload, bytes.to_vec())
    }

    /// Overwrites bytes of the last header once lengths and checksums are in; later headers keep it as it is.
    pub fn set(mut self, at: usize, bytes: &[u8]) -> Self {
        if let Some(layer) = self.layers.last_mut() {
            layer.overrides.push((at, bytes.to_vec()));
        }
        self
    }

    /// Assembles the frame.
    pub fn build(&self) -> Vec<u8> {
        let inner = (0..self.layers.len()).rev();
        inner.fold(Vec::new(), |content, at| {
            self.layers[at].assemble(&self.layers[..at], self.layers.get(at + 1), content)
        })
    }

    fn echo(self, [v4, v6]: [u8; 2], rest: [u8; 4]) -> Self {
        let is_v6 =
            self.layers.iter().rev().find(|layer| layer.body.is_ip()).is_some_and(|ip| ip.body == Body::Ipv6);
        if is_v6 { self.icmpv6(v6, 0, rest) } else { self.icmp(v4, 0, rest) }
    }

    fn push(mut self, body: Body, header: Vec<u8>) -> Self {
        self.layers.push(Layer::new(body, header));
        self
    }

    /// Changes the last layer that fits.
    fn change(mut self, fits: impl Fn(&Body) -> bool, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        if let Some(layer) = self.layers.iter_mut().rev().find(|layer| fits(&layer.body)) {
            change(&mut layer.header);
        }
        self
    }

    fn next(mut self, fits: impl Fn(&Body) -> bool, next: u16) -> Self {
        if let Some(layer) = self.layers.iter_mut().rev().find(|layer| fits(&layer.body)) {
            layer.next = Some(next);
        }
        self
    }
}

fn ports(first: u16, second: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (first.to_be_bytes(), second.to_be_bytes());
    [a, b, c, d]
}

#[cfg(test)]
mod tests;
