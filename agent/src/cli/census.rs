//! How much of everything a policy holds.

use serde::Serialize;

use crate::policy::{Policy, PolicyRules};

/// How much there is of everything.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub(super) struct Census {
    /// Networks.
    pub(super) networks: usize,
    /// Segments.
    pub(super) segments: usize,
    /// Devices.
    pub(super) devices: usize,
    /// Destinations.
    pub(super) destinations: usize,
    /// Policies.
    pub(super) policies: usize,
    /// Rules of all policies.
    pub(super) rules: usize,
    /// Tests of all policies.
    pub(super) tests: usize,
    /// Grants.
    pub(super) grants: usize,
}

impl Census {
    /// Counts a policy.
    pub(super) fn of(policy: &Policy) -> Self {
        let policies: Vec<&PolicyRules> = policy.written().collect();
        Self {
            networks: policy.networks().len(),
            segments: policy.segments().len(),
            devices: policy.devices().len(),
            destinations: policy.destinations().len(),
            policies: policies.len(),
            rules: policies.iter().map(|policy| policy.rules.len()).sum(),
            tests: policies.iter().map(|policy| policy.tests.len()).sum(),
            grants: policy.grants().len(),
        }
    }
}

impl std::fmt::Display for Census {
    /// Writes `1 network, 2 segments, …`; what there is none of is left out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counted = [
            (self.networks, "network", "networks"),
            (self.segments, "segment", "segments"),
            (self.devices, "device", "devices"),
            (self.destinations, "destination", "destinations"),
            (self.policies, "policy", "policies"),
            (self.rules, "rule", "rules"),
            (self.grants, "grant", "grants"),
            (self.tests, "test", "tests"),
        ];
        let words: Vec<String> = counted
            .into_iter()
            .filter(|(count, ..)| *count > 0)
            .map(|(count, one, many)| format!("{count} {}", if count == 1 { one } else { many }))
            .collect();
        f.write_str(&words.join(", "))
    }
}
