//! `kind: Destination`.

use crate::policy::location::Located;
use crate::policy::model::Destination;
use crate::policy::name::Name;
use crate::policy::node::Node;
use crate::policy::reader::Reader;

pub(super) fn read(reader: &mut Reader<'_>, name: &Located<Name>, spec: &Node) -> Option<Destination> {
    let mut fields = reader.fields(spec, "the destination's spec")?;
    let cidrs = fields
        .required(reader, "cidrs")
        .and_then(|node| reader.some(node, "`cidrs`", |reader, node| reader.prefix(node)));
    let reaches = fields
        .optional(reader, "reaches")
        .and_then(|node| reader.choice(node, "reach", &[("infrastructure", ())]));
    fields.later(reader, &["fqdns", "domains"]);
    fields.finish(reader);
    Some(Destination {
        name: name.value.clone(),
        at: name.at.clone(),
        cidrs: cidrs?,
        reaches_infrastructure: reaches.is_some(),
    })
}
