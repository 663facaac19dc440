//! Networks against each other, against the host, and the destinations that reach into them.

mod tunnels;

use std::collections::{BTreeMap, BTreeSet};

use crate::policy::address::AddressRange;
use crate::policy::agent::AgentConfig;
use crate::policy::compile::ranges::RangeSet;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::location::Location;
use crate::policy::model::{Destination, Network, Policy, Subinterface};
use crate::policy::name::nearest;

pub(super) fn check(policy: &Policy, agent: Option<&AgentConfig>, problems: &mut Diagnostics) {
    let ends_tunnels = |place: &Subinterface| {
        agent.and_then(|agent| agent.interface(&place.interface)).is_some_and(|found| found.gtpu.is_some())
    };
    refuse_shared_subinterfaces(policy, ends_tunnels, problems);
    if let Some(agent) = agent {
        tunnels::check(policy, agent, problems);
    }
    for network in policy.networks.values() {
        refuse_overlapping_pools(network, problems);
    }
    if let Some(agent) = agent {
        refuse_unknown_interfaces(policy, agent, problems);
    }
    let networks = policy.networks.values();
    let infrastructure: Vec<RangeSet> =
        networks.map(|network| super::addresses::set(&network.infrastructure)).collect();
    for destination in policy.destinations.values() {
        refuse_reach_outside(destination, &infrastructure, problems);
    }
}

/// A packet's network is found by where it enters, so a place can belong to one network only, unless tunnels end there.
fn refuse_shared_subinterfaces(
    policy: &Policy,
    ends_tunnels: impl Fn(&Subinterface) -> bool,
    problems: &mut Diagnostics,
) {
    let mut owner: BTreeMap<&Subinterface, (&Network, &Location)> = BTreeMap::new();
    for network in policy.networks.values() {
        for place in &network.seen_on {
            let Some((first, at)) = owner.get(&place.value) else {
                owner.insert(&place.value, (network, &place.at));
                continue;
            };
            if first.name != network.name && ends_tunnels(&place.value) {
                continue;
            }
            let (problem, help) = match first.name == network.name {
                true => (format!("{} is listed twice", place.value), "remove one of them"),
                false => (
                    format!(
                        "ambiguous_network: {} belongs to network {} ({at}) already",
                        place.value, first.name
                    ),
                    "tell the networks apart by interface, vlan or innerVlan",
                ),
            };
            problems.error(&place.at, problem, help);
        }
    }
}

fn refuse_overlapping_pools(network: &Network, problems: &mut Diagnostics) {
    let ranges = network.pools.iter().map(|pool| (AddressRange::from(pool.value), pool));
    for (pool, first) in super::addresses::overlaps(ranges.collect()) {
        let problem = format!("pool {} overlaps pool {} ({})", pool.value, first.value, first.at);
        problems.error(&pool.at, problem, "remove the smaller one");
    }
}

fn refuse_unknown_interfaces(policy: &Policy, agent: &AgentConfig, problems: &mut Diagnostics) {
    let known: BTreeSet<&str> = agent.interfaces.iter().map(|i| i.name.value.as_str()).collect();
    for place in policy.networks.values().flat_map(|network| &network.seen_on) {
        let name = place.value.interface.as_str();
        if known.contains(name) {
            continue;
        }
        let help = match nearest(name, known.iter().copied()) {
            Some(near) => format!("nearest is {near}"),
            None => format!("add it to spec.interfaces in {}", agent.at.file()),
        };
        problems.error(&place.at, format!("the agent has no interface {name}"), help);
    }
}

/// `reaches: infrastructure` is a promise about every prefix of a destination.
fn refuse_reach_outside(destination: &Destination, infrastructure: &[RangeSet], problems: &mut Diagnostics) {
    if !destination.reaches_infrastructure {
        return;
    }
    for cidr in &destination.cidrs {
        let range = AddressRange::from(cidr.value);
        if !infrastructure.iter().any(|set| set.covers(range)) {
            let problem = format!("{} is not wholly inside any network's infrastructure", cidr.value);
            let help = "narrow it, or remove `reaches: infrastructure`";
            problems.error(&cidr.at, problem, help);
        }
    }
}
