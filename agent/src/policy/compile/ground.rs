//! What addresses are before any rule: pools, infrastructure, this host, or special.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bulkhead_common::abi::value::{
    NETWORK_DROPS_FRAGMENTS, NETWORK_FORWARDS, NETWORK_OBSERVES, NETWORK_PASSES_OPTIONS, SCOPE_ENDPOINT,
    SCOPE_INFRASTRUCTURE, SCOPE_POOL,
};
use bulkhead_common::abi::{Addr, NetworkId, Timeouts};
use ipnet::IpNet;

use super::ranges::RangeSet;
use super::translations;
use crate::policy::address::{AddressRange, IPV4};
use crate::policy::agent::AgentConfig;
use crate::policy::location::Located;
use crate::policy::model::{Forwarding, FragmentMode, Mode, Network, Policy, Subinterface};
use crate::policy::name::Name;
use crate::tables::{Host, NetworkFacts, Scoped};

/// Where no host may be.
pub(in crate::policy) fn special() -> RangeSet {
    SPECIAL.iter().filter_map(|text| text.parse::<IpNet>().ok()).map(AddressRange::from).collect()
}

/// Prefixes where no host may be, as [`Addr::is_martian`] knows them.
const SPECIAL: [&str; 9] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/128",
    "::1/128",
    "fe80::/10",
    "ff00::/8",
];

/// The ground that rules are laid on.
#[derive(Debug)]
pub(in crate::policy) struct Ground<'a> {
    policy: &'a Policy,
    /// This host's own addresses, GTP-U endpoints among them.
    pub(in crate::policy) host: RangeSet,
    /// GTP-U endpoints of this host.
    endpoints: RangeSet,
    /// Broadcast and anycast addresses of this host's links, which it answers to itself.
    edges: RangeSet,
    /// Where no host may be.
    pub(in crate::policy) special: RangeSet,
    /// Pools and framed routes of every network without that network's infrastructure and this host.
    pools: RangeSet,
    /// Infrastructure of every network.
    infrastructure: RangeSet,
    /// Pools and framed routes of one network without its infrastructure and this host.
    own_pools: BTreeMap<&'a Name, RangeSet>,
}

impl<'a> Ground<'a> {
    pub(in crate::policy) fn of(policy: &'a Policy, agent: &AgentConfig, host: &Host) -> Self {
        let edges = edges(host);
        let endpoints: RangeSet = agent.endpoints().map(|local| AddressRange::from(local.value)).collect();
        let host: RangeSet = addresses(host).ranges().iter().chain(endpoints.ranges()).copied().collect();
        let routes = framed_routes(policy);
        let own_pools: BTreeMap<&Name, RangeSet> =
            policy.networks.values().map(|network| (&network.name, pools(network, &routes, &host))).collect();
        let pools = own_pools.values().flat_map(|set| set.ranges().iter().copied()).collect();
        let infrastructure = policy.networks.values().flat_map(|network| &network.infrastructure);
        Self {
            policy,
            edges: edges.without(&host),
            special: special(),
            pools,
            infrastructure: infrastructure.map(|prefix| AddressRange::from(prefix.value)).collect(),
            own_pools,
            host,
            endpoints,
        }
    }

    /// What is left of a prefix that rules reach plainly.
    pub(in crate::policy) fn open(&self, prefix: IpNet) -> RangeSet {
        let closed = [&self.pools, &self.infrastructure, &self.host];
        self.usable(prefix, &closed.iter().flat_map(|set| set.ranges().iter().copied()).collect())
    }

    /// What is left of a prefix that says it reaches infrastructure, or is a service's.
    ///
    /// Nobody's pool is: another network's device would be reached past every `between`. Only what
    /// the network itself lists as infrastructure may lie where another network has its devices.
    pub(in crate::policy) fn open_inside(&self, prefix: IpNet, network: &Name) -> RangeSet {
        let own = self.policy.networks.get(network).map(|network| infrastructure(network, &self.host));
        self.usable(prefix, &self.pools.without(&own.unwrap_or_default()))
    }

