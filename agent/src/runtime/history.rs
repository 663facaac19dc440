//! Revisions after they were accepted: listed, gone back to, confirmed or given up.

use std::time::Duration;

use anyhow::{Context, Result};

use super::apply::{Proposal, Refused};
use super::author::Author;
use super::engine::Engine;
use crate::api::types::{
    ApplyReply, Cause, Done, Origin, RevisionDetail, RevisionSummary, RollbackRequest, Terms, Waiting,
};
use crate::state::{Anchor, Chain, Moment, State};

impl Engine {
    /// Every revision that is kept, the newest first.
    ///
    /// # Errors
    /// The journal cannot be listed.
    pub fn revisions(&self) -> Result<Vec<RevisionSummary>> {
        let journal = self.store.journal();
        let newest = journal.numbers()?.into_iter().rev();
        // `bulkhead audit verify` tells of those that cannot be read.
        let entries = newest.filter_map(|number| journal.read(number).ok()).map(|sealed| sealed.entry);
        let in_force = self.number();
        Ok(entries
            .map(|entry| RevisionSummary {
                changes: entry.counts(),
                cause: entry.cause,
                in_force: entry.revision.number == in_force,
                revision: entry.revision,
            })
            .collect())
    }

    /// One revision with everything it changed.
    ///
    /// # Errors
    /// It is not kept, or damaged.
    pub fn revision(&self, number: u64) -> Result<RevisionDetail> {
        let sealed = self.store.journal().read(number)?;
        let (entry, hash) = (sealed.entry, sealed.hash);
        let changes = entry.changes();
        let (revision, cause, previous) = (entry.revision, entry.cause, entry.previous);
        Ok(RevisionDetail { revision, cause, changes, hash, previous })
    }

    /// Goes back to the policy of an earlier revision, by a new one.
    ///
    /// # Errors
    /// [`Refused`]; what was in force is in force.
    pub fn rollback(&mut self, request: &RollbackRequest, author: Author) -> Result<ApplyReply, Refused> {
        self.fits(&request.terms)?;
        let to = self.target(request.to)?;
        let mut terms = request.terms.clone();
        terms.message.get_or_insert_with(|| format!("back to r{to}"));
        self.go_back(Cause::Rollback(to), to, &terms, author)
    }

    /// The revision to go back to: the last confirmed one, else the one before.
    fn target(&self, wanted: Option<u64>) -> Result<u64, Refused> {
        let Some(state) = &self.accepted else {
            return Err(Refused::because("no policy was accepted yet, so there is none to go back to"));
        };
        let number = state.revision.number;
        match (wanted, &state.confirm) {
            (Some(to), _) if to >= number => {
                let why = if to == number { "is in force" } else { "does not exist yet" };
                Err(Refused::because(format!("r{to} {why}; name an earlier one (see `bulkhead revisions`)")))
            }
            (Some(to), _) => Ok(to),
            (None, Some(confirm)) => Ok(confirm.back_to),
            (None, None) => match self.store.journal().read(number) {
                Ok(sealed) if sealed.entry.from > 0 => Ok(sealed.entry.from),
                Ok(_) => {
                    Err(Refused::because(format!("r{number} is the first revision: there is none before")))
                }
                Err(error) => Err(Refused::because(format!("{error:#}"))),
            },
        }
    }

    fn go_back(
        &mut self,
        cause: Cause,
        to: u64,
        terms: &Terms,
        author: Author,
    ) -> Result<ApplyReply, Refused> {
        let state = self.accepted.as_ref().ok_or_else(|| Refused::because("no policy was accepted yet"))?;
        let target = self.store.journal().objects_at(to, state);
        let target = target.map_err(|error| Refused::because(format!("{error:#}; {}", self.stays())))?;
        let merged = self.without_ended().restored(&target);
        self.propose(Proposal { merged, read: None, cause, author, origin: Origin::Cli }, terms)
    }

    /// Refuses a change whose terms do not fit what is in force.
    pub(super) fn admit(&self, terms: &Terms) -> Result<(), Refused> {
        self.fits(terms)?;
        let Some(state) = &self.accepted else {
            let why =
                "there is no revision to go back to: the first apply cannot wait for `bulkhead confirm`";
            return if terms.confirm_within_ms.is_some() { Err(Refused::because(why)) } else { Ok(()) };
        };
        let number = state.revision.number;
        match (&state.confirm, terms.confirm_within_ms, terms.dry_run) {
            (Some(confirm), None, false) => Err(Refused::because(format!(
                "r{number} waits for `bulkhead confirm`, or `bulkhead rollback` to r{}: one of them first; only `bulkhead \
                 grant create` need not wait",
                confirm.back_to
            ))),
            (None, Some(_), false) => self.can_go_back(number),
            (None | Some(_), None | Some(_), _) => Ok(()),
        }
    }

