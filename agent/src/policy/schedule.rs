//! When a rule holds: days, hours in a time zone, exceptions, a beginning and an end.
//!
//! Where the clocks skip or repeat an hour, the narrower reading holds: what begins in it begins
//! after, what ends in it ends before.

use std::collections::BTreeSet;
use std::fmt;

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};

/// A stretch of time: it begins with the first and ends before the second.
pub(super) type Stretch = (Timestamp, Timestamp);

/// What a rule's `when`, `notBefore` and `notAfter` say; all that is there must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct When {
    /// Every week.
    pub schedule: Option<Schedule>,
    /// Not before this moment.
    pub not_before: Option<Timestamp>,
    /// Not from this moment on.
    pub not_after: Option<Timestamp>,
}

/// What a rule does at a moment, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// It is open until then; for ever if there is no end.
    Open(Option<Timestamp>),
    /// It is closed and opens then; never again if that is nowhere to be found.
    Closed(Option<Timestamp>),
}

/// Hours of some days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// The days on which its hours begin.
    pub days: Vec<Weekday>,
    /// Its hours; the whole day if there are none.
    pub between: Option<Hours>,
    /// Where its days and hours are counted.
    pub zone: TimeZone,
    /// Days on which its hours do not begin.
    pub except: BTreeSet<Date>,
}

/// From one time of day to another; past midnight if the second is not later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    /// The first moment.
    pub from: Time,
    /// The first moment that is not in it any more; `None` is the end of the day.
    pub to: Option<Time>,
}

impl When {
    /// True if it says nothing.
    pub fn is_always(&self) -> bool {
        *self == Self::default()
    }

    /// True at this moment.
    pub fn holds(&self, at: Timestamp) -> bool {
        matches!(self.hold(at), Hold::Open(_))
    }

    /// What it does at this moment, and until when.
    pub fn hold(&self, at: Timestamp) -> Hold {
        let from = self.not_before.map_or(at, |first| first.max(at));
        let stretches = self.stretches((from, later(from, LOOK_AHEAD)));
        match stretches.first() {
            Some((first, last)) if *first <= at => Hold::Open((*last < Timestamp::MAX).then_some(*last)),
            Some((first, _)) => Hold::Closed(Some(*first)),
            None => Hold::Closed(None),
        }
    }

    /// True if there is no moment at which it is open.
    pub fn is_never(&self) -> bool {
        let (Some(first), Some(last)) = (self.not_before, self.not_after) else { return false };
        let within = (first, last.min(later(first, LOOK_AHEAD)));
        // Further on every day of the week has come round, many times.
        self.stretches(within).is_empty()
    }

    /// When it holds, as far as it touches `within`: sorted, disjoint, not cut at the edges of `within`
    /// where hours reach beyond them.
    pub fn stretches(&self, within: Stretch) -> Vec<Stretch> {
        let hours = match &self.schedule {
            Some(schedule) => schedule.stretches(within),
            None => vec![(Timestamp::MIN, Timestamp::MAX)],
        };
        let first = self.not_before.unwrap_or(Timestamp::MIN);
        let last = self.not_after.unwrap_or(Timestamp::MAX);
        let cut = hours.into_iter().map(|(from, to)| (from.max(first), to.min(last)));
        cut.filter(|(from, to)| from < to && *to > within.0 && *from < within.1).collect()
    }
}

/// How far ahead the next change is looked for: more than a year, so that every exception is behind.
const LOOK_AHEAD: SignedDuration = SignedDuration::from_hours(400 * 24);

fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let schedule = self.schedule.as_ref().map(ToString::to_string);
        let first = self.not_before.map(|at| format!("from {at}"));
        let last = self.not_after.map(|at| format!("until {at}"));
        let parts: Vec<String> = [schedule, first, last].into_iter().flatten().collect();
        f.write_str(&if parts.is_empty() { "always".to_owned() } else { parts.join(", ") })
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days.len() < WEEK.len() {
            write!(f, "{} ", runs(&self.days))?;
        }
        if let Some(hours) = self.between {
            write!(f, "{hours} ")?;
        }
        f.write_str(self.zone.iana_name().unwrap_or("UTC"))?;
        match self.except.len() {
            0 => Ok(()),
            1 => f.write_str(" but for 1 day"),
            days => write!(f, " but for {days} days"),
        }
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = self.to.map_or_else(|| "24:00".to_owned(), |to| to.strftime("%H:%M").to_string());
        write!(f, "{}-{to}", self.from.strftime("%H:%M"))
    }
}

/// The days of a week, as policies name them.
pub(super) const WEEK: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