    /// A prefix without what is closed, by its own address or behind a translator; nor is anything
    /// special open, or what this host answers to for a whole link.
    fn usable(&self, prefix: IpNet, closed: &RangeSet) -> RangeSet {
        let all = [closed, &self.special, &self.edges];
        let closed: RangeSet = all.iter().flat_map(|set| set.ranges().iter().copied()).collect();
        meant(prefix).without(&closed).without(&translations::closed(prefix, &closed))
    }

    /// Why parts of a prefix are not open, in words.
    pub(in crate::policy) fn reasons(&self, prefix: IpNet) -> Vec<String> {
        let meant = meant(prefix);
        let mut reasons = Vec::new();
        for network in self.policy.networks.values() {
            let touched = |prefixes: &[crate::policy::Located<IpNet>]| {
                let found = prefixes.iter().map(|prefix| prefix.value);
                let found: Vec<String> = found
                    .filter(|prefix| meant.touches(AddressRange::from(*prefix)))
                    .map(|prefix| prefix.to_string())
                    .collect();
                (!found.is_empty()).then(|| found.join(", "))
            };
            if let Some(found) = touched(&network.pools) {
                reasons.push(format!("pools of {} ({found})", network.name));
            }
            let routes = self.policy.devices.values().filter(|device| device.network.value == network.name);
            let mut routes = routes.flat_map(|device| &device.framed_routes);
            if routes.any(|route| meant.touches(AddressRange::from(route.value))) {
                reasons.push(format!("framed routes of {}", network.name));
            }
            if let Some(found) = touched(&network.infrastructure) {
                reasons.push(format!("infrastructure of {} ({found})", network.name));
            }
        }
        let touched = |set: &RangeSet| meant.ranges().iter().any(|range| set.touches(*range));
        if touched(&self.host) {
            reasons.push("addresses of this host".to_owned());
        }
        if touched(&self.special) {
            reasons.push("special addresses (loopback, link-local, multicast and the like)".to_owned());
        }
        if touched(&self.edges) {
            reasons.push("broadcast and anycast addresses of this host's links".to_owned());
        }
        if translations::touches(prefix) {
            reasons.push("what leads to IPv4 (NAT64, 6to4, Teredo and the like), unless named".to_owned());
        }
        reasons
    }

    /// Scopes of every network; [`NetworkId::NONE`] has the pools of all.
    pub(in crate::policy) fn networks(
        &self,
        number: impl Fn(&Name) -> NetworkId,
    ) -> BTreeMap<NetworkId, NetworkFacts> {
        let facts = |scopes, timeouts| NetworkFacts { scopes, timeouts, ..NetworkFacts::default() };
        let mut networks: BTreeMap<NetworkId, NetworkFacts> = BTreeMap::new();
        for network in self.policy.networks.values() {
            let pools = &self.own_pools[&network.name];
            let infrastructure = infrastructure(network, &self.host);
            let rows = [(pools, SCOPE_POOL), (&infrastructure, SCOPE_INFRASTRUCTURE)];
            let own = facts(scoped(&rows), network.timeouts.row());
            networks.insert(number(&network.name), NetworkFacts { flags: flags(network), ..own });
        }
        let host = self.host.without(&self.endpoints);
        let rows =
            [(&self.pools, SCOPE_POOL), (&host, SCOPE_INFRASTRUCTURE), (&self.endpoints, SCOPE_ENDPOINT)];
        networks.insert(NetworkId::NONE, facts(scoped(&rows), Timeouts::DEFAULT));
        networks
    }

