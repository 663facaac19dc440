//! Which records a reader wants: query parameters of the API, flags of `flows` and `drops`.

use std::fmt;
use std::str::FromStr;

use bulkhead_common::verdict::{Direction, DropReason, Pass};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::compose::OBSERVED;
use super::label::Label;
use super::record::{EventKind, Outcome, Record};

/// What a record must be; a field that is absent lets everything through. Gaps always pass.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "Query", into = "Query")]
pub struct Filter {
    /// The device, at either end.
    pub device: Option<Label>,
    /// The device's segment.
    pub segment: Option<Label>,
    /// The network.
    pub network: Option<Label>,
    /// The reason's label.
    pub reason: Option<Label>,
    /// `policy/rule`, or a policy for all its rules.
    pub rule: Option<Label>,
    /// `up`, `down` or `transit`.
    pub direction: Option<Label>,
    /// What became of it.
    pub verdict: Option<Outcome>,
    /// Nothing older.
    pub since: Option<Since>,
}

/// A moment, or how long ago it was.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Since {
    /// At that time.
    At(Timestamp),
    /// So long before the question.
    Ago(SignedDuration),
}

/// A query parameter that cannot be meant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NotAFilter(String);

impl Filter {
    /// The same filter, with its moment fixed.
    pub fn asked_at(self, now: Timestamp) -> Self {
        let since = self.since.map(|since| Since::At(since.moment(now)));
        Self { since, ..self }
    }

    /// True if a reader wants the record.
    pub fn matches(&self, record: &Record) -> bool {
        self.matches_at(record, record.time)
    }

    /// As [`Self::matches`], for a record whose last repeat was at `last`.
    pub fn matches_at(&self, record: &Record, last: Timestamp) -> bool {
        record.event == EventKind::Gap
            || (self.matches_names(record)
                && is(&self.reason, &record.reason)
                && is(&self.direction, &record.direction)
                && self.verdict.is_none_or(|verdict| record.verdict == Some(verdict))
                && self.is_recent(last))
    }

    fn matches_names(&self, record: &Record) -> bool {
        (is(&self.device, &record.device) || is(&self.device, &record.peer))
            && is(&self.segment, &record.segment)
            && is(&self.network, &record.network)
            && self.matches_rule(record.rule.as_ref())
    }

    fn matches_rule(&self, rule: Option<&Label>) -> bool {
        let Some(wanted) = &self.rule else { return true };
        rule.is_some_and(|rule| {
            rule == wanted || rule.split_once('/').is_some_and(|(policy, _)| policy == wanted.as_str())
        })
    }

    fn is_recent(&self, time: Timestamp) -> bool {
        match self.since {
            None => true,
            Some(Since::At(moment)) => time >= moment,
            // Whoever asks fixes the moment first; an open duration must not hide records.
            Some(Since::Ago(_)) => true,
        }
    }
}

fn is(wanted: &Option<Label>, found: &Option<Label>) -> bool {
    wanted.is_none() || wanted == found
}

impl Since {
    /// The moment itself, for a question asked at `now`.
    pub fn moment(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(moment) => moment,
            Self::Ago(duration) => now.checked_sub(duration).unwrap_or(Timestamp::MIN),
        }
    }
}

impl FromStr for Since {
    type Err = NotAFilter;

    fn from_str(text: &str) -> Result<Self, NotAFilter> {
        let duration = || text.parse().ok().filter(|duration: &SignedDuration| !duration.is_negative());
        let moment = text.parse().ok().map(Self::At);
        moment.or_else(|| duration().map(Self::Ago)).ok_or_else(|| {
            NotAFilter(format!(
                "since: {text:?} is neither a duration like 10m nor a time like 2026-12-01T10:00:00Z"
            ))
        })
    }
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(moment) => moment.fmt(f),
            Self::Ago(duration) => duration.fmt(f),
        }
    }
}

impl fmt::Display for NotAFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotAFilter {}

/// A filter as it travels: texts, nothing of which is trusted.
#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
struct Query {
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    segment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    direction: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
}

impl TryFrom<Query> for Filter {
    type Error = NotAFilter;

    fn try_from(query: Query) -> Result<Self, NotAFilter> {
        let passes = || Pass::ALL.iter().map(|pass| pass.as_str()).chain([OBSERVED]);
        let reasons = || DropReason::ALL.iter().map(|reason| reason.as_str()).chain(passes());
        let directions = || Direction::ALL.iter().map(|direction| direction.as_str());
        Ok(Self {
            device: query.device.map(Label::from),
            segment: query.segment.map(Label::from),
            network: query.network.map(Label::from),
            reason: query.reason.map(|text| one_of("reason", &text, reasons())).transpose()?,
            rule: query.rule.map(Label::from),
            direction: query.direction.map(|text| one_of("direction", &text, directions())).transpose()?,
            verdict: query.verdict,
            since: query.since.as_deref().map(str::parse).transpose()?,
        })
    }
}

