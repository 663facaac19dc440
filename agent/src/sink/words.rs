//! Texts and numbers as lines show them.

use std::fmt::{self, Display, Write};

/// A text with everything escaped that could steer a terminal or turn the reading direction.
pub(crate) struct Safe<'a>(pub(crate) &'a str);

impl Display for Safe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match steers(c) {
            true => write!(f, "{}", c.escape_unicode()),
            false => f.write_char(c),
        })
    }
}

/// Control characters, and the bidirectional and line marks of Unicode (UAX #9, section 2).
pub(super) fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Whole seconds, with a tenth if there is one.
pub(super) fn seconds(ms: u64) -> String {
    match ms % 1000 / 100 {
        0 => format!("{}s", ms / 1000),
        tenth => format!("{}.{tenth}s", ms / 1000),
    }
}

/// Minutes and seconds, `3:12`; with hours if there are some, `1:03:12`.
pub fn clock(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        hours => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// A number with a comma every three digits.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn a_clock_has_hours_if_there_are_some() {
        for (seconds, text) in [(0, "0:00"), (9, "0:09"), (192, "3:12"), (3599, "59:59"), (3792, "1:03:12")] {
            assert_eq!(clock(seconds), text);
        }
    }

    #[test]
    fn seconds_have_a_tenth_if_there_is_one() {
        for (ms, text) in [(0, "0s"), (99, "0s"), (100, "0.1s"), (10_000, "10s"), (15_250, "15.2s")] {
            assert_eq!(seconds(ms), text);
        }
    }
}
