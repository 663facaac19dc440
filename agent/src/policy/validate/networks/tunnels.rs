//! Networks whose packets come through GTP-U tunnels: what tells them apart where several share an interface.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::policy::address::AddressRange;
use crate::policy::agent::{AgentConfig, Role};
use crate::policy::compile::ranges::RangeSet;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::location::Located;
use crate::policy::model::{Device, Network, Policy, Subinterface, TeidRange};

pub(super) fn check(policy: &Policy, agent: &AgentConfig, problems: &mut Diagnostics) {
    let mut shared: BTreeMap<&Subinterface, Vec<(&Network, &Located<Subinterface>)>> = BTreeMap::new();
    for network in policy.networks.values() {
        for seen in &network.seen_on {
            refuse_teids_without_tunnels(network, seen, agent, problems);
            shared.entry(&seen.value).or_default().push((network, seen));
        }
    }
    for (place, networks) in &shared {
        for (at, (network, seen)) in networks.iter().enumerate() {
            for (other, _) in networks.iter().take(at).filter(|(other, _)| other.name != network.name) {
                Pair { policy, place, agent, first: other, second: network, seen }.check(problems);
            }
        }
    }
    for device in policy.devices.values() {
        refuse_teid_of_nowhere(policy, agent, device, problems);
    }
    refuse_endpoints_in_pools(policy, agent, problems);
}

fn refuse_teids_without_tunnels(
    network: &Network,
    seen: &Located<Subinterface>,
    agent: &AgentConfig,
    problems: &mut Diagnostics,
) {
    let plain = agent.interface(&seen.value.interface).is_some_and(|interface| interface.gtpu.is_none());
    if plain && network.teids.contains_key(&seen.value) {
        let problem = format!("no tunnels end on {}, so `teids` tells nothing there", seen.value.interface);
        let help = format!("add `gtpu` to the interface in {}, or remove `teids`", agent.at.file());
        problems.error(&seen.at, problem, help);
    }
}

/// Two networks on one interface where tunnels end.
struct Pair<'a> {
    policy: &'a Policy,
    place: &'a Subinterface,
    agent: &'a AgentConfig,
    first: &'a Network,
    second: &'a Network,
    seen: &'a Located<Subinterface>,
}

impl<'a> Pair<'a> {
    fn check(&self, problems: &mut Diagnostics) {
        self.refuse_shared_teids(problems);
        let Some(overlap) = self.overlap() else { return };
        let told = self.teids(self.first).is_some() || self.teids(self.second).is_some();
        let plain = self.plain_packets();
        if told && !plain {
            return;
        }
        let why = if told {
            "packets that come from the data network through no tunnel have no TEID"
        } else {
            "nothing tells their tunnels apart"
        };
        let help = match plain && told {
            true => "let the data network enter by an interface or VLAN of its own for each network",
            false => "give each network its TEIDs there, like `teids: [0x1000-0x1fff]`",
        };
        let (first, second) = (&self.first.name, &self.second.name);
        let problem = format!(
            "ambiguous_network: on {}, {overlap} is in the pools or framed routes of {first} and {second}, and {why}",
            self.place
        );
        problems.error(&self.seen.at, problem, help);
    }

    fn refuse_shared_teids(&self, problems: &mut Diagnostics) {
        let (Some(first), Some(second)) = (self.teids(self.first), self.teids(self.second)) else { return };
        for range in second {
            let meets = |other: &&Located<TeidRange>| {
                other.value.first <= range.value.last && range.value.first <= other.value.last
            };
            if let Some(other) = first.iter().find(meets) {
                let problem = format!(
                    "TEIDs {} overlap {} of network {} ({})",
                    range.value, other.value, self.first.name, other.at
                );
                problems.error(&range.at, problem, "a TEID belongs to one network");
            }
        }
    }

    fn teids<'n>(&self, network: &'n Network) -> Option<&'n Vec<Located<TeidRange>>> {
        network.teids.get(self.place)
    }

    /// True if packets through no tunnel enter there too.
    fn plain_packets(&self) -> bool {
        let found = self.agent.interface(&self.place.interface);
        found.is_some_and(|interface| interface.roles.contains(&Role::Core))
    }

    /// A prefix of the second network that has an address in common with the first.
    fn overlap(&self) -> Option<IpNet> {
        let first: RangeSet = self.prefixes(self.first).map(AddressRange::from).collect();
        self.prefixes(self.second).find(|prefix| first.touches(AddressRange::from(*prefix)))
    }

    /// Everything that devices of a network can have.
    fn prefixes(&self, network: &'a Network) -> impl Iterator<Item = IpNet> + 'a {
        let devices = self.policy.devices.values().filter(|device| device.network.value == network.name);
        let routes = devices.flat_map(|device| &device.framed_routes);
        network.pools.iter().chain(routes).map(|prefix| prefix.value)
    }
}

fn refuse_teid_of_nowhere(policy: &Policy, agent: &AgentConfig, device: &Device, problems: &mut Diagnostics) {
    let Some(teid) = &device.teid else { return };
    let Some(network) = policy.networks.get(&device.network.value) else { return };
    let ends = |seen: &Located<Subinterface>| {
        agent.interface(&seen.value.interface).is_some_and(|interface| interface.gtpu.is_some())
    };
    let Some(seen) = network.seen_on.iter().find(|seen| ends(seen)) else {
        let problem =
            format!("network {} is seen where no tunnels end, so no packet has a TEID", network.name);
        problems.error(&teid.at, problem, "remove `teid`, or list an interface with `gtpu` in `seenOn`");
        return;
    };
    let listed = network.teids.get(&seen.value);
    let holds = |range: &Located<TeidRange>| (range.value.first..=range.value.last).contains(&teid.value);
    if listed.is_some_and(|ranges| !ranges.iter().any(holds)) {
        let problem = format!(
            "TEID {:#x} is not among those of network {} on {}",
            teid.value, network.name, seen.value
        );
        problems.error(&teid.at, problem, "correct it, or add it to `teids` of the network");
    }
}

/// What is sent to an endpoint must not be what is sent to a device.
fn refuse_endpoints_in_pools(policy: &Policy, agent: &AgentConfig, problems: &mut Diagnostics) {
    let pools =
        || policy.networks.values().flat_map(|network| network.pools.iter().map(move |pool| (network, pool)));
    for endpoint in agent.endpoints() {
        if let Some((network, pool)) = pools().find(|(_, pool)| pool.value.contains(&endpoint.value)) {
            let problem = format!(
                "the GTP-U endpoint {} ({}) lies in this pool of network {}",
                endpoint.value, endpoint.at, network.name
            );
            problems.error(&pool.at, problem, "make the pool smaller, or give the endpoint another address");
        }
    }
}
