//! What it would take to allow a packet that rules deny.

use std::collections::BTreeSet;
use std::net::IpAddr;

use bulkhead_common::verdict::DropReason;

use crate::cli::basis::Basis;
use crate::cli::words::list;
use crate::policy::{Answer, Considered, Device, Network, Policy, PolicyRules, Port, Subject};

/// The `never` lists that name a port for one of the devices, and where they are written.
pub(super) fn never(
    policy: &Policy,
    network: Option<&Network>,
    ends: [Option<&Device>; 2],
    port: Port,
) -> Option<String> {
    let names = |never: &[Port]| never.iter().any(|never| never.covers(&port));
    let network = network.filter(|network| names(&network.never));
    let network = network.map(|network| format!("network {} ({})", network.name, network.at));
    let segments = ends.into_iter().flatten().filter_map(|device| device.segment.as_ref());
    let segments = segments.filter_map(|name| policy.segments().get(name)).filter(|s| names(&s.never));
    let mut lists: Vec<String> =
        network.into_iter().chain(segments.map(|s| format!("segment {} ({})", s.name, s.at))).collect();
    lists.dedup();
    (!lists.is_empty()).then(|| list(lists))
}

/// What to do about a denial.
pub(super) fn advice(
    basis: &Basis,
    answer: &Answer,
    network: Option<&Network>,
    ends: [Option<&Device>; 2],
) -> Option<String> {
    if let Some(near) = answer.nearest().filter(|near| near.is_closed() && !near.unmet.is_empty()) {
        return Some(closed(near, ends));
    }
    match (answer.verdict.refusal(), ends) {
        (Some(DropReason::ConditionTime), _) => Some(time(basis, answer)),
        (Some(DropReason::FlowTableFull), _) => {
            Some("raise spec.tables.flows in agent.yaml, or find out who opens so many flows".to_owned())
        }
        (Some(DropReason::Never), _) => Some(
            "`never` beats every rule: to allow, take the port out of that list, for all its devices"
                .to_owned(),
        ),
        (_, [Some(from), Some(to)]) => Some(between(basis, answer, from, to) + &behind(answer, to)),
        (_, [Some(device), None]) => {
            let to = answer.case.packet.destination.to_ip();
            Some(outside(basis, answer, device, "a rule") + &inside(basis, network, to))
        }
        (_, [None, Some(device)]) => {
            Some(outside(basis, answer, device, "an inbound rule") + &behind(answer, device))
        }
        (_, [None, None]) => None,
    }
}

/// A rule that is closed by nothing but the time.
fn time(basis: &Basis, answer: &Answer) -> String {
    let Some(near) = answer.nearest() else { return String::new() };
    let rule = format!("{}/{} ({})", near.policy, near.rule, near.at);
    match (basis.wall(), near.time) {
        (None, _) => {
            format!("the agent does not believe the clock, so {rule} is closed: see `bulkhead status`")
        }
        (Some(_), true) => {
            format!("the clock was set back, and {rule} had closed already: see `bulkhead status`")
        }
        (Some(_), false) => format!("{rule} allows it at other times; --at TIME asks about another moment"),
    }
}

/// A rule that is closed by nothing but its conditions.
fn closed(near: &Considered, ends: [Option<&Device>; 2]) -> String {
    let unmet: String = near.unmet.iter().map(|unmet| format!("\n  {unmet}")).collect();
    let device = ends.into_iter().flatten().next().map_or("NAME", |device| device.name.as_str());
    let assigned: BTreeSet<String> = near.unmet.iter().map(|unmet| format!(" {}=…", unmet.key)).collect();
    let assigned: String = assigned.into_iter().collect();
    format!(
        "{}/{} would allow it, and its `when` is not met:{unmet}\n  if it is wrong: bulkhead device set {device}{assigned}; \
         else change the rule, {}",
        near.policy, near.rule, near.at
    )
}

fn outside(basis: &Basis, answer: &Answer, device: &Device, rule: &str) -> String {
    let policies = basis.policy.policies();
    let about = |rules: &&PolicyRules| matches!(&rules.subject, Subject::Devices(who) if who.matches(device));
    let nearest = answer.nearest().and_then(|near| policies.get(&near.policy));
    match nearest.or_else(|| policies.values().find(about)) {
        Some(rules) => format!("to allow: add {rule} to policy {}, file {}", rules.name, rules.at),
        None => format!(
            "to allow: no policy is about {0}; write one with {1} and {rule}",
            device.name,
            subject(device)
        ),
    }
}

/// Rules open what lies behind a device only where they say so.
fn behind(answer: &Answer, called: &Device) -> String {
    let address = answer.case.packet.destination.to_ip();
    match called.is_behind(address) {
        true => format!("\n  {address} lies behind {}: the rule needs `behind: [{address}]`", called.name),
        false => String::new(),
    }
}

fn between(basis: &Basis, answer: &Answer, from: &Device, to: &Device) -> String {
    if from.network.value != to.network.value {
        return format!(
            "{} is in network {} and {} in {}: devices of two networks never meet",
            from.name, from.network.value, to.name, to.network.value
        );
    }
    let named = answer.considered.iter().find(|rule| rule.address);
    match named.and_then(|rule| basis.policy.policies().get(&rule.policy)) {
        Some(rules) => format!("to allow: add the port to policy {}, file {}", rules.name, rules.at),
        None => format!(
            "to allow: no policy lets {} open anything to {}; write one with \
             `between: {{initiator: {{device: {}}}, responder: {{device: {}}}}}`, or with segments",
            from.name, to.name, from.name, to.name
        ),
    }
}

fn subject(device: &Device) -> String {
    match &device.segment {
        Some(segment) => format!("`subject: {{segment: {segment}}}`"),
        None => format!("`subject: {{device: {}}}`", device.name),
    }
}

/// Rules do not reach infrastructure by accident, so a plain rule would not help there.
fn inside(basis: &Basis, network: Option<&Network>, to: IpAddr) -> String {
    let hosts = basis.host.interfaces.values().flat_map(|interface| &interface.addresses);
    let own = hosts.map(|address| address.addr()).any(|address| address == to);
    let listed = network.is_some_and(|n| n.infrastructure.iter().any(|prefix| prefix.value.contains(&to)));
    match own || listed {
        true => format!(
            "\n  {to} is infrastructure: the rule must name a service, or a destination with `reaches: infrastructure`"
        ),
        false => String::new(),
    }
}
