//! A policy on its way into force: compiled for this host, tested.

use std::collections::{BTreeMap, BTreeSet};

use super::grants;
use crate::policy::{
    self, AgentConfig, Amendment, Attributes, Compiled, Diagnostics, Ids, Loaded, Name, Policy, Timeline,
};
use crate::state::Grants;
use crate::tables::{Host, Tables, Touched};

/// What is true at the moment, beside the documents.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What was said of devices.
    pub devices: BTreeMap<Name, Attributes>,
    /// What is known of the clock.
    pub timeline: Timeline,
    /// What became of grants.
    pub grants: Grants,
}

/// A policy that compiled for this host.
#[derive(Clone, Debug)]
pub struct InForce {
    /// The policy.
    pub policy: Policy,
    /// What the engine and the catalogue make of it.
    pub compiled: Compiled,
    /// The host it was compiled for.
    pub host: Host,
    /// The clock it was compiled for.
    pub timeline: Timeline,
    /// A rule of it depends on time.
    pub timed: bool,
    /// When windows close, in boot time: sorted.
    pub edges: Vec<u64>,
    /// The book of numbers after it was compiled.
    pub ids: Ids,
    /// How many in-file tests there are.
    pub tests: usize,
    /// Those that do not hold.
    pub failed: Diagnostics,
    /// Warnings and notes.
    pub notes: Diagnostics,
}

impl InForce {
    /// Prepares a change of policy, which every in-file test gates; `known` is what is known of devices.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn prepare(
        read: Loaded,
        on: (&AgentConfig, &Host),
        ids: &Ids,
        facts: Facts,
    ) -> Result<Self, Diagnostics> {
        let in_force = Self::compile(read, on, ids, facts)?;
        let too_long = policy::too_long(&in_force.policy, on.0);
        if too_long.has_errors() {
            return Err(too_long);
        }
        if in_force.failed.has_errors() { Err(in_force.failed) } else { Ok(in_force) }
    }

    /// Prepares what was accepted before: its tests gated that, and a host that changed since must not stay open for
    /// one that fails now.
    ///
    /// # Errors
    /// What does not compile any more.
    pub fn compile(
        Loaded { mut policy, warnings: mut notes }: Loaded,
        (agent, host): (&AgentConfig, &Host),
        ids: &Ids,
        facts: Facts,
    ) -> Result<Self, Diagnostics> {
        policy.observe(facts.devices);
        let four_eyes = agent.grants.four_eyes;
        policy.close_grants(|grant| grants::is_closed(&facts.grants, four_eyes, grant));
        let mut ids = ids.clone();
        let compiled = policy::compile_at(&policy, agent, host, &mut ids, &facts.timeline)?;
        let failed = policy::run_tests(&policy, agent, host, &compiled);
        let tests = policy.policies().values().map(|rules| rules.tests.len()).sum();
        notes.append(compiled.notes.clone());
        let edges = edges(&compiled.tables);
        let timed = policy.is_timed();
        Ok(Self {
            policy,
            compiled,
            host: host.clone(),
            timeline: facts.timeline,
            timed,
            edges,
            ids,
            tests,
            failed,
            notes,
        })
    }

    /// Takes up what is known of devices and of the clock now. What differs, if that is rows of devices alone; nothing if
    /// it was compiled again.
    ///
    /// # Errors
    /// What does not compile any more.
    pub fn observe(
        &mut self,
        agent: &AgentConfig,
        devices: BTreeMap<Name, Attributes>,
        timeline: Timeline,
    ) -> Result<Option<Touched>, Diagnostics> {
        let differ = self.policy.observe(devices);
        if self.fits(&self.host, &timeline)
            && let Some(touched) = self.compiled.observe(&self.policy, &self.ids, &differ)
        {
            return Ok(Some(touched));
        }
        self.compiled = policy::compile_at(&self.policy, agent, &self.host, &mut self.ids, &timeline)?;
        self.edges = edges(&self.compiled.tables);
        self.timeline = timeline;
        Ok(None)
    }

    /// Takes up devices that are other than before, new or gone, and what is known of devices now. What differs, if that is
    /// devices alone; otherwise nothing, and this value is of no use.
    pub fn amend(
        &mut self,
        agent: &AgentConfig,
        amendment: &Amendment,
        known: BTreeMap<Name, Attributes>,
    ) -> Option<Touched> {
        let mut policy = self.policy.amended(&self.compiled, amendment)?;
        let mut observed = policy.observe(known);
        let mut touched = self.compiled.amend(
            (&self.policy, &policy),
            &mut self.ids,
            &amendment.names(),
            (agent, &self.host),
        )?;
        observed.retain(|name| !amendment.is_about(name));
        touched.0.extend(self.compiled.observe(&policy, &self.ids, &observed)?.0);
        self.policy = policy;
        Some(touched)
    }

    /// True if it would be the same on this host and by this clock.
    pub fn fits(&self, host: &Host, timeline: &Timeline) -> bool {
        self.host == *host && (self.timeline == *timeline || !self.timed)
    }

    /// How many documents the policy was read from.
    pub fn documents(&self) -> usize {
        let policy = &self.policy;
        let ground = policy.networks().len() + policy.segments().len() + policy.devices().len();
        ground + policy.destinations().len() + policy.policies().len()
    }
}

fn edges(tables: &Tables) -> Vec<u64> {
    let windows = tables.profiles.values().flat_map(|rules| &rules.windows);
    let edges: BTreeSet<u64> = windows.map(|window| window.close).filter(|edge| *edge < u64::MAX).collect();
    edges.into_iter().collect()
}