    /// The networks by the place where they are seen; several share one only where GTP-U tunnels end.
    pub(in crate::policy) fn networks_by_place(&self) -> Vec<(&'a Located<Subinterface>, Vec<&'a Network>)> {
        let mut places: BTreeMap<&Subinterface, (&Located<Subinterface>, Vec<&Network>)> = BTreeMap::new();
        for network in self.policy.networks.values() {
            for seen in &network.seen_on {
                places.entry(&seen.value).or_insert((seen, Vec::new())).1.push(network);
            }
        }
        places.into_values().collect()
    }

    /// A network's pools, as devices' addresses lie in them.
    pub(in crate::policy) fn pools_of(&self, network: &Name) -> Option<&RangeSet> {
        self.own_pools.get(network)
    }
}

/// Where devices are, whatever this host's own addresses: pools and framed routes without their network's
/// infrastructure. Sorted, disjoint.
pub fn device_ranges(policy: &Policy) -> Vec<AddressRange> {
    let (nobody, ipv4) = (RangeSet::default(), [IPV4].into_iter().collect::<RangeSet>());
    let routes = framed_routes(policy);
    let of = |network: &Network| {
        let all = pools(network, &routes, &nobody);
        // An IPv6 prefix does not mean the place where IPv4 is kept, and each family has a table of its own.
        let is_v4 = |range: &AddressRange| IPV4.contains(*range);
        let (v4, v6): (Vec<AddressRange>, Vec<AddressRange>) = all.ranges().iter().copied().partition(is_v4);
        v4.into_iter().chain(v6.into_iter().flat_map(|range| ipv4.left_of(range))).collect::<Vec<_>>()
    };
    super::ranges::merged(policy.networks.values().flat_map(of).collect())
}

/// How the network treats what is rarely meant well, and what policy refuses.
const fn flags(network: &Network) -> u32 {
    let fragments = match network.fragments {
        FragmentMode::Track => 0,
        FragmentMode::Drop => NETWORK_DROPS_FRAGMENTS,
    };
    let observes = match network.mode {
        Mode::Enforce => 0,
        Mode::Observe => NETWORK_OBSERVES,
    };
    let forwards = match network.forwarding {
        Forwarding::Kernel => 0,
        Forwarding::Xdp => NETWORK_FORWARDS,
    };
    let options = if network.passes_options { NETWORK_PASSES_OPTIONS } else { 0 };
    fragments | observes | options | forwards
}

/// What a prefix means: IPv6 does not hold the place where IPv4 is kept.
pub(in crate::policy) fn meant(prefix: IpNet) -> RangeSet {
    let range: RangeSet = [AddressRange::from(prefix)].into_iter().collect();
    match prefix {
        IpNet::V4(_) => range,
        IpNet::V6(_) => range.without(&[IPV4].into_iter().collect()),
    }
}

/// The host's addresses that other machines can send to.
fn addresses(host: &Host) -> RangeSet {
    let addresses = host.interfaces.values().flat_map(|interface| &interface.addresses);
    let addresses = addresses.map(IpNet::addr).filter(|address| !Addr::from(*address).is_martian());
    addresses.map(|address: IpAddr| AddressRange::from(address)).collect()
}

/// What a link calls all of its hosts: IPv4 directed broadcast, in its old form too (RFC 1812 section
/// 5.3.5), and the subnet-router anycast address (RFC 4291 section 2.6.1).
fn edges(host: &Host) -> RangeSet {
    let links = host.interfaces.values().flat_map(|interface| &interface.addresses);
    let edges = links.flat_map(|link| match link {
        IpNet::V4(v4) if v4.prefix_len() < 31 => vec![v4.network().into(), v4.broadcast().into()],
        IpNet::V6(v6) if v6.prefix_len() < 127 => vec![v6.network().into()],
        IpNet::V4(_) | IpNet::V6(_) => Vec::<IpAddr>::new(),
    });
    edges.filter(|address| !Addr::from(*address).is_martian()).map(AddressRange::from).collect()
}

