//! Links of this host where the second guard would cut what is no device's.

use crate::policy::address::AddressRange;
use crate::policy::agent::AgentConfig;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::model::Policy;
use crate::tables::Host;

/// Warns of addresses that are devices' and those of neighbours on an interface that is not listed, both.
///
/// What enters there from such an address is a device's as far as anybody can tell, and dropped: it may be the
/// operator's own machine.
pub(super) fn warn(policy: &Policy, agent: &AgentConfig, host: &Host, problems: &mut Diagnostics) {
    if !agent.second_guard {
        return;
    }
    let listed = |name: &str| {
        let own = agent.interfaces.iter().map(|interface| interface.name.value.as_str());
        own.into_iter()
            .any(|own| name.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
    };
    let pools = policy.networks.values().flat_map(|network| &network.pools);
    let routes = policy.devices.values().flat_map(|device| &device.framed_routes);
    for prefix in pools.chain(routes) {
        let range = AddressRange::from(prefix.value);
        for (name, found) in host.interfaces.iter().filter(|(name, _)| !listed(name)) {
            let mut links = found.addresses.iter().filter(|link| link.prefix_len() < link.max_prefix_len());
            if let Some(link) = links.find(|link| AddressRange::from(link.trunc()).overlaps(range)) {
                let problem =
                    format!("{} overlaps {}, the link of this host's {name}", prefix.value, link.trunc());
                let help =
                    format!("what {name} brings from there is dropped: list it, or renumber one of the two");
                problems.warn(&prefix.at, problem, help);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{SourceFile, parse, parse_agent};
    use crate::tables::HostInterface;

    fn warnings(second_guard: &str, link: &str) -> usize {
        let agent = "apiVersion: bulkhead/v1\nkind: Agent\nspec:\n  interfaces:\n  \
                     - {name: n6, roles: [core], transit: pass}\n  secondGuard: ";
        let agent =
            parse_agent(vec![SourceFile::new("agent.yaml", format!("{agent}{second_guard}\n"))]).unwrap();
        let network = "apiVersion: bulkhead/v1\nkind: Network\nmetadata: {name: acme}\n\
                       spec: {seenOn: [{interface: n6}], pools: [10.45.0.0/16]}\n";
        let policy = parse(vec![SourceFile::new("net.yaml", network)], Some(&agent)).unwrap().policy;
        let mut host = Host::default();
        for (name, ifindex) in [("n6", 2), ("n6.100", 3), ("eth1", 4)] {
            let addresses = vec![link.parse().unwrap()];
            host.interfaces
                .insert(name.to_owned(), HostInterface { ifindex, addresses, ..HostInterface::default() });
        }
        let mut problems = Diagnostics::default();
        warn(&policy, &agent, &host, &mut problems);
        problems.iter().count()
    }

    #[test]
    fn an_operator_s_link_among_devices_is_told_before_it_is_cut() {
        assert_eq!(warnings("on", "10.45.9.1/24"), 1, "of eth1, not of what is listed");
        assert_eq!(warnings("on", "10.0.0.1/8"), 1);
        assert_eq!(warnings("on", "10.46.0.1/16"), 0);
        assert_eq!(warnings("on", "10.45.0.1/32"), 0, "the host's own address is never cut");
        assert_eq!(warnings("off", "10.45.9.1/24"), 0);
    }
}
