//! The candidate on disk: what somebody wants to see tried, not what it makes of the policy in force.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{Objects, Store};
use crate::api::types::{Origin, RevisionInfo};
use crate::policy::Ids;

/// A change of policy that is judged beside what is in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Who, when, from where and why; the number is that of the revision that it was written for.
    pub made: RevisionInfo,
    /// The objects of its files.
    pub change: Objects,
    /// True if what is of its origin and not in its files goes.
    pub prune: bool,
    /// The revision over which it is tried: counters are about no other.
    pub over: u64,
    /// The book of numbers, so that a counter keeps its meaning while that revision is in force.
    pub ids: Ids,
}

impl Candidate {
    /// The origin whose other objects go.
    pub fn prunes(&self) -> Option<Origin> {
        self.prune.then_some(self.made.origin)
    }
}

impl Store {
    /// Reads the candidate, if there is one.
    ///
    /// # Errors
    /// It is damaged.
    pub fn candidate(&self) -> Result<Option<Candidate>> {
        self.list(FILE, FORMAT)
    }

    /// Keeps the candidate, or that there is none, whole or not at all.
    ///
    /// # Errors
    /// The disk is full or not writable; what is kept is what was.
    pub fn keep_candidate(&self, candidate: Option<&Candidate>) -> Result<()> {
        self.keep_list(FILE, FORMAT, &candidate)
    }
}

const FILE: &str = "candidate";
const FORMAT: &str = "bulkhead-candidate-3";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::accepted::tests::revision;

    #[test]
    fn a_candidate_is_kept_and_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.candidate().unwrap(), None);
        let candidate = Candidate {
            made: revision(7),
            change: Objects::default(),
            prune: false,
            over: 8,
            ids: Ids::default(),
        };
        store.keep_candidate(Some(&candidate)).unwrap();
        assert_eq!(store.candidate().unwrap(), Some(candidate));
        store.keep_candidate(None).unwrap();
        assert_eq!(store.candidate().unwrap(), None);
    }
}
