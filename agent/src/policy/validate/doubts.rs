//! What is valid and probably not meant: rules that open nothing, nothing new, or everything.

use std::collections::BTreeSet;

use super::classes::Classes;
use crate::policy::address::AddressRange;
use crate::policy::compile::ranges::RangeSet;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::model::{Device, Direction, Policy, PolicyRules, Remotes, Rule, Selector, Subject};
use crate::policy::name::Name;
use crate::policy::ports::Port;

/// Rules of one policy that are compared with each other; more are generated, and pairs are many.
const COMPARED: usize = 500;

/// Looks at every rule of a policy that is valid.
pub(super) fn tell(policy: &Policy, classes: &Classes<'_>, problems: &mut Diagnostics) {
    let lists = Nevers { policy, classes };
    for rules in policy.policies.values() {
        if problems.is_quiet() {
            return;
        }
        let nevers = lists.of(rules);
        for rule in &rules.rules {
            forbidden(rule, &nevers, problems);
            everything(policy, rule, problems);
        }
        shadowed(policy, rules, problems);
    }
}

/// Which `never` lists apply to whom: a list for each kind of device, for each end of a policy.
struct Nevers<'a> {
    policy: &'a Policy,
    classes: &'a Classes<'a>,
}

/// Network and segment: they decide together.
type Class<'a> = (&'a Name, Option<&'a Name>);

impl<'a> Nevers<'a> {
    /// For each end, the lists of every class of devices there.
    fn of(&self, rules: &'a PolicyRules) -> Vec<Vec<Vec<Port>>> {
        let ends = match &rules.subject {
            Subject::Devices(chosen) => vec![chosen],
            Subject::Between(ends) => vec![&ends.initiator, &ends.responder],
        };
        let lists = |class: &Class<'_>| self.never(*class);
        ends.into_iter().map(|end| self.chosen(end).iter().map(lists).collect()).collect()
    }

    fn chosen(&self, selector: &'a Selector) -> BTreeSet<Class<'a>> {
        match selector {
            Selector::Segment(name) => {
                self.classes.members(&name.value).map(|(network, _)| (network, Some(&name.value))).collect()
            }
            Selector::Device(name) => {
                self.policy.devices.get(&name.value).map(|device| class(device)).into_iter().collect()
            }
            Selector::Labels(_) => self
                .policy
                .devices
                .values()
                .filter(|device| selector.matches(device))
                .map(|device| class(device))
                .collect(),
        }
    }

    fn never(&self, (network, segment): Class<'_>) -> Vec<Port> {
        let network = self.policy.networks.get(network).map(|network| &network.never);
        let segment = segment.and_then(|name| self.policy.segments.get(name)).map(|segment| &segment.never);
        network.into_iter().chain(segment).flatten().copied().collect()
    }
}

fn class(device: &Device) -> Class<'_> {
    (&device.network.value, device.segment.as_ref())
}

/// A port that `never` takes from every device the rule is about is open to nobody.
fn forbidden(rule: &Rule, nevers: &[Vec<Vec<Port>>], problems: &mut Diagnostics) {
    let covers = |list: &Vec<Port>, port: &Port| list.iter().any(|never| never.covers(port));
    let everywhere =
        |end: &Vec<Vec<Port>>, port: &Port| !end.is_empty() && end.iter().all(|list| covers(list, port));
    for port in rule.ports.iter().filter(|port| nevers.iter().any(|end| everywhere(end, port))) {
        let problem =
            format!("rule {} allows {port}, and `never` forbids it to every device it is about", rule.name);
        problems.warn(&rule.at, problem, "`never` wins: remove one of the two");
    }
}

