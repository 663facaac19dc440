//! Who observes and who enforces: a segment may be stricter than its network, never looser.

use super::classes::Classes;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::model::{Device, Mode, Policy, Segment};

/// Compares segments with the networks of their members.
pub(super) fn check(policy: &Policy, classes: &Classes<'_>, problems: &mut Diagnostics) {
    for network in policy.networks.values().filter(|network| network.mode == Mode::Observe) {
        let problem =
            format!("network {} only observes: what policy refuses its devices passes", network.name);
        problems.note(
            &network.at,
            problem,
            "write `mode: enforce` once `bulkhead drops` shows nothing that is missed",
        );
    }
    for segment in policy.segments.values() {
        let members = || classes.members(&segment.name).map(|(_, first)| first);
        refuse_looser(policy, segment, members(), problems);
        let observed = members().any(|device| network_mode(policy, device) == Some(Mode::Observe));
        doubt_canary(segment, observed, problems);
    }
}

fn refuse_looser<'a>(
    policy: &Policy,
    segment: &Segment,
    members: impl Iterator<Item = &'a Device>,
    problems: &mut Diagnostics,
) {
    let Some(mode) = segment.mode.as_ref().filter(|mode| mode.value == Mode::Observe) else { return };
    let enforced = members.filter(|device| network_mode(policy, device) == Some(Mode::Enforce));
    if let Some(device) = enforced.min_by_key(|device| &device.name) {
        let problem = format!(
            "segment {} is looser than network {}, which enforces, and device {} is in both",
            segment.name, device.network.value, device.name
        );
        let help = "observe in the network, and write `mode: enforce` in its other segments";
        problems.error(&mode.at, problem, help);
    }
}

/// A canary goes ahead of others; without them it says nothing.
fn doubt_canary(segment: &Segment, observed: bool, problems: &mut Diagnostics) {
    let Some(canary) = &segment.canary else { return };
    let strict = segment.mode.as_ref().is_some_and(|mode| mode.value == Mode::Enforce);
    if strict || !observed {
        let at = canary.share.as_ref().map(|share| &share.at);
        let at = at.or(canary.labels.as_ref().map(|labels| &labels.at)).unwrap_or(&segment.at);
        let problem = format!("every device of segment {} is enforced, not only its canary", segment.name);
        problems.warn(at, problem, "remove `canary`, or observe in the network");
    }
}

fn network_mode(policy: &Policy, device: &Device) -> Option<Mode> {
    policy.networks.get(&device.network.value).map(|network| network.mode)
}