fn infrastructure(network: &Network, host: &RangeSet) -> RangeSet {
    let listed = network.infrastructure.iter().map(|prefix| AddressRange::from(prefix.value));
    listed.chain(host.ranges().iter().copied()).collect()
}

/// What lies behind the devices of each network.
fn framed_routes(policy: &Policy) -> BTreeMap<&Name, Vec<AddressRange>> {
    let mut routes: BTreeMap<&Name, Vec<AddressRange>> = BTreeMap::new();
    for device in policy.devices.values().filter(|device| !device.framed_routes.is_empty()) {
        let own = device.framed_routes.iter().map(|route| AddressRange::from(route.value));
        routes.entry(&device.network.value).or_default().extend(own);
    }
    routes
}

fn pools(network: &Network, routes: &BTreeMap<&Name, Vec<AddressRange>>, host: &RangeSet) -> RangeSet {
    let pools = network.pools.iter().map(|pool| AddressRange::from(pool.value));
    let routes = routes.get(&network.name).into_iter().flatten().copied();
    let all: RangeSet = pools.chain(routes).collect();
    all.without(&infrastructure(network, host))
}

/// Rows of disjoint sets, each with its scope, in order.
pub(in crate::policy) fn scoped(sets: &[(&RangeSet, u32)]) -> Vec<Scoped> {
    let rows = sets.iter().flat_map(|(set, scope)| {
        set.ranges().iter().map(|range| Scoped {
            first: Addr::from_bits(range.first),
            last: Addr::from_bits(range.last),
            scope: *scope,
        })
    });
    let mut rows: Vec<Scoped> = rows.collect();
    rows.sort();
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infrastructure_in_a_pool_and_nobody_s_addresses_are_no_device_s() {
        let text = "apiVersion: bulkhead/v1\nkind: Network\nmetadata: {name: acme}\nspec:\n  \
                    seenOn: [{interface: n6}]\n  pools: [10.45.0.0/16, \"fd00:45::/32\"]\n  \
                    infrastructure: [10.45.0.0/24]\n---\napiVersion: bulkhead/v1\nkind: Device\n\
                    metadata: {name: gateway}\nspec: {network: acme, addresses: [10.45.1.7], framedRoutes: [192.168.50.0/24]}\n";
        let files = vec![crate::policy::SourceFile::new("net.yaml", text)];
        let policy = crate::policy::parse(files, None).unwrap().policy;
        let found: RangeSet = device_ranges(&policy).into_iter().collect();
        let has = |address: &str| found.covers(AddressRange::from(address.parse::<IpAddr>().unwrap()));
        assert!(has("10.45.1.0") && has("10.45.255.255") && has("fd00:45::1") && has("192.168.50.9"));
        assert!(!has("10.45.0.255") && !has("10.46.0.0") && !has("192.168.51.0") && !has("10.99.0.1"));
    }
    use crate::policy::assumed_agent;

    #[test]
    fn special_is_what_the_engine_calls_martian() {
        let policy = Policy::default();
        let ground = Ground::of(&policy, &assumed_agent(&policy), &Host::default());
        for range in ground.special.ranges() {
            for inside in [range.first, range.last] {
                assert!(Addr::from_bits(inside).is_martian(), "{}", Addr::from_bits(inside));
            }
            for outside in [range.first.checked_sub(1), range.last.checked_add(1)].into_iter().flatten() {
                assert!(!Addr::from_bits(outside).is_martian(), "{}", Addr::from_bits(outside));
            }
        }
    }

    #[test]
    fn everything_of_ipv6_holds_nothing_of_ipv4() {
        let policy = Policy::default();
        let ground = Ground::of(&policy, &assumed_agent(&policy), &Host::default());
        let open = ground.open("::/0".parse().unwrap());
        assert!(!open.touches(IPV4));
        assert!(open.covers(AddressRange::from("2001:db8::/32".parse::<IpNet>().unwrap())));
    }
}
