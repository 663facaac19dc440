//! The candidate: a change of policy that is judged beside what is in force, and changes nothing until it is promoted.
//!
//! What is kept is the change, not its outcome. So the candidate follows whatever becomes of the policy in force, the
//! host, the clock and the devices: it is merged and compiled again each time, and out of the packets' way meanwhile.
//! Its counters are about one revision; over another one they begin anew.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow};
use bulkhead_common::abi::counter::{CandidateCounters, Would};
use bulkhead_common::candidate::Comparison;
use bulkhead_common::verdict::DropReason;

use super::apply::{Proposal, Refused};
use super::author::Author;
use super::engine::Engine;
use super::in_force::InForce;
use crate::api::types::{
    ApplyReply, ApplyRequest, CandidateReport, CandidateStatus, Cause, Changes, Compared, Done,
    PromoteRequest, Terms, WouldCount,
};
use crate::policy::Catalogue;
use crate::state::{Candidate, Merged, Objects};

/// The candidate that is tried, if there is one.
#[derive(Debug, Default)]
pub(super) struct Trial {
    /// What was written down.
    pub(super) kept: Option<Candidate>,
    /// What its numbers mean.
    catalogue: Catalogue,
    changes: Changes,
    /// Why it judges nothing.
    problem: Option<String>,
    /// Why nobody knows what it was.
    pub(super) lost: Option<String>,
}

impl Engine {
    /// Checks a change of policy and, unless only asked, has it judged beside what is in force.
    ///
    /// # Errors
    /// [`Refused`]; the candidate that there was is tried on.
    pub(super) fn try_out(&mut self, request: &ApplyRequest, author: Author) -> Result<ApplyReply, Refused> {
        let terms = &request.terms;
        if terms.confirm_within_ms.is_some() || terms.accept.is_some() {
            return Err(Refused::because(
                "a candidate changes nothing: --confirm-within and --accept are for `bulkhead promote`",
            ));
        }
        self.fits(terms)?;
        let Some(state) = &self.accepted else {
            return Err(Refused::because(
                "nothing is in force that a candidate could be judged beside: apply a policy first",
            ));
        };
        let (over, ids) = (state.revision.number, state.ids.clone());
        let (merged, read) = self.merge(request)?;
        let mut proposal = Proposal { merged, read, cause: Cause::Apply, author, origin: request.origin };
        let prepared = self.prepare(&mut proposal)?;
        let mut reply = self.reply(&proposal, &prepared.in_force, terms);
        reply.candidate = true;
        reply.unchanged = reply.changes.is_empty();
        if reply.unchanged {
            return Ok(reply);
        }
        reply.plan = self.plan(&prepared, &proposal, terms);
        if !terms.dry_run {
            let made = author.signs(over, terms, request.origin);
            let change = Objects::of(&request.files, request.origin);
            let kept = Candidate { made, change, prune: request.prune, over, ids };
            self.begin_trial(kept).map_err(Refused::Host)?;
        }
        Ok(reply)
    }

    /// Disk first: what the kernel does must survive a restart.
    fn begin_trial(&mut self, kept: Candidate) -> Result<()> {
        self.store.keep_candidate(Some(&kept)).context("keep the candidate on disk; nothing was changed")?;
        let before = self.trial.kept.replace(kept);
        let begun = match self.remerged() {
            Some((merged, ids)) => self.rehearse(&merged, ids, true),
            None => Ok(()),
        };
        if let Err(error) = begun {
            self.trial.kept = before;
            self.store.keep_candidate(self.trial.kept.as_ref()).context("put the last candidate back")?;
            self.follow_in_force();
            return Err(error).context("the candidate is not tried");
        }
        (self.trial.problem, self.trial.lost) = (None, None);
        tracing::info!("a candidate is judged beside r{}", self.number());
        Ok(())
    }

    /// Takes up the candidate that was written down.
    pub(super) fn recall_candidate(&mut self) {
        match self.store.candidate() {
            Ok(kept) => self.trial.kept = kept,
            Err(error) => {
                let lost = format!("the candidate is lost, `bulkhead candidate drop` forgets it: {error:#}");
                tracing::error!("{lost}");
                self.trial.lost = Some(lost);
            }
        }
    }

