//! One entry of the journal: a revision with everything it changed.

use serde::{Deserialize, Serialize};

use super::objects::Objects;
use crate::api::types::{Cause, Change, RevisionInfo};

/// A revision as it is kept.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Who, when, why.
    pub revision: RevisionInfo,
    /// What led to it.
    pub cause: Cause,
    /// The revision whose policy it changed; 0 if there was none.
    pub from: u64,
    /// Every object that it changed or removed, as it was: the way back.
    pub before: Objects,
    /// Every object that it added or changed, as it is since.
    pub after: Objects,
    /// Digest of the whole policy after it.
    pub content: String,
    /// Checksum of the entry before; empty if this is the first.
    pub previous: String,
    /// The oldest entry that is kept along with this one.
    pub oldest: u64,
}

impl Entry {
    /// How many objects were added, changed and removed.
    pub fn counts(&self) -> [usize; 3] {
        let changed = self.before.in_both(&self.after);
        [self.after.len() - changed, changed, self.before.len() - changed]
    }

    /// Every object that it added, changed or removed, by kind and name.
    pub fn changes(&self) -> Vec<Change> {
        let differ = self.before.differences(&self.after).into_iter();
        differ.map(|(before, after)| Change { before: before.cloned(), after: after.cloned() }).collect()
    }
}
