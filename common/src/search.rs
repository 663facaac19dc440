//! Bounded searches in the flat tables: sorted and disjoint by construction, so one search decides.
//!
//! Each has two halves: `*_before` finds an index and takes only numbers, so that the kernel side can
//! make it a global subprogram, which the verifier checks once instead of at every call; the other
//! half looks at the entry found.

use crate::abi::{Addr, Peer, PortRange, ProfileId, Span, Window};
use crate::decide::Tables;
use crate::verdict::DropReason;

/// Steps of a search: enough for 2^19 entries, more than any table holds.
pub const SEARCH_STEPS: u32 = 20;

/// Pools and infrastructure of a small network: so many entries are looked at one by one.
const FEW: u32 = 4;

/// What `*_before` answers: the index of the last entry not above the wanted one, [`NONE`] or [`MISSING`].
pub type Found = u64;
/// Every entry is above.
pub const NONE: Found = 1 << 32;
/// An entry that must exist does not.
pub const MISSING: Found = 2 << 32;

/// The scope of an address: one of the `SCOPE_*`, or 0 where no range covers it.
#[inline(always)]
pub fn scope<T: Tables>(tables: &T, span: Span, address: Addr) -> Result<u32, DropReason> {
    let Some(index) = found(tables.scope_before(span, address))? else { return Ok(0) };
    let range = tables.scope(index).ok_or(DropReason::InternalTable)?;
    Ok(if address <= range.last { range.scope } else { 0 })
}

/// As [`scope`], where most spans are of few entries and a call costs more than to look at each.
#[inline(always)]
pub fn scope_of_few<T: Tables>(tables: &T, span: Span, address: Addr) -> Result<u32, DropReason> {
    if span.len > FEW {
        return scope(tables, span, address);
    }
    for step in 0..FEW {
        if step >= span.len {
            break;
        }
        let range = tables.scope(span.start.wrapping_add(step)).ok_or(DropReason::InternalTable)?;
        if range.first.to_bits() <= address.to_bits() && address.to_bits() <= range.last.to_bits() {
            return Ok(range.scope);
        }
    }
    Ok(0)
}

/// What is open at an address.
#[inline(always)]
pub fn range<T: Tables>(tables: &T, span: Span, address: Addr) -> Result<Option<Span>, DropReason> {
    covering(tables, tables.range_before(span, address), address)
}

/// What the range that was found opens at an address, if it reaches so far.
#[inline(always)]
fn covering<T: Tables + ?Sized>(
    tables: &T,
    before: Found,
    address: Addr,
) -> Result<Option<Span>, DropReason> {
    let Some(index) = found(before)? else { return Ok(None) };
    let range = tables.range(index).ok_or(DropReason::InternalTable)?;
    Ok((address <= range.last).then_some(range.open))
}

/// The entry that names a profile.
#[inline(always)]
pub fn peer<T: Tables>(tables: &T, span: Span, profile: ProfileId) -> Result<Option<&Peer>, DropReason> {
    let Some(index) = found(tables.peer_before(span, profile))? else { return Ok(None) };
    let peer = tables.peer(index).ok_or(DropReason::InternalTable)?;
    Ok((peer.profile == profile).then_some(peer))
}

/// The entry that names a port.
#[inline(always)]
pub fn port<T: Tables>(
    tables: &T,
    span: Span,
    protocol: u8,
    port: u16,
) -> Result<Option<&PortRange>, DropReason> {
    naming(tables, tables.port_before(span, port_order(protocol, port)), protocol, port)
}

/// The entry that names a port, of what is open at an address: [`range()`] and [`port()`] in one.
#[inline(always)]
pub fn port_at<T: Tables>(
    tables: &T,
    span: Span,
    address: Addr,
    protocol: u8,
    port: u16,
) -> Result<Option<&PortRange>, DropReason> {
    naming(tables, tables.port_before_at(span, address, port_order(protocol, port)), protocol, port)
}

