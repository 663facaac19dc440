//! One in-file test of a policy.

use super::{optional, time};
use crate::policy::attribute::{Attribute, AttributeKey, Attributes};
use crate::policy::location::Located;
use crate::policy::model::{Labels, Like, Test, TestDevice, TestRemote};
use crate::policy::name::Name;
use crate::policy::node::{Node, Value};
use crate::policy::ports::Port;
use crate::policy::reader::{Fields, Reader};

pub(super) fn read(reader: &mut Reader<'_>, node: &Node) -> Option<Test> {
    let mut fields = reader.fields(node, "the test")?;
    let device = fields.required(reader, "device").and_then(|node| device(reader, node));
    let inbound = match fields.optional(reader, "inbound") {
        Some(node) => reader.boolean(node, "`inbound`"),
        None => Some(false),
    };
    let local = fields.optional(reader, "behind").map(|node| reader.address(node));
    let remote = remote(reader, &mut fields, inbound);
    let port = fields.required(reader, "port").and_then(|node| port(reader, node));
    let allow = fields
        .required(reader, "expect")
        .and_then(|node| reader.choice(node, "expectation", &[("allow", true), ("deny", false)]));
    let rule = fields.optional(reader, "rule").map(|node| rule(reader, node));
    let given = fields.optional(reader, "given").map(|node| given(reader, node));
    let moment = fields.optional(reader, "at").map(|node| time::moment(reader, node, "`at`"));
    let span = fields.span();
    fields.finish(reader);
    Some(Test {
        at: reader.at(span),
        device: device?,
        local: optional(local)?,
        remote: remote?,
        inbound: inbound?,
        port: port?,
        given: given.unwrap_or_else(|| Some(Attributes::new()))?,
        allow: allow?,
        when: optional(moment)?,
        rule: optional(rule)?,
    })
}

fn device(reader: &mut Reader<'_>, node: &Node) -> Option<TestDevice> {
    if !matches!(node.value, Value::Mapping(_)) {
        return reader.name(node, "the device").map(TestDevice::Named);
    }
    let mut fields = reader.fields(node, "`device`")?;
    let segment = fields.required(reader, "like").and_then(|node| reader.name(node, "the segment"));
    let labels = match fields.optional(reader, "labels") {
        Some(node) => reader.labels(node, "`labels`"),
        None => Some(Labels::new()),
    };
    fields.finish(reader);
    Some(TestDevice::Like(Like { segment: segment?, labels: labels? }))
}

/// What is assumed to be known of the device: `{firmware: "2.5", plmn: "24201"}`.
fn given(reader: &mut Reader<'_>, node: &Node) -> Option<Attributes> {
    let mut given = Attributes::new();
    let mut whole = true;
    for entry in reader.entries(node, "`given`")? {
        let Some(value) = reader.text(&entry.node, "the value of an attribute") else {
            whole = false;
            continue;
        };
        let (span, read) = match AttributeKey::new(&entry.key) {
            Ok(key) => (entry.node.span, key.normal(value).map(|value| (key, value))),
            Err(why) => (entry.key_span, Err(why)),
        };
        match read {
            Ok((key, value)) => {
                given.insert(key, Attribute::given(value));
            }
            Err(why) => {
                whole = false;
                reader.refuse_parted::<()>(span, &why);
            }
        }
    }
    whole.then_some(given)
}

fn remote(reader: &mut Reader<'_>, fields: &mut Fields<'_>, inbound: Option<bool>) -> Option<TestRemote> {
    let (wanted, other) = match inbound? {
        true => ("from", "opens"),
        false => ("opens", "from"),
    };
    if let Some(span) = fields.key_span(other) {
        let problem = format!("`{other}` does not go with the direction of this test");
        let help = "a device `opens`; with `inbound: true` somebody calls `from`";
        return reader.refuse(span, problem, help);
    }
    let node = fields.required(reader, wanted)?;
    let text = reader.word(node, "an address or a device")?;
    let like_address = text.contains(':') || text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    match like_address {
        true => reader.address(node).map(TestRemote::Address),
        false => reader.name(node, "the device").map(TestRemote::Device),
    }
}

fn port(reader: &mut Reader<'_>, node: &Node) -> Option<Port> {
    match reader.port(node)? {
        port @ (Port::Echo | Port::Portless(_)) => Some(port),
        port @ Port::Range { first, last, .. } if first == last => Some(port),
        port @ (Port::Any | Port::Range { .. }) => reader.refuse(
            node.span,
            format!("a test opens one port, not {port}"),
            "write it like tcp/443 or icmp/echo",
        ),
    }
}

/// `rule`, or `policy/rule`.
fn rule(reader: &mut Reader<'_>, node: &Node) -> Option<Located<String>> {
    let text = reader.text(node, "a rule's name")?;
    let good = text.splitn(2, '/').all(|part| Name::new(part).is_some());
    match good {
        true => Some(Located::new(text.to_owned(), reader.at(node.span))),
        false => reader.refuse(
            node.span,
            format!("{text:?} is not the name of a rule"),
            "write `rule` or `policy/rule`",
        ),
    }
}
