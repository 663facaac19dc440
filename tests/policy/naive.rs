//! Judges by reading the policy address by address; shares no code with compiler or engine.

use std::net::IpAddr;

use bulkhead::policy::{
    Device, Direction, Network, Policy, PolicyRules, Port, Remotes, Rule, Selector, Subject,
};
use ipnet::IpNet;

/// The rule that allows it, as `policy/rule`: the one with the longest prefix, then the first.
pub(crate) fn outside(
    policy: &Policy,
    device: &Device,
    remote: IpAddr,
    port: Port,
    inbound: bool,
) -> Option<String> {
    let network = &policy.networks()[&device.network.value];
    if never(policy, network, device, port) {
        return None;
    }
    let mut best: Option<(u8, String)> = None;
    for rules in policy.policies().values() {
        let Subject::Devices(selector) = &rules.subject else { continue };
        if !chooses(selector, device) {
            continue;
        }
        for rule in &rules.rules {
            if let Some(length) = fit(policy, network, rule, remote, port, inbound)
                && best.as_ref().is_none_or(|(longest, _)| length > *longest)
            {
                best = Some((length, format!("{}/{}", rules.name, rule.name)));
            }
        }
    }
    best.map(|(_, rule)| rule)
}

/// The rule that lets one device call another.
pub(crate) fn between(policy: &Policy, from: &Device, to: &Device, port: Port) -> Option<String> {
    if from.network.value != to.network.value {
        return None;
    }
    let network = &policy.networks()[&from.network.value];
    if never(policy, network, from, port) || never(policy, network, to, port) {
        return None;
    }
    policy.policies().values().find_map(|rules| pair(rules, from, to, port))
}

fn pair(rules: &PolicyRules, from: &Device, to: &Device, port: Port) -> Option<String> {
    let Subject::Between(between) = &rules.subject else { return None };
    let same = between.same_labels.iter().all(|label| match (from.labels.get(label), to.labels.get(label)) {
        (Some(a), Some(b)) => a == b,
        _ => false,
    });
    if !same || !chooses(&between.initiator, from) || !chooses(&between.responder, to) {
        return None;
    }
    let rule = rules.rules.iter().find(|rule| opens(&rule.ports, port))?;
    Some(format!("{}/{}", rules.name, rule.name))
}

fn chooses(selector: &Selector, device: &Device) -> bool {
    match selector {
        Selector::Segment(name) => device.segment.as_ref() == Some(&name.value),
        Selector::Device(name) => device.name == name.value,
        Selector::Labels(labels) => {
            labels.value.iter().all(|(key, value)| device.labels.get(key) == Some(value))
        }
    }
}

fn never(policy: &Policy, network: &Network, device: &Device, port: Port) -> bool {
    let segment = device.segment.as_ref().map(|name| &policy.segments()[name]);
    opens(&network.never, port) || segment.is_some_and(|segment| opens(&segment.never, port))
}

fn opens(ports: &[Port], port: Port) -> bool {
    ports.iter().any(|open| match (open, port) {
        (Port::Portless(open), Port::Portless(asked)) => *open == asked,
        (Port::Any, _) | (Port::Echo, Port::Echo) => true,
        (Port::Range { protocol, first, last }, Port::Range { protocol: asked, first: number, .. }) => {
            *protocol == asked && (*first..=*last).contains(&number)
        }
        _ => false,
    })
}

/// The length, in 128 bits, of the longest prefix of a rule that fits.
fn fit(
    policy: &Policy,
    network: &Network,
    rule: &Rule,
    remote: IpAddr,
    port: Port,
    inbound: bool,
) -> Option<u8> {
    let remotes = match (&rule.direction, inbound) {
        (Direction::Outbound(remotes), false) | (Direction::Inbound(remotes), true) => remotes,
        _ => return None,
    };
    let services = service(network, remotes, remote, port).then_some(128);
    let mut lengths: Vec<u8> = services.into_iter().collect();
    if opens(&rule.ports, port) && !is_special(remote) {
        let plain = !in_some_pool(policy, remote) && !in_some_infrastructure(policy, remote);
        for cidr in remotes.cidrs.iter().filter(|_| plain) {
            lengths.extend(holds(cidr.value, remote));
        }
        for name in &remotes.destinations {
            let destination = &policy.destinations()[&name.value];
            let inside = destination.reaches_infrastructure && !in_pool(network, remote);
            if plain || inside {
                lengths.extend(destination.cidrs.iter().filter_map(|cidr| holds(cidr.value, remote)));
            }
        }
    }
    lengths.into_iter().max()
}

fn service(network: &Network, remotes: &Remotes, remote: IpAddr, port: Port) -> bool {
    let services = remotes.services.iter().filter_map(|name| network.services.get(&name.value));
    services.into_iter().any(|service| {
        opens(&service.ports, port) && service.addresses.iter().any(|address| address.value == remote)
    })
}

fn holds(cidr: IpNet, remote: IpAddr) -> Option<u8> {
    let family = if remote.is_ipv4() { 96 } else { 0 };
    cidr.contains(&remote).then(|| cidr.prefix_len() + family)
}

fn in_pool(network: &Network, address: IpAddr) -> bool {
    let pool = network.pools.iter().any(|pool| pool.value.contains(&address));
    pool && !network.infrastructure.iter().any(|prefix| prefix.value.contains(&address))
}

fn in_some_pool(policy: &Policy, address: IpAddr) -> bool {
    policy.networks().values().any(|network| in_pool(network, address))
}

fn in_some_infrastructure(policy: &Policy, address: IpAddr) -> bool {
    let mut prefixes = policy.networks().values().flat_map(|network| &network.infrastructure);
    prefixes.any(|prefix| prefix.value.contains(&address))
}

fn is_special(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let first = v4.octets()[0];
            first == 0 || v4.is_loopback() || v4.is_link_local() || first >= 224
        }
        IpAddr::V6(v6) => {
            v6.is_unspecified() || v6.is_loopback() || v6.is_multicast() || v6.is_unicast_link_local()
        }
    }
}
