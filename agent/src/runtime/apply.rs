//! A change of policy: checked, kept on disk, brought into force; or nothing at all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::author::Author;
use super::engine::Engine;
use super::few::Prepared;
use super::host;
use super::in_force::InForce;
use super::pending::not_applicable;
use crate::api::types::{
    ApplyReply, ApplyRequest, Cause, Changes, Origin, Pending, Refusal, RevisionInfo, Terms,
};
use crate::policy::{self, Diagnostics, Ids, Loaded, SourceFile};
use crate::processors;
use crate::state::{Confirm, Draft, Merged, Objects, State};

/// Why a change was not made.
#[derive(Debug)]
pub enum Refused {
    /// The policy is not right; nothing was tried.
    Policy(Refusal),
    /// The policy may be right and its terms are not: somebody else was first, or it takes too much away.
    Terms(Refusal),
    /// The host could not do it; what was in force is in force.
    Host(anyhow::Error),
}

impl Refused {
    /// A refusal in one sentence.
    pub(super) fn because(error: impl Into<String>) -> Self {
        Self::Terms(Refusal { error: error.into(), ..Refusal::default() })
    }

    /// The refusal as the status tells it.
    pub(super) fn pending(&self) -> Pending {
        let alone = |first: String| Pending { errors: 1, first: Some(first), changes: Changes::default() };
        match self {
            Self::Policy(refusal) => not_applicable(&refusal.diagnostics),
            Self::Terms(refusal) => alone(refusal.plan.as_ref().map_or_else(
                || refusal.error.clone(),
                |plan| format!("plan {} {}; {}", plan.id, plan.beyond.join(", "), refusal.error),
            )),
            Self::Host(error) => alone(format!("{error:#}")),
        }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Policy(refusal) | Self::Terms(refusal) => write!(f, "{}", refusal.error),
            Self::Host(error) => write!(f, "{error:#}"),
        }
    }
}

/// A change that somebody wants.
pub(super) struct Proposal {
    pub(super) merged: Merged,
    /// The policy that it comes to, if that was read already.
    pub(super) read: Option<Loaded>,
    pub(super) cause: Cause,
    pub(super) author: Author,
    pub(super) origin: Origin,
}

impl Engine {
    /// Checks a change of policy and, unless only asked, brings it into force and accepts it.
    ///
    /// # Errors
    /// [`Refused`]; what was in force is in force.
    pub fn apply(&mut self, request: &ApplyRequest, author: Author) -> Result<ApplyReply, Refused> {
        if request.candidate {
            return self.try_out(request, author);
        }
        self.admit(&request.terms)?;
        let (merged, read) = self.merge(request)?;
        let proposal = Proposal { merged, read, cause: Cause::Apply, author, origin: request.origin };
        self.propose(proposal, &request.terms)
    }

    /// Judges a change under its terms, and makes it.
    pub(super) fn propose(&mut self, mut proposal: Proposal, terms: &Terms) -> Result<ApplyReply, Refused> {
        let started = Instant::now();
        let prepared = match self.prepare_few(&proposal)? {
            Some(few) => few,
            None => self.prepare(&mut proposal)?,
        };
        self.keeps_way_back(&proposal, terms)?;
        let mut reply = self.reply(&proposal, &prepared.in_force, terms);
        if !reply.unchanged {
            reply.plan = self.plan(&prepared, &proposal, terms);
        }
        if !terms.dry_run && !reply.unchanged {
            self.hold_against_guard(reply.plan.clone(), &proposal, terms)?;
            self.accept(proposal, prepared, terms, &mut reply).map_err(Refused::Host)?;
        }
        reply.elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(reply)
    }

