//! A change of a few devices: it costs what they cost, however many there are beside them.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use bulkhead_common::abi::{Addr, AddressKey};

use super::apply::{Proposal, Refused};
use super::engine::Engine;
use super::host;
use super::in_force::InForce;
use crate::api::types::Object;
use crate::policy::{Amendment, Name};
use crate::state::{Objects, State};
use crate::tables::{Tables, Touched};

/// One of so many devices may differ before all are looked at; that is a matter of cost alone.
const SHARE: usize = 16;
/// So many may always.
const FEW: usize = 1024;
/// What a device's object is called.
const KIND: &str = "Device";

/// What is to come into force, and what of it differs from what is.
pub(super) struct Prepared {
    pub(super) in_force: InForce,
    /// The devices that differ, if nothing else does.
    pub(super) touched: Option<Touched>,
}

impl Engine {
    /// Prepares a change in which nothing differs from what is in force but some devices; nothing if more does, or if
    /// there is anything to be said against it.
    pub(super) fn prepare_few(&self, proposal: &Proposal) -> Result<Option<Prepared>, Refused> {
        let (Some(before), Some(state)) = (&self.in_force, &self.accepted) else { return Ok(None) };
        if self.is_troubled() || self.closed.is_some() || !before.failed.is_empty() {
            return Ok(None);
        }
        let most = FEW.max(state.objects.len() / SHARE);
        let differ: Vec<_> = state.objects.differing(&proposal.merged.objects).take(most + 1).collect();
        let is_device = |object: &Arc<Object>| object.kind == KIND;
        if differ.len() > most
            || !differ.iter().all(|(before, after)| before.or(*after).is_some_and(is_device))
        {
            return Ok(None);
        }
        let host = host::observe().map_err(Refused::Host)?;
        if !before.fits(&host, &self.keeper.timeline()) {
            return Ok(None);
        }
        let there: Objects = differ.iter().filter_map(|(_, after)| after.cloned()).collect();
        let gone = differ.iter().filter_map(|(before, after)| before.filter(|_| after.is_none()));
        let gone: Option<Vec<Name>> = gone.map(|object| Name::new(&object.name)).collect();
        let amended = gone.and_then(|gone| Amendment::read(there.files(), gone)).and_then(|amendment| {
            let mut in_force = InForce::clone(before);
            let touched = in_force.amend(&self.agent, &amendment, self.known())?;
            self.confine_some(&mut in_force, |name| amendment.is_about(name));
            Some(Prepared { in_force, touched: Some(touched) })
        });
        Ok(amended)
    }

    /// Brings into force what is known of some devices now; the policy is the same.
    pub(super) fn enforce_few(&mut self, next: InForce, touched: &Touched) -> anyhow::Result<()> {
        let generation = self.enforce_touched(&next, touched)?;
        if let Some(state) = self.accepted.take() {
            self.accepted_at(state, &next, generation);
        }
        let host = next.host.clone();
        self.adopt_few(next, touched, generation);
        self.settle(&host);
        Ok(())
    }

    /// Notes the generation that a revision has come to, and the numbers that names were given.
    pub(super) fn accepted_at(&mut self, mut state: State, in_force: &InForce, generation: u32) {
        state.published(generation);
        state.ids = in_force.ids.clone();
        self.accepted = Some(state);
    }
}

impl Prepared {
    /// Tables that say the same about a packet between two addresses, with few devices where few differ.
    pub(super) fn tables_for(&self, ends: [IpAddr; 2]) -> Cow<'_, Tables> {
        let compiled = &self.in_force.compiled;
        let Some(touched) = &self.touched else { return Cow::Borrowed(&compiled.tables) };
        let mut devices: BTreeSet<_> = touched.0.keys().copied().collect();
        for (network, facts) in &compiled.tables.networks {
            for end in ends.map(Addr::from) {
                if facts.prefixes.iter().any(|prefix| prefix.first <= end && end <= prefix.last) {
                    return Cow::Borrowed(&compiled.tables);
                }
                let keys = [AddressKey::host(*network, end), AddressKey::prefix64(*network, end)];
                let owners = keys.iter().filter_map(|key| compiled.tables.addresses.get(key));
                devices.extend(owners.map(|owner| owner.device));
            }
        }
        Cow::Owned(compiled.of_devices(&self.in_force.policy, &devices).tables)
    }
}
