//! `kind: Grant`.

use ipnet::IpNet;
use jiff::Timestamp;

use super::optional;
use super::time::moment;
use crate::policy::grant::{Grant, Visitor};
use crate::policy::location::Located;
use crate::policy::name::Name;
use crate::policy::node::Node;
use crate::policy::ports::Port;
use crate::policy::reader::Reader;

/// Longest name, contact or ticket.
const LONGEST: usize = 200;
/// A visitor comes from no more addresses than these prefixes hold.
const SHORTEST_V4: u8 = 24;
const SHORTEST_V6: u8 = 64;

pub(super) fn read(reader: &mut Reader<'_>, name: &Located<Name>, spec: &Node) -> Option<Grant> {
    let mut fields = reader.fields(spec, "the grant's spec")?;
    let who = fields.required(reader, "who").and_then(|node| visitor(reader, node));
    let approved_by = fields.optional(reader, "approvedBy").map(|node| words(reader, node, "`approvedBy`"));
    let ticket = fields.optional(reader, "ticket").map(|node| words(reader, node, "`ticket`"));
    let from = fields.required(reader, "from").and_then(|node| from(reader, node));
    let to = fields.required(reader, "to").and_then(|node| to(reader, node));
    let ports = fields.required(reader, "ports").and_then(|node| ports(reader, node));
    let window = fields.required(reader, "window").and_then(|node| window(reader, node));
    fields.later(reader, &["record"]);
    fields.finish(reader);
    let ((device, behind), (start, end)) = (to?, window?);
    Some(Grant {
        name: name.value.clone(),
        at: name.at.clone(),
        who: who?,
        approved_by: optional(approved_by)?,
        ticket: optional(ticket)?,
        from: from?,
        device,
        behind,
        ports: ports?,
        start,
        end,
    })
}

fn visitor(reader: &mut Reader<'_>, node: &Node) -> Option<Visitor> {
    let mut fields = reader.fields(node, "`who`")?;
    let person = fields.required(reader, "person").and_then(|node| words(reader, node, "`person`"));
    let organisation =
        fields.optional(reader, "organisation").map(|node| words(reader, node, "`organisation`"));
    let contact = fields.optional(reader, "contact").map(|node| words(reader, node, "`contact`"));
    fields.finish(reader);
    Some(Visitor { person: person?, organisation: optional(organisation)?, contact: optional(contact)? })
}

/// A text for people; it stands in records and on terminals.
fn words(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<String> {
    let text = reader.text(node, what)?.trim();
    let printable = !text.is_empty() && text.len() <= LONGEST && !text.contains(char::is_control);
    match printable {
        true => Some(text.to_owned()),
        false => {
            let help = "write one line of at most 200 bytes";
            reader.refuse(node.span, format!("{what} says nothing, or too much"), help)
        }
    }
}

fn from(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<Located<IpNet>>> {
    let mut fields = reader.fields(node, "`from`")?;
    let cidrs = fields.required(reader, "cidrs").and_then(|node| reader.some(node, "`cidrs`", visitors));
    fields.finish(reader);
    cidrs
}

/// A grant is about a person, so a whole network is not meant.
fn visitors(reader: &mut Reader<'_>, node: &Node) -> Option<Located<IpNet>> {
    let net = reader.prefix(node)?;
    let shortest = if net.value.addr().is_ipv4() { SHORTEST_V4 } else { SHORTEST_V6 };
    match net.value.prefix_len() < shortest {
        true => reader.refuse(
            node.span,
            format!("{} is more than a visitor comes from", net.value),
            format!("name the visitor's address, or at most a /{shortest}"),
        ),
        false => Some(net),
    }
}

fn to(reader: &mut Reader<'_>, node: &Node) -> Option<(Located<Name>, Vec<Located<IpNet>>)> {
    let mut fields = reader.fields(node, "`to`")?;
    let device = fields.required(reader, "device").and_then(|node| reader.name(node, "the device"));
    let behind = match fields.optional(reader, "behind") {
        Some(node) => reader.some(node, "`behind`", Reader::prefix),
        None => Some(Vec::new()),
    };
    fields.finish(reader);
    Some((device?, behind?))
}

/// What is opened is named: everything is not a name.
fn ports(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<Port>> {
    let ports = reader.ports(node)?;
    match ports.contains(&Port::Any) {
        true => reader.refuse(node.span, "a grant opens what it names, and not `any`", "name its ports"),
        false => Some(ports),
    }
}

fn window(reader: &mut Reader<'_>, node: &Node) -> Option<(Timestamp, Timestamp)> {
    let mut fields = reader.fields(node, "`window`")?;
    let start = fields.required(reader, "start").and_then(|node| moment(reader, node, "`start`"));
    let end = fields.required(reader, "end").and_then(|node| moment(reader, node, "`end`"));
    fields.finish(reader);
    let (start, end) = (start?, end?);
    match start < end {
        true => Some((start, end)),
        false => reader.refuse(node.span, "the grant ends before it begins", "let `end` come after `start`"),
    }
}
