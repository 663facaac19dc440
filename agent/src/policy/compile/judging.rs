//! Each packet is judged once on a host: who judges what, what is judged twice, and what by nobody.

use bulkhead_common::case::LinkType;

use crate::policy::agent::{AgentConfig, Downlink, Hairpin, Interface, Role};
use crate::policy::diagnostic::Diagnostics;
use crate::policy::model::{Network, Policy};
use crate::policy::name::Name;
use crate::tables::Host;

/// A network whose devices may reach each other without being judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateralGap {
    /// The network.
    pub network: Name,
    /// The interface behind which packets may be switched from device to device.
    pub interface: String,
}

impl std::fmt::Display for LateralGap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { network, interface } = self;
        write!(
            f,
            "LATERAL NOT ENFORCED in {network}: the packet core behind {interface} may switch packets from device \
                   to device itself"
        )
    }
}

/// What to do about a [`LateralGap`].
pub const CLOSE_THE_GAP: &str = "judge where the devices' tunnels enter and make this interface a witness; or let the packet \
                             core send all packets out, and say so by hairpin: none";

/// Where packets from device to device may go past this host.
pub fn lateral_gaps(policy: &Policy, agent: &AgentConfig, host: &Host) -> Vec<LateralGap> {
    let open = |network: &&Network, interface: &Interface| {
        let gap = LateralGap { network: network.name.clone(), interface: interface.name.value.clone() };
        may_hairpin(interface, host).then_some(gap)
    };
    let networks = policy.networks.values();
    networks.flat_map(|network| seen(network, agent).filter_map(move |i| open(&network, i))).collect()
}

/// A device without Ethernet header is a packet core's own end of its tunnels: behind it are devices, and nothing between.
fn may_hairpin(interface: &Interface, host: &Host) -> bool {
    interface.plays(Role::Access)
        && match interface.hairpin {
            Some(Hairpin::Inside) => true,
            Some(Hairpin::Never) => false,
            None => is_raw_ip(interface, host),
        }
}

fn is_raw_ip(interface: &Interface, host: &Host) -> bool {
    let found = host.interfaces.get(&interface.name.value);
    found.is_some_and(|found| found.link == LinkType::RawIp)
}

/// The configured interfaces that show a network, each as often as it is listed.
fn seen<'a>(network: &'a Network, agent: &'a AgentConfig) -> impl Iterator<Item = &'a Interface> {
    network.seen_on.iter().filter_map(|seen| {
        agent.interfaces.iter().find(|interface| interface.name.value == seen.value.interface)
    })
}

/// Refuses two judging points of one direction; warns where device to device is judged nowhere.
pub(in crate::policy) fn check(
    policy: &Policy,
    agent: &AgentConfig,
    host: &Host,
    problems: &mut Diagnostics,
) {
    for network in policy.networks.values() {
        refuse_uplink_twice(network, agent, host, problems);
        refuse_downlink_twice(network, agent, problems);
        refuse_tagged_egress(network, agent, problems);
    }
    for gap in lateral_gaps(policy, agent, host) {
        let named = agent.interfaces.iter().find(|interface| interface.name.value == gap.interface);
        named.iter().for_each(|named| problems.warn(&named.name.at, gap.to_string(), CLOSE_THE_GAP));
    }
}

/// What a packet core hands to its device without Ethernet header has come through its tunnels, and was judged there.
fn refuse_uplink_twice(network: &Network, agent: &AgentConfig, host: &Host, problems: &mut Diagnostics) {
    let tunnels = seen(network, agent).find(|interface| interface.gtpu.is_some());
    let device = |interface: &&Interface| {
        let declared = interface.hairpin.is_some() || interface.downlink != Downlink::Ingress;
        let plain = interface.gtpu.is_none() && interface.plays(Role::Access);
        plain && (declared || is_raw_ip(interface, host))
    };
    if let (Some(tunnels), Some(device)) = (tunnels, seen(network, agent).find(device)) {
        let (first, second) = (&tunnels.name.value, &device.name.value);
        let problem = format!(
            "uplink of {} would be judged twice: in {first}'s tunnels, and on {second}",
            network.name
        );
        let help =
            format!("write roles: [witness] for {second}: it tells of what {first} has not let through");
        problems.error(&device.name.at, problem, help);
    }
}

