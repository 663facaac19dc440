//! Is the journal whole? Every entry against its checksum, its neighbours, and what was told outside.
//!
//! The chain shows that nothing inside was changed by somebody who did not rewrite all that follows.
//! Only an anchor outside shows that the end was not cut off, or all of it written anew.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use super::anchor::{Anchor, Chain};
use super::file;
use super::journal::Journal;
use super::parts::Parts;
use super::verified::Verified;
use super::{State, understand, whole};

/// Verifies the journal of a state directory.
///
/// # Errors
/// The directory cannot be read.
pub fn verify(folder: &Path, anchors: &[Anchor]) -> Result<Verified> {
    let journal = Journal::at(folder);
    let mut audit = Audit {
        numbers: journal.numbers()?,
        hashes: BTreeMap::new(),
        contents: BTreeMap::new(),
        oldest: None,
        found: Verified::nothing(Chain::Revisions),
    };
    for number in audit.numbers.clone() {
        audit.entry(&journal, number);
    }
    audit.gaps();
    audit.state(folder);
    audit.found.hold(anchors, &audit.hashes);
    Ok(audit.found)
}

/// What is known while the entries are read.
struct Audit {
    numbers: Vec<u64>,
    hashes: BTreeMap<u64, String>,
    /// Digests of the policies.
    contents: BTreeMap<u64, String>,
    /// The oldest entry that the newest one says is kept.
    oldest: Option<u64>,
    found: Verified,
}

impl Audit {
    fn entry(&mut self, journal: &Journal, number: u64) {
        self.found.entries += 1;
        let sealed = match journal.read(number) {
            Ok(sealed) => sealed,
            Err(error) => return self.wrong(format!("r{number}: {error:#}")),
        };
        let (entry, hash) = (sealed.entry, sealed.hash);
        if entry.revision.number != number {
            let says = entry.revision.number;
            self.wrong(format!("r{number}: the entry says that it is r{says}: entries were reordered"));
        }
        // The one before the oldest that is kept is not there to compare with.
        let before = self.numbers.iter().rev().find(|before| **before < number).copied();
        if let Some(before) = before
            && self.hashes.get(&before).is_some_and(|hash| *hash != entry.previous)
        {
            self.wrong(format!("r{number} does not follow r{before}: one of them was exchanged"));
        }
        if before.is_none() && number == 1 && !entry.previous.is_empty() {
            self.wrong("r1 says that something came before it".to_owned());
        }
        self.oldest = Some(entry.oldest);
        self.hashes.insert(number, hash);
        self.contents.insert(number, entry.content);
    }

    fn gaps(&mut self) {
        let (Some(first), Some(last)) = (self.numbers.first().copied(), self.numbers.last().copied()) else {
            return;
        };
        self.found.range = Some((first, last));
        let oldest = self.oldest.unwrap_or(first);
        let numbers = &self.numbers;
        self.found.missing((oldest..last).filter(|number| !numbers.contains(number)));
        let hash = self.hashes.get(&last).cloned();
        self.found.head = hash.map(|hash| Anchor { chain: Chain::Revisions, number: last, hash });
    }

    /// The accepted state names the entry it came with.
    fn state(&mut self, folder: &Path) {
        let Some(state) = self.accepted(folder) else { return };
        let number = state.revision.number;
        let newest = self.numbers.last().copied().unwrap_or_default();
        if state.head.is_empty() {
            // Accepted by a version that kept no journal.
        } else if newest < number {
            self.wrong(format!(
                "r{number} is in force, and the newest entry is r{newest}: the end is cut off"
            ));
        } else if self.hashes.get(&number).is_some_and(|hash| *hash != state.head) {
            self.wrong(format!("r{number} is in force with another entry than the journal has"));
        } else if self.contents.get(&number).is_some_and(|content| *content != state.objects.digest()) {
            self.wrong(format!("r{number} is in force with another policy than the journal has"));
        } else if newest > number {
            self.wrong(format!("r{number} is in force, and the journal goes on to r{newest}"));
        }
    }

    /// The accepted state, if it is whole.
    fn accepted(&mut self, folder: &Path) -> Option<State> {
        let (path, parts) = (folder.join(super::ACCEPTED), Parts::at(folder));
        let bytes = match file::read(&path) {
            Ok(Some(bytes)) => bytes,
            Ok(None) if self.numbers.is_empty() => return None,
            Ok(None) => return self.lacks(format!("{} is missing", path.display())),
            Err(error) => return self.lacks(format!("{error:#}")),
        };
        let links = understand(&path, &bytes).map(|found| found.parts).unwrap_or_default();
        let wrong: Vec<String> = links.iter().flat_map(|link| parts.problems(link)).collect();
        let told = !wrong.is_empty();
        wrong.into_iter().for_each(|problem| self.wrong(problem));
        match whole(&path, &bytes, |link| parts.read(link)) {
            Ok((state, _)) => Some(state),
            // Part by part.
            Err(_) if told => None,
            Err(error) => self.lacks(format!("{error:#}")),
        }
    }

