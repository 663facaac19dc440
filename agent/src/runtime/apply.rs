//! A change of policy: checked, kept on disk, brought into force; or nothing at all.

use std::time::Instant;

use anyhow::{Context, Result};
use jiff::Timestamp;

use super::author::Author;
use super::engine::Engine;
use super::host;
use super::in_force::InForce;
use super::pending::not_applicable;
use crate::api::types::{ApplyReply, ApplyRequest, Changes, Pending, Refusal, RevisionInfo};
use crate::policy::{self, Diagnostics, Ids, SourceFile};
use crate::state::{Merged, Objects, State};

/// Why an apply did nothing.
#[derive(Debug)]
pub enum Refused {
    /// The policy is not right; nothing was tried.
    Policy(Refusal),
    /// The host could not do it; what was in force is in force.
    Host(anyhow::Error),
}

impl Refused {
    /// The refusal as the status tells it.
    pub(super) fn pending(&self) -> Pending {
        match self {
            Self::Policy(refusal) => not_applicable(&refusal.diagnostics),
            Self::Host(error) => {
                Pending { errors: 1, first: Some(format!("{error:#}")), changes: Changes::default() }
            }
        }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Policy(refusal) => write!(f, "{}", refusal.error),
            Self::Host(error) => write!(f, "{error:#}"),
        }
    }
}

impl Engine {
    /// Checks a change of policy and, unless only asked, brings it into force and accepts it.
    ///
    /// # Errors
    /// [`Refused`]; what was in force is in force.
    pub fn apply(&mut self, request: &ApplyRequest, author: Author) -> Result<ApplyReply, Refused> {
        let started = Instant::now();
        let host = host::observe().map_err(Refused::Host)?;
        let merged = self.merge(request)?;
        let ids = self.accepted.as_ref().map_or_else(Ids::default, |state| state.ids.clone());
        let in_force = InForce::prepare(merged.objects.files(), &self.agent, &host, &ids)
            .map_err(|problems| self.refused("the policy is refused", problems))?;
        whole(&merged.objects, &in_force).map_err(Refused::Host)?;
        let mut reply = ApplyReply {
            revision: self.accepted.as_ref().map_or(0, |state| state.revision.number),
            generation: self.kernel.as_ref().map_or(0, |kernel| kernel.datapath().epoch().generation.0),
            unchanged: merged.changes.is_empty() && self.in_force.is_some() && !self.is_troubled(),
            dry_run: request.dry_run,
            changes: merged.changes,
            writes: 0,
            elapsed_ms: 0,
            notes: in_force.notes.clone(),
            tests: in_force.tests,
        };
        if !request.dry_run && !reply.unchanged {
            let revision = self.next_revision(request, author);
            self.accept(merged.objects, in_force, revision, &mut reply).map_err(Refused::Host)?;
        }
        reply.elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(reply)
    }

    /// An apply of what is accepted already settles a loss: the operator has seen it.
    const fn is_troubled(&self) -> bool {
        self.loss.is_some() || self.held.is_some()
    }

    /// The request's files alone first, so that their own mistakes are told in their own terms.
    pub(super) fn merge(&self, request: &ApplyRequest) -> Result<Merged, Refused> {
        let files: Vec<SourceFile> =
            request.files.iter().map(|file| SourceFile::new(file.name.clone(), file.text.clone())).collect();
        let change = Objects::of(&request.files);
        let before = self.accepted.as_ref().map(|state| state.objects.clone()).unwrap_or_default();
        let merged = before.merged(&change, request.prune);
        // A document that cannot be read has no kind or name, so no merge would notice it.
        let problems = if request.prune || self.accepted.is_none() {
            policy::parse(files, Some(&self.agent)).err().unwrap_or_default()
        } else {
            policy::problems_alone(files)
        };
        if problems.has_errors() {
            return Err(self.refused("the policy is refused", problems));
        }
        Ok(merged)
    }

    pub(super) fn refused(&self, error: &str, problems: Diagnostics) -> Refused {
        let kept = self.accepted.as_ref().map_or_else(
            || "nothing is enforced yet".to_owned(),
            |state| format!("r{} stays in force", state.revision.number),
        );
        Refused::Policy(Refusal {
            error: format!("{error}; {kept}"),
            diagnostics: problems.iter().cloned().collect(),
        })
    }

    fn next_revision(&self, request: &ApplyRequest, author: Author) -> RevisionInfo {
        RevisionInfo {
            number: self.accepted.as_ref().map_or(0, |state| state.revision.number) + 1,
            time: Timestamp::now(),
            author: author.describe(request.sudo_user.as_deref()),
            message: request.message.clone(),
        }
    }

    /// Disk, kernel, disk: a full disk refuses before the kernel is touched, and the rename comes last.
    fn accept(
        &mut self,
        objects: Objects,
        in_force: InForce,
        revision: RevisionInfo,
        reply: &mut ApplyReply,
    ) -> Result<()> {
        let generations = self.accepted.as_ref().map(|state| state.generations.clone()).unwrap_or_default();
        let mut state = State { revision, objects, ids: in_force.ids.clone(), generations };
        self.open_kernel()?;
        let kernel = self.kernel.as_mut().context("the datapath is not open")?;
        // If nothing has to change in the kernel, the generation stays and the next one is this revision's too.
        state.published(kernel.datapath().epoch().generation.0 + 1);
        let staged = self.store.stage(&state).context("keep the policy on disk; nothing was changed")?;
        let applied = match kernel.apply(&in_force.compiled.tables) {
            Ok(applied) => applied,
            Err(error) => {
                // It may have failed behind the flip: what is not accepted must not stay in force.
                self.undo();
                return Err(error);
            }
        };
        if let Err(error) = staged.commit() {
            self.undo();
            return Err(error).context("accept the policy; what was in force is in force again");
        }
        reply.revision = state.revision.number;
        reply.generation = applied.generation.0;
        reply.writes = applied.changed;
        tracing::info!(
            "r{} by {} is in force (generation {})",
            state.revision.number,
            state.revision.author,
            applied.generation.0
        );
        self.accepted = Some(state);
        (self.loss, self.held, self.closed) = (None, None, None);
        self.attach(&in_force.host)?;
        self.excuse();
        self.adopt(in_force);
        self.look_at_folder();
        Ok(())
    }

    /// Puts the old tables back after a change that could not be kept on disk.
    fn undo(&mut self) {
        let undone = match (self.in_force.clone(), self.closed.take()) {
            (Some(in_force), _) => self.enforce(&in_force.compiled.tables).map(|_| ()),
            (None, Some(host)) => self.close(host),
            // Nothing was attached, so nothing was in force.
            (None, None) => Ok(()),
        };
        if let Err(error) = undone {
            tracing::error!("the old policy could not be put back: {error:#}");
        }
    }
}

/// Makes sure that what will be kept is what was checked, document by document.
fn whole(objects: &Objects, in_force: &InForce) -> Result<()> {
    let (kept, checked) = (objects.iter().count(), in_force.documents());
    anyhow::ensure!(
        kept == checked,
        "{checked} documents were checked and {kept} would be kept: this is a fault of Bulkhead"
    );
    Ok(())
}
