//! Which segment a device is in.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::policy::diagnostic::Diagnostics;
use crate::policy::model::Policy;
use crate::policy::name::Name;
use crate::policy::selectors::{Remembered, Selectors};

/// Puts each device into its segment; two are refused, an empty segment is worth a warning.
///
/// With `partial`, documents are missing and may hold the members of a segment.
pub(super) fn assign(policy: &mut Policy, partial: bool, problems: &mut Diagnostics) {
    let segments = &policy.segments;
    let selectors: Selectors<&Name> = segments.values().map(|s| (&s.members, &s.name)).collect();
    let mut inhabited = BTreeSet::new();
    let mut remembered = Remembered::default();
    for device in policy.devices.values_mut() {
        let found: &[&Name] = remembered.of(&device.labels, || {
            let found = selectors.matching(&device.labels);
            inhabited.extend(found.iter().copied());
            found
        });
        if let Some(segment) = found.first() {
            Arc::make_mut(device).segment = Some((*segment).clone());
        }
        if let [first, second, ..] = found {
            let at = |name: &Name| segments.get(name).map(|s| s.at.to_string()).unwrap_or_default();
            let problem = format!(
                "device {} is in two segments: {first} ({}) and {second} ({})",
                device.name,
                at(first),
                at(second)
            );
            problems.error(&device.at, problem, "change a label, or narrow one of the segments");
        }
    }
    for segment in segments.values().filter(|s| !partial && !inhabited.contains(&s.name)) {
        let problem = format!("segment {} has no members", segment.name);
        problems.warn(&segment.at, problem, "check its matchLabels against the labels of devices");
    }
}
