//! Frame → [`Packet`], or the reason why it is dropped.
//!
//! Bounds come from the innermost length that applies, which must fit in its parent's; bytes behind
//! it (Ethernet padding) are never read. What is not understood is an error, never a default.

use crate::abi::Addr;
use crate::case::{Case, LinkType};
use crate::fragment::Piece;
use crate::frame::{Frame, Window};
use crate::verdict::DropReason;
use crate::wire::arp::Arp;
use crate::wire::ethernet::Ethernet;
use crate::wire::icmp::{Icmp, Message, neighbour_target};
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::{ether_type, ip_proto, l4};

/// What sort of packet it is, as far as deciding goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Kind {
    /// TCP, UDP or SCTP with both ports.
    Ports = 0,
    /// ICMP or ICMPv6 echo request; both ports are the identifier.
    EchoRequest = 1,
    /// ICMP or ICMPv6 echo reply; both ports are the identifier.
    EchoReply = 2,
    /// ICMP or ICMPv6 error.
    IcmpError = 3,
    /// Any other ICMP or ICMPv6 message.
    IcmpOther = 4,
    /// An IP fragment; there are no ports.
    Fragment = 5,
    /// An IP protocol that no rule can name.
    OtherProtocol = 6,
    /// ARP: source is the sender, destination the target.
    Arp = 7,
    /// Neighbour solicitation or advertisement: destination is the target.
    Neighbour = 8,
    /// Router solicitation.
    RouterSolicitation = 9,
    /// Router advertisement or redirect.
    RouterOnly = 10,
    /// LACP or LLDP: no addresses at all.
    LinkControl = 11,
    /// A protocol without ports that rules can name: GRE, ESP and the like.
    Portless = 12,
}

impl Kind {
    /// The kind with this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Ports,
            1 => Self::EchoRequest,
            2 => Self::EchoReply,
            3 => Self::IcmpError,
            4 => Self::IcmpOther,
            5 => Self::Fragment,
            6 => Self::OtherProtocol,
            7 => Self::Arp,
            8 => Self::Neighbour,
            9 => Self::RouterSolicitation,
            10 => Self::RouterOnly,
            11 => Self::LinkControl,
            12 => Self::Portless,
            _ => return None,
        })
    }
}

/// Everything that deciding needs to know of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct Packet {
    /// Source address; ARP: sender.
    pub source: Addr,
    /// Destination address; ARP, neighbour solicitation and advertisement: target.
    pub destination: Addr,
    /// Bytes of the frame.
    pub length: u32,
    /// Outer VLAN number, 0 untagged.
    pub outer_vlan: u16,
    /// Inner VLAN number, 0 if none.
    pub inner_vlan: u16,
    /// EtherType behind the tags.
    pub ether_type: u16,
    /// Source port or echo identifier.
    pub source_port: u16,
    /// Destination port or echo identifier.
    pub destination_port: u16,
    /// Where the tunnel that it came through begins: the source of the GTP-U packet around it.
    pub tunnel_peer: Addr,
    /// TEID of the tunnel that it came through, 0 without one.
    pub teid: u32,
    /// Which part of its datagram it is.
    pub piece: Piece,
    /// 1 if it has IPv4 options or IPv6 options headers, else 0.
    pub options: u32,
    /// Where the transport header begins in the frame.
    pub transport: u32,
    /// The frame's source MAC address.
    pub source_mac: [u8; 6],
    /// What sort of packet.
    pub kind: Kind,
    /// IP protocol number.
    pub protocol: u8,
    /// TCP flags, or the ICMP type.
    pub detail: u8,
    /// 1 if an ARP sender names another MAC address than the frame's, else 0.
    pub foreign_mac: u8,
}

impl Packet {
    /// Nothing known yet.
    pub const EMPTY: Self = Self {
        source: Addr::UNSPECIFIED_V6,
        destination: Addr::UNSPECIFIED_V6,
        length: 0,
        outer_vlan: 0,
        inner_vlan: 0,
        ether_type: 0,
        source_port: 0,
        destination_port: 0,
        tunnel_peer: Addr::UNSPECIFIED_V6,
        teid: 0,
        piece: Piece::WHOLE,
        options: 0,
        transport: 0,
        source_mac: [0; 6],
        kind: Kind::OtherProtocol,
        protocol: 0,
        detail: 0,
        foreign_mac: 0,
    };
}

/// Reads what lies before the IP packet, and ARP, into `case.packet`; leaves where the IP packet lies.
///
/// On error the packet holds what was understood up to there, for the drop's record. The case is an
/// out-parameter, because the BPF stack has 512 bytes and a returned packet would be copied on it twice.
#[inline(always)]
pub fn link<F: Frame + ?Sized>(frame: &F, case: &mut Case) -> Result<(), DropReason> {
    case.end = frame.len();
    match case.arrival.link {
        LinkType::Ethernet => ethernet(frame, case),
        LinkType::RawIp => raw_ip(frame, case),
    }
}

