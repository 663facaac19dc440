//! What was accepted, on disk: the policy as written, and the numbers it was given.
//!
//! A change is written and synced beside the accepted file before the kernel is touched, and takes
//! its place by one rename after; an interruption anywhere leaves one whole policy. What it shares with earlier states
//! lies in [`parts`], so a change writes what it changes. Beside it lies the [`Journal`] of what was accepted before.

mod accepted;
mod anchor;
mod attributes;
mod audit;
mod buckets;
mod candidate;
mod clock;
mod confirm;
mod digest;
mod entry;
mod file;
mod grants;
mod journal;
mod link;
mod log;
mod objects;
mod packed;
mod parts;
mod quarantine;
mod record;
mod record_audit;
mod step;
mod verified;
#[cfg(test)]
mod walk;
mod warming;
mod written;

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, anyhow, ensure};
use nix::fcntl::{Flock, FlockArg};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::types::Cause;
use crate::processors;

use parts::{Link, Part, Parts};
use step::Content;

pub use accepted::State;
pub use anchor::{Anchor, Chain, anchors_in};
pub use attributes::{Saying, Sayings, known};
pub use audit::verify;
pub use candidate::Candidate;
pub use clock::KeptClock;
pub use confirm::{Confirm, Moment, boot_id};
pub(crate) use digest::digest_of;
pub use entry::Entry;
pub use grants::{Approval, Granted, Grants};
pub use journal::{Journal, Sealed};
pub use objects::{Merged, Objects};
pub use quarantine::{Quarantine, Quarantines};
pub use record_audit::verify_grants;
pub use verified::Verified;
pub use warming::warms_for;

/// The state directory, held by one agent.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    journal: Journal,
    parts: Parts,
    /// What the accepted state is made of.
    made_of: Mutex<Vec<Arc<Part>>>,
    _lock: Flock<fs::File>,
}

/// What a store held at start.
#[derive(Debug)]
pub enum Found {
    /// Nothing was ever accepted here.
    Nothing,
    /// The accepted state, and what had to be passed over to get to it.
    Accepted(Box<State>, Option<String>),
    /// Something was accepted once and cannot be read: stay closed.
    Lost(String),
}

/// A state that is written and synced, but not accepted.
#[derive(Debug)]
#[must_use = "staged state is lost unless it is committed"]
pub struct Staged<'s> {
    store: &'s Store,
    number: u64,
    oldest: u64,
    /// What it is made of.
    parts: Vec<Arc<Part>>,
}

/// What a new state changes, for the journal.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// What led to it.
    pub cause: Cause,
    /// The revision whose policy it changes; 0 if there is none.
    pub from: u64,
    /// Every object that it changes or removes, as it was.
    pub before: Objects,
    /// Every object that it adds or changes, as it is.
    pub after: Objects,
    /// How many revisions are kept with it.
    pub keep: u32,
}