/// `mon-fri,sun`.
fn runs(days: &[Weekday]) -> String {
    let mut runs: Vec<(&str, &str)> = Vec::new();
    let mut before = None;
    for (name, _) in WEEK.iter().filter(|(_, day)| days.contains(day)) {
        let at = WEEK.iter().position(|(known, _)| known == name);
        match runs.last_mut().filter(|_| before.is_some() && before == at) {
            Some(run) => run.1 = name,
            None => runs.push((name, name)),
        }
        before = at.map(|at| at + 1);
    }
    let run = |(first, last): (&str, &str)| {
        if first == last { first.to_owned() } else { format!("{first}-{last}") }
    };
    runs.into_iter().map(run).collect::<Vec<_>>().join(",")
}

impl Schedule {
    fn stretches(&self, within: Stretch) -> Vec<Stretch> {
        let day = |at: Timestamp| at.to_zoned(self.zone.clone()).date();
        // Hours of the day before may reach into the first.
        let mut date = day(within.0).checked_sub(Span::new().days(2)).unwrap_or(Date::MIN);
        let last = day(within.1);
        let mut found: Vec<Stretch> = Vec::new();
        while date <= last {
            if let Some((from, to)) = self.hours_of(date) {
                match found.last_mut() {
                    Some(before) if before.1 >= from => before.1 = before.1.max(to),
                    Some(_) | None => found.push((from, to)),
                }
            }
            match date.tomorrow() {
                Ok(next) => date = next,
                Err(_) => break,
            }
        }
        found
    }

