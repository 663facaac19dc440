//! `kind: Policy`: whom it is about. Its rules are in `rule.rs`, its tests in `test.rs`.

use super::{rule, test};
use crate::policy::location::Located;
use crate::policy::model::{Between, PolicyRules, Rule, Selector, Subject};
use crate::policy::name::Name;
use crate::policy::node::Node;
use crate::policy::reader::{Fields, Reader};

pub(super) fn read(reader: &mut Reader<'_>, name: &Located<Name>, spec: &Node) -> Option<PolicyRules> {
    let mut fields = reader.fields(spec, "the policy's spec")?;
    let between = fields.has("between");
    let subject = subject(reader, &mut fields);
    let rules = fields
        .required(reader, "allow")
        .and_then(|node| reader.each(node, "`allow`", |reader, node| rule::read(reader, node, between)));
    let tests = fields.optional(reader, "tests").map(|node| reader.each(node, "`tests`", test::read));
    fields.later(reader, &["when", "limits", "mode"]);
    fields.finish(reader);
    let rules = unique(reader, rules?);
    Some(PolicyRules {
        name: name.value.clone(),
        at: name.at.clone(),
        subject: subject?,
        rules,
        tests: tests.unwrap_or(Some(Vec::new()))?,
    })
}

fn subject(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> Option<Subject> {
    let devices = fields.optional(reader, "subject");
    let pair = fields.optional(reader, "between");
    match (fields.has("subject"), fields.has("between")) {
        (true, false) => Some(Subject::Devices(selector(reader, devices?, "`subject`")?)),
        (false, true) => between(reader, pair?).map(Subject::Between),
        (true, true) => {
            let span = fields.key_span("between").unwrap_or(fields.span());
            reader.refuse(span, "both `subject` and `between`", "keep one of them")
        }
        (false, false) => {
            fields.required(reader, "subject");
            None
        }
    }
}

fn between(reader: &mut Reader<'_>, node: &Node) -> Option<Between> {
    let mut fields = reader.fields(node, "`between`")?;
    let initiator =
        fields.required(reader, "initiator").and_then(|node| selector(reader, node, "`initiator`"));
    let responder =
        fields.required(reader, "responder").and_then(|node| selector(reader, node, "`responder`"));
    let same_labels = fields.optional(reader, "sameLabels").map(|node| {
        reader.some(node, "`sameLabels`", |reader, node| reader.text(node, "a label").map(str::to_owned))
    });
    fields.finish(reader);
    let mut same_labels = same_labels.unwrap_or(Some(Vec::new()))?;
    same_labels.sort();
    same_labels.dedup();
    Some(Between { initiator: initiator?, responder: responder?, same_labels })
}

/// `{segment: x}`, `{device: x}` or `{matchLabels: {..}}`: exactly one.
pub(super) fn selector(reader: &mut Reader<'_>, node: &Node, what: &'static str) -> Option<Selector> {
    let mut fields = reader.fields(node, what)?;
    let segment = fields.optional(reader, "segment");
    let device = fields.optional(reader, "device");
    let labels = fields.optional(reader, "matchLabels");
    let span = fields.span();
    let written = ["segment", "device", "matchLabels"].map(|key| fields.has(key));
    fields.finish(reader);
    if written.iter().filter(|written| **written).count() != 1 {
        return reader.refuse(
            span,
            format!("{what} must choose devices in exactly one way"),
            "use one of {segment: …}, {device: …}, {matchLabels: {…}}",
        );
    }
    match (segment, device, labels) {
        (Some(node), _, _) => reader.name(node, "the segment").map(Selector::Segment),
        (_, Some(node), _) => reader.name(node, "the device").map(Selector::Device),
        (_, _, Some(node)) => reader.match_labels(node).map(Selector::Labels),
        (None, None, None) => None,
    }
}

fn unique(reader: &mut Reader<'_>, rules: Vec<Rule>) -> Vec<Rule> {
    let mut first = std::collections::BTreeMap::new();
    for rule in &rules {
        if let Some(line) = first.get(&rule.name) {
            let problem = format!("rule {} is defined twice, first on line {line}", rule.name);
            reader.refuse::<()>(rule.at.span(), problem, "rename one of them");
        } else {
            first.insert(rule.name.clone(), rule.at.line());
        }
    }
    rules
}
