//! The accepted state, as a value.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::confirm::Confirm;
use super::objects::Objects;
use crate::api::types::{Origin, RevisionInfo, Who};
use crate::policy::Ids;

/// Everything that a restart needs to enforce the same again.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// The accepted revision.
    pub revision: RevisionInfo,
    /// The policy, object by object, as written.
    pub objects: Objects,
    /// The numbers that its names were given.
    pub ids: Ids,
    /// The first kernel generation of each revision, as far back as records may reach.
    pub generations: BTreeMap<u32, u64>,
    /// Checksum of the journal's entry of this revision; empty before there was a journal.
    pub head: String,
    /// What happens unless somebody confirms.
    pub confirm: Option<Confirm>,
    /// True if the folder does not apply itself since somebody went back.
    pub folder_held: bool,
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
        Self {
            revision: nobody_s(0),
            objects: Objects::default(),
            ids: Ids::default(),
            generations: BTreeMap::new(),
            head: String::new(),
            confirm: None,
            folder_held: false,
        }
    }
}

fn nobody_s(number: u64) -> RevisionInfo {
    RevisionInfo {
        number,
        time: Timestamp::UNIX_EPOCH,
        author: String::new(),
        message: None,
        who: Who::default(),
        origin: Origin::default(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn revision(number: u64) -> RevisionInfo {
        RevisionInfo { author: "root".to_owned(), ..nobody_s(number) }
    }
}
