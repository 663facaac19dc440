//! `kind: Network`.

use std::collections::BTreeMap;

use super::optional;
use crate::policy::location::Located;
use crate::policy::model::{
    Forwarding, FragmentMode, Mode, Network, Service, Subinterface, TeidRange, Timeouts,
};
use crate::policy::name::{self, Name};
use crate::policy::node::{Entry, Node, Value, Word};
use crate::policy::ports::{Port, Protocol};
use crate::policy::reader::{Fields, Reader};

/// The engine's own network for frames that no network lists.
const RESERVED: &str = "host";

pub(super) fn read(reader: &mut Reader<'_>, name: &Located<Name>, spec: &Node) -> Option<Network> {
    if name.value.as_str() == RESERVED {
        let problem = "the network name `host` is taken by Bulkhead itself";
        reader.refuse::<()>(name.at.span(), problem, "choose another name");
    }
    let mut fields = reader.fields(spec, "the network's spec")?;
    let seen_on =
        fields.required(reader, "seenOn").and_then(|node| reader.some(node, "`seenOn`", subinterface));
    let pools = fields
        .required(reader, "pools")
        .and_then(|node| reader.some(node, "`pools`", |reader, node| reader.prefix(node)));
    let infrastructure = fields
        .optional(reader, "infrastructure")
        .map(|node| reader.each(node, "`infrastructure`", |reader, node| reader.prefix(node)));
    let services = fields.optional(reader, "services").map(|node| services(reader, node));
    let never = fields.optional(reader, "never").map(|node| reader.ports(node));
    let timeouts = fields.optional(reader, "timeouts").map(|node| timeouts(reader, node));
    let mode = mode(reader, &mut fields);
    let fragments = fragments(reader, &mut fields);
    let passes_options = match fields.optional(reader, "ipOptions") {
        Some(node) => reader.choice(node, "way to treat IP options", &[("drop", false), ("pass", true)]),
        None => Some(false),
    };
    let forwarding = forwarding(reader, &mut fields);
    fields.finish(reader);
    let (seen_on, teids): (Vec<_>, Vec<_>) = seen_on?.into_iter().unzip();
    let teids =
        seen_on.iter().map(|seen| seen.value.clone()).zip(teids).filter(|(_, teids)| !teids.is_empty());
    Some(Network {
        name: name.value.clone(),
        at: name.at.clone(),
        teids: teids.collect(),
        seen_on,
        pools: pools?,
        infrastructure: infrastructure.unwrap_or(Some(Vec::new()))?,
        services: services.unwrap_or(Some(BTreeMap::new()))?,
        never: never.unwrap_or(Some(Vec::new()))?,
        timeouts: timeouts.unwrap_or_else(|| Some(Timeouts::default()))?,
        fragments: fragments?,
        passes_options: passes_options?,
        forwarding: forwarding?,
        mode: mode?.map_or(Mode::Enforce, |mode| mode.value),
    })
}

fn timeouts(reader: &mut Reader<'_>, node: &Node) -> Option<Timeouts> {
    let mut fields = reader.fields(node, "`timeouts`")?;
    let mut timeouts = Timeouts::default();
    let mut whole = true;
    for (key, slot) in [
        ("tcpHalfOpen", &mut timeouts.tcp_half_open),
        ("tcpEstablished", &mut timeouts.tcp_established),
        ("tcpClosing", &mut timeouts.tcp_closing),
        ("udp", &mut timeouts.udp),
        ("udpUnanswered", &mut timeouts.udp_unanswered),
        ("sctp", &mut timeouts.sctp),
        ("icmp", &mut timeouts.icmp),
        ("portless", &mut timeouts.portless),
    ] {
        if let Some(node) = fields.optional(reader, key) {
            *slot = reader.duration(node, "a timeout");
            whole &= slot.is_some();
        }
    }
    fields.finish(reader);
    whole.then_some(timeouts)
}