    pub(super) fn prepare(&self, proposal: &mut Proposal) -> Result<Prepared, Refused> {
        let host = host::observe().map_err(Refused::Host)?;
        let ids = self.accepted.as_ref().map_or_else(Ids::default, |state| state.ids.clone());
        let read = proposal.read.take().map_or_else(|| self.read(&proposal.merged.objects), Ok);
        let on = (&self.agent, &host);
        let prepared = read.and_then(|read| match proposal.cause {
            Cause::Apply | Cause::Rollback(_) => InForce::prepare(read, on, &ids, self.facts()),
            // Nobody is there to correct a test that the host has overtaken.
            Cause::Unconfirmed(_) => InForce::compile(read, on, &ids, self.facts()),
        });
        let mut in_force = prepared.map_err(|problems| self.refused("the policy is refused", problems))?;
        self.confine(&mut in_force);
        whole(&proposal.merged.objects, &in_force).map_err(Refused::Host)?;
        Ok(Prepared { in_force, touched: None })
    }

    pub(super) fn reply(&self, proposal: &Proposal, in_force: &InForce, terms: &Terms) -> ApplyReply {
        let changes = proposal.merged.changes.clone();
        ApplyReply {
            revision: self.number(),
            generation: self.generation(),
            unchanged: changes.is_empty() && self.in_force.is_some() && !self.is_troubled(),
            dry_run: terms.dry_run,
            candidate: false,
            changes,
            writes: 0,
            elapsed_ms: 0,
            notes: in_force.notes.clone(),
            tests: in_force.tests,
            plan: None,
            confirm: None,
        }
    }

    /// The revision in force; 0 if there is none.
    pub(super) fn number(&self) -> u64 {
        self.accepted.as_ref().map_or(0, |state| state.revision.number)
    }

    /// The generation in force in the kernel; 0 before there is one.
    fn generation(&self) -> u32 {
        self.kernel.as_ref().map_or(0, |kernel| kernel.datapath().epoch().generation.0)
    }

    /// An apply of what is accepted already settles a loss: the operator has seen it.
    pub(super) const fn is_troubled(&self) -> bool {
        self.loss.is_some() || self.held.is_some()
    }

    /// The policy that some objects are.
    pub(super) fn read(&self, objects: &Objects) -> Result<Loaded, Diagnostics> {
        policy::parse(objects.files(), Some(&self.agent))
    }

    /// The request's files alone first, so that their own mistakes are told in their own terms; as a policy, if they
    /// are a whole one.
    pub(super) fn merge(&self, request: &ApplyRequest) -> Result<(Merged, Option<Loaded>), Refused> {
        let files: Vec<SourceFile> =
            request.files.iter().map(|file| SourceFile::new(file.name.clone(), file.text.clone())).collect();
        let change = Objects::of(&request.files, request.origin);
        let before = self.without_ended();
        let merged = before.merged(&change, request.prune.then_some(request.origin));
        let stands_alone = merged.objects.len() == change.len();
        // A document that cannot be read has no kind or name, so no merge would notice it.
        let read = if stands_alone {
            policy::parse(files, Some(&self.agent)).map(Some)
        } else {
            let problems = policy::problems_alone(files);
            if problems.has_errors() { Err(problems) } else { Ok(None) }
        };
        let read = read.map_err(|problems| self.refused("the policy is refused", problems))?;
        Ok((merged, read))
    }

    pub(super) fn refused(&self, error: &str, problems: Diagnostics) -> Refused {
        Refused::Policy(Refusal {
            error: format!("{error}; {}", self.stays()),
            diagnostics: problems.iter().cloned().collect(),
            plan: None,
        })
    }

    /// What is in force after a refusal.
    pub(super) fn stays(&self) -> String {
        match self.number() {
            0 => "nothing is enforced yet".to_owned(),
            number => format!("r{number} stays in force"),
        }
    }

    fn next_revision(&self, proposal: &Proposal, terms: &Terms) -> Result<RevisionInfo> {
        let number = self.store.next_number(self.number())?;
        let mut revision = proposal.author.signs(number, terms, proposal.origin);
        if matches!(proposal.cause, Cause::Unconfirmed(_)) {
            revision.author = "bulkhead".to_owned();
        }
        Ok(revision)
    }

