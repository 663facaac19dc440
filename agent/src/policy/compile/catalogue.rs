//! What the numbers in tables, flows and events stand for.

use std::collections::BTreeMap;

use bulkhead_common::abi::{DeviceId, NetworkId, ProfileId, RuleId};

use super::ids::{Book, Books, Full};
use crate::layered::Layered;
use crate::policy::diagnostic::{Diagnostic, Diagnostics};
use crate::policy::location::Location;
use crate::policy::model::{Policy, Segment};
use crate::policy::name::Name;
use crate::processors;

/// Numbers and names of one compiled policy, both ways.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    /// Networks.
    pub networks: BTreeMap<NetworkId, Name>,
    /// Devices.
    pub devices: Layered<DeviceId, Name>,
    /// Rules.
    pub rules: BTreeMap<RuleId, RuleName>,
    /// Profiles.
    pub profiles: BTreeMap<ProfileId, ProfileName>,
    network_numbers: BTreeMap<Name, NetworkId>,
    device_numbers: Layered<Name, DeviceId>,
    rule_numbers: BTreeMap<Name, BTreeMap<Name, RuleId>>,
    repair_numbers: BTreeMap<Name, RuleId>,
}

/// A rule, and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleName {
    /// The policy.
    pub policy: Name,
    /// The rule in it.
    pub rule: Name,
    /// Where the rule is written.
    pub at: Location,
}

impl std::fmt::Display for RuleName {
    /// Writes `policy/rule`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.policy, self.rule)
    }
}

/// What a profile is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileName {
    /// The network of its devices.
    pub network: Name,
    /// Their segment, if any.
    pub segment: Option<Name>,
    /// The policies that have a part for them.
    pub policies: Vec<Name>,
}

impl Catalogue {
    /// Gives numbers to everything that a policy names.
    pub(super) fn of(policy: &Policy, books: Books<'_>, problems: &mut Diagnostics) -> Self {
        let mut catalogue = Self::default();
        for name in policy.networks.keys() {
            let number = NetworkId(numbered(books.networks.number(name.as_str()), "networks", problems));
            catalogue.networks.insert(number, name.clone());
            catalogue.network_numbers.insert(name.clone(), number);
        }
        let numbers = books.devices.numbers(policy.devices.keys());
        let numbers: Vec<DeviceId> =
            numbers.into_iter().map(|number| DeviceId(numbered(number, "devices", problems))).collect();
        let named = || policy.devices.keys().cloned().zip(numbers.iter().copied());
        // Whole maps are built faster than grown.
        (catalogue.devices, catalogue.device_numbers) =
            processors::both(|| named().map(|(name, number)| (number, name)).collect(), || named().collect());
        for rules in policy.policies.values() {
            for rule in &rules.rules {
                let name =
                    RuleName { policy: rules.name.clone(), rule: rule.name.clone(), at: rule.at.clone() };
                let number = RuleId(numbered(books.rules.number(&name.to_string()), "rules", problems));
                let numbers = catalogue.rule_numbers.entry(rules.name.clone()).or_default();
                numbers.insert(rule.name.clone(), number);
                catalogue.rules.insert(number, name);
            }
        }
        for segment in policy.segments.values() {
            catalogue.add_repair(segment, books.rules, problems);
        }
        catalogue
    }

    /// The rule that a segment's `repair` is, called as if the segment were a policy.
    fn add_repair(&mut self, segment: &Segment, book: &mut Book, problems: &mut Diagnostics) {
        let Some(rule) = &segment.repair else { return };
        let name = RuleName { policy: segment.name.clone(), rule: rule.name.clone(), at: rule.at.clone() };
        // A space, which no name has: a policy may be called like the segment.
        let number = book.number(&format!("segment {name}"));
        let number = RuleId(numbered(number, "rules", problems));
        self.repair_numbers.insert(segment.name.clone(), number);
        self.rules.insert(number, name);
    }

    /// The number of a segment's `repair`; nobody's if it has none.
    pub fn repair(&self, segment: &Name) -> RuleId {
        self.repair_numbers.get(segment).copied().unwrap_or_default()
    }

    /// The number of a network; nobody's if it is not of this policy.
    pub fn network(&self, name: &Name) -> NetworkId {
        self.network_numbers.get(name).copied().unwrap_or_default()
    }

    /// The numbers of all devices, in the order of their names.
    pub(super) fn device_numbers(&self) -> impl Iterator<Item = DeviceId> {
        self.device_numbers.values().copied()
    }

    /// The number of a device; nobody's if it is not of this policy.
    pub fn device(&self, name: &Name) -> DeviceId {
        self.device_numbers.get(name).copied().unwrap_or_default()
    }

    /// The numbers of some devices, as [`Self::device`] has each.
    pub(super) fn numbers_of<'n>(&self, names: impl IntoIterator<Item = &'n Name>) -> Vec<DeviceId> {
        let numbers = self.device_numbers.get_all(names).into_iter();
        numbers.map(|number| number.copied().unwrap_or_default()).collect()
    }

    /// Takes up that a device is there, or no more.
    pub(super) fn name_device(&mut self, name: &Name, number: DeviceId, is_there: bool) {
        if is_there {
            self.devices.insert(number, name.clone());
            self.device_numbers.insert(name.clone(), number);
        } else {
            self.devices.remove(&number);
            self.device_numbers.remove(name);
        }
    }

    /// The number of a rule; nobody's if it is not of this policy.
    pub fn rule(&self, policy: &Name, rule: &Name) -> RuleId {
        let rules = self.rule_numbers.get(policy);
        rules.and_then(|rules| rules.get(rule)).copied().unwrap_or_default()
    }
}

/// A number, or 0 and an error: nothing is compiled then, so nobody meets the 0.
pub(super) fn numbered(number: Result<u32, Full>, what: &str, problems: &mut Diagnostics) -> u32 {
    number.unwrap_or_else(|Full| {
        let problem = format!("there are no numbers left for more {what}");
        let help = "remove some; numbers of removed ones are free two applies later";
        problems.push(Diagnostic::of_file("", problem, help));
        0
    })
}
