//! GTP-U tunnels that end on this host (TS 29.281): the packet inside is judged, by the same stages.
//!
//! What the host's endpoints are sent is never transit. A device is bound to the tunnel that its
//! packets come through: its policy names the TEID, or the first one that it uses is remembered until
//! it has been silent for a while. The TEID is the core's own number, so it stays when a device is
//! handed over from one base station to another (TS 23.502 clause 4.9.1.2), and the peer does not.

use crate::abi::Device;
use crate::case::Case;
use crate::decide::Tables;
use crate::frame::{Frame, Window};
use crate::parse::{Kind, Packet, ether_type_of};
use crate::search;
use crate::verdict::{DropReason, Pass};
use crate::wire::gtpu::{self, Gtpu, Message};
use crate::wire::{ip_proto, l4};

/// Which tunnel every device address came through last.
pub trait Tunnels {
    /// The word of a slot: `teid << 32 | seconds`, 0 before the first packet.
    fn tunnel(&self, slot: u32) -> Option<u64>;
    /// Replaces a slot's word, unless another packet was first.
    fn bind(&self, slot: u32, seen: u64, word: u64) -> bool;
}

/// Takes a packet out of its tunnel: leaves in `case` where the packet inside lies.
///
/// Passes talk between endpoints, and leaves everything that is not for one as it is.
#[inline(always)]
pub fn enter<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    tables: &T,
    case: &mut Case,
) -> Result<Option<Pass>, DropReason> {
    let place = case.place.subinterface;
    if place.endpoints.len == 0 || case.packet.protocol != ip_proto::UDP {
        return Ok(None);
    }
    let local = search::scope(tables, place.endpoints, case.packet.destination)? != 0;
    let ours = case.packet.destination_port == gtpu::PORT || case.packet.piece.is_fragment();
    if !local || !ours {
        return Ok(None);
    }
    if case.packet.piece.is_fragment() {
        return Err(DropReason::GtpuOuterFragment);
    }
    let known = search::scope(tables, place.peers, case.packet.source)? != 0;
    if known { open(frame, case) } else { Err(DropReason::GtpuPeer) }
}

/// Refuses what would reach an endpoint unjudged: past its interface, or in pieces.
#[inline(always)]
pub const fn past_its_interface(packet: &Packet) -> Result<(), DropReason> {
    if packet.protocol != ip_proto::UDP {
        Ok(())
    } else if packet.piece.is_fragment() {
        Err(DropReason::GtpuOuterFragment)
    } else if packet.destination_port == gtpu::PORT {
        Err(DropReason::GtpuPeer)
    } else {
        Ok(())
    }
}

#[inline(always)]
fn open<F: Frame + ?Sized>(frame: &F, case: &mut Case) -> Result<Option<Pass>, DropReason> {
    let at = case.packet.transport;
    let datagram = Window::new(frame, case.end).ok_or(DropReason::GtpuMalformed)?;
    let datagram = l4::udp_payload(&datagram, at).ok_or(DropReason::GtpuMalformed)?;
    let at = at + l4::UDP_LEN as u32;
    let header = Gtpu::load(&datagram, at)?;
    match header.message() {
        Message::Signalling => Ok(Some(Pass::Gtpu)),
        Message::Unknown => Err(DropReason::GtpuMessage),
        Message::GPdu if header.teid() == 0 => Err(DropReason::GtpuTeidZero),
        Message::GPdu => {
            let end = at + gtpu::LEN + header.length();
            let window = datagram.up_to(end).ok_or(DropReason::GtpuMalformed)?;
            let inside = header.payload(&window, at)?;
            let [first] = window.load::<1>(inside).ok_or(DropReason::GtpuInner)?;
            let ether_type = ether_type_of(first).ok_or(DropReason::GtpuInner)?;
            case.packet = inner(&case.packet, ether_type, header.teid());
            (case.at, case.end) = (inside, end);
            Ok(None)
        }
    }
}

/// What is known of the packet inside before it is read.
#[inline(always)]
const fn inner(outer: &Packet, ether_type: u16, teid: u32) -> Packet {
    Packet {
        length: outer.length,
        outer_vlan: outer.outer_vlan,
        inner_vlan: outer.inner_vlan,
        source_mac: outer.source_mac,
        ether_type,
        tunnel_peer: outer.source,
        teid,
        ..Packet::EMPTY
    }
}

/// True for a packet inside a tunnel that is itself for a tunnel's endpoint.
#[inline(always)]
pub fn is_nested(packet: &Packet) -> bool {
    packet.teid != 0
        && packet.protocol == ip_proto::UDP
        && matches!(packet.kind, Kind::Ports)
        && packet.destination_port == gtpu::PORT
}

/// True if the device's packets may come through the tunnel that this one came through.
#[inline(always)]
pub fn bound_here<T: Tables + Tunnels>(tables: &T, case: &Case, slot: u32, device: &Device) -> bool {
    let teid = case.packet.teid;
    if device.teid != 0 || teid == 0 {
        return device.teid == teid;
    }
    let Some(seen) = tables.tunnel(slot) else { return false };
    let now = (tables.now() / NANOSECONDS) as u32;
    let word = ((teid as u64) << 32) | now as u64;
    let (last_teid, last) = ((seen >> 32) as u32, seen as u32);
    if last_teid == teid {
        // One store a second for each device; if another packet was first, it has said the same or worse.
        return last == now || tables.bind(slot, seen, word) || is_last(tables, slot, teid);
    }
    let idle = case.place.subinterface.tunnel_idle as u32;
    let free = last_teid == 0 || now.wrapping_sub(last) >= idle;
    free && (tables.bind(slot, seen, word) || is_last(tables, slot, teid))
}

#[inline(always)]
fn is_last<T: Tunnels>(tables: &T, slot: u32, teid: u32) -> bool {
    tables.tunnel(slot).is_some_and(|word| (word >> 32) as u32 == teid)
}

const NANOSECONDS: u64 = 1_000_000_000;
