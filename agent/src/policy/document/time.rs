//! When a rule holds: `schedule`, `notBefore` and `notAfter`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;

use super::{optional, when};
use crate::policy::condition::Conditions;
use crate::policy::name::nearest;
use crate::policy::node::Node;
use crate::policy::reader::{Fields, Reader};
use crate::policy::schedule::{Hours, Schedule, WEEK, When};

/// How a moment is written.
const MOMENT: &str = "write it as \"2026-12-01T08:00:00+01:00\"";
/// How hours are written.
const HOURS: &str = "write them as \"06:00-22:00\"; \"24:00\" is the end of a day";

/// Reads what a rule's fields say about time, and its conditions.
pub(super) fn read(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> Option<(Conditions, When)> {
    let when = fields.optional(reader, "when").map(|node| when::read(reader, node));
    let not_before = fields.optional(reader, "notBefore").map(|node| moment(reader, node, "`notBefore`"));
    let not_after = fields.optional(reader, "notAfter").map(|node| moment(reader, node, "`notAfter`"));
    let edge = fields.key_span("notAfter").unwrap_or(fields.span());
    let (conditions, schedule) = optional(when)?.unwrap_or_default();
    let when = When { schedule, not_before: optional(not_before)?, not_after: optional(not_after)? };
    if when.is_never() {
        let problem = format!("the rule can never open: {when}");
        return reader.refuse(edge, problem, "let `notAfter` come after hours that lie behind `notBefore`");
    }
    Some((conditions, when))
}

/// A moment, with the offset from UTC that it is meant in.
pub(super) fn moment(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Timestamp> {
    let text = reader.text(node, what)?;
    match text.parse::<Timestamp>() {
        Ok(moment) => Some(moment),
        Err(_) => reader.refuse(node.span, format!("{what} {text:?} is not a moment"), MOMENT),
    }
}

/// Hours of some days.
pub(super) fn schedule(reader: &mut Reader<'_>, node: &Node) -> Option<Schedule> {
    let mut fields = reader.fields(node, "`schedule`")?;
    let days = fields.optional(reader, "days").map(|node| days(reader, node));
    let between = fields.optional(reader, "between").map(|node| hours(reader, node));
    let zone = fields.required(reader, "timezone").and_then(|node| zone(reader, node));
    let except = fields
        .optional(reader, "except")
        .map(|node| reader.some(node, "`except`", date))
        .map(|dates| dates.map(BTreeSet::from_iter));
    let span = fields.span();
    let nothing = !["days", "between"].into_iter().any(|key| fields.has(key));
    fields.finish(reader);
    if nothing {
        let help = "add `days`, `between`, or both";
        return reader.refuse(span, "the schedule names neither days nor hours", help);
    }
    Some(Schedule {
        days: optional(days)?.unwrap_or_else(|| WEEK.map(|(_, day)| day).to_vec()),
        between: optional(between)?,
        zone: zone?,
        except: optional(except)?.unwrap_or_default(),
    })
}

/// Days and runs of days, in the order of the week.
fn days(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<Weekday>> {
    let runs = reader.some(node, "`days`", |reader, node| {
        let text = reader.text(node, "a day")?;
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Some((day(reader, node, first)?, day(reader, node, last)?))
    })?;
    let mut found = [false; WEEK.len()];
    for (first, last) in runs {
        let mut at = first;
        found[at] = true;
        while at != last {
            at = (at + 1) % WEEK.len();
            found[at] = true;
        }
    }
    Some(WEEK.iter().zip(found).filter(|(_, found)| *found).map(|((_, day), _)| *day).collect())
}

fn day(reader: &mut Reader<'_>, node: &Node, text: &str) -> Option<usize> {
    let known: Vec<&str> = WEEK.iter().map(|(name, _)| *name).collect();
    let found = known.iter().position(|name| *name == text);
    if found.is_none() {
        let help = reader.suggestion(text, &known);
        return reader.refuse(node.span, format!("unknown day `{text}`"), help);
    }
    found
}

fn hours(reader: &mut Reader<'_>, node: &Node) -> Option<Hours> {
    let text = reader.text(node, "`between`")?;
    let edges = text.split_once('-').and_then(|(from, to)| Some((clock(from)?, clock(to)?)));
    let Some((Some(from), to)) = edges else {
        return reader.refuse(node.span, format!("`between` {text:?} is not a pair of times"), HOURS);
    };
    if to == Some(from) {
        let problem = format!("`between` {text:?} can never open: it ends where it begins");
        return reader.refuse(node.span, problem, "leave `between` out to mean the whole day");
    }
    Some(Hours { from, to: to.filter(|to| *to != Time::midnight()) })
}

/// `HH:MM`; nothing inside for the end of the day.
fn clock(text: &str) -> Option<Option<Time>> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<i8>().ok()).flatten()
    };
    match (number(hour)?, number(minute)?) {
        (24, 0) => Some(None),
        (hour, minute) => Time::new(hour, minute, 0, 0).ok().map(Some),
    }
}

fn zone(reader: &mut Reader<'_>, node: &Node) -> Option<TimeZone> {
    let text = reader.text(node, "`timezone`")?;
    if let Ok(zone) = TimeZone::get(text) {
        return Some(zone);
    }
    let known: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
    let help = match nearest(text, known.iter().map(String::as_str)) {
        Some(near) => format!("nearest is {near:?}"),
        None => "write a name of the IANA time zone database, like \"Europe/Oslo\"".to_owned(),
    };
    reader.refuse(node.span, format!("unknown time zone {text:?}"), help)
}

fn date(reader: &mut Reader<'_>, node: &Node) -> Option<Date> {
    let text = reader.text(node, "a date")?;
    match text.parse::<Date>() {
        Ok(date) if text.len() == "2026-12-24".len() => Some(date),
        Ok(_) | Err(_) => {
            reader.refuse(node.span, format!("{text:?} is not a date"), "write it as \"2026-12-24\"")
        }
    }
}