    /// The next state, and what it changes.
    fn draft(&self, proposal: Proposal, in_force: &InForce, terms: &Terms) -> Result<(State, Draft)> {
        let revision = self.next_revision(&proposal, terms)?;
        let before = self.accepted.clone().unwrap_or_default();
        let Proposal { merged, cause, .. } = proposal;
        let [was, is] = before.objects.apart(&merged.objects);
        let (from, keep) = (before.revision.number, self.agent.revisions_kept);
        let draft = Draft { cause, from, before: was, after: is, keep };
        // Time that is given anew counts from now, and still leads back to what somebody confirmed.
        let back_to = before.confirm.as_ref().map_or(before.revision.number, |confirm| confirm.back_to);
        let anew =
            terms.confirm_within_ms.map(|within| Confirm::within(Duration::from_millis(within), back_to));
        // A grant changes no policy: what waits goes on waiting.
        let confirm = anew.or(before.confirm.filter(|_| cause == Cause::Apply));
        let state = State {
            revision,
            objects: merged.objects,
            ids: in_force.ids.clone(),
            generations: before.generations,
            head: String::new(),
            confirm,
            folder_held: before.folder_held || cause != Cause::Apply,
        };
        Ok((state, draft))
    }

    /// Disk, kernel, disk: a full disk refuses before the kernel's tables are touched, and the rename comes last. What
    /// a host without them needs first is made while the disk is written.
    fn accept(
        &mut self,
        proposal: Proposal,
        Prepared { in_force, touched }: Prepared,
        terms: &Terms,
        reply: &mut ApplyReply,
    ) -> Result<()> {
        let (mut state, draft) = self.draft(proposal, &in_force, terms)?;
        // If nothing has to change in the kernel, the generation stays and the next one is this revision's too.
        state.published(self.generation() + 1);
        let store = Arc::clone(&self.store);
        let (opened, staged) = processors::both(|| self.open_kernel(), || store.stage(&mut state, draft));
        let staged = staged.context("keep the policy on disk; nothing was changed")?;
        if let Err(error) = opened {
            staged.discard();
            return Err(error);
        }
        // Devices alone have no pools that were not closed before.
        self.shut(Some(&in_force.policy).filter(|_| touched.is_none()), &in_force.host);
        let since = self.in_force_since;
        let kernel = self.kernel.as_mut().context("the datapath is not open")?;
        let tables = &in_force.compiled.tables;
        let applied = match &touched {
            Some(touched) => kernel.apply_touched(tables, touched, since),
            None => kernel.apply(tables),
        };
        let applied = match applied {
            Ok(applied) => applied,
            Err(error) => {
                staged.discard();
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
        self.accepted_anew();
        reply.confirm = self.waiting();
        let host = in_force.host.clone();
        match touched {
            Some(touched) => self.adopt_few(in_force, &touched, applied.generation.0),
            None => self.adopt(in_force, applied.generation.0),
        }
        self.attach(&host)?;
        self.excuse();
        self.settle(&host);
        self.look_at_folder();
        Ok(())
    }

    /// Puts the old tables back after a change that could not be kept on disk.
    fn undo(&mut self) {
        let undone = match (self.in_force.clone(), self.closed.take()) {
            (Some(in_force), _) => {
                let enforced = self.enforce(&in_force.compiled.tables, Some(&in_force.policy));
                self.settle(&in_force.host);
                self.follow_in_force();
                enforced.map(|_| ())
            }
            (None, Some(host)) => self.close(host),
            // Nothing was attached, so nothing was in force.
            (None, None) => self.let_go(),
        };
        if let Err(error) = undone {
            tracing::error!("the old policy could not be put back: {error:#}");
        }
    }
}

/// Makes sure that what will be kept is what was checked, document by document.
fn whole(objects: &Objects, in_force: &InForce) -> Result<()> {
    let (kept, checked) = (objects.len(), in_force.documents());
    anyhow::ensure!(
        kept == checked,
        "{checked} documents were checked and {kept} would be kept: this is a fault of Bulkhead"
    );
    Ok(())
}
