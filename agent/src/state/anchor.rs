//! What is told outside of a chain of checksums: its newest entry, which vouches for all before it.

/// Digits of a checksum.
pub(super) const DIGITS: usize = 64;

/// One of the chains that are kept.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Chain {
    /// The accepted revisions.
    Revisions,
    /// What was done with grants.
    Grants,
}

impl Chain {
    /// What its numbers begin with.
    pub const fn letter(self) -> char {
        match self {
            Self::Revisions => 'r',
            Self::Grants => 'g',
        }
    }

    /// What its entries are called.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Revisions => "revision",
            Self::Grants => "entry on grants",
        }
    }

    /// How many of its entries.
    pub fn counted(self, count: usize) -> String {
        match (self, count) {
            (chain, 1) => format!("1 {}", chain.noun()),
            (Self::Revisions, count) => format!("{count} revisions"),
            (Self::Grants, count) => format!("{count} entries on grants"),
        }
    }

    fn of(letter: char) -> Option<Self> {
        [Self::Revisions, Self::Grants].into_iter().find(|chain| chain.letter() == letter)
    }
}

/// An entry's checksum as it was told outside.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Anchor {
    /// Which chain it belongs to.
    pub chain: Chain,
    /// The entry: a revision, or one on grants.
    pub number: u64,
    /// Its checksum.
    pub hash: String,
}

impl Anchor {
    /// The entry as people call it: `r412`, `g17`.
    pub fn entry(&self) -> String {
        format!("{}{}", self.chain.letter(), self.number)
    }
}

impl std::fmt::Display for Anchor {
    /// Writes `r412 3f2a…`, all digits: the form that [`anchors_in`] reads.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.entry(), self.hash)
    }
}

/// Anchors in a text of any kind: a file of ours, a system log, what a web hook received.
pub fn anchors_in(text: &str) -> Vec<Anchor> {
    let words: Vec<&str> =
        text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).collect();
    words.windows(2).filter_map(|pair| anchor(pair[0], pair[1])).collect()
}

fn anchor(entry: &str, hash: &str) -> Option<Anchor> {
    let mut rest = entry.chars();
    let chain = Chain::of(rest.next()?)?;
    let number = rest.as_str().parse().ok()?;
    is_checksum(hash).then(|| Anchor { chain, number, hash: hash.to_owned() })
}

/// True for a text that may be a checksum.
pub(super) fn is_checksum(text: &str) -> bool {
    text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_are_found_in_any_text() {
        let hash = "0123456789abcdef".repeat(4);
        for text in [
            format!("2026-12-01T10:00:00Z core-1 r412 {hash}\n"),
            format!("Dec  1 10:00:00 core-1 bulkhead[17]: anchor r412 {hash}"),
            format!("{{\"host\":\"core-1\",\"anchor\":\"r412 {hash}\"}}"),
        ] {
            let wanted = Anchor { chain: Chain::Revisions, number: 412, hash: hash.clone() };
            assert_eq!(anchors_in(&text), [wanted], "{text}");
        }
        let grants = Anchor { chain: Chain::Grants, number: 17, hash: hash.clone() };
        assert_eq!(anchors_in(&grants.to_string()), [grants]);
        for none in [format!("r412 {}", &hash[1..]), format!("x412 {hash}"), format!("r {hash}")] {
            assert!(anchors_in(&none).is_empty(), "{none}");
        }
    }
}
