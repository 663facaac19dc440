//! A candidate over the API: tried beside what is in force, looked at, promoted or given up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::types::{Changes, RevisionInfo, Terms};

/// Asks for the candidate to be brought into force.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct PromoteRequest {
    /// On which terms; without `if_revision` only over the revision that the candidate was written for.
    #[serde(flatten)]
    pub terms: Terms,
}

/// Packets that a candidate would treat otherwise.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct WouldCount {
    /// Dropped ones that it would pass.
    pub would_pass: u64,
    /// Passed ones that it would drop.
    pub would_drop: u64,
}

/// What a candidate has judged: the first is the sum of all others.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// Packets that it was handed.
    pub judged: u64,
    /// It says what is enforced.
    pub same: u64,
    /// Of flows that only it would have let begin, or for what was before: nobody can say.
    pub unknowable: u64,
    /// Dropped packets that it would pass, by the reason for which they are dropped.
    pub would_pass: BTreeMap<String, u64>,
    /// Passed packets that it would drop, by the reason for which it would.
    pub would_drop: BTreeMap<String, u64>,
}

/// The candidate in a few words, for the status.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct CandidateStatus {
    /// Who, when, from where and why; the number is that of the revision that it was written for.
    pub made: RevisionInfo,
    /// The revision over which it is tried.
    pub over: u64,
    /// Packets that it was handed since.
    pub judged: u64,
    /// What it would do otherwise.
    #[serde(flatten)]
    pub would: WouldCount,
    /// Packets of which nobody can say what it would do.
    pub unknowable: u64,
    /// Why it judges nothing now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// The candidate, with all that it has counted.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct CandidateReport {
    /// In a few words.
    #[serde(flatten)]
    pub status: CandidateStatus,
    /// What it would change of what is in force.
    pub changes: Changes,
    /// Every packet.
    pub compared: Compared,
    /// By the rule that allows a packet: today's of what it would drop, its own of what it would pass; `-` for packets
    /// that no rule is about.
    pub rules: BTreeMap<String, WouldCount>,
    /// By device; `-` for packets of none.
    pub devices: BTreeMap<String, WouldCount>,
}