/// True if there is an IP packet behind what [`link`] has read.
#[inline(always)]
pub const fn is_ip(packet: &Packet) -> bool {
    matches!(packet.ether_type, ether_type::IPV4 | ether_type::IPV6)
}

/// Reads the IP packet at `case.at`, which ends at `case.end` at the latest, into `case.packet`.
#[inline(always)]
pub fn network<F: Frame + ?Sized>(frame: &F, case: &mut Case) -> Result<(), DropReason> {
    let window = Window::new(frame, case.end).ok_or(DropReason::MalformedIpv4)?;
    let end = match case.packet.ether_type {
        ether_type::IPV4 => ipv4(&window, case.at, &mut case.packet),
        _ => ipv6(&window, case.at, &mut case.packet),
    };
    end.map(|end| case.end = end)
}

#[inline(always)]
fn ethernet<F: Frame + ?Sized>(frame: &F, case: &mut Case) -> Result<(), DropReason> {
    let packet = &mut case.packet;
    let ethernet = Ethernet::load(frame)?;
    packet.source_mac = ethernet.source;
    packet.outer_vlan = ethernet.outer_vlan;
    packet.inner_vlan = ethernet.inner_vlan;
    packet.ether_type = ethernet.ether_type;
    case.at = ethernet.payload;
    match ethernet.ether_type {
        ether_type::IPV4 | ether_type::IPV6 => Ok(()),
        ether_type::ARP => arp(frame, ethernet.payload, packet),
        ether_type::SLOW_PROTOCOLS | ether_type::LLDP => {
            packet.kind = Kind::LinkControl;
            Ok(())
        }
        _ => Err(DropReason::UnsupportedEthertype),
    }
}

/// A TUN device or a tunnel: the frame is the IP packet, and its first four bits say which.
#[inline(always)]
fn raw_ip<F: Frame + ?Sized>(frame: &F, case: &mut Case) -> Result<(), DropReason> {
    let [first] = frame.load(0).ok_or(DropReason::UnsupportedEthertype)?;
    case.at = 0;
    case.packet.ether_type = ether_type_of(first).ok_or(DropReason::UnsupportedEthertype)?;
    Ok(())
}

/// The EtherType that an IP packet would have, by the version in its first octet.
#[inline(always)]
pub const fn ether_type_of(first: u8) -> Option<u16> {
    match first >> 4 {
        4 => Some(ether_type::IPV4),
        6 => Some(ether_type::IPV6),
        _ => None,
    }
}

#[inline(always)]
fn arp<F: Frame + ?Sized>(frame: &F, at: u32, packet: &mut Packet) -> Result<(), DropReason> {
    let arp = Arp::load(frame, at).ok_or(DropReason::MalformedArp)?;
    packet.kind = Kind::Arp;
    packet.source = arp.sender();
    packet.destination = arp.target();
    packet.foreign_mac = u8::from(arp.sender_mac() != packet.source_mac);
    Ok(())
}

#[inline(always)]
fn ipv4<F: Frame + ?Sized>(parent: &Window<'_, F>, at: u32, packet: &mut Packet) -> Result<u32, DropReason> {
    let header = Ipv4::load(parent, at).ok_or(DropReason::MalformedIpv4)?;
    packet.source = header.source();
    packet.destination = header.destination();
    packet.protocol = header.protocol();
    let end = at + header.total_len();
    let window = parent.up_to(end).ok_or(DropReason::MalformedIpv4)?;
    packet.options = header.has_options() as u32;
    if header.is_source_routed(&window, at) {
        return Err(DropReason::UnsupportedExtension);
    }
    packet.piece = header.piece()?;
    if packet.piece.is_later() {
        packet.kind = Kind::Fragment;
        return Ok(end);
    }
    let payload = at + header.header_len();
    packet.transport = payload;
    let read = match header.protocol() {
        ip_proto::ICMP => icmp(&window, payload, packet),
        _ => transport(&window, payload, packet),
    };
    whole_header(read, packet).map(|()| end)
}

/// A first fragment that is too short for its transport header is a fragment and nothing more: of no device's
/// business it may go on, of a device it is refused as what it is.
#[inline(always)]
const fn whole_header(read: Result<(), DropReason>, packet: &mut Packet) -> Result<(), DropReason> {
    match read {
        Err(
            DropReason::MalformedTcp
            | DropReason::MalformedUdp
            | DropReason::MalformedSctp
            | DropReason::MalformedIcmp,
        ) if packet.piece.is_fragment() => {
            packet.kind = Kind::Fragment;
            packet.piece.tiny = 1;
            Ok(())
        }
        read => read,
    }
}

