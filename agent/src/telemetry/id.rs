//! Short ids of drops, made to be read out and typed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Crockford's base 32: no i, l, o, u, so that nothing is taken for a digit and no word appears.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const DIGITS: u32 = 5;
const MASK: u32 = (1 << (5 * DIGITS)) - 1;
/// Odd, so multiplying by it permutes the ids: neighbours in time do not look alike.
const SPREAD: u32 = 0x0123_5c9d & MASK;
const GATHER: u32 = inverse(SPREAD) & MASK;

/// The id of a drop, such as `d7kq2`; unique among the 33 million drops before and after it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventId(u32);

impl EventId {
    /// The id of the drop with this number, counted from the agent's start.
    pub const fn of(number: u32) -> Self {
        Self(number.wrapping_mul(SPREAD) & MASK)
    }

    /// The number again, modulo 2^25.
    pub const fn number(self) -> u32 {
        self.0.wrapping_mul(GATHER) & MASK
    }

    /// How many drops lie between `first` and this one.
    pub const fn since(self, first: Self) -> u32 {
        self.number().wrapping_sub(first.number()) & MASK
    }

    /// The id of the next drop.
    pub const fn next(self) -> Self {
        Self::of(self.number() + 1)
    }
}

/// The inverse of an odd number modulo 2^32 by Newton's iteration: each step doubles the right bits.
const fn inverse(odd: u32) -> u32 {
    let mut inverse = odd;
    let mut step = 0;
    while step < 5 {
        inverse = inverse.wrapping_mul(2u32.wrapping_sub(odd.wrapping_mul(inverse)));
        step += 1;
    }
    inverse
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for digit in (0..DIGITS).rev() {
            let value = (self.0 >> (5 * digit)) & 31;
            write!(f, "{}", char::from(ALPHABET[value as usize]))?;
        }
        Ok(())
    }
}

/// Not five characters of Crockford's base 32.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NotAnId(String);

impl fmt::Display for NotAnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not the id of a drop; take the five characters behind # of a drop line", self.0)
    }
}

impl std::error::Error for NotAnId {}

impl FromStr for EventId {
    type Err = NotAnId;

    /// Takes upper case, a leading `#`, and the letters that people take for digits.
    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let wrong = || NotAnId(text.chars().take(32).collect());
        let digits = text.strip_prefix('#').unwrap_or(text);
        if digits.len() != DIGITS as usize {
            return Err(wrong());
        }
        digits
            .bytes()
            .try_fold(0, |value, byte| Some((value << 5) | digit(byte)?))
            .map(Self)
            .ok_or_else(wrong)
    }
}

fn digit(byte: u8) -> Option<u32> {
    let byte = match byte.to_ascii_lowercase() {
        b'o' => b'0',
        b'i' | b'l' => b'1',
        other => other,
    };
    ALPHABET.iter().position(|known| *known == byte).map(|index| index as u32)
}

impl TryFrom<String> for EventId {
    type Error = NotAnId;

    fn try_from(text: String) -> Result<Self, NotAnId> {
        text.parse()
    }
}

impl From<EventId> for String {
    fn from(id: EventId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back_and_count() {
        for number in [0, 1, 2, 65_535, 1 << 24, MASK] {
            let id = EventId::of(number);
            assert_eq!(id.number(), number);
            assert_eq!(id.to_string().parse(), Ok(id), "{id}");
            assert_eq!(id.next().since(id), 1);
        }
        assert_eq!(EventId::of(MASK).next(), EventId::of(0));
    }

    #[test]
    fn neighbours_do_not_look_alike() {
        let ids: Vec<String> = (0..100).map(|number| EventId::of(number).to_string()).collect();
        for pair in ids.windows(2) {
            let same = pair[0].bytes().zip(pair[1].bytes()).filter(|(a, b)| a == b).count();
            assert!(same <= 3, "{pair:?}");
        }
    }

    #[test]
    fn people_may_misread() {
        let id: EventId = "d01q2".parse().unwrap();
        for text in ["#d01q2", "D01Q2", "dOlq2", "doIq2"] {
            assert_eq!(text.parse(), Ok(id), "{text}");
        }
        for text in ["", "#", "d7kq", "d7kq22", "d7k!2", "d7ku2", "é7kq"] {
            assert!(text.parse::<EventId>().is_err(), "{text}");
        }
    }
}
