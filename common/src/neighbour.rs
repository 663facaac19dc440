//! ARP (RFC 826) and IPv6 neighbour discovery (RFC 4861): pass only for addresses that belong on the link.
//!
//! Who claims an address must be the device that has it, or a machine on the host's own prefix of
//! the link; who is asked for must be somebody that can be there.

use crate::abi::Addr;
use crate::abi::value::{SCOPE_ENDPOINT, SCOPE_INFRASTRUCTURE, SCOPE_LINK, SCOPE_POOL};
use crate::case::Case;
use crate::decide::Tables;
use crate::identify::{Place, bound_here, party};
use crate::parse::{Kind, Packet};
use crate::search;
use crate::verdict::{DropReason, Pass};

/// Neighbour advertisement (RFC 4861 section 4.4): claims its target.
const ADVERTISEMENT: u8 = 136;

/// Judges an ARP packet or a neighbour discovery message.
#[inline(always)]
pub fn judge<T: Tables>(tables: &T, case: &mut Case, place: &Place) -> Result<Pass, DropReason> {
    let packet = case.packet;
    if matches!(packet.kind, Kind::RouterOnly) {
        return router(&packet, place);
    }
    // Who claims another station's MAC address would poison its neighbours' caches. Redundant gateways do
    // it rightfully (GLBP answers for its other forwarders), and they are on the core's side.
    if packet.foreign_mac != 0 && place.is_access() {
        return Err(DropReason::SpoofedNeighbour);
    }
    may_claim(tables, case, place, packet.source)?;
    if matches!(packet.kind, Kind::RouterSolicitation) {
        return Ok(Pass::Neighbour);
    }
    if packet.detail == ADVERTISEMENT && matches!(packet.kind, Kind::Neighbour) {
        may_claim(tables, case, place, packet.destination)?;
    } else {
        may_be_asked(tables, place, packet.destination)?;
    }
    Ok(Pass::Neighbour)
}

/// Router advertisements and redirects come from routers, so never from the device side (RFC 6104).
#[inline(always)]
fn router(packet: &Packet, place: &Place) -> Result<Pass, DropReason> {
    if place.is_access() {
        return Err(DropReason::NeighbourRole);
    }
    if packet.source.is_link_local() { Ok(Pass::Neighbour) } else { Err(DropReason::SpoofedNeighbour) }
}

#[inline(always)]
fn may_claim<T: Tables>(tables: &T, case: &mut Case, place: &Place, address: Addr) -> Result<(), DropReason> {
    // Unspecified: a probe (RFC 5227) or duplicate address detection (RFC 4862). Link-local says nothing about pools.
    if address.is_unspecified() || (address.is_link_local() && !address.is_v4()) {
        return Ok(());
    }
    if search::scope(tables, place.network.scopes, address)? != SCOPE_POOL {
        let here = search::scope(tables, place.subinterface.link, address)? == SCOPE_LINK;
        let free = !place.is_access_alone() && place.subinterface.transit != 0;
        return if here || free { Ok(()) } else { Err(DropReason::SpoofedNeighbour) };
    }
    if place.subinterface.network.is_none() {
        return Err(DropReason::UnknownVlan);
    }
    if !place.is_access() {
        return Err(DropReason::SpoofedNeighbour);
    }
    let Some((device, row, _)) = party(tables, case, address)? else {
        return case.refuse(DropReason::UnknownDevice);
    };
    case.evidence.device = device.device;
    // What lies behind a device is reached through it, not on this link: only its own addresses are.
    if device.behind == 0 && bound_here(row, case) { Ok(()) } else { Err(DropReason::SpoofedNeighbour) }
}

#[inline(always)]
fn may_be_asked<T: Tables>(tables: &T, place: &Place, address: Addr) -> Result<(), DropReason> {
    if address.is_link_local() && !address.is_v4() {
        return Ok(());
    }
    let scope = search::scope(tables, place.network.scopes, address)?;
    if matches!(scope, SCOPE_INFRASTRUCTURE | SCOPE_ENDPOINT)
        || (scope == SCOPE_POOL && !place.subinterface.network.is_none())
    {
        return Ok(());
    }
    if scope == SCOPE_POOL {
        return Err(DropReason::UnknownVlan);
    }
    let here = search::scope(tables, place.subinterface.link, address)? == SCOPE_LINK;
    let free = !place.is_access_alone() && place.subinterface.transit != 0;
    if here || free { Ok(()) } else { Err(DropReason::NeighbourOffLink) }
}
