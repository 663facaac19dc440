//! What does not fit into the kernel's tables is refused with numbers, before anything is written.

use std::collections::BTreeSet;

use bulkhead_common::abi::map;

use crate::policy::diagnostic::{Diagnostic, Diagnostics};
use crate::policy::model::Policy;
use crate::tables::Capacities;
use crate::tables::{Rules, Tables};

/// Counts every table.
pub(super) fn check(tables: &Tables, limits: &Capacities, problems: &mut Diagnostics) {
    // Row 0 is nobody's in the tables that are indexed by number.
    let numbered = |limit: u32| limit.saturating_sub(1) as usize;
    let rules: BTreeSet<&Rules> = tables.profiles.values().map(|rules| &**rules).collect();
    let scopes =
        tables.networks.values().map(|facts| facts.scopes.len() + facts.prefixes.len()).sum::<usize>()
            + tables.subinterfaces.values().map(|facts| facts.ranges()).sum::<usize>();
    for (what, count, limit) in [
        ("networks", tables.networks.len(), map::NETWORK_CAPACITY as usize),
        ("places (interface and VLAN)", tables.subinterfaces.len(), map::SUBINTERFACE_CAPACITY as usize),
        ("ranges of pools, infrastructure, links and device prefixes", scopes, map::SCOPE_CAPACITY as usize),
        ("devices", tables.devices.len(), numbered(limits.devices)),
        ("device addresses", tables.addresses.len(), limits.addresses as usize),
        ("profiles", tables.profiles.len(), numbered(limits.profiles)),
        ("rule sets", rules.len(), numbered(map::RULE_SET_CAPACITY)),
        ("remote ranges", rules.iter().map(|r| r.range_rows()).sum(), limits.ranges as usize),
        ("pairs of profiles", rules.iter().map(|r| r.peers.len()).sum(), map::PEER_CAPACITY as usize),
        ("windows of time", rules.iter().map(|r| r.windows.len()).sum(), map::WINDOW_CAPACITY as usize),
        ("port ranges", ports(&rules), limits.ports as usize),
    ] {
        refuse_more(what, count, limit, problems);
    }
}

/// How many numbers devices may be given: where more are named than the table holds, [`check`] says so, and running out
/// of numbers on the way there would only hide how many.
pub(super) fn device_numbers(policy: &Policy, limits: &Capacities) -> u32 {
    let fits = policy.devices.len() < limits.devices as usize;
    if fits { limits.devices } else { u32::MAX }
}

fn refuse_more(what: &str, count: usize, limit: usize, problems: &mut Diagnostics) {
    if count > limit {
        let problem = format!("the policy needs {count} {what}, and the table holds {limit}");
        let help = "make the policy smaller, or the table larger with spec.tables in agent.yaml";
        problems.push(Diagnostic::of_file("", problem, help));
    }
}

/// Port ranges as they are stored: each rule set keeps its own, equal lists of one set once.
fn ports(rules: &BTreeSet<&Rules>) -> usize {
    rules.iter().map(|rules| ports_of(rules)).sum()
}

fn ports_of(rules: &Rules) -> usize {
    let lists: BTreeSet<_> = rules.port_lists().collect();
    lists.into_iter().map(Vec::len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Remote;
    use bulkhead_common::abi::{Addr, PortRange};

    #[test]
    fn ports_are_counted_as_they_are_stored() {
        let ports = vec![PortRange::default(); 3];
        let remote =
            |last| Remote { first: Addr::default(), last: Addr::from_bits(last), ports: ports.clone() };
        let one = Rules { outbound: vec![remote(1), remote(2)], ..Rules::default() };
        let other = Rules { outbound: vec![remote(3)], ..Rules::default() };
        assert_eq!(super::ports(&BTreeSet::from([&one])), 3, "once in one rule set");
        assert_eq!(super::ports(&BTreeSet::from([&one, &other])), 6, "and again in the next");
    }
}
