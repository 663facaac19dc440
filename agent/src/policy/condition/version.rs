//! The order of versions: numbers divided by dots, then what comes before a release (semver.org, clauses 10 and 11).

use std::cmp::Ordering;
use std::fmt;

/// More numbers than any version has.
const NUMBERS: usize = 8;

/// A version: `2.4.1`, `v2.10`, `3.0-rc1`; `2.4` is `2.4.0`, and what follows `+` does not count.
#[derive(Debug, Clone)]
pub struct Version {
    text: String,
    /// Without zeros at the end.
    numbers: Vec<u64>,
    /// The parts of what follows `-`; a release has none.
    before: Vec<Part>,
}

/// A part of what marks a version as one before its release: numbers come before words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(u64),
    Word(String),
}

impl Version {
    /// Reads a version; nothing if the text is none.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let plain = plain.split_once('+').map_or(plain, |(version, _build)| version);
        let (numbers, before) = match plain.split_once('-') {
            Some((numbers, before)) => (numbers, parts(before)?),
            None => (plain, Vec::new()),
        };
        let mut numbers = numbers.split('.').map(number).collect::<Option<Vec<u64>>>()?;
        if numbers.len() > NUMBERS {
            return None;
        }
        while numbers.last() == Some(&0) {
            numbers.pop();
        }
        Some(Self { text: text.to_owned(), numbers, before })
    }

    /// True below `bound`. What comes before the release of `bound` is not below it: whoever shuts 3 out
    /// does not mean 3.0-rc1.
    pub fn is_below(&self, bound: &Self) -> bool {
        let of_bound = self.numbers == bound.numbers && bound.before.is_empty();
        self < bound && !of_bound
    }
}

fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn parts(text: &str) -> Option<Vec<Part>> {
    let part = |text: &str| match number(text) {
        Some(number) => Some(Part::Number(number)),
        None => {
            let word = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            word.then(|| Part::Word(text.to_owned()))
        }
    };
    text.split('.').map(part).collect()
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        // A release comes after everything before it.
        let release = |version: &Self| version.before.is_empty();
        let before = release(self).cmp(&release(other)).then_with(|| self.before.cmp(&other.before));
        self.numbers.cmp(&other.numbers).then(before)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn versions_are_in_order() {
        let order = [
            "0.9",
            "1.0-1",
            "1.0-2",
            "1.0-10",
            "1.0-alpha",
            "1.0-alpha.1",
            "1.0-rc1",
            "1.0",
            "1.0.1",
            "1.2",
            "1.10",
            "2",
            "2.4.1",
            "2.10",
            "10.0",
        ];
        for pair in order.windows(2) {
            assert!(version(pair[0]) < version(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn several_texts_are_one_version() {
        for same in ["2.4", "2.4.0", "v2.4", "V2.4.0.0", "2.04", "2.4+build.7"] {
            assert_eq!(version(same), version("2.4"), "{same}");
        }
    }

    #[test]
    fn what_comes_before_a_release_is_not_below_it() {
        assert!(!version("3.0-rc1").is_below(&version("3")));
        assert!(version("3.0-rc1").is_below(&version("3-rc2")));
        assert!(version("2.9.9").is_below(&version("3")) && !version("3").is_below(&version("3")));
        assert!(version("3.0-rc1") < version("3"), "and it does not reach it either");
    }

    #[test]
    fn other_texts_are_no_versions() {
        for text in [
            "",
            "v",
            "R12",
            "2.",
            ".2",
            "2..4",
            "2.4a",
            "2,4",
            "-1",
            "2.4-",
            "2.4-a..b",
            "2.4-é",
            " 2",
            "99999999999999999999",
            "1.1.1.1.1.1.1.1.1",
        ] {
            assert!(Version::parse(text).is_none(), "{text}");
        }
    }
}