    fn lacks(&mut self, problem: String) -> Option<State> {
        self.wrong(problem);
        None
    }

    fn wrong(&mut self, problem: String) {
        self.found.wrong(problem);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::Store;
    use super::super::journal::tests::{accept, filled};
    use super::*;

    /// Five revisions and the anchor of the newest.
    fn five() -> (tempfile::TempDir, Vec<Anchor>) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let state = filled(&store, 5, 10);
        (folder, vec![Anchor { chain: Chain::Revisions, number: 5, hash: state.head }])
    }

    fn told(folder: &Path, anchors: &[Anchor]) -> String {
        verify(folder, anchors).unwrap().problems.join("\n")
    }

    #[test]
    fn a_whole_journal_is_whole_and_vouched_for() {
        let (folder, anchors) = five();
        let found = verify(folder.path(), &anchors).unwrap();
        assert_eq!((found.problems, found.entries, found.range), (vec![], 5, Some((1, 5))));
        assert_eq!((found.vouched, found.head.as_ref()), (Some(5), anchors.first()));
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(verify(empty.path(), &[]).unwrap(), Verified::nothing(Chain::Revisions));
    }

    #[test]
    fn one_flipped_byte_anywhere_is_noticed() {
        let (folder, anchors) = five();
        for number in 1..=5 {
            let path = Journal::at(folder.path()).path(number);
            let whole = fs::read(&path).unwrap();
            for at in 0..whole.len() {
                let mut flipped = whole.clone();
                flipped[at] ^= 1;
                fs::write(&path, &flipped).unwrap();
                let told = told(folder.path(), &anchors);
                assert!(told.contains(&format!("r{number}")), "byte {at} of r{number}: {told:?}");
            }
            fs::write(&path, &whole).unwrap();
        }
        assert_eq!(told(folder.path(), &anchors), "");
    }

    #[test]
    fn a_missing_entry_is_noticed_wherever_it_was() {
        let (folder, anchors) = five();
        for number in 1..=5 {
            let path = Journal::at(folder.path()).path(number);
            let whole = fs::read(&path).unwrap();
            fs::remove_file(&path).unwrap();
            let told = told(folder.path(), &anchors);
            assert!(told.contains(&format!("r{number}")), "r{number}: {told:?}");
            fs::write(&path, &whole).unwrap();
        }
    }

    #[test]
    fn exchanged_entries_are_noticed() {
        let (folder, _) = five();
        let journal = Journal::at(folder.path());
        let aside = folder.path().join("aside");
        fs::rename(journal.path(2), &aside).unwrap();
        fs::rename(journal.path(3), journal.path(2)).unwrap();
        fs::rename(&aside, journal.path(3)).unwrap();
        assert!(told(folder.path(), &[]).contains("entries were reordered"));
    }

    #[test]
    fn a_journal_that_was_cut_off_with_its_state_needs_the_anchor() {
        let (folder, anchors) = five();
        let journal = Journal::at(folder.path());
        fs::remove_file(journal.path(5)).unwrap();
        assert!(told(folder.path(), &[]).contains("the end is cut off"), "the state tells");
        // The state of before, too: now only what was told outside knows.
        fs::rename(folder.path().join("previous"), folder.path().join("accepted")).unwrap();
        assert_eq!(told(folder.path(), &[]), "");
        assert!(told(folder.path(), &anchors).contains("r5 was anchored, and the newest entry is r4"));
    }

    #[test]
    fn a_journal_that_was_written_anew_needs_the_anchor() {
        let (folder, anchors) = five();
        let other = tempfile::tempdir().unwrap();
        let store = Store::open(other.path()).unwrap();
        // The same numbers with another history.
        (0..5).fold(State::default(), |mut before, _| {
            before.revision.author = "somebody else".to_owned();
            accept(&store, &before, 10)
        });
        assert_eq!(told(other.path(), &[]), "");
        assert_eq!(told(other.path(), &anchors), "r5 is not what was anchored");
        assert_eq!(told(folder.path(), &anchors), "");
    }
}
