//! A text that lies where it is held, if it is short: to compare two takes no look into other memory.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// So many bytes have room in place: with them a text takes 24, and names seldom have more.
const SHORT: usize = 22;

/// A text; a copy of a long one shares it.
#[derive(Clone, PartialEq, Eq)]
pub struct Text(Held);

#[derive(Clone, PartialEq, Eq)]
enum Held {
    /// All that have room, and no others: equal texts are equal values.
    Short(Short),
    Long(Arc<str>),
}

/// Up to [`SHORT`] bytes, zeros behind them, and how many there are.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Short([u8; SHORT + 1]);

impl Text {
    /// The text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Held::Short(short) => short.as_str(),
            Held::Long(text) => text,
        }
    }
}

impl Short {
    /// Nothing if there is no room.
    fn of(text: &str) -> Option<Self> {
        let mut bytes = [0; SHORT + 1];
        bytes[..SHORT].get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        bytes[SHORT] = text.len() as u8;
        Some(Self(bytes))
    }

    fn as_str(&self) -> &str {
        let text = self.0.get(..usize::from(self.0[SHORT])).unwrap_or_default();
        str::from_utf8(text).unwrap_or_default()
    }

    /// Numbers that are in the order of texts: eight bytes are compared at once. The last byte decides between texts that
    /// differ only in zeros behind them; the last number begins with a byte of the one before, which is equal then.
    fn words(&self) -> (u64, u64, u64) {
        let word = |at: usize| self.0[at..].first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        (word(0), word(8), word(SHORT - 7))
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(Short::of(text).map_or_else(|| Held::Long(text.into()), Held::Short))
    }
}

impl Ord for Text {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (Held::Short(this), Held::Short(other)) => this.words().cmp(&other.words()),
            (Held::Short(_) | Held::Long(_), _) => self.as_str().cmp(other.as_str()),
        }
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// As the text itself, by which it may be looked for.
impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_what_they_stand_for_and_in_its_order() {
        let lengths = [0, 1, 7, 8, 9, 15, 16, SHORT - 1, SHORT, SHORT + 1, 63];
        let mut texts: Vec<String> = lengths.iter().map(|length| "a".repeat(*length)).collect();
        for text in texts.clone() {
            texts.extend([format!("{text}\0"), format!("{text}b"), format!("{text}æ"), format!("é{text}")]);
            texts.extend((0..text.len()).map(|at| format!("{}b{}", &text[..at], &text[at + 1..])));
        }
        for a in &texts {
            assert_eq!(Text::from(a.as_str()).as_str(), a);
            for b in &texts {
                let (one, other) = (Text::from(a.as_str()), Text::from(b.as_str()));
                assert_eq!(one.cmp(&other), a.cmp(b), "{a:?} and {b:?}");
                assert_eq!(one == other, a == b, "{a:?} and {b:?}");
            }
        }
    }

    #[test]
    fn a_text_takes_no_more_than_a_string() {
        assert_eq!(size_of::<Option<Text>>(), size_of::<String>());
    }
}