/// The entry that was found, if it names a port.
#[inline(always)]
fn naming<T: Tables>(
    tables: &T,
    before: Found,
    protocol: u8,
    port: u16,
) -> Result<Option<&PortRange>, DropReason> {
    let Some(index) = found(before)? else { return Ok(None) };
    let entry = tables.port(index).ok_or(DropReason::InternalTable)?;
    Ok((entry.protocol == protocol && port <= entry.last).then_some(entry))
}

/// The window that is open now.
#[inline(always)]
pub fn window<T: Tables>(tables: &T, span: Span) -> Result<Option<&Window>, DropReason> {
    let Some(index) = found(tables.window_open(span))? else { return Ok(None) };
    tables.window(index).map(Some).ok_or(DropReason::InternalTable)
}

/// Searches [`crate::abi::ScopeRange`]s. As numbers, here and below: of addresses the compiler keeps the upper half in both
/// orders of its bytes, and eight bytes more of the stack are too much for some chains of calls.
#[inline(always)]
pub fn scope_before<T: Tables + ?Sized>(tables: &T, span: Span, address: Addr) -> Found {
    last(span, |index| Some(tables.scope(index)?.first.to_bits() <= address.to_bits()))
}

/// Searches [`crate::abi::Range`]s.
#[inline(always)]
pub fn range_before<T: Tables + ?Sized>(tables: &T, span: Span, address: Addr) -> Found {
    last(span, |index| Some(tables.range(index)?.first.to_bits() <= address.to_bits()))
}

/// Searches [`crate::abi::Peer`]s.
#[inline(always)]
pub fn peer_before<T: Tables + ?Sized>(tables: &T, span: Span, profile: ProfileId) -> Found {
    last(span, |index| Some(tables.peer(index)?.profile <= profile))
}

/// Searches [`PortRange`]s; `wanted` is a [`port_order`].
#[inline(always)]
pub fn port_before<T: Tables + ?Sized>(tables: &T, span: Span, wanted: u32) -> Found {
    last(span, |index| {
        let entry = tables.port(index)?;
        Some(port_order(entry.protocol, entry.first) <= wanted)
    })
}

/// Searches [`crate::abi::Range`]s, and what is open there as [`port_before`] does.
#[inline(always)]
pub fn port_before_at<T: Tables + ?Sized>(tables: &T, span: Span, address: Addr, wanted: u32) -> Found {
    match covering(tables, range_before(tables, span, address), address) {
        Ok(Some(open)) => port_before(tables, open, wanted),
        Ok(None) => NONE,
        Err(_) => MISSING,
    }
}

/// Searches [`Window`]s for the one that is open now: the only reading of the boot clock that decides anything.
#[inline(always)]
pub fn window_open<T: Tables + ?Sized>(tables: &T, span: Span) -> Found {
    let boot = tables.boot_now();
    let found = last(span, |index| Some(tables.window(index)?.open <= boot));
    if found >= NONE {
        return found;
    }
    match tables.window(found as u32) {
        Some(window) if boot < window.close => found,
        Some(_) => NONE,
        None => MISSING,
    }
}

/// The order of [`PortRange`]s as one number.
#[inline(always)]
pub const fn port_order(protocol: u8, port: u16) -> u32 {
    ((protocol as u32) << 16) | port as u32
}

#[inline(always)]
fn found(found: Found) -> Result<Option<u32>, DropReason> {
    match found {
        NONE => Ok(None),
        MISSING => Err(DropReason::InternalTable),
        index => Ok(Some(index as u32)),
    }
}

/// Index of the last entry that is not above what is searched for, given an order on `span`.
#[inline(always)]
fn last(span: Span, not_above: impl Fn(u32) -> Option<bool>) -> Found {
    let (mut low, mut high) = (0, span.len);
    for _ in 0..SEARCH_STEPS {
        if low >= high {
            break;
        }
        let middle = low + (high - low) / 2;
        match not_above(span.start.wrapping_add(middle)) {
            Some(true) => low = middle + 1,
            Some(false) => high = middle,
            None => return MISSING,
        }
    }
    if low == 0 { NONE } else { span.start.wrapping_add(low - 1) as Found }
}
