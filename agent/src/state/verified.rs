//! What an audit found of one chain.

use std::collections::BTreeMap;

use super::anchor::{Anchor, Chain};

/// Of a gap, the entries that are named one by one.
const NAMED: usize = 10;

/// What an audit found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verified {
    /// The chain.
    pub chain: Chain,
    /// Entries that were read.
    pub entries: usize,
    /// First and newest of them.
    pub range: Option<(u64, u64)>,
    /// The newest, as an anchor would name it.
    pub head: Option<Anchor>,
    /// How many anchors were held against it.
    pub anchors: usize,
    /// The newest entry that an anchor vouches for.
    pub vouched: Option<u64>,
    /// Lines of an older version, which had no chain, that nothing vouches for.
    pub unsealed: usize,
    /// Everything that is wrong.
    pub problems: Vec<String>,
}

impl Verified {
    /// Nothing was read yet.
    pub(super) const fn nothing(chain: Chain) -> Self {
        Self {
            chain,
            entries: 0,
            range: None,
            head: None,
            anchors: 0,
            vouched: None,
            unsealed: 0,
            problems: Vec::new(),
        }
    }

    /// An entry as people call it.
    pub(super) fn entry(&self, number: u64) -> String {
        format!("{}{number}", self.chain.letter())
    }

    pub(super) fn wrong(&mut self, problem: String) {
        self.problems.push(problem);
    }

    /// Tells of entries that are not there.
    pub(super) fn missing(&mut self, numbers: impl Iterator<Item = u64>) {
        let numbers: Vec<u64> = numbers.collect();
        for number in numbers.iter().take(NAMED) {
            self.wrong(format!("{} is missing", self.entry(*number)));
        }
        if numbers.len() > NAMED {
            self.wrong(format!("{} more are missing", numbers.len() - NAMED));
        }
    }

    /// Holds what was told outside against the entries, by number and checksum.
    pub(super) fn hold(&mut self, anchors: &[Anchor], hashes: &BTreeMap<u64, String>) {
        let mine: Vec<&Anchor> = anchors.iter().filter(|anchor| anchor.chain == self.chain).collect();
        self.anchors = mine.len();
        let mut latest: BTreeMap<u64, &str> = BTreeMap::new();
        for Anchor { number, hash, .. } in mine {
            if latest.insert(*number, hash).is_some_and(|other| other != hash) {
                let entry = self.entry(*number);
                self.wrong(format!("{entry} was anchored twice, differently: it was written anew"));
            }
        }
        let last = self.range.map_or(0, |(_, last)| last);
        for (number, hash) in latest {
            let entry = self.entry(number);
            match hashes.get(&number) {
                Some(found) if found == hash => self.vouched = Some(number),
                Some(_) => self.wrong(format!("{entry} is not what was anchored")),
                None if number > last && last == 0 => {
                    let noun = self.chain.noun();
                    self.wrong(format!("{entry} was anchored, and no {noun} is kept: all of it is gone"));
                }
                None if number > last => {
                    let last = self.entry(last);
                    self.wrong(format!(
                        "{entry} was anchored, and the newest entry is {last}: the end is cut off"
                    ));
                }
                // Told as missing or damaged already, or too old to be kept.
                None => {}
            }
        }
    }
}