impl Store {
    /// Opens the directory and locks it.
    ///
    /// # Errors
    /// It cannot be made or another agent holds it.
    pub fn open(folder: &Path) -> Result<Self> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.with_context(|| format!("create the state directory {}", folder.display()))?;
        protect(folder)?;
        let path = folder.join("lock");
        let mut options = fs::OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(&path);
        let file = file.with_context(|| format!("open {}", path.display()))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| {
            anyhow!(
                "another agent holds {} ({error}): one agent per state directory; stop the other first",
                path.display()
            )
        })?;
        let journal = Journal::at(folder);
        journal.create()?;
        let parts = Parts::at(folder);
        parts.create()?;
        Ok(Self { folder: folder.to_owned(), journal, parts, made_of: Mutex::default(), _lock: lock })
    }

    /// What was accepted before.
    pub const fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Reads the accepted state, or the one before if that is damaged; a damaged file is moved aside.
    ///
    /// # Errors
    /// A file cannot be read, or a damaged one cannot be moved aside.
    pub fn load(&self) -> Result<Found> {
        let found = self.find()?;
        let state = match &found {
            Found::Accepted(state, _) => Some(&**state),
            Found::Nothing | Found::Lost(_) => None,
        };
        if matches!(found, Found::Accepted(_, None)) {
            self.sweep();
        }
        if let Err(error) = self.journal.settle(state) {
            tracing::error!("the journal of revisions could not be put in order: {error:#}");
        }
        Ok(found)
    }

    fn find(&self) -> Result<Found> {
        let mut passed_over = None;
        for path in [self.accepted(), self.previous()] {
            let Some(bytes) = file::read(&path)? else { continue };
            match whole(&path, &bytes, |link| self.parts.read_and_mend(link)) {
                Ok((state, parts)) => {
                    *self.made_of() = parts;
                    return Ok(Found::Accepted(Box::new(state), passed_over));
                }
                Err(error) => {
                    let aside = file::move_aside(&path)?;
                    let note = format!("{error:#}; it is kept as {}", aside.display());
                    passed_over = Some(passed_over.map_or(note.clone(), |first| format!("{first}; {note}")));
                }
            }
        }
        if let Some(why) = passed_over {
            return Ok(Found::Lost(why));
        }
        let once = self.folder.join(ONCE).exists();
        let lost = || format!("{} is missing, and there was one", self.accepted().display());
        Ok(if once { Found::Lost(lost()) } else { Found::Nothing })
    }

    /// The number of the next revision: one that the journal has is never given twice.
    ///
    /// # Errors
    /// The journal cannot be listed.
    pub fn next_number(&self, accepted: u64) -> Result<u64> {
        Ok(self.journal.numbers()?.last().copied().unwrap_or_default().max(accepted) + 1)
    }

    /// Writes a state and its journal entry beside the accepted ones, and all else that takes room: a commit only
    /// renames. The state is told the entry's checksum.
    ///
    /// # Errors
    /// The disk is full or not writable; what was accepted is untouched.
    pub fn stage(&self, state: &mut State, draft: Draft) -> Result<Staged<'_>> {
        let number = state.revision.number;
        let needed = state.confirm.as_ref().map_or(number, |confirm| confirm.back_to);
        let oldest = self.oldest(number, draft.keep)?.min(needed);
        match self.write_beside(state, draft, oldest) {
            Ok(parts) => Ok(Staged { store: self, number, oldest, parts }),
            Err(error) => {
                self.discard(number);
                Err(error)
            }
        }
    }

    /// What could not be written whole takes room that is needed.
    fn discard(&self, number: u64) {
        NAMES.iter().for_each(|name| drop(fs::remove_file(self.beside(name))));
        self.journal.discard(number);
        self.sweep();
    }

    /// The oldest entry that stays when `number` comes.
    fn oldest(&self, number: u64, keep: u32) -> Result<u64> {
        let first = self.journal.numbers()?.first().copied().unwrap_or(number);
        Ok(first.max((number + 1).saturating_sub(u64::from(keep.max(1)))))
    }

    fn write_beside(&self, state: &mut State, draft: Draft, oldest: u64) -> Result<Vec<Arc<Part>>> {
        let previous = self.journal.tip()?.map_or_else(String::new, |(_, hash)| hash);
        let Draft { cause, from, before, after, .. } = draft;
        let (revision, content) = (state.revision.clone(), state.objects.digest());
        let entry = Entry { revision, cause, from, before, after, content, previous, oldest };
        // Neither needs the other, and there may be much to write of both.
        let (head, parts) = processors::both(|| self.journal.stage(&entry), || self.parts_below(state));
        let parts = parts?;
        state.head = head?;
        self.write_state(state, &parts)?;
        if self.accepted().exists() {
            // A second name for it: there is an accepted file at every moment.
            drop(fs::remove_file(self.beside(PREVIOUS)));
            fs::hard_link(self.accepted(), self.beside(PREVIOUS)).context("keep the previous state")?;
        }
        fs::write(self.beside(ONCE), b"").context("mark that a policy was accepted")?;
        Ok(parts)
    }

    /// What a state is to be made of, written.
    fn parts_below(&self, state: &State) -> Result<Vec<Arc<Part>>> {
        self.parts.below(self.made_of().clone(), state.revision.number, &content(state))
    }

    /// Writes a state beside the accepted one.
    fn write_state(&self, state: &State, parts: &[Arc<Part>]) -> Result<()> {
        let content = content(state);
        let accepted = written::Accepted::of(state, parts, &content);
        file::write(&self.beside(ACCEPTED), file::STATE, &accepted).map(drop)
    }

    /// Replaces the accepted state by the same revision with another note on it: confirmed, held.
    ///
    /// # Errors
    /// The disk is full or not writable; the accepted state is untouched.
    pub fn amend(&self, state: &State) -> Result<()> {
        let write = |parts: Vec<_>| {
            self.write_state(state, &parts)?;
            self.rename(ACCEPTED).map(|()| parts)
        };
        match self.parts_below(state).and_then(write) {
            Ok(parts) => *self.made_of() = parts,
            Err(error) => {
                drop(fs::remove_file(self.beside(ACCEPTED)));
                self.sweep();
                return Err(error);
            }
        }
        file::sync_folder(&self.folder)?;
        self.tidy();
        Ok(())
    }

    fn made_of(&self) -> MutexGuard<'_, Vec<Arc<Part>>> {
        self.made_of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes what a new accepted state has made superfluous, once no power cut can bring back the one before.
    fn tidy(&self) {
        let others = self.parts.has_others_than(&self.made_of());
        if others {
            self.sweep();
        }
    }

    /// Removes the parts that neither the accepted state nor the one before is made of.
    fn sweep(&self) {
        let links = |path: &Path| -> Result<Vec<Link>> {
            let found = file::read(path)?.map(|bytes| understand(path, &bytes)).transpose()?;
            Ok(found.map(|found| found.parts).unwrap_or_default())
        };
        let wanted = links(&self.accepted()).and_then(|parts| Ok([parts, links(&self.previous())?].concat()));
        // A power cut must not bring back a file whose parts are gone; and of what cannot be read nobody knows what it is
        // made of.
        let swept = file::sync_folder(&self.folder).and(wanted).and_then(|wanted| self.parts.sweep(&wanted));
        if let Err(error) = swept {
            tracing::warn!("parts of earlier states could not be removed: {error:#}");
        }
    }

    fn accepted(&self) -> PathBuf {
        self.folder.join(ACCEPTED)
    }

    fn previous(&self) -> PathBuf {
        self.folder.join(PREVIOUS)
    }

    /// Where a file is written before it takes its name.
    fn beside(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.new"))
    }

    /// Reads a list of the state; an empty one if there is none yet.
    fn list<T: DeserializeOwned + Default>(&self, name: &str, format: &str) -> Result<T> {
        let found = file::load(&self.folder.join(name), format)?;
        Ok(found.map(|(list, _)| list).unwrap_or_default())
    }

    /// Keeps a list of the state, whole or not at all.
    fn keep_list(&self, name: &str, format: &str, list: &impl Serialize) -> Result<()> {
        file::write(&self.beside(name), format, list)?;
        self.rename(name)?;
        file::sync_folder(&self.folder)
    }

    fn rename(&self, name: &str) -> Result<()> {
        let path = self.folder.join(name);
        fs::rename(self.beside(name), &path).with_context(|| format!("replace {}", path.display()))
    }
}