    /// Lets the candidate follow what is in force now; nothing of what is in force depends on it.
    pub(super) fn follow_in_force(&mut self) {
        let Some((merged, ids)) = self.remerged() else {
            self.end_trial(None);
            return;
        };
        if merged.changes.is_empty() {
            self.end_trial(Some("the candidate is what is in force: there is nothing left to try"));
            return;
        }
        let anew = self.trial.kept.as_ref().is_some_and(|kept| kept.over != self.number());
        match self.rehearse(&merged, ids, anew) {
            Ok(()) => self.trial.problem = None,
            Err(error) => self.suspend(&error),
        }
    }

    /// True if the candidate is out of the packets' way, and need not be.
    pub(super) fn candidate_waits(&self) -> bool {
        let engaged = self.kernel.as_ref().is_some_and(super::kernel::Kernel::rehearses);
        self.trial.kept.is_some() && !engaged && self.in_force.is_some()
    }

    fn suspend(&mut self, error: &anyhow::Error) {
        let problem = format!("the candidate is not judged: {error:#}");
        if self.trial.problem.as_ref() != Some(&problem) {
            tracing::warn!("{problem}");
        }
        self.trial.problem = Some(problem);
        if let Some(kernel) = &mut self.kernel
            && let Err(error) = kernel.suspend_rehearsal()
        {
            tracing::error!("the candidate could not be stopped: {error:#}");
        }
    }

    /// What the candidate makes of the policy in force, and the numbers that it is compiled with.
    fn remerged(&self) -> Option<(Merged, crate::policy::Ids)> {
        let (kept, state) = (self.trial.kept.as_ref()?, self.accepted.as_ref()?);
        let merged = self.without_ended().merged(&kept.change, kept.prunes());
        let ids = if kept.over == state.revision.number { &kept.ids } else { &state.ids };
        Some((merged, ids.clone()))
    }

    /// Compiles the candidate for what is true now and has the kernel judge by it; `anew`: its counters begin again.
    fn rehearse(&mut self, merged: &Merged, ids: crate::policy::Ids, anew: bool) -> Result<()> {
        let host = super::host::observe()?;
        let compile = |read| InForce::compile(read, (&self.agent, &host), &ids, self.facts());
        let compiled = self.read(&merged.objects).and_then(compile);
        let mut candidate = compiled.map_err(|problems| anyhow!(problems.render(false)))?;
        self.confine(&mut candidate);
        let kernel = self.kernel.as_mut().context("the datapath is not open")?;
        let rules = candidate.ids.rule_numbers();
        kernel.rehearse(&candidate.compiled.tables, rules, anew)?;
        if anew && let Some(kept) = &mut self.trial.kept {
            (kept.over, kept.ids) = (self.accepted.as_ref().map_or(0, |state| state.revision.number), ids);
            self.store.keep_candidate(self.trial.kept.as_ref()).context("keep the candidate on disk")?;
        }
        self.trial.catalogue = candidate.compiled.catalogue;
        self.trial.changes = merged.changes.clone();
        Ok(())
    }

    fn end_trial(&mut self, why: Option<&str>) {
        if self.trial.kept.is_some() {
            why.into_iter().for_each(|why| tracing::info!("{why}"));
            if let Err(error) = self.store.keep_candidate(None) {
                tracing::error!("the candidate could not be forgotten: {error:#}");
                return;
            }
        }
        self.trial = Trial { lost: self.trial.lost.take(), ..Trial::default() };
        if let Some(kernel) = &mut self.kernel
            && let Err(error) = kernel.end_rehearsal()
        {
            tracing::error!("what a candidate left in the kernel could not be removed: {error:#}");
        }
    }

    /// Brings the candidate into force, as any apply is, and with it the trial ends.
    ///
    /// # Errors
    /// [`Refused`]; the candidate is tried on.
    pub fn promote(&mut self, request: &PromoteRequest, author: Author) -> Result<ApplyReply, Refused> {
        let kept = self.trial.kept.clone().ok_or_else(no_candidate)?;
        self.unmoved(&kept, &request.terms)?;
        self.admit(&request.terms)?;
        let mut terms = request.terms.clone();
        terms.message = terms.message.or_else(|| kept.made.message.clone());
        let merged = self.without_ended().merged(&kept.change, kept.prunes());
        let origin = kept.made.origin;
        self.propose(Proposal { merged, read: None, cause: Cause::Apply, author, origin }, &terms)
    }

