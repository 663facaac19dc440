//! The engine's answer in the operator's words, and frames on which two answers differ.

use bulkhead::policy::Catalogue;
use bulkhead_common::abi::{DeviceId, RuleId};
use bulkhead_common::verdict::{Evidence, Verdict};

use crate::generate::Shot;
use crate::oracle::Opinion;

/// Says what the engine decided as the oracle would.
pub fn in_words(verdict: Verdict, evidence: &Evidence, catalogue: &Catalogue) -> Opinion {
    let device = |id: DeviceId| catalogue.devices.get(&id).map(ToString::to_string);
    let rule = |id: RuleId| catalogue.rules.get(&id).map(ToString::to_string);
    Opinion {
        passes: verdict.passes(),
        reason: verdict.as_str(),
        device: device(evidence.device),
        peer: device(evidence.peer),
        rule: rule(evidence.rule),
    }
}

/// A frame as hexadecimal digits, for messages and fixtures.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What to print of a frame that two judges see differently.
pub fn difference(shot: &Shot, ours: &Opinion, theirs: &Opinion) -> String {
    let Shot { now, ifindex, from_host, bytes } = shot;
    let host = if *from_host { ", from the host" } else { "" };
    format!(
        "on interface {ifindex:#x} at {now} ns{host}, {} bytes: {}\n  engine {ours:?}\n  oracle {theirs:?}",
        bytes.len(),
        hex(bytes)
    )
}
