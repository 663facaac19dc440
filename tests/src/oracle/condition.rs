//! What must be true of a device: read from the words of the policy and from what is known of it.

use std::time::Duration;

use bulkhead::policy::{Attribute, AttributeKey, Condition, Demand, Device, Rule, Subject};

use super::intent::{Intent, chooses};
use super::{Flaw, Refusal};

/// Numbers, padded, and what comes before the release.
type Version = ([u64; 8], Option<String>);

impl Intent<'_> {
    /// Why the rule is not there for the device, if it is not.
    pub(super) fn closed(&self, rule: &Rule, device: &Device, now: u64) -> Option<Refusal> {
        if self.flaw == Some(Flaw::ForgetsConditions) {
            return None;
        }
        let aged = self.aged_at(device).is_some_and(|at| now >= at) && self.flaw != Some(Flaw::NeverAges);
        let failed: Vec<&Condition> =
            rule.conditions.iter().filter(|condition| !self.is_true(condition, device, aged)).collect();
        let what_it_is =
            |condition: &&&Condition| matches!(condition.key, AttributeKey::Label(_) | AttributeKey::Imei);
        match (failed.is_empty(), failed.iter().find(what_it_is)) {
            (true, _) => None,
            (false, Some(_)) => Some("condition_posture"),
            (false, None) => Some("condition_place"),
        }
    }

    /// When the first of what a rule holds by is five seconds older than it may be: nobody said anything new, so from
    /// then on all that ages is too old. In nanoseconds since the traffic's clock began.
    fn aged_at(&self, device: &Device) -> Option<u64> {
        let mut first = None;
        for rules in self.policy.policies().values() {
            let about = match &rules.subject {
                Subject::Devices(selector) => chooses(selector, device),
                Subject::Between(ends) => chooses(&ends.initiator, device),
            };
            let holds = |rule: &&Rule| rule.conditions.iter().all(|one| self.is_true(one, device, false));
            for rule in rules.rules.iter().filter(|_| about).filter(holds) {
                let left = rule.conditions.iter().filter_map(|one| self.left(one, device));
                first = first.into_iter().chain(left).min();
            }
        }
        first
    }

    fn left(&self, condition: &Condition, device: &Device) -> Option<u64> {
        let bound = condition.max_age?;
        let seen = self.source(device, &condition.key)?;
        seen.said_ms?;
        Some((bound + Duration::from_secs(5)).saturating_sub(seen.age?).as_nanos() as u64)
    }

    /// Where what is known of an attribute comes from, if it was seen.
    fn source<'d>(&self, device: &'d Device, key: &AttributeKey) -> Option<&'d Attribute> {
        let follows = [AttributeKey::TrackingArea, AttributeKey::Cell];
        let others = follows.iter().filter(|_| *key == AttributeKey::Plmn);
        [key].into_iter().chain(others).find_map(|key| device.observed.get(key))
    }

    fn is_true(&self, condition: &Condition, device: &Device, aged: bool) -> bool {
        let Some((value, age)) = self.known(device, &condition.key) else { return false };
        let too_old = match (age, condition.max_age) {
            (Some(age), Some(bound)) => (aged || age > bound) && self.flaw != Some(Flaw::ForgetsAges),
            _ => false,
        };
        !too_old && self.meets(&condition.demand, &value)
    }

    /// What is known, and how old it is: what was seen, else what the document says, else what follows from it.
    fn known(&self, device: &Device, key: &AttributeKey) -> Option<(String, Option<Duration>)> {
        let seen = device.observed.get(key).filter(|_| self.flaw != Some(Flaw::BelievesDocuments));
        if let Some(seen) = seen {
            return Some((seen.value.clone(), seen.age));
        }
        match key {
            AttributeKey::Label(name) => device.labels.get(name).map(|value| (value.clone(), None)),
            AttributeKey::Imei => device.imei.as_ref().map(|imei| (imei.value.clone(), None)),
            AttributeKey::Plmn => {
                let place = self.known(device, &AttributeKey::TrackingArea);
                let (place, age) = place.or_else(|| self.known(device, &AttributeKey::Cell))?;
                Some((place.chars().take_while(char::is_ascii_digit).collect(), age))
            }
            AttributeKey::TrackingArea | AttributeKey::Cell | AttributeKey::Rat => None,
        }
    }

    fn meets(&self, demand: &Demand, value: &str) -> bool {
        match demand {
            Demand::In(texts) => texts.iter().any(|text| text == value),
            Demand::AtLeast(bound) if self.flaw == Some(Flaw::ComparesVersionsAsText) => {
                *value >= *bound.to_string()
            }
            Demand::AtLeast(bound) => versions(value, &bound.to_string()).is_some_and(|(value, bound)| {
                let reached = match (&value.1, &bound.1) {
                    (None, _) => true,
                    (Some(_), None) => false,
                    (Some(value), Some(bound)) => value >= bound,
                };
                value.0 > bound.0 || value.0 == bound.0 && reached
            }),
            Demand::Below(bound) => versions(value, &bound.to_string()).is_some_and(|(value, bound)| {
                let before = matches!((&value.1, &bound.1), (Some(value), Some(bound)) if value < bound);
                value.0 < bound.0 || value.0 == bound.0 && before
            }),
            Demand::Plmn(plmns) => plmns.iter().any(|plmn| plmn.to_string() == value),
            Demand::Country(countries) => {
                countries.iter().any(|country| value.starts_with(mcc(country.as_str())))
            }
            Demand::TrackingArea(areas) => areas.iter().any(|area| area.to_string() == value),
            Demand::Cell(cells) => cells.iter().any(|cell| cell.to_string() == value),
            Demand::Rat(rats) => rats.iter().any(|rat| rat.as_str() == value),
            Demand::Imei(imeis) => imeis.iter().any(|imei| imei.as_str() == &value[..14]),
            Demand::Tac(tacs) => tacs.iter().any(|tac| tac.to_string() == value[..8]),
        }
    }
}

/// The mobile country codes of the countries that worlds know.
fn mcc(country: &str) -> &'static str {
    match country {
        "NO" => "242",
        "SE" => "240",
        other => panic!("no world knows {other}"),
    }
}

fn versions(one: &str, other: &str) -> Option<(Version, Version)> {
    version(one).zip(version(other))
}

fn version(text: &str) -> Option<Version> {
    let text = text.trim_start_matches('v');
    let (release, before) = match text.split_once('-') {
        Some((release, before)) => (release, Some(before.to_owned())),
        None => (text, None),
    };
    let mut numbers = [0; 8];
    for (number, part) in numbers.iter_mut().zip(release.split('.')) {
        *number = part.parse().ok()?;
    }
    Some((numbers, before))
}
