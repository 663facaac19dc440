//! What must be true of a device before a rule holds: posture (labels, equipment) and place (network, cell, radio).
//!
//! A condition looks at one attribute. All conditions of a rule must hold. What is not known is false, and so is what
//! is older than the condition bears: rules only allow, so what nobody vouches for opens nothing.

mod contradiction;
mod country;
mod equipment;
mod place;
mod version;
mod words;

use std::time::Duration;

pub(crate) use contradiction::contradiction;
pub use country::Country;
pub use equipment::{Imei, Tac};
pub use place::{Cell, Plmn, Rat, TrackingArea};
pub use version::Version;
pub(crate) use words::ago;

use super::attribute::{AttributeKey, Source};
use super::location::Location;
use super::model::Device;

/// Everything that a rule demands of a device.
#[derive(Debug, Clone, Default)]
pub struct Conditions(Vec<Condition>);

/// What a rule demands of one attribute.
#[derive(Debug, Clone)]
pub struct Condition {
    /// Where it was written.
    pub at: Location,
    /// The attribute.
    pub key: AttributeKey,
    /// What it must be.
    pub demand: Demand,
    /// How old it may be; `None` bears any age.
    pub max_age: Option<Duration>,
}

/// What an attribute must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Demand {
    /// One of these texts.
    In(Vec<String>),
    /// This version or a later one.
    AtLeast(Version),
    /// A version before this one.
    Below(Version),
    /// One of these networks.
    Plmn(Vec<Plmn>),
    /// A network of one of these countries.
    Country(Vec<Country>),
    /// One of these tracking areas.
    TrackingArea(Vec<TrackingArea>),
    /// One of these cells.
    Cell(Vec<Cell>),
    /// One of these kinds of radio access.
    Rat(Vec<Rat>),
    /// One of these pieces of equipment.
    Imei(Vec<Imei>),
    /// Equipment of one of these types.
    Tac(Vec<Tac>),
}

/// What a condition is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum About {
    /// What the device is: labels, equipment.
    Posture,
    /// Where it is, and how it is connected.
    Place,
}

/// A condition that is false, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmet {
    /// What it is about.
    pub about: About,
    /// The attribute.
    pub key: AttributeKey,
    /// What it must be, in words.
    pub must: String,
    /// What it is.
    pub found: Found,
}

/// What was found instead of what a condition demands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nobody said anything.
    Nothing,
    /// Something else.
    Other {
        /// The value, for people.
        value: String,
        /// Who said so.
        source: Source,
        /// How long ago.
        age: Option<Duration>,
    },
    /// It was said too long ago.
    Old {
        /// The value, for people.
        value: String,
        /// Who said so.
        source: Source,
        /// How long ago.
        age: Duration,
        /// How old it may be.
        max_age: Duration,
    },
}

/// The value of an attribute and what is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen<'a> {
    /// The value.
    pub value: &'a str,
    /// Who said so.
    pub source: Source,
    /// How long ago; `None` does not age.
    pub age: Option<Duration>,
    /// As [`super::Attribute::said_ms`].
    pub said_ms: Option<i64>,
}

/// What is known of a device: now, or when all of it that ages has become too old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Knowledge {
    /// As it is.
    Fresh,
    /// Without what ages.
    Aged,
}

/// How long the agent has to close what is too old, before the kernel does it.
const GRACE: Duration = Duration::from_secs(5);

impl Conditions {
    /// From what was read.
    pub(crate) fn new(conditions: Vec<Condition>) -> Self {
        Self(conditions)
    }

    /// True if a rule demands nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every condition, as written.
    pub fn iter(&self) -> impl Iterator<Item = &Condition> {
        self.0.iter()
    }

    /// Every condition that is false of a device.
    pub fn unmet(&self, device: &Device) -> Vec<Unmet> {
        self.0.iter().filter_map(|condition| condition.unmet(device)).collect()
    }

    /// What closes the rule to a device; nothing if all of it holds. Of several the posture is named.
    pub(crate) fn closed_by(&self, device: &Device, knowledge: Knowledge) -> Option<About> {
        let holds = |condition: &Condition| {
            condition.holds(device) && (knowledge == Knowledge::Fresh || !condition.ages(device))
        };
        self.0.iter().filter(|condition| !holds(condition)).map(Condition::about).min()
    }

    /// True if something bears no age beyond a bound.
    pub fn bound_ages(&self) -> bool {
        self.0.iter().any(|condition| condition.max_age.is_some())
    }

