//! The part of `kind: Agent` that says how changes of policy are kept and guarded.

use super::agent::path;
use crate::policy::agent::{AgentConfig, Anchors, GrantLimits, Guard, Percent};
use crate::policy::node::Node;
use crate::policy::reader::{Fields, Reader};

/// Reads `revisions`, `audit`, `guard` and `grants`.
pub(super) fn read(reader: &mut Reader<'_>, fields: &mut Fields<'_>, config: &mut AgentConfig) {
    if let Some(node) = fields.optional(reader, "revisions") {
        config.revisions_kept = kept(reader, node).unwrap_or(config.revisions_kept);
    }
    if let Some(node) = fields.optional(reader, "audit") {
        config.anchors = audit(reader, node).unwrap_or_default();
    }
    if let Some(node) = fields.optional(reader, "guard") {
        config.guard = guard(reader, node);
    }
    if let Some(node) = fields.optional(reader, "grants") {
        config.grants = grants(reader, node);
    }
}

fn kept(reader: &mut Reader<'_>, node: &Node) -> Option<u32> {
    let mut fields = reader.fields(node, "`revisions`")?;
    let keep = fields.required(reader, "keep");
    // Of one alone, there is nothing to go back to.
    let keep = keep.and_then(|node| reader.number(node, "number of revisions", 2, 1_000_000));
    fields.finish(reader);
    keep
}

fn audit(reader: &mut Reader<'_>, node: &Node) -> Option<Anchors> {
    let mut fields = reader.fields(node, "`audit`")?;
    let anchors = fields.required(reader, "anchor").and_then(|node| anchors(reader, node));
    fields.finish(reader);
    anchors
}

fn anchors(reader: &mut Reader<'_>, node: &Node) -> Option<Anchors> {
    let mut fields = reader.fields(node, "`anchor`")?;
    let named = ["file", "syslog", "webhook"].map(|key| fields.has(key)).contains(&true);
    let file = fields.optional(reader, "file").and_then(|node| path(reader, "file", node));
    let syslog = fields.optional(reader, "syslog").and_then(|node| reader.boolean(node, "`syslog`"));
    let webhook = fields.optional(reader, "webhook").and_then(|node| webhook(reader, node));
    fields.finish(reader);
    let anchors = Anchors { file, syslog: syslog.unwrap_or_default(), webhook };
    match !named || (syslog == Some(false) && anchors.is_empty()) {
        true => {
            reader.refuse(node.span, "`anchor` names no place", "name `file`, `syslog: true` or `webhook`")
        }
        false => Some(anchors),
    }
}

/// Plain HTTP: what is told is a checksum, and the receiver is expected on the management network.
fn webhook(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let text = reader.word(node, "a URL")?;
    let rest = text.strip_prefix("http://").filter(|rest| !rest.is_empty() && !rest.starts_with('/'));
    match rest.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_graphic())) {
        true => Some(text.to_owned()),
        false => reader.refuse(
            node.span,
            format!("{text:?} is no URL that can be posted to"),
            "write one that begins with http://; for HTTPS put a proxy on this host",
        ),
    }
}

fn grants(reader: &mut Reader<'_>, node: &Node) -> GrantLimits {
    let mut limits = GrantLimits::default();
    let Some(mut fields) = reader.fields(node, "`grants`") else {
        return limits;
    };
    if let Some(node) = fields.optional(reader, "maxDuration") {
        limits.max_duration = reader.age(node, "`maxDuration`").unwrap_or(limits.max_duration);
    }
    if let Some(node) = fields.optional(reader, "fourEyes") {
        limits.four_eyes = reader.boolean(node, "`fourEyes`").unwrap_or_default();
    }
    fields.finish(reader);
    limits
}

fn guard(reader: &mut Reader<'_>, node: &Node) -> Guard {
    let mut guard = Guard::default();
    let Some(mut fields) = reader.fields(node, "`guard`") else {
        return guard;
    };
    for (key, slot) in [("devices", &mut guard.devices), ("flows", &mut guard.flows)] {
        let share = fields.optional(reader, key).and_then(|node| percent(reader, node));
        *slot = share.unwrap_or(*slot);
    }
    fields.finish(reader);
    guard
}

pub(super) fn percent(reader: &mut Reader<'_>, node: &Node) -> Option<Percent> {
    let text = reader.word(node, "a share")?;
    Percent::parse(text).or_else(|| {
        reader.refuse(node.span, format!("{text:?} is not a share"), "write 0% to 100%, like 5% or 0.5%")
    })
}