    /// Whoever promotes what was written for another revision must say so.
    fn unmoved(&self, kept: &Candidate, terms: &Terms) -> Result<(), Refused> {
        let (made, number) = (kept.made.number, self.number());
        if made == number || terms.if_revision.is_some() {
            return Ok(());
        }
        Err(Refused::because(format!(
            "the candidate was written for r{made} and r{number} is in force: look at what it changes now (`bulkhead \
             candidate`), and promote it with --if-revision {number}"
        )))
    }

    /// Gives the candidate up.
    ///
    /// # Errors
    /// [`Refused`]: there is none.
    pub fn drop_candidate(&mut self) -> Result<Done, Refused> {
        if self.trial.kept.is_none() && self.trial.lost.is_none() {
            return Err(no_candidate());
        }
        self.store.keep_candidate(None).context("forget the candidate").map_err(Refused::Host)?;
        self.trial.lost = None;
        self.end_trial(Some("the candidate is given up"));
        Ok(Done { revision: self.number(), unchanged: false })
    }

    /// The candidate in a few words.
    pub(super) fn candidate_status(&self) -> Option<CandidateStatus> {
        let kept = self.trial.kept.as_ref()?;
        let counters = self.compared().unwrap_or_else(bytemuck::Zeroable::zeroed);
        Some(CandidateStatus {
            made: kept.made.clone(),
            over: kept.over,
            judged: counters.judged,
            would: would_count(counters.would()),
            unknowable: counters.unknowable,
            problem: self.trial.problem.clone(),
        })
    }

    /// The candidate with all that it has counted.
    pub fn candidate(&self) -> Option<CandidateReport> {
        let status = self.candidate_status()?;
        let counters = self.compared().unwrap_or_else(bytemuck::Zeroable::zeroed);
        let today = self.in_force.as_ref().map(|in_force| &in_force.compiled.catalogue);
        let catalogues = [today, Some(&self.trial.catalogue)];
        let known = || catalogues.into_iter().flatten();
        let rehearsed = self.kernel.as_ref().and_then(super::kernel::Kernel::rehearsed);
        let rules = rehearsed.map(|candidate| candidate.rules()).unwrap_or_default();
        let devices = rehearsed.map(|candidate| candidate.devices()).unwrap_or_default();
        Some(CandidateReport {
            status,
            changes: self.trial.changes.clone(),
            compared: told(&counters),
            rules: named(rules, |rule| known().find_map(|of| of.rules.get(&rule)).map(ToString::to_string)),
            devices: named(devices, |device| {
                known().find_map(|of| of.devices.get(&device)).map(ToString::to_string)
            }),
        })
    }

    fn compared(&self) -> Option<CandidateCounters> {
        self.kernel.as_ref()?.rehearsed()?.counters().ok()
    }
}

fn no_candidate() -> Refused {
    Refused::because("there is no candidate: `bulkhead apply --candidate -f …` makes one")
}

const fn would_count(would: Would) -> WouldCount {
    WouldCount { would_pass: would.pass, would_drop: would.drop }
}

/// Counters by name; packets of nobody, and of those that have no name any more, together as `-`.
fn named<T>(counts: Vec<(T, Would)>, name: impl Fn(T) -> Option<String>) -> BTreeMap<String, WouldCount> {
    counts.into_iter().fold(BTreeMap::new(), |mut named, (number, would)| {
        let sum: &mut WouldCount = named.entry(name(number).unwrap_or_else(|| "-".to_owned())).or_default();
        sum.would_pass += would.pass;
        sum.would_drop += would.drop;
        named
    })
}

/// Counters by the words for their reasons, only what is not 0.
fn told(counters: &CandidateCounters) -> Compared {
    let by_reason = |comparison: fn(DropReason) -> Comparison| {
        let counts = DropReason::ALL.iter().map(|reason| (reason.as_str(), counters.of(comparison(*reason))));
        counts.filter(|(_, count)| *count > 0).map(|(reason, count)| (reason.to_owned(), count)).collect()
    };
    Compared {
        judged: counters.judged,
        same: counters.same,
        unknowable: counters.unknowable,
        would_pass: by_reason(Comparison::WouldPass),
        would_drop: by_reason(Comparison::WouldDrop),
    }
}
