//! Which devices are treated alike: a profile is a network, a segment, and a set of roles in policies.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bulkhead_common::abi::value::{PORT_AGES, PORT_CLOSED_BY_PLACE, PORT_CLOSED_BY_POSTURE, PORT_OPEN};

use crate::policy::condition::{About, Knowledge};
use crate::policy::model::{Device, Labels, Policy, PolicyRules, Rule, Selector, Subject};
use crate::policy::name::Name;
use crate::policy::selectors::Selectors;

/// What a policy sees a device as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// Its rules are about the device and the outside.
    Subject,
    /// The device may call.
    Initiator,
    /// The device may be called.
    Responder,
}

/// A part in one policy, with the values of the labels that must be equal at both ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Role<'a> {
    pub(super) policy: &'a Name,
    pub(super) part: Part,
    pub(super) same: Vec<&'a str>,
}

/// Whether a rule is there for a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It is.
    Open,
    /// It is, by something that may get too old.
    Ages,
    /// A condition closes it.
    Closed(About),
}

impl State {
    /// As a row says it.
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Open => PORT_OPEN,
            Self::Ages => PORT_AGES,
            Self::Closed(About::Posture) => PORT_CLOSED_BY_POSTURE,
            Self::Closed(About::Place) => PORT_CLOSED_BY_PLACE,
        }
    }

    /// True if the rule opens nothing.
    pub(super) const fn is_closed(self) -> bool {
        matches!(self, Self::Closed(_))
    }
}

/// Everything that decides how a device is treated; devices with equal ones share a profile.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Signature<'a> {
    pub(super) network: &'a Name,
    pub(super) segment: Option<&'a Name>,
    pub(super) roles: Vec<Role<'a>>,
    /// Rules that a condition closes to it, with what the condition is about.
    pub(super) closed: Vec<Closed<'a>>,
}

/// A rule of a policy that is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Closed<'a> {
    pub(super) policy: &'a Name,
    pub(super) rule: &'a Name,
    pub(super) by: About,
}

impl<'a> Signature<'a> {
    /// The signature as a name that lasts from one compilation to the next.
    pub(super) fn name(&self) -> String {
        let segment = self.segment.map_or("-", Name::as_str);
        let roles: Vec<String> = self
            .roles
            .iter()
            .map(|role| format!("{} {:?} {:?}", role.policy, role.part, role.same))
            .collect();
        let closed =
            self.closed.iter().map(|closed| format!(" -{}/{} {:?}", closed.policy, closed.rule, closed.by));
        format!("{} {segment} {}{}", self.network, roles.join(" "), closed.collect::<String>())
    }

    /// Whether a rule is there for it.
    pub(super) fn state(&self, policy: &Name, rule: &Rule) -> State {
        let mut closed = self.closed.iter();
        match closed.find(|closed| closed.policy == policy && *closed.rule == rule.name) {
            Some(closed) => State::Closed(closed.by),
            None if rule.conditions.bound_ages() => State::Ages,
            None => State::Open,
        }
    }

    /// What is closed of policies.
    pub(super) fn closed_of(&self, policies: &[&'a Name]) -> Vec<Closed<'a>> {
        self.closed.iter().filter(|closed| policies.contains(&closed.policy)).copied().collect()
    }

    /// The policies whose rules are about the device and the outside.
    pub(super) fn policies(&self) -> Vec<&'a Name> {
        let subjects = self.roles.iter().filter(|role| role.part == Part::Subject);
        subjects.map(|role| role.policy).collect()
    }
}

/// What decides how a device is treated of which nothing is known but what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind<'a> {
    network: &'a Name,
    segment: Option<&'a Name>,
    /// A set of labels that devices share, by its place.
    labels: *const Labels,
}

/// Labels say nearly all of it.
impl Hash for Kind<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.labels.hash(state);
    }
}

type Chosen<'a> = (&'a Name, Part);