/// Every address of a family at every port is seldom what an allowlist is for.
fn everything(policy: &Policy, rule: &Rule, problems: &mut Diagnostics) {
    let (remotes, whom) = match &rule.direction {
        Direction::Outbound(remotes) => (remotes, "lets its devices call everybody"),
        Direction::Inbound(remotes) => (remotes, "lets everybody call its devices"),
        Direction::Peer => return,
    };
    let named = remotes.destinations.iter().filter_map(|name| policy.destinations.get(&name.value));
    let mut cidrs = named.flat_map(|destination| &destination.cidrs).chain(&remotes.cidrs);
    if rule.ports.contains(&Port::Any) && cidrs.any(|cidr| cidr.value.prefix_len() == 0) {
        let problem = format!("rule {} {whom} at every port", rule.name);
        problems.warn(
            &rule.at,
            problem,
            "name the ports or the addresses that are needed, unless this is meant",
        );
    }
}

/// A rule that an earlier one of the same policy covers wholly never decides anything.
fn shadowed(policy: &Policy, rules: &PolicyRules, problems: &mut Diagnostics) {
    if rules.rules.len() > COMPARED {
        return;
    }
    let seen: Vec<Reach<'_>> = rules.rules.iter().map(|rule| Reach::of(policy, rule)).collect();
    for (index, rule) in seen.iter().enumerate() {
        let Some(wider) = seen[..index].iter().find(|earlier| earlier.covers(rule)) else { continue };
        let problem = format!(
            "rule {} opens nothing that {} does not open (line {})",
            rule.rule.name,
            wider.rule.name,
            wider.rule.at.line()
        );
        problems.warn(&rule.rule.at, problem, "remove it, or narrow the wider one");
    }
}

/// What a rule opens, to compare.
struct Reach<'a> {
    rule: &'a Rule,
    /// 0 outbound, 1 inbound, 2 device to device.
    way: u8,
    addresses: RangeSet,
    /// Services, which bring their own ports, and destinations that reach infrastructure, which no wide prefix does.
    named: BTreeSet<&'a Name>,
    behind: RangeSet,
}

impl<'a> Reach<'a> {
    fn of(policy: &'a Policy, rule: &'a Rule) -> Self {
        let (way, remotes) = match &rule.direction {
            Direction::Outbound(remotes) => (0, Some(remotes)),
            Direction::Inbound(remotes) => (1, Some(remotes)),
            Direction::Peer => (2, None),
        };
        let behind = rule.behind.iter().map(|prefix| AddressRange::from(prefix.value)).collect();
        let mut reach = Self { rule, way, addresses: RangeSet::default(), named: BTreeSet::new(), behind };
        if let Some(remotes) = remotes {
            reach.named.extend(remotes.services.iter().map(|name| &name.value));
            reach.add(policy, remotes);
        }
        reach
    }

    fn add(&mut self, policy: &'a Policy, remotes: &'a Remotes) {
        let named = remotes.destinations.iter().filter_map(|name| policy.destinations.get(&name.value));
        let (infrastructure, outside): (Vec<_>, Vec<_>) = named.partition(|d| d.reaches_infrastructure);
        self.named.extend(infrastructure.into_iter().map(|destination| &destination.name));
        let cidrs = outside.into_iter().flat_map(|destination| &destination.cidrs).chain(&remotes.cidrs);
        self.addresses = cidrs.map(|cidr| AddressRange::from(cidr.value)).collect();
    }

    /// True if whatever the other opens is open by this one, for as long.
    fn covers(&self, other: &Self) -> bool {
        let covers =
            |wide: &RangeSet, narrow: &RangeSet| narrow.ranges().iter().all(|range| wide.covers(*range));
        let opens = |port: &Port| self.rule.ports.iter().any(|wide| wide.opens(port));
        self.way == other.way
            && self.rule.conditions.is_empty()
            && self.rule.idle == other.rule.idle
            && self.behind.ranges().is_empty() == other.behind.ranges().is_empty()
            && covers(&self.behind, &other.behind)
            && other.named.is_subset(&self.named)
            && covers(&self.addresses, &other.addresses)
            && other.rule.ports.iter().all(opens)
    }
}
