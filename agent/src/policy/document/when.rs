//! `when` of a rule: what must be true of the device, and at which hours.

use std::time::Duration;

use super::{optional, time};
use crate::policy::attribute::{AttributeKey, LABEL_RULE, is_label_key};
use crate::policy::condition::{
    Cell, Condition, Conditions, Country, Demand, Imei, Plmn, Rat, Tac, TrackingArea, Version, contradiction,
};
use crate::policy::location::Span;
use crate::policy::node::{Entry, Node};
use crate::policy::ports::seconds;
use crate::policy::reader::{Fields, Reader};
use crate::policy::schedule::Schedule;

/// What must be true of the device, and the hours at which it must be.
type When = (Conditions, Option<Schedule>);

pub(super) fn read(reader: &mut Reader<'_>, node: &Node) -> Option<When> {
    let mut fields = reader.fields(node, "`when`")?;
    let max_age = max_age(reader, &mut fields);
    let labels = fields.optional(reader, "labels").map(|node| labels(reader, node));
    let imei = fields.optional(reader, "imei").map(|node| imei(reader, node));
    let location = fields.optional(reader, "location").map(|node| location(reader, node));
    let rat = fields.optional(reader, "rat").map(|node| {
        let rats = listed(reader, node, "`rat`", "a radio access", Rat::parse);
        rats.map(|rats| vec![condition(reader, node.span, AttributeKey::Rat, Demand::Rat(rats))])
    });
    let schedule = fields.optional(reader, "schedule").map(|node| time::schedule(reader, node));
    let (span, bare) = (fields.span(), fields.len() == usize::from(fields.has("maxAge")));
    fields.finish(reader);
    let parts = [labels, imei, location, rat];
    if bare {
        return reader.refuse(
            span,
            "`when` demands nothing",
            "name labels, imei, location, rat or a schedule, or remove it",
        );
    }
    let parts: Option<Vec<Vec<Condition>>> = parts.into_iter().flatten().collect();
    let (max_age, mut conditions) = (max_age?, parts?.concat());
    for condition in &mut conditions {
        condition.max_age = condition.max_age.or(max_age);
    }
    match contradiction(&conditions) {
        Some((at, why)) => {
            reader.refuse(at.at.span(), why, "no device would ever meet it: change one of the two")
        }
        None => Some((Conditions::new(conditions), optional(schedule)?)),
    }
}

fn condition(reader: &Reader<'_>, span: Span, key: AttributeKey, demand: Demand) -> Condition {
    Condition { at: reader.at(span), key, demand, max_age: None }
}

