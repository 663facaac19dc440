//! What the agent cannot see or does not guard, and what to do about it: one line each.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use anyhow::Result;

use super::engine::Engine;
use super::guard::with_vlans;
use super::seldom::Seldom;
use crate::guard::{Found, Guard, Layer, Pools};
use crate::netlink::{Link, Protocol, Route, Socket, links, routes};
use crate::policy::AddressRange;
use crate::tables::Host;

/// The interfaces around those that are guarded, as they were at the last look.
#[derive(Debug, Default)]
pub(super) struct Surroundings {
    links: Vec<Link>,
    routes: Vec<Route>,
    /// Listing every route of a router takes a while.
    routing: Seldom,
}

/// Interfaces in which other packets travel.
const TUNNELS: [&str; 16] = [
    "wireguard",
    "gre",
    "gretap",
    "ip6gre",
    "ip6gretap",
    "erspan",
    "ip6erspan",
    "ipip",
    "ip6tnl",
    "sit",
    "vti",
    "vti6",
    "vxlan",
    "geneve",
    "xfrm",
    "tun",
];

impl Engine {
    /// Looks at the interfaces, and now and then at the routes.
    pub(super) fn look_around(&mut self, host: &Host) {
        let known = self.surroundings.links.len();
        if let Err(error) = self.surroundings.look(known != host.interfaces.len()) {
            tracing::debug!("the interfaces around could not be looked at: {error:#}");
        }
    }

    /// What is worth knowing of the interfaces that nobody listed.
    pub(super) fn notes(&self, refused: &BTreeMap<u32, u64>) -> Vec<String> {
        let nothing = Pools::default();
        let names = self.agent.interfaces.iter().map(|interface| interface.name.value.as_str());
        let host = self.in_force.as_ref().map(|in_force| in_force.host.clone()).unwrap_or_default();
        let view = View {
            listed: names.collect(),
            attached: self.attachments(),
            pools: self.second_guard.pools.as_ref().unwrap_or(&nothing),
            host: &host,
            refused,
            is_on: self.agent.second_guard && self.second_guard.problem.is_none(),
        };
        view.notes(&self.surroundings)
    }

    fn attachments(&self) -> BTreeSet<u32> {
        let attached = self.kernel.as_ref().and_then(|kernel| kernel.datapath().attachments().ok());
        attached.unwrap_or_default().iter().filter(|a| !a.defunct).map(|a| a.ifindex).collect()
    }
}

impl Surroundings {
    fn look(&mut self, changed: bool) -> Result<()> {
        let socket = Socket::open(Protocol::Route)?;
        self.links = links(&socket)?;
        let now = Instant::now();
        if changed || self.routing.is_due(now) {
            self.routes = routes(&socket)?;
            self.routing.done(now, Instant::now());
        }
        Ok(())
    }
}

/// What the surroundings are compared with.
struct View<'a> {
    listed: BTreeSet<&'a str>,
    attached: BTreeSet<u32>,
    pools: &'a Pools,
    host: &'a Host,
    /// Packets that the second guard dropped, by the interface that they entered by.
    refused: &'a BTreeMap<u32, u64>,
    is_on: bool,
}

impl View<'_> {
    fn notes(&self, around: &Surroundings) -> Vec<String> {
        let judged = with_vlans(self.attached.clone(), &around.links);
        let up = around.links.iter().filter(|link| link.is_up && link.ifindex != 1);
        up.filter_map(|link| match judged.contains(&link.ifindex) {
            true => self.of_judged(link, &around.links),
            false => self.of_other(link, around),
        })
        .collect()
    }

    /// An interface that XDP guards, and what becomes of its packets all the same.
    fn of_judged(&self, link: &Link, links: &[Link]) -> Option<String> {
        let name = &link.name;
        if let Some(count) = self.refused.get(&link.ifindex) {
            return Some(format!(
                "{count} packets that IPsec decrypted on {name} were dropped, because XDP saw them encrypted: give the \
                 tunnel an xfrm interface and list that as core, with `attachMode: generic`"
            ));
        }
        let master = links.iter().find(|other| other.ifindex == link.master)?;
        let (other, fate) = (&master.name, self.fate());
        match master.kind.as_str() {
            // The VRF's packets were looked at as its member's.
            "vrf" => None,
            "bond" | "team" => Some(format!(
                "{name} is a member of {other}, and what enters by it is {other}'s: {fate}; list {other} instead"
            )),
            _ => Some(format!(
                "{name} is a port of the {} {other}: what {other} routes from it {fate}, and with br_netfilter \
                 what it passes on to other ports, too; take {name} out of it if devices' traffic is to be routed here",
                master.kind
            )),
        }
    }

    /// An interface that nobody guards.
    fn of_other(&self, link: &Link, around: &Surroundings) -> Option<String> {
        let reason = self.reason(link, around)?;
        let (name, fate) = (&link.name, self.fate());
        let advice = match self.listed.contains(name.as_str()) {
            true => "it is listed, and guarded as soon as what stands in the way is gone",
            false => "if devices' traffic belongs there, list it in agent.yaml, else leave it so",
        };
        Some(format!("{name} {reason}; what devices send or get there {fate}: {advice}"))
    }

    fn reason(&self, link: &Link, around: &Surroundings) -> Option<String> {
        // A VRF's packets were looked at as its member's.
        if link.kind == "vrf" {
            return None;
        }
        if let Some(count) = self.refused.get(&link.ifindex) {
            return Some(format!(
                "is not guarded, and {count} packets from or to devices were dropped there"
            ));
        }
        if TUNNELS.contains(&link.kind.as_str()) && !self.listed.contains(link.name.as_str()) {
            return Some(format!("is a tunnel ({}) that is not listed", link.kind));
        }
        if let Some(route) = around.routes.iter().find(|route| self.leads_to_devices(link, route)) {
            return Some(format!("has a route to devices ({})", route.to));
        }
        let addresses = self.host.interfaces.get(&link.name).map(|found| found.addresses.as_slice());
        let inside = |address: &&ipnet::IpNet| self.pools.touch(AddressRange::from(address.addr()));
        if let Some(address) = addresses.unwrap_or_default().iter().find(inside) {
            return Some(format!("has an address among devices' ({})", address.addr()));
        }
        if link.has_xdp {
            return Some(
                "runs an XDP program of somebody else, which may send packets past this host's guards".into(),
            );
        }
        None
    }

    /// A default route leads everywhere.
    fn leads_to_devices(&self, link: &Link, route: &Route) -> bool {
        route.ifindex == link.ifindex && route.to.prefix_len() > 0 && self.pools.touch(route.to.into())
    }

    const fn fate(&self) -> &'static str {
        if self.is_on { "is dropped by the second guard" } else { "is not judged" }
    }
}