    /// Whoever changed it in between was not seen by whoever wrote this change.
    pub(super) fn fits(&self, terms: &Terms) -> Result<(), Refused> {
        let number = self.number();
        match terms.if_revision {
            Some(wanted) if wanted != number => Err(Refused::because(format!(
                "r{number} is in force and not r{wanted}: somebody changed the policy meanwhile \
                 (`bulkhead revisions show {number}`)"
            ))),
            Some(_) | None => Ok(()),
        }
    }

    fn can_go_back(&self, number: u64) -> Result<(), Refused> {
        let kept = self.store.journal().read(number);
        kept.map(|_| ()).map_err(|error| Refused::because(format!("there would be no way back: {error:#}")))
    }

    /// Keeps a revision that waits.
    ///
    /// # Errors
    /// It cannot be written down; it goes on waiting.
    pub fn confirm(&mut self) -> Result<Done> {
        self.amend("confirm the revision", |state| state.confirm.take().is_some())
    }

    /// Lets the folder apply itself again.
    ///
    /// # Errors
    /// It cannot be written down; the folder is held.
    pub fn resume(&mut self) -> Result<Done> {
        let done = self.amend("let the folder go", |state| std::mem::take(&mut state.folder_held))?;
        self.look_at_folder();
        Ok(done)
    }

    /// Changes a note on the accepted state; `change` says whether there was anything to do.
    fn amend(&mut self, act: &str, change: impl FnOnce(&mut State) -> bool) -> Result<Done> {
        let mut state = self.accepted.clone().context("no policy was accepted yet")?;
        let revision = state.revision.number;
        if !change(&mut state) {
            return Ok(Done { revision, unchanged: true });
        }
        self.store.amend(&state).with_context(|| act.to_owned())?;
        self.accepted = Some(state);
        Ok(Done { revision, unchanged: false })
    }

    /// The revision that waits to be confirmed.
    pub(super) fn waiting(&self) -> Option<Waiting> {
        let confirm = self.accepted.as_ref()?.confirm.as_ref()?;
        let seconds = confirm.left(&Moment::now()).as_millis().div_ceil(1000);
        Some(Waiting { seconds: u64::try_from(seconds).unwrap_or(u64::MAX), back_to: confirm.back_to })
    }

    /// How long until [`Self::expire`] has something to do.
    pub(super) fn expires_in(&self) -> Option<Duration> {
        Some(self.accepted.as_ref()?.confirm.as_ref()?.left(&Moment::now()))
    }

    /// Goes back if nobody confirmed in time.
    pub(super) fn expire(&mut self) {
        let Some(state) =
            self.accepted.as_ref().filter(|_| self.expires_in().is_some_and(|left| left.is_zero()))
        else {
            return;
        };
        let (number, Some(confirm)) = (state.revision.number, state.confirm.clone()) else { return };
        tracing::warn!("r{number} was not confirmed: back to r{}", confirm.back_to);
        let seconds = confirm.within_ms.div_ceil(1000);
        let message = Some(format!("r{number} was not confirmed within {seconds} s"));
        let author = Author { uid: nix::unistd::geteuid().as_raw(), pid: 0 };
        let terms = Terms { message, ..Terms::default() };
        let gone = self.go_back(Cause::Unconfirmed(confirm.back_to), confirm.back_to, &terms, author);
        self.stuck = match gone {
            // Nothing differed: there is nothing to wait for any more.
            Ok(reply) if reply.unchanged => self.confirm().err().map(|error| format!("{error:#}")),
            Ok(_) => None,
            Err(why) => Some(format!(
                "r{number} was not confirmed, and r{} does not come back: {why}",
                confirm.back_to
            )),
        };
        self.stuck.iter().for_each(|stuck| tracing::error!("{stuck}"));
    }

    /// What follows a new accepted state, whatever led to it.
    pub(super) fn accepted_anew(&mut self) {
        self.stuck = None;
        self.wake.notify_one();
        if let Some(state) = self.accepted.as_ref().filter(|state| !state.head.is_empty()) {
            let (number, hash) = (state.revision.number, state.head.clone());
            self.anchoring.tell(Anchor { chain: Chain::Revisions, number, hash });
        }
    }
}