/// The selectors of all policies, indexed by what they look at.
#[derive(Debug)]
pub(super) struct Roles<'a> {
    policies: &'a BTreeMap<Name, PolicyRules>,
    by_segment: BTreeMap<&'a Name, Vec<Chosen<'a>>>,
    by_device: BTreeMap<&'a Name, Vec<Chosen<'a>>>,
    by_labels: Selectors<'a, Chosen<'a>>,
}

impl<'a> Roles<'a> {
    pub(super) fn of(policy: &'a Policy) -> Self {
        let mut by_segment: BTreeMap<&Name, Vec<Chosen<'_>>> = BTreeMap::new();
        let mut by_device: BTreeMap<&Name, Vec<Chosen<'_>>> = BTreeMap::new();
        let mut by_labels = Vec::new();
        for (selector, chosen) in policy.policies.values().flat_map(selectors) {
            match selector {
                Selector::Segment(name) => by_segment.entry(&name.value).or_default().push(chosen),
                Selector::Device(name) => by_device.entry(&name.value).or_default().push(chosen),
                Selector::Labels(labels) => by_labels.push((&labels.value, chosen)),
            }
        }
        Self { policies: &policy.policies, by_segment, by_device, by_labels: by_labels.into_iter().collect() }
    }

    /// Whom a device is treated like; nothing if there is more to it.
    pub(super) fn alike(&self, device: &'a Device) -> Option<Kind<'a>> {
        let plain = device.observed.is_empty() && device.imei.is_none();
        let Device { network, segment, labels, .. } = device;
        (plain && !self.by_device.contains_key(&device.name)).then_some(Kind {
            network: &network.value,
            segment: segment.as_ref(),
            labels: Arc::as_ptr(labels),
        })
    }

    /// How a device is treated.
    pub(super) fn signature(&self, device: &'a Device, knowledge: Knowledge) -> Signature<'a> {
        let segment = device.segment.as_ref();
        let by_segment = segment.and_then(|segment| self.by_segment.get(segment));
        let by_device = self.by_device.get(&device.name);
        let mut chosen: Vec<Chosen<'_>> =
            by_segment.into_iter().chain(by_device).flatten().copied().collect();
        chosen.extend(self.by_labels.matching(&device.labels));
        chosen.sort();
        chosen.dedup();
        let roles: Vec<Role<'_>> =
            chosen.into_iter().filter_map(|chosen| self.role(chosen, device)).collect();
        let closed = roles.iter().flat_map(|role| self.closed(role, device, knowledge)).collect();
        Signature { network: &device.network.value, segment, roles, closed }
    }

    /// The rules of a policy that conditions close to a device. The one that is called meets none of its own.
    fn closed(&self, role: &Role<'a>, device: &'a Device, knowledge: Knowledge) -> Vec<Closed<'a>> {
        let rules = self.policies.get(role.policy).filter(|_| role.part != Part::Responder);
        let rules =
            rules.into_iter().flat_map(|rules| &rules.rules).filter(|rule| !rule.conditions.is_empty());
        let closed = |rule: &'a Rule| {
            let by = rule.conditions.closed_by(device, knowledge)?;
            Some(Closed { policy: role.policy, rule: &rule.name, by })
        };
        rules.filter_map(closed).collect()
    }

    /// A device's part; none if it lacks a label that must be equal.
    fn role(&self, (policy, part): Chosen<'a>, device: &'a Device) -> Option<Role<'a>> {
        let same = match self.policies.get(policy).map(|rules| &rules.subject) {
            Some(Subject::Between(between)) => between.same_labels.as_slice(),
            Some(Subject::Devices(_)) | None => &[],
        };
        let values = same.iter().map(|label| device.labels.get(label).map(String::as_str));
        Some(Role { policy, part, same: values.collect::<Option<Vec<&str>>>()? })
    }
}

fn selectors(rules: &PolicyRules) -> Vec<(&Selector, Chosen<'_>)> {
    match &rules.subject {
        Subject::Devices(selector) => vec![(selector, (&rules.name, Part::Subject))],
        Subject::Between(between) => vec![
            (&between.initiator, (&rules.name, Part::Initiator)),
            (&between.responder, (&rules.name, Part::Responder)),
        ],
    }
}
