//! A grant is no policy, so one may be asked for while a revision waits to be confirmed, and it stays when that goes
//! away. What comes back then must have a place for it: nobody is there to see that it does not compile.

use std::collections::BTreeSet;

use super::KIND;
use crate::api::types::{Cause, Terms};
use crate::runtime::apply::{Proposal, Refused};
use crate::runtime::engine::Engine;
use crate::runtime::host;
use crate::runtime::in_force::InForce;
use crate::state::{Objects, State};

impl Engine {
    /// Refuses a change that would leave a grant beside which what nobody confirms could not be given up.
    pub(in crate::runtime) fn keeps_way_back(
        &self,
        proposal: &Proposal,
        terms: &Terms,
    ) -> Result<(), Refused> {
        let Some(state) = self.accepted.as_ref().filter(|_| proposal.cause == Cause::Apply) else {
            return Ok(());
        };
        let Some(back_to) = back_to(state, terms) else { return Ok(()) };
        let target = match back_to == state.revision.number {
            true => state.objects.clone(),
            false => self.store.journal().objects_at(back_to, state).map_err(Refused::Host)?,
        };
        if names(&proposal.merged.objects).is_subset(&names(&target)) {
            return Ok(());
        }
        let back = proposal.merged.objects.restored(&target).objects;
        let host = host::observe().map_err(Refused::Host)?;
        let compile = |read| InForce::compile(read, (&self.agent, &host), &state.ids, self.facts());
        let compiled = self.read(&back).and_then(compile);
        compiled.map(|_| ()).map_err(|problems| {
            let why = format!(
                "if nobody confirmed, r{back_to} could not come back beside the grant: grant it after `bulkhead confirm`"
            );
            self.refused(&why, problems)
        })
    }
}

/// The revision that comes back unless somebody confirms.
fn back_to(state: &State, terms: &Terms) -> Option<u64> {
    let begins = terms.confirm_within_ms.map(|_| state.revision.number);
    state.confirm.as_ref().map(|confirm| confirm.back_to).or(begins)
}

fn names(objects: &Objects) -> BTreeSet<&str> {
    objects.of_kind(KIND).map(|object| object.name.as_str()).collect()
}