    /// Boot time in nanoseconds at which the kernel takes something for too old that holds of a device.
    pub(crate) fn aged_at(&self, device: &Device) -> Option<u64> {
        self.0.iter().filter_map(|condition| condition.aged_at(device)).min()
    }

    /// How long until something that holds of a device is too old to.
    pub fn ages_in(&self, device: &Device) -> Option<Duration> {
        self.0.iter().filter_map(|condition| condition.ages_in(device)).min()
    }
}

impl Condition {
    /// What it is about.
    pub fn about(&self) -> About {
        match self.key {
            AttributeKey::Label(_) | AttributeKey::Imei => About::Posture,
            AttributeKey::Plmn | AttributeKey::TrackingArea | AttributeKey::Cell | AttributeKey::Rat => {
                About::Place
            }
        }
    }

    /// True of a device.
    pub fn holds(&self, device: &Device) -> bool {
        device.attribute(&self.key).is_some_and(|seen| !self.is_old(seen) && self.demand.accepts(seen.value))
    }

    fn is_old(&self, seen: Seen<'_>) -> bool {
        self.max_age.zip(seen.age).is_some_and(|(max, age)| age > max)
    }

    fn ages_in(&self, device: &Device) -> Option<Duration> {
        let seen = device.attribute(&self.key)?;
        let (max, age) = (self.max_age?, seen.age?);
        // One that is exactly as old as it may be still holds.
        max.checked_sub(age)
            .map(|left| left + Duration::from_millis(1))
            .filter(|_| self.demand.accepts(seen.value))
    }

    /// True if it gets too old some time.
    fn ages(&self, device: &Device) -> bool {
        self.max_age.is_some() && device.attribute(&self.key).is_some_and(|seen| seen.age.is_some())
    }

    fn aged_at(&self, device: &Device) -> Option<u64> {
        let said = device.attribute(&self.key).filter(|_| self.holds(device))?.said_ms?;
        let bears = i64::try_from((self.max_age? + GRACE).as_millis()).ok()?;
        let at = u64::try_from(said.checked_add(bears)?).unwrap_or_default();
        Some(at.saturating_mul(1_000_000).max(1))
    }

    fn unmet(&self, device: &Device) -> Option<Unmet> {
        if self.holds(device) {
            return None;
        }
        let found = match (device.attribute(&self.key), self.max_age) {
            (None, _) => Found::Nothing,
            (Some(Seen { value, source, age: Some(age), .. }), Some(max_age)) if age > max_age => {
                Found::Old { value: self.key.shown(value), source, age, max_age }
            }
            (Some(Seen { value, source, age, .. }), _) => {
                Found::Other { value: self.demand.told(&self.key, value), source, age }
            }
        };
        Some(Unmet { about: self.about(), key: self.key.clone(), must: self.demand.to_string(), found })
    }
}

