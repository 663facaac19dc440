//! Frame → what it says, by cutting slices: every layer gets exactly the bytes that belong to it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::report::About;
use super::transport;
use super::{Flaw, Piece, Refusal};

/// What a frame says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Dissected {
    /// The sender's MAC address.
    pub mac: [u8; 6],
    /// Outer and inner VLAN number, 0 for none.
    pub vlans: (u16, u16),
    /// Source address; of ARP the sender's. Unspecified where there is none.
    pub from: IpAddr,
    /// Destination address; of ARP and neighbour messages the target.
    pub to: IpAddr,
    /// What it is.
    pub what: What,
    /// IP protocol number behind the extension headers, 0 if it is not IP.
    pub protocol: u8,
    /// What a whole UDP datagram carries.
    pub datagram: Vec<u8>,
    /// Which part of a datagram it is, if it is not a whole one.
    pub piece: Option<Piece>,
    /// There are IPv4 options, or IPv6 options or routing headers.
    pub options: bool,
}

/// What a packet is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum What {
    /// TCP, UDP or SCTP with source and destination port; `flags` are TCP's.
    Ports {
        /// IP protocol number.
        protocol: u8,
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// TCP flags, 0 for others.
        flags: u8,
    },
    /// Echo request with its identifier.
    Ping(u16),
    /// Echo reply with its identifier.
    Pong(u16),
    /// An ICMP error, and the packet that it is about if that could be read.
    IcmpError(Option<About>),
    /// An ICMP redirect (IPv4).
    Redirect,
    /// Another ICMP message.
    IcmpOther,
    /// Part of a packet without its transport header, or without all of it.
    Fragment,
    /// A protocol without ports that rules can name, by its number.
    Portless(u8),
    /// A protocol that rules can't name.
    Unknown,
    /// ARP request or reply.
    Arp,
    /// The same, about another station's MAC address than the frame's.
    ArpOfAnother,
    /// Neighbour solicitation.
    NeighbourAsked,
    /// Neighbour advertisement.
    NeighbourTold,
    /// Router solicitation.
    RouterAsked,
    /// Router advertisement or redirect.
    RouterTold,
    /// LACP or LLDP.
    LinkControl,
}

const NOWHERE: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// Reads a frame.
///
/// # Errors
/// The label of the reason why it can't be judged.
pub fn dissect(frame: &[u8], flaw: Option<Flaw>) -> Result<Dissected, Refusal> {
    let (header, mut rest) = frame.split_at_checked(14).ok_or("malformed_ethernet")?;
    let mut ether_type = number(&header[12..14]);
    let mut tags = Vec::new();
    while matches!(ether_type, 0x8100 | 0x88a8) {
        if tags.len() == 2 {
            return Err("unsupported_vlan_depth");
        }
        let (tag, behind) = rest.split_at_checked(4).ok_or("malformed_ethernet")?;
        tags.push(number(&tag[..2]) % 4096);
        ether_type = number(&tag[2..]);
        rest = behind;
    }
    tags.resize(2, 0);
    let mut vlans = (tags[0], tags[1]);
    match flaw {
        Some(Flaw::IgnoresTags) => vlans = (0, 0),
        Some(Flaw::IgnoresInnerTag) => vlans.1 = 0,
        _ => {}
    }
    let mac = [header[6], header[7], header[8], header[9], header[10], header[11]];
    let Layer { from, to, what, protocol, datagram, piece, options } = match ether_type {
        0x0800 => ipv4(rest, flaw)?,
        0x86dd => ipv6(rest, flaw)?,
        0x0806 => arp(rest, mac)?,
        0x8809 | 0x88cc => Layer::without_ip(NOWHERE, NOWHERE, What::LinkControl),
        _ => return Err("unsupported_ethertype"),
    };
    Ok(Dissected { mac, vlans, from, to, what, protocol, datagram, piece, options })
}

impl Dissected {
    /// Reads the IP packet that came through a tunnel in the same frame.
    pub(super) fn inside(&self, packet: &[u8], flaw: Option<Flaw>) -> Result<Self, Refusal> {
        let version = packet.first().ok_or("gtpu_inner")? / 16;
        let Layer { from, to, what, protocol, datagram, piece, options } = match version {
            4 => ipv4(packet, flaw)?,
            6 => ipv6(packet, flaw)?,
            _ => return Err("gtpu_inner"),
        };
        let (mac, vlans) = (self.mac, self.vlans);
        Ok(Self { mac, vlans, from, to, what, protocol, datagram, piece, options })
    }
}