/// What is written down of a state as it differs from what it is made of.
fn content(state: &State) -> Content {
    Content { objects: state.objects.clone(), ids: state.ids.clone() }
}

/// Reads what was accepted, or what was before if that is damaged, and touches nothing; nothing if there is neither.
///
/// # Errors
/// Neither can be read.
pub fn peek(folder: &Path) -> Result<Option<State>> {
    let (parts, mut damaged) = (Parts::at(folder), None);
    for path in [ACCEPTED, PREVIOUS].map(|name| folder.join(name)) {
        let Some(bytes) = file::read(&path)? else { continue };
        match whole(&path, &bytes, |link| parts.read(link)) {
            Ok((state, _)) => return Ok(Some(state)),
            Err(error) => damaged = Some(error),
        }
    }
    damaged.map_or(Ok(None), Err)
}

/// Understands the file of a state, and not what it is made of.
fn understand(path: &Path, bytes: &[u8]) -> Result<written::Found> {
    file::parse(path, file::STATE, bytes).map(|(found, _)| found)
}

/// Puts a state together.
fn whole(
    path: &Path,
    bytes: &[u8],
    read: impl Fn(&Link) -> Result<step::Read>,
) -> Result<(State, Vec<Arc<Part>>)> {
    understand(path, bytes)?.whole(read).with_context(|| format!("{} is damaged", path.display()))
}