/// The age that conditions bear, if one is written.
fn max_age(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> Option<Option<Duration>> {
    match fields.optional(reader, "maxAge") {
        Some(node) => reader.age(node, "`maxAge`").map(Some),
        None => Some(None),
    }
}

fn aged(conditions: Vec<Condition>, max_age: Option<Duration>) -> Vec<Condition> {
    conditions.into_iter().map(|condition| Condition { max_age, ..condition }).collect()
}

fn labels(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<Condition>> {
    let entries = reader.entries(node, "`labels`")?;
    if entries.is_empty() {
        return reader.refuse(node.span, "`labels` is empty", "name at least one label");
    }
    let read: Vec<Option<Vec<Condition>>> = entries.iter().map(|entry| label(reader, entry)).collect();
    read.into_iter().collect::<Option<Vec<_>>>().map(|conditions| conditions.concat())
}

fn label(reader: &mut Reader<'_>, entry: &Entry) -> Option<Vec<Condition>> {
    let key = label_key(reader, entry);
    let mut fields = reader.fields(&entry.node, "the label's condition")?;
    let max_age = max_age(reader, &mut fields);
    let mut demands = Vec::new();
    let is = fields.optional(reader, "is").map(|node| {
        let text = reader.label_value(node)?.to_owned();
        Some((node.span, Demand::In(vec![text])))
    });
    demands.extend(is);
    let among = fields.optional(reader, "in").map(|node| {
        let texts = reader.some(node, "`in`", |reader, node| reader.label_value(node).map(str::to_owned))?;
        Some((node.span, Demand::In(texts)))
    });
    demands.extend(among);
    for (bound, demand) in [("atLeast", Demand::AtLeast as fn(Version) -> Demand), ("below", Demand::Below)] {
        let read = fields.optional(reader, bound);
        demands.extend(read.map(|node| Some((node.span, demand(version(reader, node)?)))));
    }
    let span = fields.span();
    fields.finish(reader);
    if demands.is_empty() {
        return reader.refuse(span, "the label's condition is empty", "use is, in, atLeast or below");
    }
    let demands: Vec<(Span, Demand)> = demands.into_iter().collect::<Option<_>>()?;
    let key = key?;
    let conditions = demands.into_iter().map(|(span, demand)| condition(reader, span, key.clone(), demand));
    Some(aged(conditions.collect(), max_age?))
}

/// A label; what is no label has a place of its own.
fn label_key(reader: &mut Reader<'_>, entry: &Entry) -> Option<AttributeKey> {
    match AttributeKey::new(&entry.key) {
        Ok(key @ AttributeKey::Label(_)) => Some(key),
        Ok(AttributeKey::Imei | AttributeKey::Rat) => {
            let problem = format!("`{}` is no label", &*entry.key);
            reader.refuse(entry.key_span, problem, "write it beside `labels`")
        }
        Ok(AttributeKey::Plmn | AttributeKey::TrackingArea | AttributeKey::Cell) => {
            let problem = format!("`{}` is no label", &*entry.key);
            reader.refuse(entry.key_span, problem, "write it in `location`")
        }
        // A label of the Device document may have any name that labels have.
        Err(_) if is_label_key(&entry.key) => Some(AttributeKey::Label(entry.key.to_string())),
        Err(_) => {
            let problem = format!("{:?} is not a valid label name", &*entry.key);
            reader.refuse(entry.key_span, problem, LABEL_RULE)
        }
    }
}

fn version(reader: &mut Reader<'_>, node: &Node) -> Option<Version> {
    let text = reader.text(node, "a version")?;
    Version::parse(text).or_else(|| {
        let help =
            "write numbers divided by dots, like \"2.4.1\"; what comes before a release is \"3.0-rc1\"";
        reader.refuse(node.span, format!("{text:?} is no version"), help)
    })
}

fn imei(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<Condition>> {
    let mut fields = reader.fields(node, "`imei`")?;
    let max_age = max_age(reader, &mut fields);
    let is = fields.optional(reader, "in").map(|node| {
        let imeis = listed(reader, node, "`in`", "an IMEI", Imei::parse)?;
        Some(condition(reader, node.span, AttributeKey::Imei, Demand::Imei(imeis)))
    });
    let tac = fields.optional(reader, "tac").map(|node| {
        let tacs = listed(reader, node, "`tac`", "a TAC", Tac::parse)?;
        Some(condition(reader, node.span, AttributeKey::Imei, Demand::Tac(tacs)))
    });
    finish(reader, fields, [is, tac].into_iter().flatten().collect(), "name in or tac")
        .and_then(|conditions| Some(aged(conditions, max_age?)))
}

fn location(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<Condition>> {
    let mut fields = reader.fields(node, "`location`")?;
    let max_age = max_age(reader, &mut fields);
    let plmn = fields.optional(reader, "plmn").map(|node| {
        let plmns = listed(reader, node, "`plmn`", "a PLMN", Plmn::parse)?;
        Some(condition(reader, node.span, AttributeKey::Plmn, Demand::Plmn(plmns)))
    });
    let country = fields.optional(reader, "country").map(|node| {
        let countries = listed(reader, node, "`country`", "a country", Country::parse)?;
        Some(condition(reader, node.span, AttributeKey::Plmn, Demand::Country(countries)))
    });
    let area = fields.optional(reader, "trackingArea").map(|node| {
        let areas = listed(reader, node, "`trackingArea`", "a tracking area", TrackingArea::parse)?;
        Some(condition(reader, node.span, AttributeKey::TrackingArea, Demand::TrackingArea(areas)))
    });
    let cell = fields.optional(reader, "cell").map(|node| {
        let cells = listed(reader, node, "`cell`", "a cell", Cell::parse)?;
        Some(condition(reader, node.span, AttributeKey::Cell, Demand::Cell(cells)))
    });
    let read = [plmn, country, area, cell].into_iter().flatten().collect();
    finish(reader, fields, read, "name plmn, country, trackingArea or cell")
        .and_then(|conditions| Some(aged(conditions, max_age?)))
}

/// Ends a mapping of conditions, which must have at least one.
fn finish(
    reader: &mut Reader<'_>,
    fields: Fields<'_>,
    read: Vec<Option<Condition>>,
    help: &str,
) -> Option<Vec<Condition>> {
    let (what, span) = (fields.what(), fields.span());
    fields.finish(reader);
    match read.is_empty() {
        true => reader.refuse(span, format!("{what} demands nothing"), help),
        false => read.into_iter().collect(),
    }
}

/// A list of texts that each say one thing.
fn listed<T>(
    reader: &mut Reader<'_>,
    node: &Node,
    list: &str,
    what: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Option<Vec<T>> {
    let count = reader.list(node, list)?.len();
    let read = reader.some(node, list, |reader, node| {
        let text = reader.text(node, what)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(why) => reader.refuse_parted(node.span, &why),
        }
    })?;
    // One that could not be read must not leave a narrower list behind, which might contradict another.
    (read.len() == count).then_some(read)
}

impl Reader<'_> {
    /// `7d`, `1d12h`, `30m`: a second to a year.
    pub(super) fn age(&mut self, node: &Node, what: &str) -> Option<Duration> {
        let text = self.word(node, what)?;
        let (days, rest) = match text.split_once('d') {
            Some((days, rest)) => (days.parse::<u64>().ok().filter(|_| !days.starts_with('+')), rest),
            None => (Some(0), text),
        };
        let rest = if rest.is_empty() && days.is_some_and(|days| days > 0) { Some(0) } else { seconds(rest) };
        let seconds = days.zip(rest).and_then(|(days, rest)| days.checked_mul(86_400)?.checked_add(rest));
        match seconds {
            Some(seconds) if (1..=366 * 86_400).contains(&seconds) => Some(Duration::from_secs(seconds)),
            Some(_) => self.refuse(node.span, format!("{what} {text} is out of range"), "use 1s to 366d"),
            None => self.refuse(
                node.span,
                format!("{what} {text:?} is not a duration"),
                "write it like 7d, 12h or 30m",
            ),
        }
    }
}