/// A label that exists: a mistyped one would find nothing and look like good news.
fn one_of(what: &str, text: &str, known: impl Iterator<Item = &'static str>) -> Result<Label, NotAFilter> {
    let known: Vec<&str> = known.collect();
    if known.contains(&text) {
        return Ok(text.into());
    }
    Err(NotAFilter(format!("{what}: {text:?} is none of {}", known.join(", "))))
}

impl From<Filter> for Query {
    fn from(filter: Filter) -> Self {
        let text = |label: Option<Label>| label.map(|label| label.to_string());
        Self {
            device: text(filter.device),
            segment: text(filter.segment),
            network: text(filter.network),
            reason: text(filter.reason),
            rule: text(filter.rule),
            direction: text(filter.direction),
            verdict: filter.verdict,
            since: filter.since.map(|since| since.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::telemetry::fixtures::clock;
    use crate::telemetry::record::Gap;

    fn record() -> Record {
        Record {
            verdict: Some(Outcome::Drop),
            reason: Some("no_rule".into()),
            direction: Some("up".into()),
            network: Some("acme".into()),
            device: Some("charger-0017".into()),
            segment: Some("ev-chargers".into()),
            peer: Some("pump-0003".into()),
            rule: Some("ev/ocpp".into()),
            ..Record::new(clock().wall, EventKind::Drop)
        }
    }

    fn filter(query: serde_json::Value) -> Filter {
        serde_json::from_value(query).unwrap()
    }

    #[test]
    fn each_field_lets_through_what_it_names() {
        for (field, fits, other) in [
            ("device", "charger-0017", "charger-0018"),
            ("device", "pump-0003", "pump"),
            ("segment", "ev-chargers", "pumps"),
            ("network", "acme", "emca"),
            ("reason", "no_rule", "never"),
            ("rule", "ev/ocpp", "ev/ocp"),
            ("rule", "ev", "ocpp"),
            ("direction", "up", "down"),
            ("verdict", "drop", "pass"),
            ("since", "2026-12-01T03:12:04Z", "2026-12-01T03:12:05Z"),
        ] {
            assert!(filter(json!({field: fits})).matches(&record()), "{field} {fits}");
            assert!(!filter(json!({field: other})).matches(&record()), "{field} {other}");
            let bare = Record::new("2026-01-01T00:00:00Z".parse().unwrap(), EventKind::Drop);
            assert!(!filter(json!({field: fits})).matches(&bare), "{field} absent");
            let gap = Record::of_gap(bare.time, Gap::default());
            assert!(filter(json!({field: other})).matches(&gap), "{field} gap");
        }
    }

    #[test]
    fn all_fields_must_fit() {
        assert!(filter(json!({"device": "charger-0017", "reason": "no_rule"})).matches(&record()));
        assert!(!filter(json!({"device": "charger-0017", "reason": "never"})).matches(&record()));
        assert!(filter(json!({})).matches(&record()));
    }

    #[test]
    fn a_duration_counts_from_the_question() {
        let now = clock().wall;
        let asked = |text: &str| filter(json!({"since": text})).asked_at(now);
        let ago = |seconds| Record::new(now - SignedDuration::from_secs(seconds), EventKind::Drop);
        assert!(asked("10m").matches(&ago(600)));
        assert!(!asked("10m").matches(&ago(601)));
        assert!(asked("1h30m").matches(&ago(5400)));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (field, text, hint) in [
            ("reason", "no_rul", "none of malformed_ethernet"),
            ("direction", "uplink", "none of transit, up, down"),
            ("verdict", "deny", "pass"),
            ("since", "yesterday", "10m"),
            ("since", "-5m", "10m"),
        ] {
            let error = serde_json::from_value::<Filter>(json!({field: text})).unwrap_err().to_string();
            assert!(error.contains(hint), "{error}");
        }
    }

    #[test]
    fn a_filter_survives_its_query() {
        let full = filter(json!({
            "device": "a", "segment": "b", "network": "c", "reason": "opened", "rule": "d/e",
            "direction": "transit", "verdict": "pass", "since": "5m"
        }));
        for filter in [full.clone(), full.asked_at(clock().wall), Filter::default()] {
            let query = serde_json::to_value(&filter).unwrap();
            assert_eq!(serde_json::from_value::<Filter>(query).unwrap(), filter);
        }
    }
}
