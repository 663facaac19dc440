//! Kernel time → wall time.

use jiff::{SignedDuration, Timestamp};

/// Both clocks, read at one moment.
///
/// Read anew for every batch: a step of the wall clock then moves later records only.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Clock {
    /// Wall time.
    pub wall: Timestamp,
    /// The kernel's coarse monotonic clock in nanoseconds.
    pub monotonic_ns: u64,
}

impl Clock {
    /// Pairs the kernel's clock with the wall clock of this moment.
    pub fn read(monotonic_ns: u64) -> Self {
        Self { wall: Timestamp::now(), monotonic_ns }
    }

    /// The wall time of a moment of the monotonic clock.
    pub fn at(&self, monotonic_ns: u64) -> Timestamp {
        let ahead = i128::from(monotonic_ns) - i128::from(self.monotonic_ns);
        i64::try_from(ahead)
            .ok()
            .and_then(|nanos| self.wall.checked_add(SignedDuration::from_nanos(nanos)).ok())
            .unwrap_or(self.wall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_lie_as_far_apart_as_they_did() {
        let clock = Clock { wall: "2026-12-01T10:00:00Z".parse().unwrap(), monotonic_ns: 5_000_000_000 };
        for (ns, wall) in [
            (5_000_000_000, "2026-12-01T10:00:00Z"),
            (3_500_000_000, "2026-12-01T09:59:58.5Z"),
            (5_000_001_000, "2026-12-01T10:00:00.000001Z"),
            (u64::MAX, "2026-12-01T10:00:00Z"),
        ] {
            assert_eq!(clock.at(ns), wall.parse().unwrap(), "{ns}");
        }
    }
}
