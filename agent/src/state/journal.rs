//! The journal: one file a revision, each with the checksum of the one before.
//!
//! An entry is written and synced beside its place before the kernel's tables are, like the state
//! that holds its checksum, and takes its place after the state took its own. If the agent dies in
//! between, the state tells at the next start whether the entry counts.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::accepted::State;
use super::entry::Entry;
use super::file;
use super::objects::Objects;

/// Folder below the state directory.
const FOLDER: &str = "revisions";
/// How an entry is called that does not count yet.
const STAGED: &str = "new";

/// The accepted revisions, as far back as they are kept.
#[derive(Clone, Debug)]
pub struct Journal {
    folder: PathBuf,
}

/// An entry with its checksum.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sealed {
    /// The entry.
    pub entry: Entry,
    /// Its checksum.
    pub hash: String,
}

impl Journal {
    /// The journal of a state directory; nothing is touched.
    pub fn at(state: &Path) -> Self {
        Self { folder: state.join(FOLDER) }
    }

    /// Makes the folder.
    pub(super) fn create(&self) -> Result<()> {
        file::create_folder(&self.folder)
    }

    /// The numbers of all entries, oldest first.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn numbers(&self) -> Result<Vec<u64>> {
        let mut numbers = Vec::new();
        let listed = match fs::read_dir(&self.folder) {
            Ok(listed) => listed,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(numbers),
            Err(error) => return Err(error).with_context(|| format!("list {}", self.folder.display())),
        };
        for file in listed {
            let name = file.with_context(|| format!("list {}", self.folder.display()))?.file_name();
            numbers.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Reads one entry.
    ///
    /// # Errors
    /// It is not kept, or damaged.
    pub fn read(&self, number: u64) -> Result<Sealed> {
        match file::load(&self.path(number), file::REVISION)? {
            Some((entry, hash)) => Ok(Sealed { entry, hash }),
            None => bail!("{}", self.not_kept(number)?),
        }
    }

    fn not_kept(&self, number: u64) -> Result<String> {
        let numbers = self.numbers()?;
        Ok(match (numbers.first(), numbers.last()) {
            (Some(first), Some(last)) => format!("there is no r{number}; r{first} to r{last} are kept"),
            (None, _) | (_, None) => format!("there is no r{number}; no revision is kept"),
        })
    }

    /// The policy of an earlier revision, by undoing what came after it.
    ///
    /// # Errors
    /// An entry on the way is not kept or damaged, or they do not lead there.
    pub fn objects_at(&self, number: u64, state: &State) -> Result<Objects> {
        let wanted = self.read(number)?.entry;
        let (mut objects, mut at) = (state.objects.clone(), state.revision.number);
        while at > number {
            let entry = self.read(at)?.entry;
            objects = objects.but(&entry.after).below(&entry.before);
            // Smaller at every step, whatever the file says.
            at = entry.from.min(at - 1);
        }
        ensure!(
            at == number && objects.digest() == wanted.content,
            "the policy of r{number} cannot be put together again: the revisions after it do not lead back to it"
        );
        Ok(objects)
    }

    /// Number and checksum of the newest entry, by what it claims itself: a damaged entry is still followed by the next.
    pub(super) fn tip(&self) -> Result<Option<(u64, String)>> {
        let Some(number) = self.numbers()?.pop() else { return Ok(None) };
        let line = file::first_line(&self.path(number))?;
        Ok(Some((number, line.split_once(' ').map_or("", |(_, hash)| hash).to_owned())))
    }

    /// Writes an entry beside its place; returns its checksum.
    pub(super) fn stage(&self, entry: &Entry) -> Result<String> {
        file::write(&self.staged(entry.revision.number), file::REVISION, entry)
    }

    /// Gives a staged entry its place.
    pub(super) fn commit(&self, number: u64) -> Result<()> {
        let path = self.path(number);
        let renamed = fs::rename(self.staged(number), &path);
        renamed.with_context(|| format!("replace {}", path.display()))?;
        file::sync_folder(&self.folder)
    }

    /// Removes a staged entry that does not count.
    pub(super) fn discard(&self, number: u64) {
        drop(fs::remove_file(self.staged(number)));
    }

    /// After an interruption: a staged entry counts if the state holds its checksum.
    pub(super) fn settle(&self, state: Option<&State>) -> Result<()> {
        let folder = fs::read_dir(&self.folder).with_context(|| format!("list {}", self.folder.display()))?;
        for file in folder {
            let path = file.with_context(|| format!("list {}", self.folder.display()))?.path();
            if path.extension().is_none_or(|end| end != STAGED) {
                continue;
            }
            match state.filter(|state| self.counts(&path, state)) {
                Some(state) => self.commit(state.revision.number)?,
                None => fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?,
            }
        }
        Ok(())
    }

    fn counts(&self, staged: &Path, state: &State) -> bool {
        let found = file::load::<Entry>(staged, file::REVISION).ok().flatten();
        staged == self.staged(state.revision.number) && found.is_some_and(|(_, hash)| hash == state.head)
    }

    /// Removes the entries before `oldest`.
    pub(super) fn prune(&self, oldest: u64) -> Result<()> {
        for number in self.numbers()?.into_iter().take_while(|number| *number < oldest) {
            let path = self.path(number);
            fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
        Ok(())
    }

    /// Where an entry is.
    pub fn path(&self, number: u64) -> PathBuf {
        self.folder.join(number.to_string())
    }

    fn staged(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number}.{STAGED}"))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::{Draft, Found, Store};
    use super::*;
    use crate::api::types::{NamedText, Origin};

    /// A policy with this port in it.
    pub(crate) fn objects(port: u64) -> Objects {
        let text = format!("kind: Policy\nmetadata: {{name: ev}}\nspec: {port}\n");
        Objects::of(&[NamedText { name: "ev.yaml".to_owned(), text }], Origin::Cli)
    }

    /// Accepts one more revision, with its number as the port.
    pub(crate) fn accept(store: &Store, before: &State, keep: u32) -> State {
        let number = store.next_number(before.revision.number).unwrap();
        let mut state = State { objects: objects(number), ..before.clone() };
        state.revision.number = number;
        let [was, is] = before.objects.apart(&state.objects);
        let from = before.revision.number;
        let draft = Draft { from, before: was, after: is, keep, ..Draft::default() };
        store.stage(&mut state, draft).unwrap().commit().unwrap();
        state
    }

    pub(crate) fn filled(store: &Store, revisions: u64, keep: u32) -> State {
        (0..revisions).fold(State::default(), |before, _| accept(store, &before, keep))
    }

    #[test]
    fn every_revision_that_is_kept_can_be_put_together_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let state = filled(&store, 9, 4);
        assert_eq!(store.journal().numbers().unwrap(), [6, 7, 8, 9], "the rest gave way");
        for number in 6..=9 {
            assert_eq!(store.journal().objects_at(number, &state).unwrap(), objects(number), "r{number}");
        }
        let error = store.journal().objects_at(5, &state).unwrap_err().to_string();
        assert_eq!(error, "there is no r5; r6 to r9 are kept");
    }

    #[test]
    fn what_is_needed_to_go_back_is_kept_however_few_are_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let mut state = filled(&store, 3, 2);
        state.confirm = Some(super::super::Confirm::within(std::time::Duration::from_secs(60), 3));
        let state = accept(&store, &accept(&store, &accept(&store, &state, 2), 2), 2);
        assert_eq!(store.journal().objects_at(3, &state).unwrap(), objects(3));
    }

