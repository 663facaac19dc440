//! Timestamps of a pcapng interface → nanoseconds since 1970.

use anyhow::{Context, Result};

/// `if_tsresol` with this bit: the rest is an exponent of two, else of ten.
const BINARY: u8 = 0x80;
const MICROSECONDS: u8 = 6;
const NANOSECONDS: i128 = 1_000_000_000;

/// The unit of timestamps, and where they begin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Resolution {
    /// `if_tsresol`.
    pub(super) unit: u8,
    /// `if_tsoffset`: seconds to be added.
    pub(super) offset: i64,
}

impl Default for Resolution {
    fn default() -> Self {
        Self { unit: MICROSECONDS, offset: 0 }
    }
}

impl Resolution {
    /// The moment of a timestamp.
    pub(super) fn nanoseconds(self, timestamp: u64) -> Result<u64> {
        let since = i128::from(timestamp) * NANOSECONDS;
        let exponent = u32::from(self.unit & !BINARY);
        let since = match self.unit & BINARY {
            // A unit too small for 10^n to be a number: less than a nanosecond has passed.
            0 => 10i128.checked_pow(exponent).map_or(0, |units| since / units),
            _ => since >> exponent,
        };
        let moment = since + i128::from(self.offset) * NANOSECONDS;
        // Beyond, times are no 64-bit numbers of nanoseconds any more.
        let moment = i64::try_from(moment).ok().and_then(|moment| u64::try_from(moment).ok());
        moment.context("its time lies before 1970 or after 2262")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_ten_or_of_two() {
        let second = 1_000_000_000;
        for (unit, timestamp, nanoseconds) in [
            (0, 7, 7 * second),
            (3, 1500, 3 * second / 2),
            (6, 1_500_000, 3 * second / 2),
            (9, 5, 5),
            (12, 5_999, 5),
            (127, u64::MAX, 0),
            (BINARY | 1, 3, 3 * second / 2),
            (BINARY | 32, 1 << 31, second / 2),
            (BINARY | 127, u64::MAX, 0),
        ] {
            assert_eq!(Resolution { unit, offset: 0 }.nanoseconds(timestamp).unwrap(), nanoseconds, "{unit}");
        }
    }

    #[test]
    fn the_offset_is_added_and_what_no_clock_shows_is_refused() {
        let at = |offset, timestamp| Resolution { unit: 0, offset }.nanoseconds(timestamp);
        assert_eq!(at(-10, 11).unwrap(), 1_000_000_000);
        for (offset, timestamp) in [(-10, 9), (i64::MIN, 0), (i64::MAX, u64::MAX), (0, 1 << 40)] {
            assert!(at(offset, timestamp).is_err(), "{offset} {timestamp}");
        }
    }
}
