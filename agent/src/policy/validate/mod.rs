//! Resources → a [`Policy`]: everything that takes more than one document to see.

mod addresses;
mod classes;
mod devices;
mod doubts;
mod grants;
mod members;
mod modes;
mod networks;
mod references;

pub(in crate::policy) use devices::identifiers;

use std::collections::{BTreeMap, BTreeSet};

use super::agent::AgentConfig;
use super::diagnostic::Diagnostics;
use super::document::{Drafts, Kind};
use super::location::Location;
use super::model::{Identifiers, Policy};
use super::name::Name;
use crate::processors;
use classes::Classes;

/// Checks resources against each other. The result is a valid policy only if no error was found.
pub(crate) fn policy(mut drafts: Drafts, agent: Option<&AgentConfig>, problems: &mut Diagnostics) -> Policy {
    let broken = std::mem::take(&mut drafts.broken);
    let lost = drafts.lost;
    refuse_agents(&drafts.agents, problems);
    let granted: BTreeMap<_, _> = by_name(drafts.grants, Kind::Grant, problems, |g| (&g.name, &g.at));
    let mut policies: BTreeMap<_, _> = by_name(drafts.policies, Kind::Policy, problems, |p| (&p.name, &p.at));
    grants::put(&granted, &mut policies, problems);
    let mut policy = Policy {
        networks: by_name(drafts.networks, Kind::Network, problems, |n| (&n.name, &n.at)),
        segments: by_name(drafts.segments, Kind::Segment, problems, |s| (&s.name, &s.at)),
        devices: by_name(drafts.devices, Kind::Device, problems, |d| (&d.name, &d.at)),
        destinations: by_name(drafts.destinations, Kind::Destination, problems, |d| (&d.name, &d.at)),
        policies,
        grants: granted,
        observed: BTreeSet::new(),
        identifiers: Identifiers::default(),
    };
    policy.identifiers = beside_addresses(&policy, problems, |problems| {
        networks::check(&policy, agent, problems);
        devices::check(&policy, problems)
    });
    members::assign(&mut policy, lost || !broken.is_empty(), problems);
    let classes = Classes::of(&policy);
    modes::check(&policy, &classes, problems);
    references::check(&policy, &classes, (&broken, lost), problems);
    grants::check(&policy, problems);
    if !problems.has_errors() {
        doubts::tell(&policy, &classes, problems);
    }
    policy
}

/// Checks the addresses of all devices, and something else on another processor; what the other finds is told first.
fn beside_addresses<T>(
    policy: &Policy,
    problems: &mut Diagnostics,
    other: impl FnOnce(&mut Diagnostics) -> T,
) -> T {
    let mut found = Diagnostics::default();
    let (done, ()) = processors::both(|| other(problems), || addresses::check(policy, &mut found));
    problems.append(found);
    done
}

/// What is wrong with some devices of a policy by themselves, beside each other and beside what is no device; each gets its
/// segment. They are all devices that `few` has.
pub(crate) fn few(few: &mut Policy, problems: &mut Diagnostics) {
    few.identifiers = beside_addresses(few, problems, |problems| devices::check(few, problems));
    members::assign(few, true, problems);
    modes::check(few, &Classes::of(few), problems);
    let (devices, networks) = (few.devices.values(), &few.networks);
    for device in devices.filter(|device| !networks.contains_key(&device.network.value)) {
        problems.error(&device.network.at, "there is no such network", "name one that there is");
    }
}

/// The host's own settings do not arrive as policy: whoever may push rules may not choose
/// which interfaces are guarded.
fn refuse_agents(agents: &[AgentConfig], problems: &mut Diagnostics) {
    for agent in agents {
        problems.error(
            &agent.at,
            "kind Agent does not belong among the policies",
            "move it to /etc/bulkhead/agent.yaml, or name that file with -c",
        );
    }
}

/// Keys resources by name; the second of a name is refused.
fn by_name<T, M: FromIterator<(Name, T)>>(
    items: Vec<T>,
    kind: Kind,
    problems: &mut Diagnostics,
    head: impl Fn(&T) -> (&Name, &Location),
) -> M {
    let mut named: Vec<(Name, T)> = Vec::with_capacity(items.len());
    let mut ordered = true;
    for item in items {
        let name = head(&item).0.clone();
        ordered &= named.last().is_none_or(|(last, _)| *last < name);
        named.push((name, item));
    }
    // An export is in order mostly, and a whole map is built faster than grown.
    if ordered {
        return named.into_iter().collect();
    }
    let mut kept: BTreeMap<Name, T> = BTreeMap::new();
    for (name, item) in named {
        if let Some(first) = kept.get(&name) {
            let (_, earlier) = head(first);
            let problem = format!("{} {name} is defined twice, first at {earlier}", kind.noun());
            problems.error(head(&item).1, problem, "rename or remove one of them");
        } else {
            kept.insert(name, item);
        }
    }
    kept.into_iter().collect()
}
