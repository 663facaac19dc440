//! Bounded searches in the flat tables: sorted and disjoint by construction, so one search decides.

use crate::abi::{Addr, Peer, PortRange, ProfileId, Range, ScopeRange, Span};
use crate::decide::Tables;
use crate::verdict::DropReason;

/// Steps of a search: enough for 2^19 entries, more than any table holds.
pub const SEARCH_STEPS: u32 = 20;

/// The scope of an address: one of the `SCOPE_*`, or 0 where no range covers it.
#[inline(always)]
pub fn scope<T: Tables>(tables: &T, span: Span, address: Addr) -> Result<u32, DropReason> {
    let found = last(span, |index| Some(tables.scope(index)?.first <= address))?;
    let Some(index) = found else { return Ok(0) };
    let range: &ScopeRange = tables.scope(index).ok_or(DropReason::InternalTable)?;
    Ok(if address <= range.last { range.scope } else { 0 })
}

/// The ports that are open towards an address.
#[inline(always)]
pub fn range<T: Tables>(tables: &T, span: Span, address: Addr) -> Result<Option<Span>, DropReason> {
    let found = last(span, |index| Some(tables.range(index)?.first <= address))?;
    let Some(index) = found else { return Ok(None) };
    let range: &Range = tables.range(index).ok_or(DropReason::InternalTable)?;
    Ok((address <= range.last).then_some(range.ports))
}

/// The ports that are open towards devices of a profile.
#[inline(always)]
pub fn peer<T: Tables>(tables: &T, span: Span, profile: ProfileId) -> Result<Option<Span>, DropReason> {
    let found = last(span, |index| Some(tables.peer(index)?.profile <= profile))?;
    let Some(index) = found else { return Ok(None) };
    let peer: &Peer = tables.peer(index).ok_or(DropReason::InternalTable)?;
    Ok((peer.profile == profile).then_some(peer.ports))
}

/// The entry that names a port.
#[inline(always)]
pub fn port<T: Tables>(
    tables: &T,
    span: Span,
    protocol: u8,
    port: u16,
) -> Result<Option<&PortRange>, DropReason> {
    let wanted = order(protocol, port);
    let found = last(span, |index| {
        let entry = tables.port(index)?;
        Some(order(entry.protocol, entry.first) <= wanted)
    })?;
    let Some(index) = found else { return Ok(None) };
    let entry = tables.port(index).ok_or(DropReason::InternalTable)?;
    Ok((entry.protocol == protocol && port <= entry.last).then_some(entry))
}

#[inline(always)]
const fn order(protocol: u8, port: u16) -> u32 {
    ((protocol as u32) << 16) | port as u32
}

/// Index of the last entry that is not above what is searched for, given an order on `span`.
#[inline(always)]
fn last(span: Span, not_above: impl Fn(u32) -> Option<bool>) -> Result<Option<u32>, DropReason> {
    let (mut low, mut high) = (0, span.len);
    for _ in 0..SEARCH_STEPS {
        if low >= high {
            break;
        }
        let middle = low + (high - low) / 2;
        if not_above(span.start.wrapping_add(middle)).ok_or(DropReason::InternalTable)? {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(if low == 0 { None } else { Some(span.start.wrapping_add(low - 1)) })
}
