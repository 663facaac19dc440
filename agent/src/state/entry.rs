//! One entry of the journal: a revision with everything it changed.

use serde::{Deserialize, Serialize};

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
    /// Every object that it added, changed or removed: forwards the diff, backwards the way back.
    pub changes: Vec<Change>,
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
        let count = |before, after| {
            let fits =
                |change: &&Change| change.before.is_some() == before && change.after.is_some() == after;
            self.changes.iter().filter(fits).count()
        };
        [count(false, true), count(true, true), count(true, false)]
    }
}
