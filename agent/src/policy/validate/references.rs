//! Names that refer to other resources.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::classes::Classes;
use crate::policy::address::{AddressRange, plain};
use crate::policy::diagnostic::Diagnostics;
use crate::policy::document::Kind;
use crate::policy::location::{Located, Location};
use crate::policy::model::{
    Direction, Labels, Policy, PolicyRules, Remotes, Rule, Segment, Selector, Subject, Test, TestDevice,
    TestRemote,
};
use crate::policy::name::{Name, nearest};
use crate::policy::selectors::{Remembered, Selectors};

/// With `lost`, documents are missing; those of `broken` are there, and could not be read.
pub(super) fn check(
    policy: &Policy,
    classes: &Classes<'_>,
    (broken, lost): (&[(Kind, Name)], bool),
    problems: &mut Diagnostics,
) {
    let mut references = References { policy, broken, lost, problems };
    if !classes.networks().all(|network| policy.networks.contains_key(network)) {
        policy.devices.values().for_each(|device| references.known(Kind::Network, &device.network));
    }
    let reach = Reach::of(policy, classes);
    for segment in policy.segments.values() {
        references.repair(segment, &reach);
    }
    for rules in policy.policies.values() {
        references.subject(&rules.subject, &reach);
        references.rules(rules, &reach);
        for test in &rules.tests {
            references.test(rules, test);
        }
    }
}

struct References<'a> {
    policy: &'a Policy,
    broken: &'a [(Kind, Name)],
    lost: bool,
    problems: &'a mut Diagnostics,
}