#[inline(always)]
fn ipv6<F: Frame + ?Sized>(parent: &Window<'_, F>, at: u32, packet: &mut Packet) -> Result<u32, DropReason> {
    let header = Ipv6::load(parent, at).ok_or(DropReason::MalformedIpv6)?;
    packet.source = header.source();
    packet.destination = header.destination();
    // A v4-mapped address on the wire would be taken for the IPv4 address (RFC 4942 section 2.1.2).
    if packet.source.is_v4() {
        return Err(DropReason::MartianSource);
    }
    if packet.destination.is_v4() {
        return Err(DropReason::MartianDestination);
    }
    let start = at + ipv6::LEN as u32;
    let end = start + header.payload_len();
    let window = parent.up_to(end).ok_or(DropReason::MalformedIpv6)?;
    let payload = header.payload(&window, start)?;
    packet.protocol = payload.protocol;
    packet.transport = payload.at;
    packet.options = payload.options as u32;
    packet.piece = payload.piece;
    if payload.piece.is_later() {
        packet.kind = Kind::Fragment;
        return Ok(end);
    }
    let read = match payload.protocol {
        ip_proto::ICMPV6 => icmpv6(&window, &header, payload, packet),
        _ => transport(&window, payload.at, packet),
    };
    whole_header(read, packet).map(|()| end)
}

#[inline(always)]
fn transport<F: Frame + ?Sized>(
    window: &Window<'_, F>,
    at: u32,
    packet: &mut Packet,
) -> Result<(), DropReason> {
    let ports = match packet.protocol {
        ip_proto::TCP => {
            let (ports, flags) = l4::tcp(window, at).ok_or(DropReason::MalformedTcp)?;
            packet.detail = flags;
            ports
        }
        ip_proto::UDP => l4::udp(window, at, packet.piece.is_fragment()).ok_or(DropReason::MalformedUdp)?,
        ip_proto::SCTP => l4::sctp(window, at).ok_or(DropReason::MalformedSctp)?,
        protocol => {
            if ip_proto::is_portless(protocol) {
                packet.kind = Kind::Portless;
            }
            return Ok(());
        }
    };
    packet.kind = Kind::Ports;
    packet.source_port = ports.source;
    packet.destination_port = ports.destination;
    Ok(())
}

#[inline(always)]
fn icmp<F: Frame + ?Sized>(window: &Window<'_, F>, at: u32, packet: &mut Packet) -> Result<(), DropReason> {
    let icmp = Icmp::load(window, at).ok_or(DropReason::MalformedIcmp)?;
    echo(&icmp, packet);
    packet.kind = match icmp.message_v4() {
        Message::EchoRequest => Kind::EchoRequest,
        Message::EchoReply => Kind::EchoReply,
        Message::Error => Kind::IcmpError,
        Message::RouterSolicitation | Message::Neighbour | Message::RouterOnly | Message::Other => {
            Kind::IcmpOther
        }
    };
    Ok(())
}

#[inline(always)]
fn icmpv6<F: Frame + ?Sized>(
    window: &Window<'_, F>,
    header: &Ipv6,
    payload: ipv6::Payload,
    packet: &mut Packet,
) -> Result<(), DropReason> {
    let icmp = Icmp::load(window, payload.at).ok_or(DropReason::MalformedIcmp)?;
    echo(&icmp, packet);
    packet.kind = match icmp.message_v6() {
        Message::EchoRequest => Kind::EchoRequest,
        Message::EchoReply => Kind::EchoReply,
        Message::Error => Kind::IcmpError,
        Message::Other => Kind::IcmpOther,
        Message::RouterSolicitation => Kind::RouterSolicitation,
        Message::RouterOnly => Kind::RouterOnly,
        Message::Neighbour => {
            packet.destination =
                neighbour_target(window, payload.at).ok_or(DropReason::MalformedNeighbour)?;
            Kind::Neighbour
        }
    };
    let discovery = matches!(packet.kind, Kind::RouterSolicitation | Kind::RouterOnly | Kind::Neighbour);
    // RFC 4861 sections 6.1 and 7.1: never forwarded by a router, code 0; RFC 6980: no extension before it.
    if discovery && (header.hop_limit() != 255 || icmp.code() != 0 || payload.extended) {
        return Err(DropReason::MalformedNeighbour);
    }
    // The target of a neighbour message is an address like any other.
    if packet.destination.is_v4() { Err(DropReason::MartianDestination) } else { Ok(()) }
}

#[inline(always)]
fn echo(icmp: &Icmp, packet: &mut Packet) {
    packet.detail = icmp.kind();
    packet.source_port = icmp.identifier();
    packet.destination_port = icmp.identifier();
}
