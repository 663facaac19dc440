//! `kind: Segment`.

use super::control::percent;
use super::network::mode;
use super::rule;
use crate::policy::canary::Canary;
use crate::policy::location::Located;
use crate::policy::model::{Labels, Segment};
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
    fields.later(reader, &["limits"]);
    fields.finish(reader);
    Some(Segment {
        name: name.value.clone(),
        at: name.at.clone(),
        members: members?,
        never: never.unwrap_or(Some(Vec::new()))?,
        repair: repair.map_or(Some(None), |repair| repair.map(Some))?,
        mode: mode?,
        canary: canary.map_or(Some(None), |canary| canary.map(Some))?,
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
    let lift = |found: Option<Option<_>>| found.map_or(Some(None), |found| found.map(Some));
    let labels = labels.map_or(Some(None), |labels| labels.map(Some));
    Some(Canary { share: lift(share)?, labels: labels? })
}

fn members(reader: &mut Reader<'_>, node: &Node) -> Option<Labels> {
    let mut fields = reader.fields(node, "`members`")?;
    let labels = fields.required(reader, "matchLabels").and_then(|node| reader.match_labels(node));
    fields.finish(reader);
    Some(labels?.value)
}
