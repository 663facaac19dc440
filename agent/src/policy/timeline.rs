//! How wall time goes over into boot time, which the kernel compares.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::schedule::When;

/// How far ahead windows are worked out: an agent that is dead for so long leaves timed rules closed.
pub const HORIZON: SignedDuration = SignedDuration::from_hours(14 * 24);

/// A stretch of boot time in nanoseconds.
pub(crate) type BootStretch = (u64, u64);

/// What is known of the clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Timeline {
    /// It cannot be believed: whatever depends on time is closed.
    Unknown,
    /// It goes on from here as it goes now.
    Known(Anchor),
    /// Boot time is wall time, and only these moments are asked about: tests and questions.
    Moments(BTreeSet<Timestamp>),
}

/// Where the clocks are, and what they have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// Now.
    pub now: Pair,
    /// The highest wall time ever seen: what has ended by then has ended for good.
    pub seen: Pair,
    /// The last moment for which windows are worked out.
    pub horizon: Timestamp,
}

/// One moment by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// Wall time.
    pub wall: Timestamp,
    /// Boot time in nanoseconds.
    pub boot: u64,
}

impl Pair {
    /// A moment where boot time is wall time: for questions, where no kernel compares anything.
    pub fn of(wall: Timestamp) -> Self {
        Self { wall, boot: Timeline::of_moment(wall) }
    }

    /// Boot time at a moment, as the clocks went here; 0 for what was before the boot.
    pub fn boot_at(&self, at: Timestamp) -> u64 {
        let ahead = at.as_nanosecond() - self.wall.as_nanosecond();
        let boot = (i128::from(self.boot) + ahead).max(0);
        u64::try_from(boot).unwrap_or(u64::MAX)
    }

    /// Wall time at a boot time, as the clocks went here.
    pub fn wall_at(&self, boot: u64) -> Timestamp {
        let ahead = i128::from(boot) - i128::from(self.boot);
        Timestamp::from_nanosecond(self.wall.as_nanosecond() + ahead).unwrap_or(Timestamp::MAX)
    }
}

impl Timeline {
    /// From now on, boot time being wall time.
    pub fn from_now() -> Self {
        Self::of(Timestamp::now())
    }

    /// As [`Self::from_now`], from another moment on.
    pub fn of(wall: Timestamp) -> Self {
        Self::Known(Anchor::new(Pair::of(wall)))
    }

    /// When a rule is open in boot time: sorted, disjoint.
    pub(crate) fn windows(&self, when: &When) -> Vec<BootStretch> {
        match self {
            Self::Unknown => Vec::new(),
            Self::Known(anchor) => anchor.windows(when),
            Self::Moments(moments) => {
                let holding = moments.iter().filter(|at| when.holds(**at));
                holding.map(|at| (Self::of_moment(*at), Self::of_moment(*at) + 1)).collect()
            }
        }
    }

    /// The boot time that is a moment's where boot time is wall time.
    pub fn of_moment(at: Timestamp) -> u64 {
        u64::try_from(at.as_nanosecond()).unwrap_or_default()
    }
}

impl Anchor {
    /// Clocks that never were otherwise, with the usual horizon.
    pub fn new(now: Pair) -> Self {
        Self { now, seen: now, horizon: now.wall.checked_add(HORIZON).unwrap_or(Timestamp::MAX) }
    }

    fn windows(&self, when: &When) -> Vec<BootStretch> {
        let stretches = when.stretches((self.now.wall, self.horizon)).into_iter();
        let windows = stretches.map(|(from, to)| (self.now.boot_at(from), self.end(from, to)));
        windows.filter(|(from, to)| from < to && *to > self.now.boot).collect()
    }