/// What is judged as it leaves to the devices was judged before if it entered by a core interface of the network.
fn refuse_downlink_twice(network: &Network, agent: &AgentConfig, problems: &mut Diagnostics) {
    let leaving = seen(network, agent).find(|interface| interface.downlink != Downlink::Ingress);
    let entering = network.seen_on.iter().find(|seen| {
        let named = |interface: &&Interface| interface.name.value == seen.value.interface;
        agent.interfaces.iter().find(named).is_some_and(|interface| interface.plays(Role::Core))
    });
    if let (Some(leaving), Some(entering)) = (leaving, entering) {
        let problem = format!(
            "downlink of {} would be judged twice: on {}, and as it leaves by {}",
            network.name, entering.value.interface, leaving.name.value
        );
        let help = format!(
            "remove {} from seenOn, or downlink: egress from {} in {}",
            entering.value.interface,
            leaving.name.value,
            agent.at.file()
        );
        problems.error(&entering.at, problem, help);
    }
}

/// The tag of a frame that leaves is not in the frame yet, so it cannot tell networks apart there.
fn refuse_tagged_egress(network: &Network, agent: &AgentConfig, problems: &mut Diagnostics) {
    for seen in network.seen_on.iter().filter(|seen| seen.value.vlan != 0) {
        let named = |interface: &&Interface| interface.name.value == seen.value.interface;
        let interface = agent.interfaces.iter().find(named);
        if interface.is_some_and(|interface| interface.downlink != Downlink::Ingress) {
            let problem =
                format!("{} has downlink: egress, and no VLAN can be told there", seen.value.interface);
            problems.error(&seen.at, problem, "judge downlink on a core interface instead");
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::policy::{self, Diagnostics, Ids, SourceFile};
    use crate::tables::{Host, HostInterface};
    use bulkhead_common::case::LinkType;

    fn compiled(interfaces: &str, seen: &str) -> Result<Diagnostics, Diagnostics> {
        let agent = format!("apiVersion: bulkhead/v1\nkind: Agent\nspec: {{interfaces: [{interfaces}]}}\n");
        let agent = policy::parse_agent(vec![SourceFile::new("agent.yaml", agent)])?;
        let network = format!(
            "apiVersion: bulkhead/v1\nkind: Network\nmetadata: {{name: apn}}\nspec: {{seenOn: [{seen}], pools: \
             [10.45.0.0/16]}}\n"
        );
        let policy = policy::parse(vec![SourceFile::new("policy.yaml", network)], Some(&agent))?.policy;
        let mut host = Host::default();
        for (ifindex, (name, link)) in
            (1..).zip([("ogstun", LinkType::RawIp), ("n3", LinkType::Ethernet), ("n6", LinkType::Ethernet)])
        {
            let found = HostInterface { ifindex, link, ..HostInterface::default() };
            host.interfaces.insert(name.to_owned(), found);
        }
        policy::compile(&policy, &agent, &host, &mut Ids::default()).map(|compiled| compiled.notes)
    }

    const N3: &str =
        "{name: n3, roles: [access], transit: pass, gtpu: {local: [192.0.2.1], peers: [192.0.2.0/24]}}";
    const N6: &str = "{name: n6, roles: [core], transit: pass}";

    #[test]
    fn a_tun_device_alone_leaves_lateral_open_until_it_is_said_not_to() {
        let both = "{interface: ogstun}, {interface: n6}";
        let told =
            compiled(&format!("{{name: ogstun, roles: [access], transit: drop}}, {N6}"), both).unwrap();
        assert!(told.to_string().contains("LATERAL NOT ENFORCED in apn"), "{told}");
        let declared = format!("{{name: ogstun, roles: [access], transit: drop, hairpin: none}}, {N6}");
        assert!(!compiled(&declared, both).unwrap().to_string().contains("LATERAL"));
        let ethernet = format!("{{name: n3, roles: [access], transit: drop, hairpin: inside}}, {N6}");
        let told = compiled(&ethernet, "{interface: n3}, {interface: n6}").unwrap();
        assert!(told.to_string().contains("LATERAL NOT ENFORCED in apn"), "{told}");
    }

    #[test]
    fn no_direction_is_judged_twice() {
        let all = "{interface: n3}, {interface: ogstun}, {interface: n6}";
        let tun = |settings: &str| format!("{N3}, {{name: ogstun, {settings}}}, {N6}");
        let refused = compiled(&tun("roles: [access], transit: drop"), all).unwrap_err().to_string();
        assert!(refused.contains("uplink of apn would be judged twice"), "{refused}");
        assert!(compiled(&tun("roles: [witness]"), all).is_ok(), "a witness judges nothing");
        let leaving = tun("roles: [witness], downlink: egress");
        let refused = compiled(&leaving, all).unwrap_err().to_string();
        assert!(refused.contains("downlink of apn would be judged twice"), "{refused}");
        assert!(compiled(&leaving, "{interface: n3}, {interface: ogstun}").is_ok());
        let refused =
            compiled(&leaving, "{interface: n3}, {interface: ogstun, vlan: 7}").unwrap_err().to_string();
        assert!(refused.contains("no VLAN can be told"), "{refused}");
    }
}
