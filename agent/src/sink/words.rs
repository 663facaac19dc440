//! Texts and numbers as lines show them.

use std::fmt::{self, Display, Write};

/// A text with everything escaped that could steer a terminal or turn the reading direction.
pub(super) struct Safe<'a>(pub(super) &'a str);

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
    fn seconds_have_a_tenth_if_there_is_one() {
        for (ms, text) in [(0, "0s"), (99, "0s"), (100, "0.1s"), (10_000, "10s"), (15_250, "15.2s")] {
            assert_eq!(seconds(ms), text);
        }
    }
}
