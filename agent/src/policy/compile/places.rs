//! Interfaces and VLANs: where frames enter, and which network is seen there.

use std::collections::BTreeMap;

use bulkhead_common::abi::key::{EGRESS, VLAN_OTHER};
use bulkhead_common::abi::value::{
    OWNER_BY_TEID, ROLE_ACCESS, ROLE_CORE, ROLE_HOST_PASSES, ROLE_WITNESS, SCOPE_ENDPOINT, SCOPE_LINK,
    TRANSIT_DROP, TRANSIT_PASS,
};
use bulkhead_common::abi::{Addr, NetworkId};

use super::ground::{Ground, scoped};
use super::ranges::RangeSet;
use crate::policy::address::AddressRange;
use crate::policy::agent::{AgentConfig, Downlink, FromHost, Gtpu, Interface, Role, Transit};
use crate::policy::diagnostic::Diagnostics;
use crate::policy::model::{Network, Subinterface, TeidRange};
use crate::policy::name::Name;
use crate::tables::{Host, Place, PlaceFacts, Scoped, TunnelFacts};

/// A row for every interface that exists, and one for every place where a network is seen.
pub(in crate::policy) fn compile(
    ground: &Ground<'_>,
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
                let facts = facts(interface, link(host, &interface.name.value));
                places.extend(own_vlans(host, interface, found.ifindex));
                both(&mut places, interface, Place { ifindex: found.ifindex, ..Place::default() }, &facts);
                let other = Place { ifindex: found.ifindex, outer_vlan: VLAN_OTHER, inner_vlan: VLAN_OTHER };
                both(&mut places, interface, other, &PlaceFacts { link: Vec::new(), ..facts });
            }
            None => {
                let problem = format!("there is no interface {} on this host", interface.name.value);
                let help = "nothing is guarded there until it appears";
                problems.warn(&interface.name.at, problem, help);
            }
        }
    }
    for (seen, networks) in ground.networks_by_place() {
        let Some(interface) = agent.interface(&seen.value.interface) else {
            let problem = format!("the agent has no interface {}", seen.value.interface);
            let help = format!("add it to spec.interfaces in {}", agent.at.file());
            problems.error(&seen.at, problem, help);
            continue;
        };
        if let Some(place) = place(host, &seen.value) {
            let facts = facts(interface, link(host, &link_name(&seen.value)));
            let facts = with_networks(facts, &networks, &seen.value, ground, &number);
            both(&mut places, interface, place, &facts);
        }
    }
    places
}

/// What a place is where these networks are seen: their packets are told apart by TEID and address if there are several,
/// or if only some TEIDs are the network's.
fn with_networks(
    mut facts: PlaceFacts,
    networks: &[&Network],
    seen: &Subinterface,
    ground: &Ground<'_>,
    number: impl Fn(&Name) -> NetworkId,
) -> PlaceFacts {
    if let [network] = networks
        && !network.teids.contains_key(seen)
    {
        facts.network = number(&network.name);
        return facts;
    }
    for network in networks {
        let id = number(&network.name).0;
        let teids = network.teids.get(seen);
        facts.tunnels.teids.extend(teids.into_iter().flatten().map(|range| of_teids(range.value, id)));
        // By TEID alone; where plain packets enter too, their addresses tell.
        let owner = if teids.is_some() { id | OWNER_BY_TEID } else { id };
        let plain = facts.roles & ROLE_CORE != 0;
        if let Some(pools) = ground.pools_of(&network.name).filter(|_| plain || teids.is_none()) {
            facts.tunnels.owners.extend(scoped(&[(pools, owner)]));
        }
    }
    facts.tunnels.teids.sort();
    facts.tunnels.owners.sort();
    facts
}

/// A range of TEIDs as the engine searches it: as addresses.
const fn of_teids(range: TeidRange, network: u32) -> Scoped {
    Scoped {
        first: Addr::from_halves(0, range.first as u64),
        last: Addr::from_halves(0, range.last as u64),
        scope: network,
    }
}

/// A row for what enters, and one for what leaves where that is judged too.
fn both(places: &mut BTreeMap<Place, PlaceFacts>, interface: &Interface, place: Place, facts: &PlaceFacts) {
    places.insert(place, facts.clone());
    let Downlink::Egress { from_host } = interface.downlink else { return };
    let leaving = Place { ifindex: place.ifindex | EGRESS, ..place };
    let host = match from_host {
        FromHost::Judge => 0,
        FromHost::Pass => ROLE_HOST_PASSES,
    };
    places.insert(leaving, PlaceFacts { roles: ROLE_CORE | host, ..facts.clone() });
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
    places.map(|(place, name)| (place, facts(interface, link(host, name)))).collect()
}

/// The kernel's numbers of a place, if its interface exists.
pub(in crate::policy) fn place(host: &Host, seen: &Subinterface) -> Option<Place> {
    let found = host.interfaces.get(&seen.interface)?;
    Some(Place { ifindex: found.ifindex, outer_vlan: seen.vlan, inner_vlan: seen.inner_vlan })
}

fn facts(interface: &Interface, link: Vec<Scoped>) -> PlaceFacts {
    let role = |role: &Role| match role {
        Role::Access => ROLE_ACCESS,
        Role::Core => ROLE_CORE,
        Role::Witness => ROLE_WITNESS,
    };
    PlaceFacts {
        network: NetworkId::NONE,
        roles: interface.roles.iter().map(role).fold(0, |roles, role| roles | role),
        transit: match interface.transit {
            Transit::Pass => TRANSIT_PASS,
            Transit::Drop => TRANSIT_DROP,
        },
        link,
        tunnels: interface.gtpu.as_ref().map(tunnels).unwrap_or_default(),
    }
}

fn tunnels(gtpu: &Gtpu) -> TunnelFacts {
    let endpoints: RangeSet = gtpu.local.iter().map(|local| AddressRange::from(local.value)).collect();
    let peers: RangeSet = gtpu.peers.iter().map(|peers| AddressRange::from(peers.value)).collect();
    TunnelFacts {
        endpoints: scoped(&[(&endpoints, SCOPE_ENDPOINT)]),
        peers: scoped(&[(&peers, SCOPE_ENDPOINT)]),
        // One day at most, see `Reader::duration`.
        idle: u16::try_from(gtpu.idle.as_secs()).unwrap_or(u16::MAX),
        ..TunnelFacts::default()
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
    scoped(&[(&prefixes, SCOPE_LINK)])
}