/// What lies behind the link's header.
struct Layer {
    from: IpAddr,
    to: IpAddr,
    what: What,
    protocol: u8,
    datagram: Vec<u8>,
    piece: Option<Piece>,
    options: bool,
}

impl Layer {
    fn without_ip(from: IpAddr, to: IpAddr, what: What) -> Self {
        Self { from, to, what, protocol: 0, datagram: Vec::new(), piece: None, options: false }
    }

    fn of_ip(from: IpAddr, to: IpAddr, what: What, protocol: u8, payload: &[u8]) -> Self {
        let length = payload.get(4..6).map_or(0, number);
        let udp = protocol == 17 && matches!(what, What::Ports { .. });
        let datagram = payload.get(8..usize::from(length)).filter(|_| udp).unwrap_or_default().to_vec();
        Self { from, to, what, protocol, datagram, piece: None, options: false }
    }
}

fn arp(bytes: &[u8], mac: [u8; 6]) -> Result<Layer, Refusal> {
    let packet = bytes.get(..28).ok_or("malformed_arp")?;
    let ethernet_ipv4 = packet[..6] == [0, 1, 8, 0, 6, 4];
    let operation = number(&packet[6..8]);
    if !ethernet_ipv4 || !(1..=2).contains(&operation) {
        return Err("malformed_arp");
    }
    let what = if packet[8..14] == mac { What::Arp } else { What::ArpOfAnother };
    Ok(Layer::without_ip(v4(&packet[14..18]), v4(&packet[24..28]), what))
}

fn ipv4(bytes: &[u8], flaw: Option<Flaw>) -> Result<Layer, Refusal> {
    const BAD: Refusal = "malformed_ipv4";
    let fixed = bytes.get(..20).ok_or(BAD)?;
    let words = if flaw == Some(Flaw::IgnoresOptions) { 5 } else { usize::from(fixed[0] % 16) };
    if fixed[0] / 16 != 4 || words < 5 {
        return Err(BAD);
    }
    let packet = bytes.get(..usize::from(number(&fixed[2..4]))).ok_or(BAD)?;
    let payload = packet.get(words * 4..).ok_or(BAD)?;
    // LSRR and SSRR: the packet goes elsewhere than it says.
    let routed = packet[20..words * 4].iter().any(|byte| matches!(byte, 131 | 137));
    if routed && flaw != Some(Flaw::IgnoresSourceRoutes) {
        return Err("unsupported_extension");
    }
    let (from, to) = (v4(&fixed[12..16]), v4(&fixed[16..20]));
    let more_and_offset = number(&fixed[6..8]) % 0x4000;
    let piece = if more_and_offset != 0 && flaw != Some(Flaw::IgnoresFragments) {
        let from = usize::from(more_and_offset % 0x2000) * 8;
        let id = u32::from(number(&fixed[4..6]));
        let (to, more) = (from + payload.len(), more_and_offset >= 0x2000);
        Some(Piece { id, from, to, more, protocol: fixed[9] }.checked(words * 4, flaw)?)
    } else {
        None
    };
    let what = transport_of(piece, || match fixed[9] {
        1 => transport::icmp(payload),
        _ => transport::ports(fixed[9], payload, piece.is_some(), flaw),
    })?;
    Ok(Layer { piece, options: words > 5, ..Layer::of_ip(from, to, what, fixed[9], payload) })
}

fn ipv6(bytes: &[u8], flaw: Option<Flaw>) -> Result<Layer, Refusal> {
    const BAD: Refusal = "malformed_ipv6";
    let (fixed, rest) = bytes.split_at_checked(40).ok_or(BAD)?;
    if fixed[0] / 16 != 6 {
        return Err(BAD);
    }
    let payload = rest.get(..usize::from(number(&fixed[4..6]))).ok_or(BAD)?;
    let (from, mut to) = (v6(&fixed[8..24]), v6(&fixed[24..40]));
    if from.to_ipv4_mapped().is_some() {
        return Err("martian_source");
    }
    if to.to_ipv4_mapped().is_some() {
        return Err("martian_destination");
    }
    let chain = Chain::walk(fixed[6], payload, flaw)?;
    let what = transport_of(chain.piece, || {
        if chain.protocol != 58 {
            return transport::ports(chain.protocol, chain.payload, chain.piece.is_some(), flaw);
        }
        let (what, target) = transport::icmpv6(chain.payload)?;
        let plain = matches!(what, What::Ping(_) | What::Pong(_) | What::IcmpError(_) | What::IcmpOther);
        if !plain && (fixed[7] != 255 || chain.headers > 0 || chain.payload[1] != 0) {
            return Err("malformed_neighbour");
        }
        to = target.unwrap_or(to);
        if to.to_ipv4_mapped().is_some() { Err("martian_destination") } else { Ok(what) }
    })?;
    let layer = Layer::of_ip(from.into(), to.into(), what, chain.protocol, chain.payload);
    Ok(Layer { piece: chain.piece, options: chain.options, ..layer })
}

