//! `kind: Agent`.

use std::path::PathBuf;
use std::time::Duration;

use super::control;
use crate::policy::agent::{AgentConfig, Gtpu, Interface, LocalOutput, Role, Transit};
use crate::policy::location::Located;
use crate::policy::node::Node;
use crate::policy::reader::{Reader, not_yet};
use crate::tables::Capacities;
use bulkhead_common::abi::map::FLOW_CAPACITY_MAX;
use bulkhead_common::flow_table::BUCKET;

/// A device that moves to a new session has been silent for longer, one that is being impersonated has not.
const TUNNEL_IDLE: Duration = Duration::from_secs(30);
/// The kernel's longest interface name.
const IFNAMSIZ: usize = 15;

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

fn interface(reader: &mut Reader<'_>, node: &Node) -> Option<Interface> {
    let mut fields = reader.fields(node, "the interface")?;
    let name = fields.required(reader, "name").and_then(|node| reader.interface(node));
    let roles = fields.required(reader, "roles").and_then(|node| reader.some(node, "`roles`", role));
    let transit = fields
        .required(reader, "transit")
        .and_then(|node| reader.choice(node, "transit", &[("pass", Transit::Pass), ("drop", Transit::Drop)]));
    let gtpu = fields.optional(reader, "gtpu").map(|node| gtpu(reader, node));
    let gtpu_span = fields.key_span("gtpu");
    fields.later(reader, &["hairpin"]);
    fields.finish(reader);
    let mut roles = roles?;
    roles.sort();
    roles.dedup();
    if let (Some(span), false) = (gtpu_span, roles.contains(&Role::Access)) {
        let problem = "`gtpu` on an interface that is not `access`";
        reader.refuse::<()>(span, problem, "add access to its roles: tunnels bring what devices send");
    }
    let gtpu = gtpu.map_or(Some(None), |gtpu| gtpu.map(Some))?;
    Some(Interface { name: name?, roles, transit: transit?, gtpu })
}

fn gtpu(reader: &mut Reader<'_>, node: &Node) -> Option<Gtpu> {
    let mut fields = reader.fields(node, "`gtpu`")?;
    let local = fields
        .required(reader, "local")
        .and_then(|node| reader.some(node, "`local`", |reader, node| reader.address(node)));
    let peers = fields
        .required(reader, "peers")
        .and_then(|node| reader.some(node, "`peers`", |reader, node| reader.prefix(node)));
    let idle = fields.optional(reader, "idle").map(|node| reader.duration(node, "`idle`"));
    fields.finish(reader);
    Some(Gtpu { local: local?, peers: peers?, idle: idle.unwrap_or(Some(TUNNEL_IDLE))? })
}

fn role(reader: &mut Reader<'_>, node: &Node) -> Option<Role> {
    if reader.word(node, "a role")? == "witness" {
        return not_yet(reader, node.span, "role `witness`");
    }
    reader.choice(node, "role", &[("access", Role::Access), ("core", Role::Core)])
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
    let slots: [(&'static str, &mut u32); 5] = [
        ("devices", &mut tables.devices),
        ("addresses", &mut tables.addresses),
        ("profiles", &mut tables.profiles),
        ("ranges", &mut tables.ranges),
        ("ports", &mut tables.ports),
    ];
    for (key, slot) in slots {
        let number = fields.optional(reader, key).and_then(|node| reader.number(node, "capacity", 1, *slot));
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
        let sign = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let good = !matches!(text, "" | "." | "..") && text.len() <= IFNAMSIZ && text.bytes().all(sign);
        match good {
            true => Some(Located::new(text.to_owned(), self.at(node.span))),
            false => self.refuse(
                node.span,
                format!("{text:?} is not an interface name"),
                "use at most 15 letters, digits, `.`, `_` and `-`, as `ip link` shows it",
            ),
        }
    }

    /// A VLAN id.
    pub(crate) fn vlan(&mut self, node: &Node) -> Option<u16> {
        let number = self.number(node, "VLAN", 1, 4094)?;
        u16::try_from(number).ok()
    }
}