impl References<'_> {
    fn subject(&mut self, subject: &Subject, reach: &Reach<'_>) {
        match subject {
            Subject::Devices(selector) => self.selector(selector, reach),
            Subject::Between(between) => {
                self.selector(&between.initiator, reach);
                self.selector(&between.responder, reach);
            }
        }
    }

    fn selector(&mut self, selector: &Selector, reach: &Reach<'_>) {
        match selector {
            Selector::Segment(name) => self.known(Kind::Segment, name),
            Selector::Device(name) => self.known(Kind::Device, name),
            Selector::Labels(labels) => self.warn_unmatched(labels, reach),
        }
    }

    fn warn_unmatched(&mut self, labels: &Located<Labels>, reach: &Reach<'_>) {
        let partial = self.lost || !self.broken.is_empty();
        if !partial && !reach.by_labels.contains_key(&labels.value) {
            let help = "check it against the labels of devices";
            self.problems.warn(&labels.at, "no device has these labels", help);
        }
    }

    /// What a segment's devices may call from quarantine.
    fn repair(&mut self, segment: &Segment, reach: &Reach<'_>) {
        let Some(Direction::Outbound(remotes)) = segment.repair.as_ref().map(|rule| &rule.direction) else {
            return;
        };
        let members = Located::new(segment.name.clone(), segment.at.clone());
        self.remotes(&Subject::Devices(Selector::Segment(members)), remotes, reach);
    }

    fn rules(&mut self, rules: &PolicyRules, reach: &Reach<'_>) {
        for rule in &rules.rules {
            self.behind(rules, rule);
            match &rule.direction {
                Direction::Outbound(remotes) => self.remotes(&rules.subject, remotes, reach),
                Direction::Inbound(remotes) => self.remotes(&rules.subject, remotes, reach),
                Direction::Peer => {}
            }
        }
    }

    /// A rule about a LAN that no called device has would open nothing.
    fn behind(&mut self, rules: &PolicyRules, rule: &Rule) {
        let called = match &rules.subject {
            Subject::Devices(selector) => selector,
            Subject::Between(between) => &between.responder,
        };
        for prefix in &rule.behind {
            let range = AddressRange::from(prefix.value);
            let mut called = self.policy.devices.values().filter(|device| called.matches(device));
            let overlaps = |route: &Located<IpNet>| AddressRange::from(route.value).overlaps(range);
            if !self.lost && !called.any(|device| device.framed_routes.iter().any(overlaps)) {
                let problem = format!(
                    "{} lies behind no device that rule {} is about",
                    plain(&prefix.value),
                    rule.name
                );
                self.problems.warn(&prefix.at, problem, "compare it with `framedRoutes` of the devices");
            }
        }
    }

    fn remotes(&mut self, subject: &Subject, remotes: &Remotes, reach: &Reach<'_>) {
        for destination in &remotes.destinations {
            self.known(Kind::Destination, destination);
        }
        for service in &remotes.services {
            self.service(subject, service, reach);
        }
    }

    /// A service must exist in every network that the subject's devices are in.
    fn service(&mut self, subject: &Subject, service: &Located<Name>, reach: &Reach<'_>) {
        let networks = &self.policy.networks;
        if !networks.values().any(|network| network.services.contains_key(&service.value)) {
            let names = networks.values().flat_map(|network| network.services.keys());
            let names: BTreeSet<&str> = names.map(Name::as_str).collect();
            let broken = self.broken.iter().any(|(kind, _)| *kind == Kind::Network);
            if !broken {
                self.unknown("service", &service.value, &service.at, names);
            }
            return;
        }
        for name in reach.networks(subject) {
            if let Some(network) = networks.get(name)
                && !network.services.contains_key(&service.value)
            {
                self.problems.error(
                    &service.at,
                    format!("network {name} ({}) has no service {}", network.at, service.value),
                    "add it to that network's services, or choose fewer devices",
                );
            }
        }
    }

    fn test(&mut self, rules: &PolicyRules, test: &Test) {
        match &test.device {
            TestDevice::Named(name) => self.known(Kind::Device, name),
            TestDevice::Like(like) => self.known(Kind::Segment, &like.segment),
        }
        self.tested_local(test);
        if let TestRemote::Device(name) = &test.remote {
            self.known(Kind::Device, name);
        }
        if let Some(rule) = &test.rule {
            self.tested_rule(rules, rule);
        }
    }

    /// The address of a test must be one that the device speaks for.
    fn tested_local(&mut self, test: &Test) {
        let (Some(local), TestDevice::Named(name)) = (&test.local, &test.device) else { return };
        if let Some(device) = self.policy.devices.get(&name.value)
            && !device.holds(local.value)
        {
            let problem = format!("{} is neither an address of {} nor behind it", local.value, device.name);
            let help = "name an address of its framed routes, or its own";
            self.problems.error(&local.at, problem, help);
        }
    }

    fn tested_rule(&mut self, rules: &PolicyRules, wanted: &Located<String>) {
        let (rules, rule) = match wanted.value.split_once('/') {
            None => (Some(rules), wanted.value.as_str()),
            Some((policy, rule)) => (self.policy.policies.get(policy), rule),
        };
        let Some(rules) = rules else {
            let names = self.policy.policies.keys().map(Name::as_str).collect();
            let policy = wanted.value.split('/').next().and_then(Name::new);
            if let Some(policy) = policy.filter(|name| !self.is_broken(Kind::Policy, name)) {
                self.unknown("policy", &policy, &wanted.at, names);
            }
            return;
        };
        if !rules.rules.iter().any(|known| known.name.as_str() == rule) {
            let names = rules.rules.iter().map(|rule| rule.name.as_str()).collect();
            if let Some(rule) = Name::new(rule) {
                self.unknown("rule", &rule, &wanted.at, names);
            }
        }
    }

    fn is_broken(&self, kind: Kind, name: &Name) -> bool {
        self.broken.iter().any(|(k, n)| *k == kind && n == name)
    }

    fn known(&mut self, kind: Kind, name: &Located<Name>) {
        let policy = self.policy;
        let wanted = name.value.as_str();
        let known = match kind {
            Kind::Network => policy.networks.contains_key(wanted),
            Kind::Segment => policy.segments.contains_key(wanted),
            Kind::Device => policy.devices.contains_key(wanted),
            Kind::Destination => policy.destinations.contains_key(wanted),
            Kind::Policy => policy.policies.contains_key(wanted),
            Kind::Agent | Kind::Grant => false,
        };
        if known || self.is_broken(kind, &name.value) {
            return;
        }
        let names = match kind {
            _ if self.problems.is_full() => BTreeSet::new(),
            Kind::Network => policy.networks.keys().map(Name::as_str).collect(),
            Kind::Segment => policy.segments.keys().map(Name::as_str).collect(),
            Kind::Device => policy.devices.keys().map(Name::as_str).collect(),
            Kind::Destination => policy.destinations.keys().map(Name::as_str).collect(),
            Kind::Policy => policy.policies.keys().map(Name::as_str).collect(),
            Kind::Agent | Kind::Grant => BTreeSet::new(),
        };
        self.unknown(kind.noun(), &name.value, &name.at, names);
    }

    fn unknown(&mut self, noun: &str, name: &Name, at: &Location, names: BTreeSet<&str>) {
        let near = nearest(name.as_str(), names.iter().copied());
        let help = match near {
            Some(near) => format!("nearest is \"{near}\"{}", self.place(noun, near)),
            None if self.lost => "it may be in a document that could not be read".to_owned(),
            None => match names.len() {
                0 => format!("there is no {noun} at all; add one"),
                1..=6 => format!("known: {}", names.into_iter().collect::<Vec<_>>().join(", ")),
                _ => format!("add a {noun} of that name"),
            },
        };
        self.problems.error(at, format!("unknown {noun} \"{name}\""), help);
    }

    /// Where a suggested resource is written, in brackets.
    fn place(&self, noun: &str, name: &str) -> String {
        let at = match noun {
            "network" => self.policy.networks.get(name).map(|n| &n.at),
            "segment" => self.policy.segments.get(name).map(|s| &s.at),
            "device" => self.policy.devices.get(name).map(|d| &d.at),
            "destination" => self.policy.destinations.get(name).map(|d| &d.at),
            "policy" => self.policy.policies.get(name).map(|p| &p.at),
            _ => None,
        };
        at.map(|at| format!(" ({at})")).unwrap_or_default()
    }
}