/// A later piece has no transport header; a first one may be too short for it.
fn transport_of(piece: Option<Piece>, read: impl FnOnce() -> Result<What, Refusal>) -> Result<What, Refusal> {
    if piece.is_some_and(|piece| piece.from > 0) {
        return Ok(What::Fragment);
    }
    match read() {
        Err("malformed_tcp" | "malformed_udp" | "malformed_sctp" | "malformed_icmp") if piece.is_some() => {
            Ok(What::Fragment)
        }
        read => read,
    }
}

/// Where a chain of IPv6 extension headers ends.
struct Chain<'f> {
    protocol: u8,
    payload: &'f [u8],
    headers: usize,
    /// There was a fragment header.
    fragment: bool,
    piece: Option<Piece>,
    options: bool,
}

impl<'f> Chain<'f> {
    /// Six headers are walked; behind a fragment header there may be anything.
    fn walk(protocol: u8, payload: &'f [u8], flaw: Option<Flaw>) -> Result<Self, Refusal> {
        let mut chain = Chain { protocol, payload, headers: 0, fragment: false, piece: None, options: false };
        if flaw == Some(Flaw::IgnoresExtensions) {
            return Ok(chain);
        }
        let walks_ah = flaw == Some(Flaw::LooksBehindAh);
        while (matches!(chain.protocol, 0 | 43 | 44 | 60) || walks_ah && chain.protocol == 51)
            && chain.piece.is_none_or(|piece| piece.from == 0)
        {
            if chain.headers == 6 {
                return Err("unsupported_extension");
            }
            chain.step(payload.len(), flaw)?;
        }
        Ok(chain)
    }

    /// Goes behind one header of a chain that has `whole` bytes with what follows it.
    fn step(&mut self, whole: usize, flaw: Option<Flaw>) -> Result<(), Refusal> {
        const BAD: Refusal = "malformed_ipv6";
        let start = self.payload.get(..8).ok_or(BAD)?;
        let length = usize::from(start[1]);
        let bytes = match self.protocol {
            0 if self.headers > 0 => return Err(BAD),
            43 if start[3] > 0 => return Err("unsupported_extension"),
            44 if self.fragment => return Err("unsupported_extension"),
            44 => 8,
            51 => 8 + 4 * length,
            _ => 8 + 8 * length,
        };
        let rest = self.payload.get(bytes..).ok_or(BAD)?;
        if self.protocol == 44 {
            self.fragment = true;
            let (id, field) = (
                u32::from(number(&start[4..6])) << 16 | u32::from(number(&start[6..8])),
                number(&start[2..4]),
            );
            // RFC 6946: neither offset nor more is a whole packet.
            if field & 0xfff9 != 0 {
                let from = usize::from(field & 0xfff8);
                let to = from + rest.len();
                let piece = Piece { id, from, to, more: field % 2 == 1, protocol: start[0] };
                self.piece = Some(piece.checked(whole - self.payload.len(), flaw)?);
            }
        } else {
            self.options = true;
        }
        self.protocol = start[0];
        self.payload = rest;
        self.headers += 1;
        Ok(())
    }
}

/// The number that two or more bytes in network order stand for.
pub(super) fn number(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, byte| sum * 256 + u16::from(*byte))
}

/// The IPv4 address in four bytes.
pub(super) fn v4(bytes: &[u8]) -> IpAddr {
    Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into()
}

/// The IPv6 address in sixteen bytes.
pub(super) fn v6(bytes: &[u8]) -> Ipv6Addr {
    let groups: Vec<u16> = bytes.chunks(2).map(number).collect();
    let [a, b, c, d, e, f, g, h] = groups[..] else { panic!("an address has sixteen bytes") };
    Ipv6Addr::new(a, b, c, d, e, f, g, h)
}