/// What the kernel's tables say, for a status.
pub(super) fn observe() -> Result<Option<Found>> {
    let guard = Guard::open()?;
    let (routed, switched) = (guard.observe(Layer::Routed)?, guard.observe(Layer::Switched)?);
    Ok(routed.map(|mut found| {
        if let Some(other) = switched {
            found.dropped.packets.extend(other.dropped.packets);
            other.refused.iter().for_each(|(by, packets)| *found.refused.entry(*by).or_default() += packets);
        }
        found
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(ifindex: u32, name: &str, kind: &str) -> Link {
        Link { ifindex, name: name.into(), kind: kind.into(), is_up: true, ..Link::default() }
    }

    /// n6 (3) is listed and attached; the pools are 10.45.0.0/16.
    fn notes(links: Vec<Link>, routes: Vec<Route>, refused: &[(u32, u64)]) -> Vec<String> {
        let pools = Pools::new(&[AddressRange::from("10.45.0.0/16".parse::<ipnet::IpNet>().unwrap())]);
        let refused = refused.iter().copied().collect();
        let view = View {
            listed: BTreeSet::from(["n6"]),
            attached: BTreeSet::from([3]),
            pools: &pools,
            host: &Host::default(),
            refused: &refused,
            is_on: true,
        };
        view.notes(&Surroundings { links, routes, ..Surroundings::default() })
    }

    fn route(to: &str, ifindex: u32) -> Route {
        Route { to: to.parse().unwrap(), ifindex }
    }

    #[test]
    fn a_host_with_nothing_odd_gets_no_note() {
        let links =
            vec![link(1, "lo", ""), link(3, "n6", ""), link(4, "mgmt", ""), link(5, "docker0", "bridge")];
        let routes = vec![route("10.45.0.0/16", 3), route("0.0.0.0/0", 4), route("172.17.0.0/16", 5)];
        assert!(notes(links, routes, &[]).is_empty());
    }

    #[test]
    fn each_way_round_the_side_is_named_with_what_to_do() {
        let member = Link { master: 9, ..link(3, "n6", "") };
        let one = |links: Vec<Link>, routes, refused: &[(u32, u64)]| {
            let found = notes(links, routes, refused);
            assert_eq!(found.len(), 1, "{found:?}");
            found.into_iter().next().unwrap()
        };
        let wg = one(vec![link(4, "wg0", "wireguard")], vec![], &[]);
        assert!(wg.contains("wg0 is a tunnel (wireguard) that is not listed"), "{wg}");
        assert!(wg.contains("list it in agent.yaml"), "{wg}");
        let routed = one(vec![link(4, "eth1", "")], vec![route("10.45.7.0/24", 4)], &[]);
        assert!(routed.contains("eth1 has a route to devices (10.45.7.0/24)"), "{routed}");
        let refused = one(vec![link(4, "docker0", "bridge")], vec![], &[(4, 12)]);
        assert!(refused.contains("12 packets from or to devices were dropped there"), "{refused}");
        let ipsec = one(vec![link(3, "n6", "")], vec![], &[(3, 5)]);
        assert!(ipsec.contains("5 packets that IPsec decrypted on n6"), "{ipsec}");
        let bridged = one(vec![member.clone(), link(9, "br0", "bridge")], vec![], &[]);
        assert!(bridged.contains("n6 is a port of the bridge br0"), "{bridged}");
        let bonded = one(vec![member.clone(), link(9, "bond0", "bond")], vec![], &[]);
        assert!(bonded.contains("list bond0 instead"), "{bonded}");
        let foreign = one(vec![Link { has_xdp: true, ..link(4, "eth1", "") }], vec![], &[]);
        assert!(foreign.contains("an XDP program of somebody else"), "{foreign}");
        assert!(
            notes(vec![member, link(9, "vrf-acme", "vrf")], vec![route("10.45.0.0/16", 9)], &[]).is_empty()
        );
    }
}
