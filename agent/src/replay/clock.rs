//! The capture's timestamps → the clock that the program goes by: small, and never going back.

/// The clock at the first packet. Not 0: a host is never that young.
const START: u64 = 3_600_000_000_000;
/// A longer jump counts as this much: every flow is dead by then, and captures that begin before the clock was set
/// jump from 1970.
const LONGEST_JUMP: u64 = 366 * 86_400 * 1_000_000_000;
/// Here it stands still: flows keep their deadlines in 40 bits of about a millisecond.
const LATEST: u64 = 30 * LONGEST_JUMP;

/// Where the capture is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Clock {
    now: u64,
    /// The newest timestamp so far, in nanoseconds since 1970.
    newest: Option<u64>,
}

impl Clock {
    /// Before the first packet.
    pub(super) const fn new() -> Self {
        Self { now: START, newest: None }
    }

    /// The time in nanoseconds.
    pub(super) const fn now(&self) -> u64 {
        self.now
    }

    /// The newest timestamp so far; 0 before the first.
    pub(super) fn wall(&self) -> u64 {
        self.newest.unwrap_or_default()
    }

    /// Goes on to a packet's timestamp; without one, or if it is older than one before, time stands still. True if it
    /// is older.
    pub(super) fn advance(&mut self, timestamp: Option<u64>) -> bool {
        let Some(timestamp) = timestamp else { return false };
        let newest = self.newest.unwrap_or(timestamp);
        let passed = timestamp.saturating_sub(newest).min(LONGEST_JUMP);
        self.now = self.now.saturating_add(passed).min(LATEST);
        self.newest = Some(newest.max(timestamp));
        timestamp < newest
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_common::flow_table::ticks;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn time_passes_as_in_the_capture_and_never_goes_back() {
        let mut clock = Clock::new();
        for (timestamp, late, passed) in [
            (None, false, 0),
            (Some(1_796_094_724 * SECOND), false, 0),
            (Some(1_796_094_726 * SECOND), false, 2),
            (Some(1_796_094_725 * SECOND), true, 2),
            (None, false, 2),
            (Some(1_796_094_727 * SECOND), false, 3),
        ] {
            assert_eq!(clock.advance(timestamp), late);
            assert_eq!(clock.now(), START + passed * SECOND, "{timestamp:?}");
        }
    }

    #[test]
    fn a_clock_that_was_set_meanwhile_and_hostile_ones_stay_within_what_flows_can_hold() {
        let mut clock = Clock::new();
        clock.advance(Some(5 * SECOND));
        clock.advance(Some(1_796_094_724 * SECOND));
        assert_eq!(clock.now(), START + LONGEST_JUMP);
        for year in 60..292 {
            clock.advance(Some(year * 365 * 86_400 * SECOND));
        }
        // A flow may live on for years from here.
        let deadline = clock.now() + 4 * LONGEST_JUMP;
        assert!(ticks(clock.now()) < ticks(deadline));
    }
}
