//! A policy on its way into force: read, compiled for this host, tested.

use crate::policy::{self, AgentConfig, Compiled, Diagnostics, Ids, Policy, SourceFile};
use crate::tables::Host;

/// A policy that compiled and whose tests held.
#[derive(Clone, Debug)]
pub struct InForce {
    /// The policy.
    pub policy: Policy,
    /// What the engine and the catalogue make of it.
    pub compiled: Compiled,
    /// The host it was compiled for.
    pub host: Host,
    /// The book of numbers after it was compiled.
    pub ids: Ids,
    /// How many in-file tests held.
    pub tests: usize,
    /// Warnings and notes.
    pub notes: Diagnostics,
}

impl InForce {
    /// Reads, compiles and tests.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn prepare(
        files: Vec<SourceFile>,
        agent: &AgentConfig,
        host: &Host,
        ids: &Ids,
    ) -> Result<Self, Diagnostics> {
        let loaded = policy::parse(files, Some(agent))?;
        let mut ids = ids.clone();
        let compiled = policy::compile(&loaded.policy, agent, host, &mut ids)?;
        let failed = policy::run_tests(&loaded.policy, agent, host, &compiled);
        if failed.has_errors() {
            return Err(failed);
        }
        let tests = loaded.policy.policies().values().map(|rules| rules.tests.len()).sum();
        let mut notes = loaded.warnings;
        notes.append(compiled.notes.clone());
        Ok(Self { policy: loaded.policy, compiled, host: host.clone(), ids, tests, notes })
    }

    /// How many documents the policy was read from.
    pub fn documents(&self) -> usize {
        let policy = &self.policy;
        let ground = policy.networks().len() + policy.segments().len() + policy.devices().len();
        ground + policy.destinations().len() + policy.policies().len()
    }
}