/// `mode` of a network or segment; the outer `None` stands for one that could not be read.
pub(super) fn mode(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> Option<Option<Located<Mode>>> {
    let Some(node) = fields.optional(reader, "mode") else { return Some(None) };
    let mode = reader.choice(node, "mode", &[("enforce", Mode::Enforce), ("observe", Mode::Observe)])?;
    Some(Some(Located::new(mode, reader.at(node.span))))
}

fn fragments(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> Option<FragmentMode> {
    let Some(node) = fields.optional(reader, "fragments") else { return Some(FragmentMode::Track) };
    let choices = [("track", FragmentMode::Track), ("drop", FragmentMode::Drop)];
    reader.choice(node, "way to treat fragments", &choices)
}

fn forwarding(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> Option<Forwarding> {
    let Some(node) = fields.optional(reader, "forwarding") else { return Some(Forwarding::Kernel) };
    reader.choice(node, "way of forwarding", &[("kernel", Forwarding::Kernel), ("xdp", Forwarding::Xdp)])
}

type Seen = (Located<Subinterface>, Vec<Located<TeidRange>>);

fn subinterface(reader: &mut Reader<'_>, node: &Node) -> Option<Seen> {
    let mut fields = reader.fields(node, "the `seenOn` entry")?;
    let interface = fields.required(reader, "interface").and_then(|node| reader.interface(node));
    let (vlan, inner) = vlans(reader, &mut fields);
    let teids = fields.optional(reader, "teids").map(|node| reader.some(node, "`teids`", teid_range));
    fields.later(reader, &["session"]);
    fields.finish(reader);
    let place = Subinterface {
        interface: interface?.value,
        vlan: vlan?.unwrap_or(0),
        inner_vlan: inner?.unwrap_or(0),
    };
    Some((Located::new(place, reader.at(node.span)), teids.unwrap_or(Some(Vec::new()))?))
}

fn teid_range(reader: &mut Reader<'_>, node: &Node) -> Option<Located<TeidRange>> {
    let text = reader.word(node, "a range of TEIDs")?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = teid_number(first).zip(teid_number(last)).filter(|(first, last)| first <= last);
    match range {
        Some((first, last)) => Some(Located::new(TeidRange { first, last }, reader.at(node.span))),
        None => reader.refuse(
            node.span,
            format!("`{text}` is no range of TEIDs"),
            "write it like 0x1000-0x1fff, the smaller one first and neither of them 0",
        ),
    }
}

/// A TEID in hexadecimal or decimal; 0 is no device's (TS 29.281 clause 5.1).
fn teid_number(text: &str) -> Option<u32> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    let unsigned = !text.contains('+');
    number.ok().filter(|number| *number != 0 && unsigned)
}

/// One TEID.
pub(super) fn teid(reader: &mut Reader<'_>, node: &Node) -> Option<Located<u32>> {
    let text = reader.word(node, "a TEID")?;
    teid_of(reader, Word { text, span: node.span })
}

pub(super) fn teid_of(reader: &mut Reader<'_>, Word { text, span }: Word<'_>) -> Option<Located<u32>> {
    match teid_number(text) {
        Some(teid) => Some(Located::new(teid, reader.at(span))),
        None => reader.refuse(
            span,
            format!("`{text}` is no TEID"),
            "write it like 0x1001; it is not 0 and has 32 bits",
        ),
    }
}

/// `vlan` and `innerVlan`; the outer `None` stands for one that could not be read.
pub(super) fn vlans(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_>,
) -> (Option<Option<u16>>, Option<Option<u16>>) {
    let vlan = fields.optional(reader, "vlan").map(|node| reader.vlan(node));
    let inner = fields.optional(reader, "innerVlan").map(|node| reader.vlan(node));
    let span = fields.key_span("innerVlan").unwrap_or(fields.span());
    if inner.is_some() && !fields.has("vlan") {
        let problem = "`innerVlan` without `vlan`";
        reader.refuse::<()>(span, problem, "add the outer tag as `vlan:`");
    }
    (optional(vlan), optional(inner))
}

fn services(reader: &mut Reader<'_>, node: &Node) -> Option<BTreeMap<Name, Service>> {
    let mut services = BTreeMap::new();
    let mut whole = true;
    for entry in reader.entries(node, "`services`")? {
        match service(reader, entry) {
            Some((name, service)) => {
                services.insert(name, service);
            }
            None => whole = false,
        }
    }
    whole.then_some(services)
}

fn service(reader: &mut Reader<'_>, entry: &Entry) -> Option<(Name, Service)> {
    let name = Name::new(&entry.key);
    if name.is_none() {
        let problem = format!("{:?} is not a valid name", &*entry.key);
        reader.refuse::<()>(entry.key_span, problem, name::RULE);
    }
    let service = match &entry.node.value {
        Value::Mapping(_) => long(reader, entry),
        Value::Null | Value::Scalar { .. } | Value::Sequence(_) => short(reader, entry),
    };
    Some((name?, service?))
}

/// `dns: [addresses]`: the name says the ports.
fn short(reader: &mut Reader<'_>, entry: &Entry) -> Option<Service> {
    let addresses = reader.some(&entry.node, "the service", |reader, node| reader.address(node));
    let Some(ports) = well_known(&entry.key) else {
        return reader.refuse(
            entry.key_span,
            format!("service `{}` has no well-known ports", entry.key),
            "write {addresses: [...], ports: [...]}; dns and ntp know theirs",
        );
    };
    Some(Service { at: reader.at(entry.key_span), addresses: addresses?, ports })
}

fn long(reader: &mut Reader<'_>, entry: &Entry) -> Option<Service> {
    let mut fields = reader.fields(&entry.node, "the service")?;
    let addresses = fields
        .required(reader, "addresses")
        .and_then(|node| reader.some(node, "`addresses`", |reader, node| reader.address(node)));
    let ports = match well_known(&entry.key) {
        Some(ports) if !fields.has("ports") => Some(ports),
        _ => fields.required(reader, "ports").and_then(|node| reader.ports(node)),
    };
    fields.finish(reader);
    Some(Service { at: reader.at(entry.key_span), addresses: addresses?, ports: ports? })
}

/// Ports of services that need no saying: DNS by RFC 1035 and RFC 7858, NTP by RFC 5905.
fn well_known(service: &str) -> Option<Vec<Port>> {
    match service {
        "dns" => Some(vec![
            Port::single(Protocol::Tcp, 53),
            Port::single(Protocol::Tcp, 853),
            Port::single(Protocol::Udp, 53),
        ]),
        "ntp" => Some(vec![Port::single(Protocol::Udp, 123)]),
        _ => None,
    }
}
