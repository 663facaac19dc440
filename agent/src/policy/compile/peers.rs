//! Device to device: which profiles may call which.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_common::abi::map::PEER_CAPACITY;
use bulkhead_common::abi::{PortRange, ProfileId};

use super::calendar::Calendar;
use super::catalogue::Catalogue;
use super::ground::meant;
use super::ports::{Family, Opening, list};
use super::profiles::{Closed, Part, Role, Signature};
use super::remotes::{Claim, resolve};
use crate::policy::diagnostic::{Diagnostic, Diagnostics};
use crate::policy::model::{Policy, Rule};
use crate::policy::name::Name;
use crate::tables::{Callable, Remote};

/// Who can be called, by network, policy and the labels that must be equal.
pub(super) struct Peers<'a> {
    policy: &'a Policy,
    catalogue: &'a Catalogue,
    calendar: &'a Calendar<'a>,
    responders: BTreeMap<(&'a Name, &'a Name, &'a [&'a str]), Vec<ProfileId>>,
    open: BTreeMap<(Vec<&'a Name>, Vec<Closed<'a>>), Open>,
}

/// Open ports of devices, and what is open behind them.
type Open = (Vec<PortRange>, Vec<Remote>);

impl<'a> Peers<'a> {
    pub(super) fn of(
        policy: &'a Policy,
        catalogue: &'a Catalogue,
        calendar: &'a Calendar<'a>,
        profiles: &'a BTreeMap<ProfileId, Signature<'a>>,
    ) -> Self {
        let mut responders: BTreeMap<_, Vec<ProfileId>> = BTreeMap::new();
        for (profile, signature) in profiles {
            for role in signature.roles.iter().filter(|role| role.part == Part::Responder) {
                responders.entry(key(signature, role)).or_default().push(*profile);
            }
        }
        Self { policy, catalogue, calendar, responders, open: BTreeMap::new() }
    }

    /// Refuses a policy set whose pairs would not fit, before they are written out.
    pub(super) fn refuse_too_many<'s>(
        &self,
        profiles: impl IntoIterator<Item = &'s Signature<'s>>,
        problems: &mut Diagnostics,
    ) {
        let mut pairs = 0usize;
        for signature in profiles {
            for role in signature.roles.iter().filter(|role| role.part == Part::Initiator) {
                pairs += self.responders.get(&key(signature, role)).map_or(0, Vec::len);
            }
        }
        let capacity = PEER_CAPACITY as usize;
        if pairs > capacity {
            let problem =
                format!("the `between` rules pair {pairs} profiles, and the table holds {capacity}");
            let help = "name fewer devices, or use fewer different values of sameLabels";
            problems.push(Diagnostic::of_file("", problem, help));
        }
    }

    /// Whom the devices of a signature may call, and at which ports.
    pub(super) fn callable(&mut self, signature: &Signature<'a>) -> Vec<Callable> {
        let mut found: BTreeMap<ProfileId, BTreeSet<&'a Name>> = BTreeMap::new();
        for role in signature.roles.iter().filter(|role| role.part == Part::Initiator) {
            for responder in self.responders.get(&key(signature, role)).into_iter().flatten() {
                found.entry(*responder).or_default().insert(role.policy);
            }
        }
        let peers = found.into_iter();
        peers
            .map(|(profile, policies)| {
                let (ports, behind) = self.open(policies.into_iter().collect(), signature);
                Callable { profile, ports, behind }
            })
            .collect()
    }

    fn open(&mut self, policies: Vec<&'a Name>, signature: &Signature<'a>) -> Open {
        let closed = signature.closed_of(&policies);
        let whose = (policies, closed);
        if let Some(known) = self.open.get(&whose) {
            return known.clone();
        }
        let policies = &whose.0;
        let rules = policies.iter().filter_map(|name| self.policy.policies.get(*name));
        let rules = rules.flat_map(|rules| rules.rules.iter().map(|rule| (&rules.name, rule)));
        let (behind, own): (Vec<_>, Vec<_>) = rules.partition(|(_, rule)| !rule.behind.is_empty());
        let opening = |(policy, rule): &(&Name, &'a Rule)| {
            let number = self.catalogue.rule(policy, &rule.name);
            Opening {
                rule: number,
                ports: &rule.ports,
                idle: rule.idle.map_or(0, |idle| u32::try_from(idle.as_secs()).unwrap_or(u32::MAX)),
                state: signature.state(policy, rule),
                hours: self.calendar.hours(number, &rule.time),
            }
        };
        let ports: Vec<Opening<'_>> = own.iter().map(opening).collect();
        let openings: Vec<Opening<'_>> = behind.iter().map(opening).collect();
        let calendar = self.calendar;
        let made = (list(&ports, Family::Both, calendar), resolve(&local(&behind), &openings, calendar));
        self.open.insert(whose, made.clone());
        made
    }
}

/// Where rules open something behind the one that is called. The first rule counts, not the longest prefix.
fn local(rules: &[(&Name, &Rule)]) -> Vec<Claim> {
    let mut claims = Vec::new();
    for (opening, (_, rule)) in rules.iter().enumerate() {
        for prefix in &rule.behind {
            let ranges = meant(prefix.value);
            claims.extend(ranges.ranges().iter().map(|range| Claim { range: *range, length: 0, opening }));
        }
    }
    claims
}

fn key<'k>(signature: &'k Signature<'k>, role: &'k Role<'k>) -> (&'k Name, &'k Name, &'k [&'k str]) {
    (signature.network, role.policy, &role.same)
}