    /// When a stretch ends in boot time. One that had begun by the highest wall time seen ends no later than it was to
    /// end then: a clock that is set back neither reopens nor prolongs anything.
    fn end(&self, from: Timestamp, to: Timestamp) -> u64 {
        let to = to.min(self.horizon);
        let end = self.now.boot_at(to);
        if from < self.seen.wall { end.min(self.seen.boot_at(to)) } else { end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn when(from: &str, to: &str) -> When {
        When { not_before: Some(at(from)), not_after: Some(at(to)), ..When::default() }
    }

    fn pair(wall: &str, boot: u64) -> Pair {
        Pair { wall: at(wall), boot: boot * SECOND }
    }

    /// The clock now, and as it was one second before.
    fn anchor(wall: &str, before: &str) -> Timeline {
        Timeline::Known(Anchor { seen: pair(before, 999), ..Anchor::new(pair(wall, 1_000)) })
    }

    #[test]
    fn windows_are_told_in_boot_time() {
        let noon = anchor("2026-12-01T12:00:00Z", "2026-12-01T11:59:59Z");
        let windows = noon.windows(&when("2026-12-01T12:00:10Z", "2026-12-01T12:00:20Z"));
        assert_eq!(windows, [(1_010 * SECOND, 1_020 * SECOND)]);
        // What began before the boot is open since then.
        let windows = noon.windows(&when("2026-11-01T00:00:00Z", "2026-12-01T12:00:20Z"));
        assert_eq!(windows, [(0, 1_020 * SECOND)]);
    }

    #[test]
    fn nothing_is_open_behind_the_horizon() {
        let noon = anchor("2026-12-01T12:00:00Z", "2026-12-01T11:59:59Z");
        let horizon = 1_000 * SECOND + HORIZON.as_secs().cast_unsigned() * SECOND;
        assert_eq!(noon.windows(&when("2026-01-01T00:00:00Z", "2030-01-01T00:00:00Z")), [(0, horizon)]);
        assert!(noon.windows(&when("2027-01-01T00:00:00Z", "2030-01-01T00:00:00Z")).is_empty());
    }

    #[test]
    fn a_clock_that_is_set_back_reopens_nothing_and_prolongs_nothing() {
        let rule = when("2026-12-01T06:00:00Z", "2026-12-01T12:00:00Z");
        // It ended by the clock as it went before.
        assert!(anchor("2026-12-01T11:00:00Z", "2026-12-01T12:00:00Z").windows(&rule).is_empty());
        // It was to end in 30 seconds, and an hour is not added.
        let back = anchor("2026-12-01T10:59:30Z", "2026-12-01T11:59:29Z").windows(&rule);
        assert_eq!(back, [(0, 1_030 * SECOND)]);
        // What had not begun goes by the clock as it is now.
        let later = when("2026-12-01T12:00:00Z", "2026-12-01T13:00:00Z");
        let back = anchor("2026-12-01T10:59:30Z", "2026-12-01T11:59:29Z").windows(&later);
        assert_eq!(back, [(4_630 * SECOND, 8_230 * SECOND)]);
        assert!(Timeline::Unknown.windows(&rule).is_empty());
    }

    #[test]
    fn a_clock_that_is_set_forward_ends_what_is_over() {
        let rule = when("2026-12-01T06:00:00Z", "2026-12-01T12:00:00Z");
        let forward = anchor("2026-12-01T11:59:00Z", "2026-12-01T07:00:00Z").windows(&rule);
        assert_eq!(forward, [(0, 1_060 * SECOND)]);
        assert!(anchor("2026-12-02T11:59:00Z", "2026-12-01T07:00:00Z").windows(&rule).is_empty());
    }

    #[test]
    fn a_moment_is_asked_about_alone() {
        let moments =
            Timeline::Moments(BTreeSet::from([at("2026-12-01T07:00:00Z"), at("2026-12-01T13:00:00Z")]));
        let windows = moments.windows(&when("2026-12-01T06:00:00Z", "2026-12-01T12:00:00Z"));
        let asked = Timeline::of_moment(at("2026-12-01T07:00:00Z"));
        assert_eq!(windows, [(asked, asked + 1)]);
    }
}