    /// The hours that begin on a day.
    fn hours_of(&self, date: Date) -> Option<Stretch> {
        if !self.days.contains(&date.weekday()) || self.except.contains(&date) {
            return None;
        }
        let hours = self.between.unwrap_or(Hours { from: Time::midnight(), to: None });
        let next = date.tomorrow().ok()?;
        let (end, to) = match hours.to {
            None => (next, Time::midnight()),
            Some(to) if to <= hours.from => (next, to),
            Some(to) => (date, to),
        };
        let from = self.zone.to_ambiguous_zoned(date.to_datetime(hours.from)).later().ok()?;
        let to = self.zone.to_ambiguous_zoned(end.to_datetime(to)).earlier().ok()?;
        let (from, to) = (from.timestamp(), to.timestamp());
        (from < to).then_some((from, to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKDAYS: [Weekday; 5] =
        [Weekday::Monday, Weekday::Tuesday, Weekday::Wednesday, Weekday::Thursday, Weekday::Friday];
    const ALL: [Weekday; 7] = [
        Weekday::Monday,
        Weekday::Tuesday,
        Weekday::Wednesday,
        Weekday::Thursday,
        Weekday::Friday,
        Weekday::Saturday,
        Weekday::Sunday,
    ];

    fn when(days: &[Weekday], from: &str, to: &str) -> When {
        let to = (to != "24:00").then(|| to.parse().unwrap());
        let between = Some(Hours { from: from.parse().unwrap(), to });
        let zone = TimeZone::get("Europe/Oslo").unwrap();
        let schedule = Schedule { days: days.to_vec(), between, zone, except: BTreeSet::new() };
        When { schedule: Some(schedule), ..When::default() }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn stretches(when: &When, from: &str, to: &str) -> Vec<(String, String)> {
        let found = when.stretches((at(from), at(to)));
        found.into_iter().map(|(from, to)| (from.to_string(), to.to_string())).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect()
    }

    #[test]
    fn hours_are_those_of_the_zone_summer_and_winter() {
        let when = when(&ALL, "06:00", "22:00");
        // The clocks go back in the night to 25 October 2026.
        assert_eq!(
            stretches(&when, "2026-10-24T00:00:00Z", "2026-10-25T23:00:00Z"),
            pairs(&[
                ("2026-10-24T04:00:00Z", "2026-10-24T20:00:00Z"),
                ("2026-10-25T05:00:00Z", "2026-10-25T21:00:00Z"),
            ])
        );
    }

    #[test]
    fn the_narrower_reading_holds_where_clocks_skip_or_repeat() {
        let night = when(&ALL, "22:00", "02:30");
        // 02:30 comes twice: 00:30Z and 01:30Z.
        assert!(night.holds(at("2026-10-25T00:29:59Z")) && !night.holds(at("2026-10-25T00:30:00Z")));
        let early = when(&ALL, "02:30", "05:00");
        assert!(!early.holds(at("2026-10-25T01:29:59Z")) && early.holds(at("2026-10-25T01:30:00Z")));
        // On 29 March 2026 there is no 02:30: 01:00Z is 03:00.
        assert!(!night.holds(at("2026-03-29T00:30:00Z")) && night.holds(at("2026-03-29T00:29:59Z")));
        assert!(!early.holds(at("2026-03-29T01:29:59Z")) && early.holds(at("2026-03-29T01:30:00Z")));
        // What lies wholly in the hour that is repeated has no reading that holds throughout.
        let inside = when(&ALL, "02:15", "02:45");
        assert!(stretches(&inside, "2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z").is_empty());
    }

    #[test]
    fn hours_past_midnight_belong_to_the_day_they_begin_on() {
        let when = when(&WORKDAYS, "22:00", "06:00");
        // Friday's night ends on Saturday, and Sunday's does not begin.
        assert_eq!(
            stretches(&when, "2026-11-27T12:00:00Z", "2026-11-30T12:00:00Z"),
            pairs(&[("2026-11-27T21:00:00Z", "2026-11-28T05:00:00Z")])
        );
    }

    #[test]
    fn whole_days_side_by_side_are_one_stretch() {
        let when = when(&WORKDAYS, "00:00", "24:00");
        assert_eq!(
            stretches(&when, "2026-11-24T12:00:00Z", "2026-11-24T13:00:00Z"),
            pairs(&[("2026-11-22T23:00:00Z", "2026-11-24T23:00:00Z")])
        );
        assert!(when.holds(at("2026-11-27T22:59:59Z")) && !when.holds(at("2026-11-27T23:00:00Z")));
    }

    #[test]
    fn exceptions_and_edges_cut() {
        let mut when = when(&ALL, "06:00", "22:00");
        if let Some(schedule) = &mut when.schedule {
            schedule.except.insert("2026-12-24".parse().unwrap());
        }
        when.not_before = Some(at("2026-12-23T12:00:00Z"));
        when.not_after = Some(at("2026-12-25T06:00:00Z"));
        assert_eq!(
            stretches(&when, "2026-12-20T00:00:00Z", "2026-12-30T00:00:00Z"),
            pairs(&[
                ("2026-12-23T12:00:00Z", "2026-12-23T21:00:00Z"),
                ("2026-12-25T05:00:00Z", "2026-12-25T06:00:00Z"),
            ])
        );
    }

    #[test]
    fn the_next_change_is_found() {
        let mut when = when(&WORKDAYS, "06:00", "22:00");
        // Friday evening in Oslo, then the weekend.
        assert_eq!(when.hold(at("2026-11-27T20:59:59Z")), Hold::Open(Some(at("2026-11-27T21:00:00Z"))));
        assert_eq!(when.hold(at("2026-11-27T21:00:00Z")), Hold::Closed(Some(at("2026-11-30T05:00:00Z"))));
        when.not_after = Some(at("2026-11-28T00:00:00Z"));
        assert_eq!(when.hold(at("2026-11-27T21:00:00Z")), Hold::Closed(None));
        when.not_after = None;
        when.not_before = Some(at("2031-01-01T00:00:00Z"));
        assert_eq!(when.hold(at("2026-11-27T20:00:00Z")), Hold::Closed(Some(at("2031-01-01T05:00:00Z"))));
        assert_eq!(When::default().hold(at("2026-11-27T20:00:00Z")), Hold::Open(None));
    }

    #[test]
    fn what_never_opens_is_known() {
        let mut weekend = when(&WORKDAYS, "06:00", "22:00");
        weekend.not_before = Some(at("2026-11-28T00:00:00Z"));
        weekend.not_after = Some(at("2026-11-29T00:00:00Z"));
        assert!(weekend.is_never());
        weekend.not_after = Some(at("2026-11-30T06:00:00Z"));
        assert!(!weekend.is_never());
    }

    #[test]
    fn it_is_told_in_few_words() {
        let mut nights = when(&WORKDAYS, "22:00", "06:00");
        assert_eq!(nights.to_string(), "mon-fri 22:00-06:00 Europe/Oslo");
        nights.not_after = Some(at("2026-12-01T00:00:00Z"));
        assert_eq!(nights.to_string(), "mon-fri 22:00-06:00 Europe/Oslo, until 2026-12-01T00:00:00Z");
    }

    #[test]
    fn without_hours_the_edges_are_all() {
        let when = When { not_before: Some(at("2026-12-01T00:00:00Z")), ..When::default() };
        assert!(!when.holds(at("2026-11-30T23:59:59Z")) && when.holds(at("2030-01-01T00:00:00Z")));
        assert!(When::default().is_always() && !when.is_always());
    }
}
