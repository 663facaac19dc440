//! `kind: Segment`.

use super::network::mode;
use super::rule;
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
    mode(reader, &mut fields);
    fields.later(reader, &["limits"]);
    fields.finish(reader);
    Some(Segment {
        name: name.value.clone(),
        at: name.at.clone(),
        members: members?,
        never: never.unwrap_or(Some(Vec::new()))?,
        repair: repair.map_or(Some(None), |repair| repair.map(Some))?,
    })
}

fn members(reader: &mut Reader<'_>, node: &Node) -> Option<Labels> {
    let mut fields = reader.fields(node, "`members`")?;
    let labels = fields.required(reader, "matchLabels").and_then(|node| reader.match_labels(node));
    fields.finish(reader);
    Some(labels?.value)
}
