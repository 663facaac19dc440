//! A packet of the plainest kind, read in a few loads: what the short way takes.
//!
//! Ethernet with one tag at most, IPv4 without options or IPv6 without extension headers, no fragment, TCP or UDP. The
//! headers are read by the same code as in [`crate::parse`]; what is not plain, or not sound, is left to it.

use crate::abi::Addr;
use crate::case::{Arrival, LinkType};
use crate::ends::Ends;
use crate::frame::{Frame, Window};
use crate::parse::ether_type_of;
use crate::wire::ethernet::{self, VLAN_LEN};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::{ether_type, gtpu, ip_proto, l4};

/// Where a plain packet comes from and goes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Plain {
    /// VLAN number, 0 untagged.
    pub vlan: u16,
    /// IP protocol number: TCP or UDP.
    pub protocol: u8,
    /// Flags of a TCP segment, 0 of UDP.
    pub flags: u8,
    /// Where the transport header begins.
    pub transport: u32,
    source: Addr,
    destination: Addr,
    ports: l4::Ports,
}

/// What lies between the frame's start and the transport header.
#[derive(Clone, Copy)]
struct Network {
    source: Addr,
    destination: Addr,
    protocol: u8,
    /// Where the transport header begins, and where the packet ends.
    payload: u32,
    end: u32,
}

impl Plain {
    /// Reads a frame; nothing if it is not plain.
    #[inline(always)]
    pub fn load<F: Frame + ?Sized>(frame: &F, arrival: &Arrival) -> Option<Self> {
        let (window, link) = link(frame, arrival)?;
        Self::behind(&window, link)
    }

    /// Reads the packet in a tunnel, which ends where the window does, in a frame with this VLAN number.
    #[inline(always)]
    pub fn inside<F: Frame + ?Sized>(window: &Window<'_, F>, at: u32, vlan: u16) -> Option<Self> {
        let [first] = window.load(at)?;
        Self::behind(window, Link { vlan, ether_type: ether_type_of(first)?, payload: at })
    }

    /// Reads what lies behind the Ethernet header.
    #[inline(always)]
    pub fn behind<F: Frame + ?Sized>(window: &Window<'_, F>, link: Link) -> Option<Self> {
        let Link { vlan, ether_type, payload: at } = link;
        let network = match ether_type {
            ether_type::IPV4 => v4(window, at)?,
            ether_type::IPV6 => v6(window, at)?,
            _ => return None,
        };
        let (ports, flags) = transport(&window.up_to(network.end)?, &network)?;
        let Network { source, destination, protocol, payload, .. } = network;
        Some(Self { vlan, protocol, flags, transport: payload, source, destination, ports })
    }

    /// Who has sent it.
    #[inline(always)]
    pub const fn source(&self) -> Addr {
        self.source
    }

    /// Whom it is for.
    #[inline(always)]
    pub const fn destination(&self) -> Addr {
        self.destination
    }

    /// True for what a tunnel's endpoint listens to.
    #[inline(always)]
    pub const fn is_gtpu(&self) -> bool {
        self.protocol == ip_proto::UDP && self.ports.destination == gtpu::PORT
    }

    /// True for TCP that opens, closes or resets its connection.
    #[inline(always)]
    pub const fn turns(&self) -> bool {
        self.flags & TURNS != 0
    }

    /// True if nothing in it speaks against its being a flow's first packet.
    #[inline(always)]
    pub const fn may_begin(&self) -> bool {
        !self.turns() || self.flags & (TURNS | l4::TCP_ACK) == l4::TCP_SYN
    }

    /// Who says what to whom.
    #[inline(always)]
    pub const fn ends(&self) -> Ends<'_> {
        Ends::plain(&self.source, &self.destination, self.ports, self.protocol)
    }
}

const TURNS: u8 = l4::TCP_SYN | l4::TCP_FIN | l4::TCP_RST;

/// What a plain frame begins with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Link {
    /// VLAN number, 0 untagged.
    pub vlan: u16,
    ether_type: u16,
    /// Where the IP header begins.
    payload: u32,
}

/// Reads the Ethernet header and the first tag of a frame. A second tag is of no type that is known here.
#[inline(always)]
pub fn link<'f, F: Frame + ?Sized>(frame: &'f F, arrival: &Arrival) -> Option<(Window<'f, F>, Link)> {
    if !matches!(arrival.link, LinkType::Ethernet) {
        return None;
    }
    let window = Window::new(frame, arrival.length)?;
    let outer = u16::from_be_bytes(window.load(ethernet::LEN - 2)?);
    if !ethernet::is_tag(outer) {
        return Some((window, Link { vlan: 0, ether_type: outer, payload: ethernet::LEN }));
    }
    let [c0, c1, t0, t1] = window.load(ethernet::LEN)?;
    let (vlan, ether_type) = (u16::from_be_bytes([c0, c1]) & 0x0fff, u16::from_be_bytes([t0, t1]));
    Some((window, Link { vlan, ether_type, payload: ethernet::LEN + VLAN_LEN }))
}

#[inline(always)]
fn v4<F: Frame + ?Sized>(window: &Window<'_, F>, at: u32) -> Option<Network> {
    let header = Ipv4::load(window, at)?;
    if header.has_options() || header.is_fragment() {
        return None;
    }
    Some(Network {
        source: header.source(),
        destination: header.destination(),
        protocol: header.protocol(),
        payload: at + ipv4::LEN as u32,
        end: at + header.total_len(),
    })
}

#[inline(always)]
fn v6<F: Frame + ?Sized>(window: &Window<'_, F>, at: u32) -> Option<Network> {
    let header = Ipv6::load(window, at)?;
    let (source, destination) = (header.source(), header.destination());
    let payload = at + ipv6::LEN as u32;
    // It would be taken for the IPv4 address.
    let plain = !source.is_v4() && !destination.is_v4();
    let end = payload + header.payload_len();
    // An extension header is no transport protocol.
    plain.then_some(Network { source, destination, protocol: header.next_header(), payload, end })
}

#[inline(always)]
fn transport<F: Frame + ?Sized>(window: &Window<'_, F>, network: &Network) -> Option<(l4::Ports, u8)> {
    match network.protocol {
        ip_proto::TCP => l4::tcp(window, network.payload),
        ip_proto::UDP => Some((l4::udp(window, network.payload, false)?, 0)),
        _ => None,
    }
}
