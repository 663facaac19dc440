//! `kind: Agent`.

use std::path::PathBuf;

use super::control;
use super::interface::interface;
use crate::policy::agent::{AgentConfig, Interface, LocalOutput};
use crate::policy::location::Located;
use crate::policy::node::{Node, Word};
use crate::policy::reader::Reader;
use crate::tables::Capacities;
use bulkhead_common::abi::map::{
    ADDRESS_CAPACITY_MAX, DEVICE_CAPACITY_MAX, FLOW_CAPACITY_MAX, PORT_CAPACITY, PROFILE_CAPACITY,
    RANGE_CAPACITY,
};
use bulkhead_common::flow_table::BUCKET;

/// The kernel's longest interface name.
const IFNAMSIZ: usize = 15;

/// VLAN ids that frames can carry (IEEE 802.1Q clause 9.6).
const VLAN: &str = "VLAN";
const FIRST_VLAN: u32 = 1;
const LAST_VLAN: u32 = 4094;

pub(super) fn read(reader: &mut Reader<'_>, spec: &Node) -> Option<AgentConfig> {
    let mut fields = reader.fields(spec, "the agent's spec")?;
    let interfaces = fields
        .required(reader, "interfaces")
        .and_then(|node| reader.some(node, "`interfaces`", interface))
        .map(|found| unique(reader, found));
    let mut config = AgentConfig::with_defaults(reader.at(spec.span));
    for (key, slot) in [
        ("policyFolder", &mut config.policy_folder),
        ("stateDir", &mut config.state_dir),
        ("socket", &mut config.socket),
        ("pinDir", &mut config.pin_dir),
    ] {
        if let Some(node) = fields.optional(reader, key) {
            *slot = path(reader, key, node).unwrap_or_default();
        }
    }
    if let Some(node) = fields.optional(reader, "autoApply") {
        config.auto_apply = reader.boolean(node, "`autoApply`").unwrap_or_default();
    }
    if let Some(node) = fields.optional(reader, "secondGuard") {
        let choices = [("on", true), ("off", false)];
        config.second_guard = reader.choice(node, "secondGuard", &choices).unwrap_or(true);
    }
    if let Some(node) = fields.optional(reader, "localOutput") {
        let choices = [("pass", LocalOutput::Pass), ("drop", LocalOutput::Drop)];
        config.local_output = reader.choice(node, "localOutput", &choices).unwrap_or_default();
    }
    if let Some(node) = fields.optional(reader, "clock") {
        let choices = [("synchronised", false), ("trusted", true)];
        config.trusts_clock = reader.choice(node, "clock", &choices).unwrap_or_default();
    }
    if let Some(node) = fields.optional(reader, "tables") {
        config.tables = capacities(reader, node);
    }
    control::read(reader, &mut fields, &mut config);
    fields.finish(reader);
    config.interfaces = interfaces?;
    Some(config)
}

/// An absolute path.
pub(super) fn path(reader: &mut Reader<'_>, key: &str, node: &Node) -> Option<PathBuf> {
    let text = reader.text(node, "a path")?;
    match text.starts_with('/') {
        true => Some(PathBuf::from(text)),
        false => reader.refuse(node.span, format!("`{key}` is not an absolute path"), "begin it with /"),
    }
}

fn unique(reader: &mut Reader<'_>, found: Vec<Interface>) -> Vec<Interface> {
    let mut kept: Vec<Interface> = Vec::new();
    for interface in found {
        let name = &interface.name;
        match kept.iter().find(|other| other.name.value == name.value) {
            Some(first) => {
                let problem = format!("interface {} is listed twice, first at {}", name.value, first.name.at);
                reader.refuse::<()>(name.at.span(), problem, "merge the two entries");
            }
            None => kept.push(interface),
        }
    }
    kept
}

fn capacities(reader: &mut Reader<'_>, node: &Node) -> Capacities {
    let mut tables = Capacities::default();
    let Some(mut fields) = reader.fields(node, "`tables`") else {
        return tables;
    };
    if let Some(number) = fields.optional(reader, "flows").and_then(|node| flows(reader, node)) {
        tables.flows = number;
    }
    let slots: [(&'static str, &mut u32, u32); 5] = [
        ("devices", &mut tables.devices, DEVICE_CAPACITY_MAX),
        ("addresses", &mut tables.addresses, ADDRESS_CAPACITY_MAX),
        ("profiles", &mut tables.profiles, PROFILE_CAPACITY),
        ("ranges", &mut tables.ranges, RANGE_CAPACITY),
        ("ports", &mut tables.ports, PORT_CAPACITY),
    ];
    for (key, slot, most) in slots {
        let number = fields.optional(reader, key).and_then(|node| reader.number(node, "capacity", 1, most));
        *slot = number.unwrap_or(*slot);
    }
    fields.finish(reader);
    tables
}

/// Slots of the flow table: whole buckets, and a power of two of them.
fn flows(reader: &mut Reader<'_>, node: &Node) -> Option<u32> {
    let number = reader.number(node, "capacity", BUCKET, FLOW_CAPACITY_MAX)?;
    if number.is_power_of_two() {
        return Some(number);
    }
    let (below, above) = (number.next_power_of_two() / 2, number.next_power_of_two());
    let problem = format!("the flow table cannot have {number} places");
    reader.refuse(node.span, problem, format!("write a power of two: {below} or {above}"))
}

impl Reader<'_> {
    /// The name of a network interface, by the kernel's rule.
    pub(crate) fn interface(&mut self, node: &Node) -> Option<Located<String>> {
        let text = self.text(node, "an interface name")?;
        self.interface_of(Word { text, span: node.span })
    }

    pub(crate) fn interface_of(&mut self, Word { text, span }: Word<'_>) -> Option<Located<String>> {
        let sign = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let good = !matches!(text, "" | "." | "..") && text.len() <= IFNAMSIZ && text.bytes().all(sign);
        match good {
            true => Some(Located::new(text.to_owned(), self.at(span))),
            false => self.refuse(
                span,
                format!("{text:?} is not an interface name"),
                "use at most 15 letters, digits, `.`, `_` and `-`, as `ip link` shows it",
            ),
        }
    }

    /// A VLAN id.
    pub(crate) fn vlan(&mut self, node: &Node) -> Option<u16> {
        let number = self.number(node, VLAN, FIRST_VLAN, LAST_VLAN)?;
        u16::try_from(number).ok()
    }

    pub(crate) fn vlan_of(&mut self, word: Word<'_>) -> Option<u16> {
        let number = self.number_of(word, VLAN, FIRST_VLAN, LAST_VLAN)?;
        u16::try_from(number).ok()
    }
}