/// Makes the directory root's alone: whoever writes in it decides what is enforced.
fn protect(folder: &Path) -> Result<()> {
    let found = fs::symlink_metadata(folder).with_context(|| format!("look at {}", folder.display()))?;
    let owner = nix::unistd::geteuid().as_raw();
    ensure!(found.is_dir(), "{} is not a directory", folder.display());
    ensure!(
        found.uid() == owner,
        "{} belongs to uid {}, not to the agent's {owner}: chown it",
        folder.display(),
        found.uid()
    );
    let closed = fs::Permissions::from_mode(0o700);
    fs::set_permissions(folder, closed).with_context(|| format!("close {} to others", folder.display()))
}

const ACCEPTED: &str = "accepted";
const PREVIOUS: &str = "previous";
/// Says that something was accepted once, so that its absence is a loss.
const ONCE: &str = "once";
const NAMES: [&str; 3] = [ACCEPTED, PREVIOUS, ONCE];

impl Staged<'_> {
    /// Makes the staged state the accepted one, by one rename.
    ///
    /// # Errors
    /// The directory is not writable; the accepted state is the old one.
    pub fn commit(self) -> Result<()> {
        let store = self.store;
        if store.beside(PREVIOUS).exists() {
            store.rename(PREVIOUS)?;
        }
        store.rename(ACCEPTED)?;
        // It is accepted now, whatever becomes of the rest.
        *store.made_of() = self.parts;
        match store.rename(ONCE).and_then(|()| file::sync_folder(&store.folder)) {
            Ok(()) => store.tidy(),
            Err(error) => tracing::warn!("the policy is accepted, but a power cut may lose it: {error:#}"),
        }
        let kept = store.journal.commit(self.number).and_then(|()| store.journal.prune(self.oldest));
        if let Err(error) = kept {
            tracing::warn!("the policy is accepted, but its journal is not in order: {error:#}");
        }
        Ok(())
    }

    /// Gives it up.
    pub fn discard(self) {
        self.store.discard(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(revision: u64) -> State {
        State { revision: accepted::tests::revision(revision), ..State::default() }
    }

    fn draft(from: u64) -> Draft {
        Draft { from, keep: 10, ..Draft::default() }
    }

    fn accept(store: &Store, revision: u64) {
        store.stage(&mut state(revision), draft(revision - 1)).unwrap().commit().unwrap();
    }

    fn revision(found: &Found) -> Option<u64> {
        match found {
            Found::Accepted(state, _) => Some(state.revision.number),
            Found::Nothing | Found::Lost(_) => None,
        }
    }

    #[test]
    fn what_was_committed_is_found_and_what_was_only_staged_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert!(matches!(store.load().unwrap(), Found::Nothing));
        accept(&store, 1);
        accept(&store, 2);
        let _ = store.stage(&mut state(3), draft(2)).unwrap();
        assert_eq!(revision(&store.load().unwrap()), Some(2));
    }

    #[test]
    fn a_second_agent_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let first = Store::open(folder.path()).unwrap();
        let error = Store::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("another agent"), "{error}");
        drop(first);
        Store::open(folder.path()).unwrap();
    }

    #[test]
    fn every_cut_and_every_flipped_byte_is_noticed_and_the_previous_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        accept(&store, 1);
        accept(&store, 2);
        let whole = fs::read(store.accepted()).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            for damaged in [&whole[..at], &flipped] {
                fs::write(store.accepted(), damaged).unwrap();
                let found = store.load().unwrap();
                assert_eq!(revision(&found), Some(1), "damage at byte {at}");
                assert!(matches!(found, Found::Accepted(_, Some(_))), "the damage is told");
            }
        }
    }

    #[test]
    fn a_look_passes_over_damage_and_moves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let peeked = || peek(folder.path()).map(|state| state.map(|state| state.revision.number));
        assert_eq!(peeked().unwrap(), None);
        accept(&store, 1);
        accept(&store, 2);
        assert_eq!(peeked().unwrap(), Some(2));
        fs::write(store.accepted(), b"nonsense").unwrap();
        assert_eq!(peeked().unwrap(), Some(1));
        fs::write(store.previous(), b"nonsense").unwrap();
        assert!(peeked().is_err() && store.accepted().exists());
    }

    #[test]
    fn a_loss_is_told_from_a_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        accept(&store, 1);
        fs::remove_file(store.accepted()).unwrap();
        assert!(matches!(store.load().unwrap(), Found::Lost(_)));
        fs::write(store.accepted(), b"nonsense").unwrap();
        assert!(matches!(store.load().unwrap(), Found::Lost(why) if why.contains("damaged")));
    }
}
