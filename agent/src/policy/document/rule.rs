//! One rule of a policy.

use ipnet::IpNet;

use super::{optional, time};
use crate::policy::condition::Conditions;
use crate::policy::location::Located;
use crate::policy::model::{Direction, Remotes, Rule};
use crate::policy::name::Name;
use crate::policy::node::Node;
use crate::policy::ports::Port;
use crate::policy::reader::{Fields, Reader};
use crate::policy::schedule::When;

/// Fields of the design that this version cannot enforce.
const LATER: [&str; 3] = ["limits", "record", "until"];

pub(super) fn read(reader: &mut Reader<'_>, node: &Node, between: bool) -> Option<Rule> {
    let mut fields = reader.fields(node, "the rule")?;
    let name = fields.required(reader, "name").and_then(|node| reader.name(node, "the rule's name"));
    let direction = match between {
        true => peer(reader, &mut fields),
        false => outside(reader, &mut fields),
    };
    let ports = ports(reader, &mut fields, direction.as_ref());
    let behind = behind(reader, &mut fields, direction.as_ref());
    let idle = fields.optional(reader, "idle").map(|node| reader.duration(node, "`idle`"));
    let time = time::read(reader, &mut fields);
    fields.later(reader, &LATER);
    fields.finish(reader);
    let name: Located<Name> = name?;
    let (conditions, window) = time?;
    Some(Rule {
        name: name.value,
        at: name.at,
        direction: direction?,
        ports: ports?,
        behind: behind?,
        idle: optional(idle)?,
        conditions,
        time: window,
    })
}

/// What devices may still call from quarantine: a rule that has no name of its own.
pub(super) fn repair(reader: &mut Reader<'_>, node: &Node) -> Option<Rule> {
    let mut fields = reader.fields(node, "`repair`")?;
    let to = fields.required(reader, "to").and_then(|node| remotes(reader, node, false));
    let direction = to.map(Direction::Outbound);
    let ports = ports(reader, &mut fields, direction.as_ref());
    let span = fields.span();
    fields.finish(reader);
    Some(Rule {
        name: Name::new(REPAIR)?,
        at: reader.at(span),
        direction: direction?,
        ports: ports?,
        idle: None,
        behind: Vec::new(),
        conditions: Conditions::default(),
        time: When::default(),
    })
}

/// How the rule that a segment's `repair` makes is called.
const REPAIR: &str = "repair";

/// A rule of `between`: its ends are named above it.
fn peer(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> Option<Direction> {
    let mut whole = true;
    for key in ["to", "from", "inbound"] {
        if let Some(span) = fields.key_span(key) {
            let problem = format!("`{key}` in a rule of `between`, which names both ends itself");
            reader.refuse::<()>(span, problem, "remove it");
            whole = false;
        }
    }
    whole.then_some(Direction::Peer)
}

fn outside(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> Option<Direction> {
    let inbound = match fields.optional(reader, "inbound") {
        Some(node) => reader.boolean(node, "`inbound`"),
        None => Some(false),
    };
    // Both are fields of a rule, whichever way it turns out to point.
    let _known = (fields.has("to"), fields.has("from"));
    let inbound = inbound?;
    let (wanted, other, help) = match inbound {
        true => ("from", "to", "an inbound rule says who calls: use `from`"),
        false => ("to", "from", "use `to`, or add `inbound: true`"),
    };
    if let Some(span) = fields.key_span(other) {
        let way = if inbound { "an inbound" } else { "an outbound" };
        reader.refuse::<()>(span, format!("`{other}` in {way} rule"), help);
        if !fields.has(wanted) {
            return None;
        }
    }
    let node = fields.required(reader, wanted)?;
    let remotes = remotes(reader, node, inbound)?;
    Some(match inbound {
        true => Direction::Inbound(remotes),
        false => Direction::Outbound(remotes),
    })
}

fn remotes(reader: &mut Reader<'_>, node: &Node, inbound: bool) -> Option<Remotes> {
    let mut fields = reader.fields(node, if inbound { "`from`" } else { "`to`" })?;
    let mut names = |reader: &mut Reader<'_>, key, what| match fields.optional(reader, key) {
        Some(node) => reader.some(node, what, |reader, node| reader.name(node, what)),
        None => Some(Vec::new()),
    };
    let destinations = names(reader, "destinations", "`destinations`");
    let services = match inbound {
        true => Some(Vec::new()),
        false => names(reader, "services", "`services`"),
    };
    let cidrs = match fields.optional(reader, "cidrs") {
        Some(node) => reader.some(node, "`cidrs`", |reader, node| reader.prefix(node)),
        None => Some(Vec::new()),
    };
    let span = fields.span();
    let nothing = !["destinations", "services", "cidrs"].into_iter().any(|key| fields.has(key));
    fields.later(reader, &["fqdns"]);
    fields.finish(reader);
    let remotes = Remotes { destinations: destinations?, services: services?, cidrs: cidrs? };
    if nothing {
        let ways = if inbound { "destinations or cidrs" } else { "destinations, services or cidrs" };
        return reader.refuse(span, "the rule names no far end", format!("add {ways}"));
    }
    Some(remotes)
}

/// `behind` says what of the called side's LAN is opened, so it needs a device that is called.
fn behind(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_>,
    direction: Option<&Direction>,
) -> Option<Vec<Located<IpNet>>> {
    let key = fields.key_span("behind");
    let Some(node) = fields.optional(reader, "behind") else { return Some(Vec::new()) };
    if let (Some(Direction::Outbound(_)), Some(span)) = (direction, key) {
        let help = "remove it; what lies behind a device may call whatever the device may";
        return reader.refuse(span, "`behind` in an outbound rule", help);
    }
    reader.some(node, "`behind`", Reader::prefix)
}

/// `ports` is mandatory, except where services bring all of them.
fn ports(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_>,
    direction: Option<&Direction>,
) -> Option<Vec<Port>> {
    let services_only = match direction {
        Some(Direction::Outbound(to)) => to.destinations.is_empty() && to.cidrs.is_empty(),
        Some(Direction::Inbound(_) | Direction::Peer) | None => false,
    };
    if !services_only {
        // Where the far end could not be read, it may have been services: stay silent.
        let node = match direction {
            Some(_) => fields.required(reader, "ports"),
            None => fields.optional(reader, "ports"),
        };
        return reader.ports(node?);
    }
    match fields.key_span("ports") {
        Some(span) => reader.refuse(
            span,
            "`ports` in a rule that names only services",
            "remove it; a service brings its ports",
        ),
        None => Some(Vec::new()),
    }
}
