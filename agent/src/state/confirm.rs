//! A revision that goes away again unless somebody confirms it.
//!
//! The deadline is kept by two clocks. While the host stays up the boot clock counts, which nobody
//! steps. After a reboot only the wall clock is left; one that lies before the apply cannot be
//! believed, and then the time is over: whoever made the change may be the one who is locked out.

use std::time::Duration;

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Where the kernel tells one boot from another.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What happens unless somebody confirms in time.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Confirm {
    /// The revision whose policy comes back.
    pub back_to: u64,
    /// How long there is, in milliseconds.
    pub within_ms: u64,
    /// Since when.
    pub since: Moment,
}

/// One moment, by every clock there is.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// The kernel's number of this boot.
    pub boot: String,
    /// Milliseconds since that boot, sleep included.
    pub boot_ms: u64,
    /// Wall time.
    pub wall: Timestamp,
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        let boot = boot_id();
        let clock = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
        Self { boot, boot_ms: millis(clock), wall: Timestamp::now() }
    }
}

impl Confirm {
    /// Starts the time now.
    pub fn within(within: Duration, back_to: u64) -> Self {
        Self { back_to, within_ms: millis(within), since: Moment::now() }
    }

    /// How long there is left; zero if it is over.
    pub fn left(&self, now: &Moment) -> Duration {
        let same_boot = now.boot == self.since.boot && now.boot_ms >= self.since.boot_ms;
        let elapsed = match same_boot {
            true => now.boot_ms - self.since.boot_ms,
            false => {
                let elapsed = now.wall.duration_since(self.since.wall).as_millis();
                u64::try_from(elapsed).unwrap_or(u64::MAX)
            }
        };
        Duration::from_millis(self.within_ms.saturating_sub(elapsed))
    }
}

/// The kernel's number of this boot.
pub fn boot_id() -> String {
    std::fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(boot: &str, boot_ms: u64, wall: &str) -> Moment {
        Moment { boot: boot.to_owned(), boot_ms, wall: wall.parse().unwrap() }
    }

    #[test]
    fn the_boot_clock_counts_and_a_reboot_leaves_the_wall_clock() {
        let since = moment("a", 100_000, "2026-12-01T10:00:00Z");
        let confirm = Confirm { back_to: 411, within_ms: 300_000, since };
        for (boot, boot_ms, wall, left) in [
            ("a", 100_000, "2026-12-01T10:00:00Z", 300),
            // A stepped wall clock changes nothing while the host is up.
            ("a", 220_000, "2026-12-01T23:00:00Z", 180),
            ("a", 220_000, "1970-01-01T00:00:00Z", 180),
            ("a", 400_000, "2026-12-01T10:00:01Z", 0),
            ("b", 10_000, "2026-12-01T10:02:00Z", 180),
            ("b", 10_000, "2026-12-01T10:05:00Z", 0),
            // A clock that came up in the past says nothing, and the time is over.
            ("b", 10_000, "1970-01-01T00:00:09Z", 0),
            // Without a number of the boot, a boot clock that went back tells.
            ("a", 10_000, "2026-12-01T10:02:00Z", 180),
        ] {
            let now = moment(boot, boot_ms, wall);
            assert_eq!(confirm.left(&now), Duration::from_secs(left), "{now:?}");
        }
    }

    #[test]
    fn the_clocks_go_forward() {
        let (a, b) = (Moment::now(), Moment::now());
        assert!(!a.boot.is_empty() && a.boot == b.boot && a.boot_ms <= b.boot_ms && a.boot_ms > 0);
    }
}
