//! How near each rule came: reads the policy, not the tables.

use std::net::IpAddr;

use bulkhead_common::parse::{Kind, Packet};
use ipnet::IpNet;
use jiff::Timestamp;

use crate::policy::address::AddressRange;
use crate::policy::agent::AgentConfig;
use crate::policy::compile::ground::Ground;
use crate::policy::condition::Unmet;
use crate::policy::location::Location;
use crate::policy::model::{
    Between, Device, Direction, Network, Policy, PolicyRules, Remotes, Rule, Subject,
};
use crate::policy::name::Name;
use crate::policy::ports::{Port, Portless, Protocol};
use crate::tables::Host;

/// A rule that is about one of the ends, and which of its halves fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Considered {
    /// The policy.
    pub policy: Name,
    /// The rule in it.
    pub rule: Name,
    /// Where it is written.
    pub at: Location,
    /// True if the far end is one that the rule names.
    pub address: bool,
    /// True if the port is one that the rule opens.
    pub port: bool,
    /// Its conditions that are false of the device.
    pub unmet: Vec<Unmet>,
    /// True if the rule holds at the moment that was asked about.
    pub time: bool,
}

impl Considered {
    /// The one that came nearest; none if no half of any fits.
    pub fn nearest(rules: &[Self]) -> Option<&Self> {
        let near = rules.iter().filter(|rule| rule.address || rule.port);
        // The first of equals: rules come in the order of the policies.
        near.rev().max_by_key(|rule| (rule.address, rule.port, rule.unmet.is_empty(), rule.time))
    }

    /// True if nothing but a condition or the time speaks against it.
    pub fn is_closed(&self) -> bool {
        self.address && self.port && !(self.unmet.is_empty() && self.time)
    }

    /// What of conditions and time speaks against it.
    pub fn against(&self) -> String {
        let unmet = self.unmet.iter().map(ToString::to_string);
        let time = (!self.time).then(|| "it is open at other times".to_owned());
        unmet.chain(time).collect::<Vec<_>>().join("; ")
    }
}

/// Every rule of the policies that are about these ends, in the order of the policies; an end that
/// is no device is the packet's address. Without a moment a rule that depends on time does not hold.
pub fn considered_rules(
    policy: &Policy,
    (agent, host): (&AgentConfig, &Host),
    packet: &Packet,
    [from, to]: [Option<&Device>; 2],
    at: Option<Timestamp>,
) -> Vec<Considered> {
    let near = Near { policy, ground: Ground::of(policy, agent, host), port: port(packet), at };
    match (from, to) {
        (Some(from), Some(to)) => near.between(from, to, packet.destination.to_ip()),
        (Some(from), None) => near.outside(from, packet, false),
        (None, Some(to)) => near.outside(to, packet, true),
        (None, None) => Vec::new(),
    }
}

fn port(packet: &Packet) -> Port {
    let protocol = Protocol::ALL.into_iter().find(|protocol| protocol.number() == packet.protocol);
    match (protocol.filter(|_| packet.kind == Kind::Ports), Portless::from_number(packet.protocol)) {
        (Some(protocol), _) => Port::single(protocol, packet.destination_port),
        (None, Some(portless)) => Port::Portless(portless),
        (None, None) => Port::Echo,
    }
}

struct Near<'a> {
    policy: &'a Policy,
    ground: Ground<'a>,
    port: Port,
    at: Option<Timestamp>,
}

impl Near<'_> {
    fn considered(
        &self,
        rules: &PolicyRules,
        rule: &Rule,
        device: &Device,
        [address, port]: [bool; 2],
    ) -> Considered {
        Considered {
            policy: rules.name.clone(),
            rule: rule.name.clone(),
            at: rule.at.clone(),
            address,
            port,
            unmet: rule.conditions.unmet(device),
            time: rule.time.is_always() || self.at.is_some_and(|at| rule.time.holds(at)),
        }
    }

    fn opens(&self, ports: &[Port]) -> bool {
        ports.iter().any(|port| port.opens(&self.port))
    }

    fn between(&self, from: &Device, to: &Device, called: IpAddr) -> Vec<Considered> {
        let mut found = Vec::new();
        for rules in self.policy.policies().values() {
            let Subject::Between(between) = &rules.subject else { continue };
            if between.initiator.matches(from) || between.responder.matches(to) {
                let address = from.network.value == to.network.value && both(between, from, to);
                found.extend(rules.rules.iter().map(|rule| {
                    let address = address && rule.opens_at(to, called);
                    self.considered(rules, rule, from, [address, self.opens(&rule.ports)])
                }));
            }
        }
        found
    }

    fn outside(&self, device: &Device, packet: &Packet, inbound: bool) -> Vec<Considered> {
        let (local, remote) = match inbound {
            true => (packet.destination.to_ip(), packet.source.to_ip()),
            false => (packet.source.to_ip(), packet.destination.to_ip()),
        };
        let Some(network) = self.policy.networks().get(&device.network.value) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for rules in self.policy.policies().values() {
            let Subject::Devices(selector) = &rules.subject else { continue };
            if selector.matches(device) {
                let rules_of = rules.rules.iter();
                found.extend(rules_of.filter_map(|rule| {
                    let here = !inbound || rule.opens_at(device, local);
                    let [address, port] = self.remote(network, rule, remote, inbound)?;
                    Some(self.considered(rules, rule, device, [address && here, port]))
                }));
            }
        }
        found
    }

    /// Whether the far end and the port fit; nothing if the rule is about the other way.
    fn remote(&self, network: &Network, rule: &Rule, remote: IpAddr, inbound: bool) -> Option<[bool; 2]> {
        let remotes = match &rule.direction {
            Direction::Outbound(remotes) if !inbound => remotes,
            Direction::Inbound(remotes) if inbound => remotes,
            Direction::Outbound(_) | Direction::Inbound(_) | Direction::Peer => return None,
        };
        let plain = (self.names(network, remotes, remote), self.opens(&rule.ports));
        let services = remotes.services.iter().filter_map(|name| network.services.get(&name.value));
        let halves = services.map(|service| {
            let address = service.addresses.iter().any(|address| address.value == remote);
            (address, self.opens(&service.ports))
        });
        let all: Vec<(bool, bool)> = halves.chain([plain]).collect();
        // One half that fits whole says more than two that each fit by half.
        let whole = all.contains(&(true, true));
        let address = whole || all.iter().any(|(address, _)| *address);
        let port = whole || (!address && all.iter().any(|(_, port)| *port));
        Some([address, port])
    }

    fn names(&self, network: &Network, remotes: &Remotes, remote: IpAddr) -> bool {
        let at = AddressRange::from(remote);
        let plain = |prefix: IpNet| prefix.contains(&remote) && self.ground.open(prefix).touches(at);
        let inside = |prefix: IpNet| {
            prefix.contains(&remote) && self.ground.open_inside(prefix, &network.name).touches(at)
        };
        let destinations = remotes.destinations.iter();
        let mut destinations = destinations.filter_map(|name| self.policy.destinations().get(&name.value));
        remotes.cidrs.iter().any(|cidr| plain(cidr.value))
            || destinations.any(|destination| match destination.reaches_infrastructure {
                true => destination.cidrs.iter().any(|cidr| inside(cidr.value)),
                false => destination.cidrs.iter().any(|cidr| plain(cidr.value)),
            })
    }
}

fn both(between: &Between, from: &Device, to: &Device) -> bool {
    between.initiator.matches(from)
        && between.responder.matches(to)
        && between.same_labels.iter().all(|label| {
            let value = from.labels.get(label);
            value.is_some() && value == to.labels.get(label)
        })
}