    #[test]
    fn an_interruption_at_any_rename_leaves_state_and_journal_in_step() {
        // The renames of a commit, in their order; the agent dies before one of them, or after all.
        let renames = ["previous", "accepted", "once", "revisions/3"];
        for done in 0..=renames.len() {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(folder.path()).unwrap();
            let before = filled(&store, 2, 10);
            let mut state = State { objects: objects(3), ..before.clone() };
            state.revision.number = 3;
            let [was, is] = before.objects.apart(&state.objects);
            let draft = Draft { from: 2, before: was, after: is, keep: 10, ..Draft::default() };
            let _ = store.stage(&mut state, draft).unwrap();
            for name in &renames[..done] {
                fs::rename(folder.path().join(format!("{name}.new")), folder.path().join(name)).unwrap();
            }
            drop(store);
            let store = Store::open(folder.path()).unwrap();
            let Found::Accepted(found, None) = store.load().unwrap() else { panic!("{done}: it is lost") };
            let newest = if done < 2 { 2 } else { 3 };
            assert_eq!(found.revision.number, newest, "{done}");
            assert_eq!(store.journal().numbers().unwrap().last(), Some(&newest), "{done}");
            assert_eq!(store.journal().read(newest).unwrap().hash, found.head, "{done}");
            assert_eq!(store.journal().objects_at(1, &found).unwrap(), objects(1), "{done}");
            let after = accept(&store, &found, 10);
            assert_eq!(after.revision.number, newest + 1);
            assert!(super::super::verify(folder.path(), &[]).unwrap().problems.is_empty(), "{done}");
        }
    }

    #[test]
    fn a_number_that_the_journal_has_is_not_given_twice() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let first = filled(&store, 1, 10);
        accept(&store, &first, 10);
        // The newest state was damaged, and the one before is used.
        let state = accept(&store, &first, 10);
        assert_eq!(state.revision.number, 3);
        assert_eq!(store.journal().objects_at(1, &state).unwrap(), objects(1), "past what is no ancestor");
        assert!(store.journal().objects_at(2, &state).is_err());
    }

    #[test]
    fn a_note_changes_neither_revision_nor_journal() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let state = State { folder_held: true, ..filled(&store, 2, 10) };
        store.amend(&state).unwrap();
        let Found::Accepted(found, None) = store.load().unwrap() else { panic!("it is lost") };
        assert_eq!(*found, state);
        assert!(super::super::verify(folder.path(), &[]).unwrap().problems.is_empty());
    }
}
