//! Names: what they may look like, and which one was probably meant.

use std::borrow::Borrow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::text::Text;

/// Longest name, as in DNS and Kubernetes.
const LONGEST: usize = 63;

/// The rule, for messages.
pub(crate) const RULE: &str = "use 1 to 63 of a-z, 0-9, `-` and `.`, with a letter or digit at both ends";

/// The name of a resource, rule or service: `[a-z0-9]([-a-z0-9.]*[a-z0-9])?`, at most 63.
///
/// Nothing else is possible, so a name can stand in a log line, a metric or a terminal as it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Text);

impl Name {
    /// Takes a text that keeps the rule for names.
    pub fn new(text: &str) -> Option<Self> {
        let edge = |byte: Option<&u8>| byte.is_some_and(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9'));
        let bytes = text.as_bytes();
        let inner = |b: &u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
        (bytes.len() <= LONGEST && edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(inner))
            .then(|| Self(text.into()))
    }

    /// The name as a text to be kept.
    pub(crate) const fn text(&self) -> &Text {
        &self.0
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::new(&text).ok_or_else(|| format!("{text:?} is not a name: {RULE}"))
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.as_str().to_owned()
    }
}

/// The candidate that a typing mistake most likely meant, if one is close.
pub(crate) fn nearest<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (wanted.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(wanted.len()) <= limit * 4)
        .map(|candidate| (distance(wanted, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, ignoring case.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.to_lowercase().chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_the_rule() {
        for good in ["a", "charger-0017", "1.2.3", "x"] {
            assert!(Name::new(good).is_some(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a b", "a\n", "\u{1b}[31m", "é", &"a".repeat(64)] {
            assert!(Name::new(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn the_nearest_is_close_or_nothing() {
        assert_eq!(nearest("ocp", ["ocpp", "dns"]), Some("ocpp"));
        assert_eq!(nearest("matchLabel", ["matchLabels"]), Some("matchLabels"));
        assert_eq!(nearest("zebra", ["ocpp", "dns"]), None);
    }
}
