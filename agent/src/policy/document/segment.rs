//! `kind: Segment`.

use bulkhead_common::abi::map::FLOW_CAPACITY_MAX;

use super::control::percent;
use super::network::mode;
use super::{optional, rule};
use crate::policy::canary::Canary;
use crate::policy::location::Located;
use crate::policy::model::{Labels, Limits, Segment};
use crate::policy::name::Name;
use crate::policy::node::Node;
use crate::policy::reader::Reader;

pub(super) fn read(reader: &mut Reader<'_>, name: &Located<Name>, spec: &Node) -> Option<Segment> {
    let mut fields = reader.fields(spec, "the segment's spec")?;
    let members = fields.required(reader, "members").and_then(|node| members(reader, node));
    let never = fields.optional(reader, "never").map(|node| reader.ports(node));
    let repair = fields.optional(reader, "repair").map(|node| rule::repair(reader, node));
    let mode = mode(reader, &mut fields);
    let canary = fields.optional(reader, "canary").map(|node| canary(reader, node));
    let limits = fields.optional(reader, "limits").map(|node| limits(reader, node));
    fields.finish(reader);
    Some(Segment {
        name: name.value.clone(),
        at: name.at.clone(),
        members: members?,
        never: never.unwrap_or(Some(Vec::new()))?,
        repair: optional(repair)?,
        limits: limits.unwrap_or_else(|| Some(Limits::default()))?,
        mode: mode?,
        canary: optional(canary)?,
    })
}

fn canary(reader: &mut Reader<'_>, node: &Node) -> Option<Canary> {
    let mut fields = reader.fields(node, "`canary`")?;
    let share = fields.optional(reader, "share").map(|node| {
        let share = percent(reader, node)?;
        Some(Located::new(share, reader.at(node.span)))
    });
    let labels = fields.optional(reader, "matchLabels").map(|node| reader.match_labels(node));
    fields.finish(reader);
    if share.is_none() && labels.is_none() {
        let problem = "`canary` names no devices";
        return reader.refuse(node.span, problem, "write {share: 5%}, {matchLabels: {...}}, or both");
    }
    Some(Canary { share: optional(share)?, labels: optional(labels)? })
}

fn limits(reader: &mut Reader<'_>, node: &Node) -> Option<Limits> {
    let mut fields = reader.fields(node, "`limits`")?;
    let mut number = |reader: &mut Reader<'_>, key, most| {
        optional(fields.optional(reader, key).map(|node| reader.number(node, "a limit", 1, most)))
    };
    let packets_per_second = number(reader, "packetsPerSecond", 10_000_000);
    let new_flows_per_second = number(reader, "newFlowsPerSecond", 1_000_000);
    let flows = number(reader, "flows", FLOW_CAPACITY_MAX);
    let bits_per_second = optional(fields.optional(reader, "rate").map(|node| rate(reader, node)));
    fields.finish(reader);
    Some(Limits {
        at: Some(reader.at(node.span)),
        packets_per_second: packets_per_second?,
        bits_per_second: bits_per_second?,
        new_flows_per_second: new_flows_per_second?,
        flows: flows?,
    })
}

/// Bits per second with a unit of a thousand, a million or a thousand million.
fn rate(reader: &mut Reader<'_>, node: &Node) -> Option<u64> {
    let text = reader.word(node, "a rate")?;
    let units = [("kbit", 1_000), ("mbit", 1_000_000), ("gbit", 1_000_000_000)];
    let found = units.iter().find_map(|(unit, bits)| {
        let digits = text.strip_suffix(unit)?;
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<u64>().ok().filter(|_| plain)?.checked_mul(*bits)
    });
    match found.filter(|bits| (1_000..=1_000_000_000_000).contains(bits)) {
        Some(bits) => Some(bits),
        None => reader.refuse(
            node.span,
            format!("`{text}` is not a rate"),
            "write bits per second like 64kbit, 2mbit or 1gbit, up to 1000gbit",
        ),
    }
}

fn members(reader: &mut Reader<'_>, node: &Node) -> Option<Labels> {
    let mut fields = reader.fields(node, "`members`")?;
    let labels = fields.required(reader, "matchLabels").and_then(|node| reader.match_labels(node));
    fields.finish(reader);
    Some(labels?.value)
}
