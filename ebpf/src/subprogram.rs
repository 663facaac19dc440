//! Searches as global subprograms: their arguments and results are numbers, so the verifier checks
//! each once by itself instead of once for every path that calls it (kernel commit 51c39bb1d5d1).

use bulkhead_common::abi::{Addr, ProfileId, Span};
use bulkhead_common::search::{self, Found};

use crate::maps::Maps;

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn scope_before(start: u32, len: u32, high: u64, low: u64) -> Found {
    search::scope_before(&Maps, Span { start, len }, Addr::from_halves(high, low))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn range_before(start: u32, len: u32, high: u64, low: u64) -> Found {
    search::range_before(&Maps, Span { start, len }, Addr::from_halves(high, low))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn peer_before(start: u32, len: u32, profile: u32) -> Found {
    search::peer_before(&Maps, Span { start, len }, ProfileId(profile))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn port_before(start: u32, len: u32, wanted: u32) -> Found {
    search::port_before(&Maps, Span { start, len }, wanted)
}
