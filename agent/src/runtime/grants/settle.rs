//! What becomes of grants: documents come, change and go, the kernel opens and closes, flows carry.

use std::collections::BTreeSet;

use bulkhead_common::abi::RuleId;
use jiff::Timestamp;

use super::KIND;
use crate::api::types::{Act, EndCause, Ended, Extension, GrantTerms, Origin};
use crate::datapath::Datapath;
use crate::policy::{Grant, Name, Timeline};
use crate::runtime::author::person;
use crate::runtime::engine::Engine;
use crate::runtime::in_force::InForce;
use crate::state::{Granted, Grants, Objects, State};

/// What was done, to which grant.
type Told = (&'static str, Name);

impl Engine {
    /// Brings what is known of grants into line with the policy in force and with the clock.
    pub(in crate::runtime) fn settle_grants(&mut self) {
        let Some(in_force) = self.in_force.clone() else { return };
        let before = self.grants.clone();
        let mut told = self.meet_documents(&in_force);
        told.extend(self.meet_clock(&in_force));
        // To read the flow table takes a while, so it is read seldom; what ends in between is heard of.
        let is_over = self.grants.values().any(|granted| granted.ended.is_some() && !granted.closed);
        if is_over || self.is_minute() {
            self.count_grants();
        } else {
            self.hear_grants();
        }
        let now = Timestamp::now();
        self.grants.retain(|_, granted| !granted.is_forgotten(now));
        told.into_iter().for_each(|(act, name)| self.tell_grant(act, &name));
        self.close_accounts();
        if self.grants != before
            && let Err(error) = self.store.keep_grants(&self.grants)
        {
            tracing::error!("what became of grants could not be kept: {error:#}");
        }
    }

    /// Grants that are new, that changed, or whose documents are gone.
    fn meet_documents(&mut self, in_force: &InForce) -> Vec<Told> {
        let Some(state) = &self.accepted else { return Vec::new() };
        let (grants, documents) = (&mut self.grants, in_force.policy.grants());
        let mut told: Vec<Told> =
            documents.values().filter_map(|grant| meet_document(grants, grant, state)).collect();
        let gone = |name: &Name| !documents.contains_key(name);
        for (name, granted) in grants.iter_mut().filter(|(name, g)| g.ended.is_none() && gone(name)) {
            let by = Some(state.revision.author.clone());
            granted.ended = Some(Ended { at: Timestamp::now(), cause: EndCause::Removed, by });
            told.push(("removed", name.clone()));
        }
        told
    }

    /// Grants that the kernel has opened or closed meanwhile.
    fn meet_clock(&mut self, in_force: &InForce) -> Vec<Told> {
        let Timeline::Known(anchor) = self.keeper.timeline() else { return Vec::new() };
        // As the windows go: what has closed by the highest time seen stays closed when the clock is set back.
        let now = anchor.now.wall_at(Datapath::boot_ns());
        let highest = anchor.seen.wall.max(now);
        let four_eyes = self.agent.grants.four_eyes;
        let mut told = Vec::new();
        for (name, granted) in self.grants.iter_mut().filter(|(_, granted)| granted.ended.is_none()) {
            let closed = granted.is_closed(&granted.terms, four_eyes);
            if !closed && granted.opened.is_none() && granted.terms.start <= now {
                granted.opened = Some(granted.terms.start.max(granted.since()));
                told.push(("opened", name.clone()));
            }
            let rule = in_force.compiled.catalogue.rules.iter().find(|(_, rule)| rule.policy == *name);
            granted.rule = rule.map(|(id, _)| id.0).or(granted.rule);
            if granted.terms.end <= highest {
                granted.ended = Some(Ended { at: granted.terms.end, cause: EndCause::Time, by: None });
                told.push(("ended", name.clone()));
            }
        }
        told
    }

    /// Takes what the flows of grants carried, up to now.
    pub(super) fn count_grants(&mut self) {
        let counting = self.counting();
        let ended = self.telemetry().watch(counting.clone());
        let Some(kernel) = self.kernel.as_ref().filter(|_| !counting.is_empty()) else { return };
        let table = kernel.datapath().remembered_flows(&counting);
        self.grants.values_mut().for_each(|granted| granted.look(&table, &ended));
    }

    /// Takes what those carried that have ended.
    fn hear_grants(&mut self) {
        let ended = self.telemetry().watch(self.counting());
        self.grants.values_mut().for_each(|granted| granted.hear(&ended));
    }

    /// The rules of grants whose flows are counted.
    fn counting(&self) -> BTreeSet<RuleId> {
        self.grants.values().filter(|g| !g.closed).filter_map(|g| g.rule).map(RuleId).collect()
    }

    /// What has ended and was counted is not counted again: its rule's number may be another's from now on.
    pub(super) fn close_accounts(&mut self) {
        let over: Vec<Name> = self
            .grants
            .iter()
            .filter(|(_, granted)| granted.ended.is_some() && !granted.closed)
            .map(|(name, _)| name.clone())
            .collect();
        for name in over {
            if let Some(granted) = self.grants.get_mut(&name) {
                granted.closed = true;
            }
            self.tell_grant("report", &name);
        }
    }
}

/// What a document says is what counts, until its grant has ended.
fn meet_document(grants: &mut Grants, grant: &Grant, state: &State) -> Option<Told> {
    let (name, terms, revision) = (&grant.name, GrantTerms::of(grant), &state.revision);
    let act = Act { by: revision.author.clone(), at: revision.time };
    let Some(granted) = grants.get_mut(name) else {
        let origin = origin_of(&state.objects, name).unwrap_or(revision.origin);
        let granted = Granted::begin(terms, act, person(&revision.who), revision.number, origin);
        grants.insert(name.clone(), granted);
        return Some(("asked", name.clone()));
    };
    if granted.ended.is_some() || granted.terms == terms {
        return None;
    }
    if granted.terms.end != terms.end {
        granted.extended.push(Extension { act, end: terms.end });
    }
    granted.terms = terms;
    Some(("changed", name.clone()))
}

fn origin_of(objects: &Objects, name: &Name) -> Option<Origin> {
    objects.get(KIND, name.as_str()).map(|object| object.origin)
}
