//! When rules hold, by the clock on the wall of the zone that they name.

use bulkhead::policy::{Rule, Schedule};
use jiff::{SignedDuration, Timestamp};

use super::Flaw;
use super::intent::Intent;
use crate::generate::STARTED;

/// What is generated opens and closes at multiples of this many seconds after the start.
const STEP: u64 = 300;
/// Later than any frame, in steps.
const STEPS: u64 = 48 * 3600 / STEP;
const SECOND: u64 = 1_000_000_000;

impl Intent<'_> {
    /// True if a rule holds at a time in nanoseconds since the start.
    pub(super) fn is_open(&self, rule: &Rule, now: u64) -> bool {
        let at = wall(self.later.unwrap_or(now));
        let time = &rule.time;
        let begun = time.not_before.is_none_or(|first| first <= at);
        let over = time.not_after.is_some_and(|last| last <= at);
        let open = time.schedule.as_ref().is_none_or(|schedule| self.is_on(schedule, at));
        begun && !over && open || self.flaw == Some(Flaw::ForgetsTime)
    }

    fn is_on(&self, schedule: &Schedule, at: Timestamp) -> bool {
        let there = match self.flaw {
            Some(Flaw::ForgetsZones) => at.to_zoned(jiff::tz::TimeZone::UTC),
            _ => at.to_zoned(schedule.zone.clone()),
        };
        let date = there.date();
        let begins = |date: jiff::civil::Date| {
            let free = schedule.except.contains(&date) && self.flaw != Some(Flaw::ForgetsExceptions);
            schedule.days.contains(&date.weekday()) && !free
        };
        let Some(hours) = schedule.between else { return begins(date) };
        let minute = |time: jiff::civil::Time| i32::from(time.hour()) * 60 + i32::from(time.minute());
        let now = minute(there.time());
        let (from, to) = (minute(hours.from), hours.to.map_or(24 * 60, minute));
        if from < to {
            return begins(date) && from <= now && now < to;
        }
        let since_yesterday = date.yesterday().is_ok_and(begins) && now < to;
        begins(date) && from <= now || since_yesterday && self.flaw != Some(Flaw::ForgetsMidnight)
    }

    /// The times at which a rule opens or closes.
    pub(super) fn edges(&self) -> Vec<u64> {
        let rules = self.policy.policies().values().flat_map(|policy| &policy.rules);
        let timed: Vec<&Rule> = rules.filter(|rule| !rule.time.is_always()).collect();
        if timed.is_empty() {
            return Vec::new();
        }
        let times = (0..=STEPS).map(|step| step * STEP * SECOND);
        let states =
            times.map(|at| (at, timed.iter().map(|rule| self.is_open(rule, at)).collect::<Vec<_>>()));
        let states: Vec<(u64, Vec<bool>)> = states.collect();
        states.windows(2).filter(|pair| pair[0].1 != pair[1].1).map(|pair| pair[1].0).collect()
    }
}

fn wall(now: u64) -> Timestamp {
    let start: Timestamp = STARTED.parse().expect("a moment");
    start + SignedDuration::from_nanos(now.cast_signed())
}
