//! A packet of the plainest kind, read in a few loads: what the short way takes.
//!
//! Ethernet with one tag at most, IPv4 without options or IPv6 without extension headers, no fragment, TCP or UDP. The
//! headers are read by the same code as in [`crate::parse`]; what is not plain, or not sound, is left to it.

use crate::abi::Addr;
use crate::case::{Arrival, LinkType};
use crate::ends::Ends;
use crate::frame::{Frame, Window};
use crate::wire::ethernet::{self, VLAN_LEN};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::{ether_type, ip_proto, l4};

/// Where a plain packet comes from and goes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Plain {
    /// VLAN number, 0 untagged.
    pub vlan: u16,
    /// IP protocol number: TCP or UDP.
    pub protocol: u8,
    /// True for TCP that opens, closes or resets its connection.
    pub turns: bool,
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
        if !matches!(arrival.link, LinkType::Ethernet) {
            return None;
        }
        let window = Window::new(frame, arrival.length)?;
        let (vlan, ether_type, at) = tag(&window)?;
        let network = match ether_type {
            ether_type::IPV4 => v4(&window, at)?,
            ether_type::IPV6 => v6(&window, at)?,
            _ => return None,
        };
        let (ports, turns) = transport(&window.up_to(network.end)?, &network)?;
        let Network { source, destination, protocol, .. } = network;
        Some(Self { vlan, protocol, turns, source, destination, ports })
    }

    /// Who has sent it.
    #[inline(always)]
    pub const fn source(&self) -> Addr {
        self.source
    }

    /// Who says what to whom.
    #[inline(always)]
    pub const fn ends(&self) -> Ends<'_> {
        Ends::plain(&self.source, &self.destination, self.ports, self.protocol)
    }
}

/// VLAN number and type of what lies behind the first tag, and where. A second tag is of no type that is known here.
#[inline(always)]
fn tag<F: Frame + ?Sized>(window: &Window<'_, F>) -> Option<(u16, u16, u32)> {
    let outer = u16::from_be_bytes(window.load(ethernet::LEN - 2)?);
    if !ethernet::is_tag(outer) {
        return Some((0, outer, ethernet::LEN));
    }
    let [c0, c1, t0, t1] = window.load(ethernet::LEN)?;
    Some((u16::from_be_bytes([c0, c1]) & 0x0fff, u16::from_be_bytes([t0, t1]), ethernet::LEN + VLAN_LEN))
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
fn transport<F: Frame + ?Sized>(window: &Window<'_, F>, network: &Network) -> Option<(l4::Ports, bool)> {
    const TURNS: u8 = l4::TCP_SYN | l4::TCP_FIN | l4::TCP_RST;
    match network.protocol {
        ip_proto::TCP => {
            let (ports, flags) = l4::tcp(window, network.payload)?;
            Some((ports, flags & TURNS != 0))
        }
        ip_proto::UDP => Some((l4::udp(window, network.payload, false)?, false)),
        _ => None,
    }
}
