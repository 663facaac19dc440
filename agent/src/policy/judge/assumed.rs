//! Stand-ins for a host that is not there: `check` on a laptop, a tunnel that is down.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::policy::agent::{AgentConfig, Interface, Role, Transit};
use crate::policy::location::{Located, Location, SourceFile, Span};
use crate::policy::model::Policy;
use crate::tables::{Host, HostInterface};

/// A host that has exactly the interfaces of the agent's settings, and no addresses.
pub fn assumed_host(agent: &AgentConfig) -> Host {
    completed(&Host::default(), agent)
}

/// The settings of an agent that guards every interface the policy mentions, in both roles.
///
/// Good enough to judge by where no settings are given; it never reaches a kernel.
pub fn assumed_agent(policy: &Policy) -> AgentConfig {
    let source = Arc::new(SourceFile::new("<no agent settings>", ""));
    let nowhere = Location::new(&source, Span::default());
    let places = policy.networks().values().flat_map(|network| &network.seen_on);
    let names: BTreeMap<&str, &Location> =
        places.map(|place| (place.value.interface.as_str(), &place.at)).collect();
    let interfaces = names.into_iter().map(|(name, at)| {
        let name = Located::new(name.to_owned(), at.clone());
        Interface::new(name, vec![Role::Access, Role::Core], Transit::Drop)
    });
    AgentConfig { interfaces: interfaces.collect(), ..AgentConfig::with_defaults(nowhere) }
}

/// The host with every interface that the agent's settings name.
pub(super) fn completed(host: &Host, agent: &AgentConfig) -> Host {
    let mut complete = host.clone();
    let mut free = host.interfaces.values().map(|found| found.ifindex).max().unwrap_or(0);
    for interface in &agent.interfaces {
        complete.interfaces.entry(interface.name.value.clone()).or_insert_with(|| {
            free = free.saturating_add(1);
            HostInterface { ifindex: free, ..HostInterface::default() }
        });
    }
    complete
}
