//! One line of a record whose entries hold each other: a JSON object that begins with its number and the checksum of
//! the line before, and ends with its own.
//!
//! ```text
//! {"number":17,"previous":"3f2a…", …,"hash":"9c01…"}
//! ```

use serde::{Deserialize, Serialize};

use super::anchor::{DIGITS, is_checksum};
use super::digest::digest;

/// What stands before a line's own checksum, and behind it.
const BEFORE: &str = ",\"hash\":\"";
const BEHIND: &str = "\"}";

/// A place in a chain, for the next line to go on from.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub(super) struct Link {
    /// The line's number; 0 before the first.
    pub(super) number: u64,
    /// Its checksum; before the first, what seals that which is older than the chain.
    pub(super) hash: String,
}

/// A line, as far as it can be understood.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Line {
    /// It has no checksum: an older version wrote it, or it is none of ours.
    Bare,
    /// It says that it is this link, and follows a line with this checksum.
    Linked { link: Link, previous: String },
    /// It has a checksum that does not fit.
    Damaged,
}

#[derive(Serialize)]
struct Written<'a, T> {
    number: u64,
    previous: &'a str,
    #[serde(flatten)]
    entry: &'a T,
}

#[derive(Deserialize)]
struct Read {
    number: u64,
    previous: String,
}

impl Link {
    /// The line that follows this one, and where it leaves the chain.
    pub(super) fn followed_by(&self, entry: &impl Serialize) -> serde_json::Result<(Vec<u8>, Self)> {
        let number = self.number + 1;
        let mut line = serde_json::to_string(&Written { number, previous: &self.hash, entry })?;
        let hash = digest(line.as_bytes());
        // Its last character is the brace of the object.
        line.truncate(line.len() - 1);
        line.push_str(&format!("{BEFORE}{hash}{BEHIND}\n"));
        Ok((line.into_bytes(), Self { number, hash }))
    }
}

impl Line {
    /// Understands a line without its end.
    pub(super) fn of(line: &[u8]) -> Self {
        let Some((body, hash)) = split(line) else { return Self::Bare };
        let read = serde_json::from_str::<Read>(&body).ok().filter(|_| digest(body.as_bytes()) == hash);
        read.map_or(Self::Damaged, |Read { number, previous }| Self::Linked {
            link: Link { number, hash },
            previous,
        })
    }

    /// The link that a line says it is, whether its checksum fits or not: a damaged line is still followed by the next.
    pub(super) fn claimed(line: &[u8]) -> Option<Link> {
        let (body, hash) = split(line)?;
        let Read { number, .. } = serde_json::from_str(&body).ok()?;
        Some(Link { number, hash })
    }
}

/// What a line's checksum is of, and the checksum.
fn split(line: &[u8]) -> Option<(String, String)> {
    let text = std::str::from_utf8(line).ok()?.strip_suffix(BEHIND)?;
    let (rest, hash) = text.split_at_checked(text.len().checked_sub(DIGITS)?)?;
    let body = rest.strip_suffix(BEFORE)?;
    is_checksum(hash).then(|| (format!("{body}}}"), hash.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_an_object_and_says_where_it_stands() {
        let start = Link { number: 0, hash: "of what was before".to_owned() };
        let entry = serde_json::json!({"act": "asked", "who": "Åse \"x\""});
        let (line, link) = start.followed_by(&entry).unwrap();
        let line = line.strip_suffix(b"\n").unwrap();
        let object: serde_json::Value = serde_json::from_slice(line).unwrap();
        assert_eq!((object["number"].as_u64(), object["act"].as_str()), (Some(1), Some("asked")));
        assert_eq!(object["hash"], link.hash);
        let wanted = Line::Linked { link: link.clone(), previous: start.hash };
        assert_eq!((Line::of(line), Line::claimed(line)), (wanted, Some(link)));
        for other in [&b"{\"act\":\"asked\"}"[..], b"", b"\xff", &line[1..line.len() - 1]] {
            assert_eq!(Line::of(other), Line::Bare);
        }
    }

    #[test]
    fn no_changed_byte_leaves_a_line_that_fits() {
        let (line, link) = Link::default().followed_by(&serde_json::json!({"act": "asked"})).unwrap();
        let line = &line[..line.len() - 1];
        for at in 0..line.len() {
            let mut changed = line.to_vec();
            changed[at] ^= 1;
            let found = Line::of(&changed);
            assert!(matches!(found, Line::Bare | Line::Damaged), "byte {at} of {link:?}: {found:?}");
        }
    }
}
