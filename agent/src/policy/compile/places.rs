//! Interfaces and VLANs: where frames enter, and which network is seen there.

use std::collections::BTreeMap;

use bulkhead_common::abi::key::VLAN_OTHER;
use bulkhead_common::abi::value::{ROLE_ACCESS, ROLE_CORE, SCOPE_LINK, TRANSIT_DROP, TRANSIT_PASS};
use bulkhead_common::abi::{Addr, NetworkId};

use super::ranges::RangeSet;
use crate::policy::address::AddressRange;
use crate::policy::agent::{AgentConfig, Interface, Role, Transit};
use crate::policy::diagnostic::Diagnostics;
use crate::policy::model::{Policy, Subinterface};
use crate::policy::name::Name;
use crate::tables::{Host, Place, PlaceFacts, Scoped};

/// A row for every interface that exists, and one for every place where a network is seen.
pub(in crate::policy) fn compile(
    policy: &Policy,
    agent: &AgentConfig,
    host: &Host,
    number: impl Fn(&Name) -> NetworkId,
    problems: &mut Diagnostics,
) -> BTreeMap<Place, PlaceFacts> {
    let mut places = BTreeMap::new();
    for interface in &agent.interfaces {
        warn_of_open_access(interface, problems);
        match host.interfaces.get(&interface.name.value) {
            Some(found) => {
                let other = Place { ifindex: found.ifindex, outer_vlan: VLAN_OTHER, inner_vlan: VLAN_OTHER };
                let untagged = Place { outer_vlan: 0, inner_vlan: 0, ..other };
                let facts = facts(interface, NetworkId::NONE, link(host, &interface.name.value));
                places.extend(own_vlans(host, interface, found.ifindex));
                places.insert(untagged, facts.clone());
                places.insert(other, PlaceFacts { link: Vec::new(), ..facts });
            }
            None => {
                let problem = format!("there is no interface {} on this host", interface.name.value);
                let help = "nothing is guarded there until it appears";
                problems.warn(&interface.name.at, problem, help);
            }
        }
    }
    for network in policy.networks.values() {
        for seen in &network.seen_on {
            let Some(interface) = agent.interfaces.iter().find(|i| i.name.value == seen.value.interface)
            else {
                let problem = format!("the agent has no interface {}", seen.value.interface);
                let help = format!("add it to spec.interfaces in {}", agent.at.file());
                problems.error(&seen.at, problem, help);
                continue;
            };
            if let Some(place) = place(host, &seen.value) {
                let link = link(host, &link_name(&seen.value));
                places.insert(place, facts(interface, number(&network.name), link));
            }
        }
    }
    places
}

/// Transit is judged by address alone: where only devices are, it lets through what no device may send.
fn warn_of_open_access(interface: &Interface, problems: &mut Diagnostics) {
    if interface.roles == [Role::Access] && interface.transit == Transit::Pass {
        let name = &interface.name.value;
        let problem =
            format!("on {name}, a device that sends from an address outside every pool passes as transit");
        problems.warn(
            &interface.name.at,
            problem,
            "write transit: drop, unless other machines share the link",
        );
    }
}

/// VLANs on which the host itself has an interface: its neighbours there must be able to resolve it.
fn own_vlans(host: &Host, interface: &Interface, ifindex: u32) -> Vec<(Place, PlaceFacts)> {
    let tagged = |name: &str| {
        let tags = name.strip_prefix(&interface.name.value)?.strip_prefix('.')?;
        let (outer, inner) = tags.split_once('.').unwrap_or((tags, "0"));
        Some(Place { ifindex, outer_vlan: outer.parse().ok()?, inner_vlan: inner.parse().ok()? })
    };
    let places = host.interfaces.keys().filter_map(|name| Some((tagged(name)?, name)));
    places.map(|(place, name)| (place, facts(interface, NetworkId::NONE, link(host, name)))).collect()
}

/// The kernel's numbers of a place, if its interface exists.
pub(in crate::policy) fn place(host: &Host, seen: &Subinterface) -> Option<Place> {
    let found = host.interfaces.get(&seen.interface)?;
    Some(Place { ifindex: found.ifindex, outer_vlan: seen.vlan, inner_vlan: seen.inner_vlan })
}

fn facts(interface: &Interface, network: NetworkId, link: Vec<Scoped>) -> PlaceFacts {
    let role = |role: &Role| match role {
        Role::Access => ROLE_ACCESS,
        Role::Core => ROLE_CORE,
    };
    PlaceFacts {
        network,
        roles: interface.roles.iter().map(role).fold(0, |roles, role| roles | role),
        transit: match interface.transit {
            Transit::Pass => TRANSIT_PASS,
            Transit::Drop => TRANSIT_DROP,
        },
        link,
    }
}

/// The host's own interface on a VLAN, by the name that `ip link add` and systemd give it.
fn link_name(seen: &Subinterface) -> String {
    match (seen.vlan, seen.inner_vlan) {
        (0, _) => seen.interface.clone(),
        (outer, 0) => format!("{}.{outer}", seen.interface),
        (outer, inner) => format!("{}.{outer}.{inner}", seen.interface),
    }
}

/// The host's own prefixes on a link.
fn link(host: &Host, name: &str) -> Vec<Scoped> {
    let addresses = host.interfaces.get(name).map(|interface| interface.addresses.as_slice());
    let prefixes: RangeSet =
        addresses.unwrap_or_default().iter().map(|net| AddressRange::from(net.trunc())).collect();
    let scoped = |range: &AddressRange| Scoped {
        first: Addr::from_bits(range.first),
        last: Addr::from_bits(range.last),
        scope: SCOPE_LINK,
    };
    prefixes.ranges().iter().map(scoped).collect()
}