impl Demand {
    /// True of a value in its normal form.
    pub fn accepts(&self, value: &str) -> bool {
        let plmn = || Plmn::parse(value).ok();
        match self {
            Self::In(texts) => texts.iter().any(|text| text == value),
            Self::AtLeast(bound) => Version::parse(value).is_some_and(|version| version >= *bound),
            Self::Below(bound) => Version::parse(value).is_some_and(|version| version.is_below(bound)),
            Self::Plmn(plmns) => plmn().is_some_and(|plmn| plmns.contains(&plmn)),
            Self::Country(countries) => {
                plmn().and_then(|plmn| plmn.country()).is_some_and(|country| countries.contains(&country))
            }
            Self::TrackingArea(areas) => TrackingArea::parse(value).is_ok_and(|area| areas.contains(&area)),
            Self::Cell(cells) => Cell::parse(value).is_ok_and(|cell| cells.contains(&cell)),
            Self::Rat(rats) => Rat::parse(value).is_ok_and(|rat| rats.contains(&rat)),
            Self::Imei(imeis) => Imei::parse(value).is_ok_and(|imei| imeis.contains(&imei)),
            Self::Tac(tacs) => Imei::parse(value).is_ok_and(|imei| tacs.contains(&imei.tac())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::attribute::Attribute;
    use crate::policy::{SourceFile, parse};

    fn device(labels: &str) -> Device {
        let text = format!(
            "apiVersion: bulkhead/v1\nkind: Network\nmetadata: {{name: acme}}\nspec: {{seenOn: [{{interface: a}}], pools: \
             [10.0.0.0/8]}}\n---\nkind: Device\nmetadata: {{name: d, labels: {{{labels}}}}}\nspec: {{network: acme, \
             addresses: [10.0.0.1], imei: \"350000000000017\"}}\n"
        );
        let policy = parse(vec![SourceFile::new("a.yaml", text)], None)
            .unwrap_or_else(|found| panic!("{found}"))
            .policy;
        Device::clone(&policy.devices()["d"])
    }

    fn observed(mut device: Device, assigned: &str, age: Option<u64>) -> Device {
        let (key, value) = AttributeKey::assigned(assigned).unwrap();
        let age = age.map(Duration::from_secs);
        device.observed.insert(key, Attribute { value, source: Source::Cli, age, said_ms: None });
        device
    }

    fn condition(key: &str, demand: Demand, max_age: Option<u64>) -> Condition {
        let source = std::sync::Arc::new(SourceFile::new("a.yaml", ""));
        let at = Location::new(&source, crate::policy::location::Span::default());
        Condition {
            at,
            key: AttributeKey::new(key).unwrap(),
            demand,
            max_age: max_age.map(Duration::from_secs),
        }
    }

    fn at_least(version: &str, max_age: Option<u64>) -> Condition {
        condition("firmware", Demand::AtLeast(Version::parse(version).unwrap()), max_age)
    }

    fn told(condition: &Condition, device: &Device) -> String {
        condition.unmet(device).map(|unmet| unmet.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_label_of_the_document_counts_until_something_is_observed() {
        let plain = device("firmware: \"2.4.1\"");
        let condition = at_least("2.4", Some(60));
        assert!(condition.holds(&plain), "what the document says does not age");
        let other = observed(plain, "firmware=2.3", Some(7200));
        assert_eq!(
            told(&at_least("2.4", None), &other),
            "firmware must be at least 2.4 and is 2.3 (cli, 2h ago)"
        );
        assert!(!at_least("2.4", None).holds(&other));
    }

    #[test]
    fn what_is_missing_old_or_no_version_is_false() {
        let plain = device("");
        assert_eq!(told(&at_least("2.4", None), &plain), "firmware must be at least 2.4 and is not known");
        let odd = observed(plain.clone(), "firmware=R12", None);
        assert_eq!(
            told(&at_least("2.4", None), &odd),
            "firmware must be at least 2.4 and is R12, which is no version (cli)"
        );
        let fresh = observed(plain.clone(), "firmware=2.5", Some(60));
        assert!(at_least("2.4", Some(60)).holds(&fresh));
        assert_eq!(at_least("2.4", Some(60)).ages_in(&fresh), Some(Duration::from_millis(1)));
        let old = observed(plain, "firmware=2.5", Some(61));
        assert_eq!(
            told(&at_least("2.4", Some(60)), &old),
            "firmware must be at least 2.4 and was 2.5 (cli, 1m1s ago), which is older than 1m"
        );
        assert_eq!(at_least("2.4", Some(60)).ages_in(&old), None);
    }

    #[test]
    fn the_network_follows_from_the_cell_and_the_country_from_the_network() {
        let norway = condition("plmn", Demand::Country(vec![Country::parse("NO").unwrap()]), None);
        let plain = device("");
        for assigned in ["plmn=24201", "trackingArea=24201-1a2b", "cell=24201-0a1b2c3"] {
            assert!(norway.holds(&observed(plain.clone(), assigned, None)), "{assigned}");
        }
        let sweden = observed(observed(plain, "cell=24201-0a1b2c3", None), "plmn=24001", Some(5));
        assert_eq!(told(&norway, &sweden), "plmn must be in NO and is 24001 in SE (cli, 5s ago)");
    }

    #[test]
    fn equipment_is_that_of_the_document_until_another_is_seen() {
        let tac = condition("imei", Demand::Tac(vec![Tac::parse("35000000").unwrap()]), None);
        let plain = device("");
        assert!(tac.holds(&plain));
        let swapped = observed(plain, "imei=351111110000019", None);
        assert_eq!(told(&tac, &swapped), "imei must be of type 35000000 and is 35111111… (cli)");
    }

    #[test]
    fn posture_is_named_before_place() {
        let both =
            Conditions::new(vec![condition("rat", Demand::Rat(vec![Rat::Nr]), None), at_least("2", None)]);
        let plain = device("");
        assert_eq!(both.closed_by(&plain, Knowledge::Fresh), Some(About::Posture));
        let labelled = observed(plain, "firmware=2", None);
        assert_eq!(both.closed_by(&labelled, Knowledge::Fresh), Some(About::Place));
        assert_eq!(both.closed_by(&observed(labelled, "rat=nr", None), Knowledge::Fresh), None);
    }
}