/// Which networks the devices of a subject are in; made in one pass over the devices, if a subject has labels.
struct Reach<'a> {
    policy: &'a Policy,
    classes: &'a Classes<'a>,
    by_labels: BTreeMap<&'a Labels, BTreeSet<&'a Name>>,
}

impl<'a> Reach<'a> {
    fn of(policy: &'a Policy, classes: &'a Classes<'a>) -> Self {
        let chosen = policy.policies.values().flat_map(|rules| label_selectors(&rules.subject));
        let chosen: BTreeSet<&Labels> = chosen.collect();
        let selectors: Selectors<'_, &Labels> = chosen.into_iter().map(|labels| (labels, labels)).collect();
        let mut reach = Self { policy, classes, by_labels: BTreeMap::new() };
        let mut remembered = Remembered::default();
        for device in policy.devices.values().filter(|_| !selectors.is_empty()) {
            for labels in remembered.of(&device.labels, || selectors.matching(&device.labels)) {
                reach.by_labels.entry(labels).or_default().insert(&device.network.value);
            }
        }
        reach
    }

    fn networks(&self, subject: &Subject) -> BTreeSet<&'a Name> {
        let found = match subject {
            Subject::Between(_) => None,
            Subject::Devices(Selector::Segment(name)) => {
                return self.classes.members(&name.value).map(|(network, _)| network).collect();
            }
            Subject::Devices(Selector::Labels(labels)) => self.by_labels.get(&labels.value),
            Subject::Devices(Selector::Device(name)) => {
                let device = self.policy.devices.get(&name.value);
                return device.map(|device| &device.network.value).into_iter().collect();
            }
        };
        found.cloned().unwrap_or_default()
    }
}

fn label_selectors(subject: &Subject) -> Vec<&Labels> {
    let selectors = match subject {
        Subject::Devices(selector) => vec![selector],
        Subject::Between(between) => vec![&between.initiator, &between.responder],
    };
    let labels = selectors.into_iter().filter_map(|selector| match selector {
        Selector::Labels(labels) => Some(&labels.value),
        Selector::Segment(_) | Selector::Device(_) => None,
    });
    labels.collect()
}
