//! The accepted state, as a value.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::objects::Objects;
use crate::api::types::RevisionInfo;
use crate::policy::Ids;

/// Everything that a restart needs to enforce the same again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The accepted revision.
    pub revision: RevisionInfo,
    /// The policy, object by object, as written.
    pub objects: Objects,
    /// The numbers that its names were given.
    pub ids: Ids,
    /// The first kernel generation of each revision, as far back as records may reach.
    pub generations: BTreeMap<u32, u64>,
}

/// Revisions that records may still refer to.
const REMEMBERED: usize = 1_000;

impl State {
    /// Notes that `generation` is the first of the accepted revision.
    pub fn published(&mut self, generation: u32) {
        self.generations.insert(generation, self.revision.number);
        while self.generations.len() > REMEMBERED {
            self.generations.pop_first();
        }
    }
}

impl Default for State {
    fn default() -> Self {
        let revision =
            RevisionInfo { number: 0, time: Timestamp::UNIX_EPOCH, author: String::new(), message: None };
        Self { revision, objects: Objects::default(), ids: Ids::default(), generations: BTreeMap::new() }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn revision(number: u64) -> RevisionInfo {
        RevisionInfo { number, time: Timestamp::UNIX_EPOCH, author: "root".to_owned(), message: None }
    }
}
