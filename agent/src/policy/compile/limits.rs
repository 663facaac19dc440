//! What a segment lets each of its devices do, as the engine reads it.

use bulkhead_common::abi::Limits as Row;

use super::profiles::Signature;
use crate::policy::model::{Limits, Policy};

const SECOND_NS: u32 = 1_000_000_000;
/// Fractions that [`Row::byte_cost`] counts in, as a shift.
const FRACTION: u32 = 16;
const BITS: u64 = 8;

/// The limits of a profile's segment.
pub(super) fn of(policy: &Policy, signature: &Signature<'_>) -> Row {
    let segment = signature.segment.and_then(|name| policy.segments.get(name));
    segment.map_or_else(Row::default, |segment| row(&segment.limits))
}

/// What each thing costs of a second, rounded down: as many as are written may come at once.
fn row(limits: &Limits) -> Row {
    let each = |limit: Option<u32>| limit.map_or(0, |count| SECOND_NS / count.max(1));
    let byte = |bits: u64| ((BITS * u64::from(SECOND_NS)) << FRACTION) / bits.max(1);
    Row {
        packet_ns: each(limits.packets_per_second),
        flow_ns: each(limits.new_flows_per_second),
        flows: limits.flows.unwrap_or_default(),
        _pad: 0,
        byte_cost: limits.bits_per_second.map_or(0, byte),
    }
}
