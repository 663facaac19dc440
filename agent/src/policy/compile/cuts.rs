//! Says what is cut from prefixes that reach too far, and refuses those of which nothing remains.

use ipnet::IpNet;

use super::ground::Ground;
use super::ranges::RangeSet;
use crate::policy;
use crate::policy::address::AddressRange;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::location::{Located, Location};
use crate::policy::model::{Direction, Network, Policy};
use crate::policy::ports::Port;

/// Looks at every prefix that a rule can name.
pub(super) fn report(policy: &Policy, ground: &Ground<'_>, problems: &mut Diagnostics) {
    for destination in policy.destinations.values().filter(|d| !d.reaches_infrastructure) {
        let what = format!("destination {}", destination.name);
        prefixes(&what, &destination.at, &destination.cidrs, ground, problems);
    }
    for rules in policy.policies.values() {
        for rule in &rules.rules {
            if let Direction::Outbound(remotes) | Direction::Inbound(remotes) = &rule.direction {
                let what = format!("rule {}/{}", rules.name, rule.name);
                prefixes(&what, &rule.at, &remotes.cidrs, ground, problems);
            }
        }
    }
    for rule in policy.policies.values().flat_map(|rules| &rules.rules) {
        tunnels(&format!("rule {}", rule.name), &rule.ports, &rule.at, problems);
    }
    for network in policy.networks.values() {
        services(network, ground, problems);
        for (name, service) in &network.services {
            tunnels(&format!("service {name}"), &service.ports, &service.at, problems);
        }
    }
}

fn prefixes(
    what: &str,
    at: &Location,
    cidrs: &[Located<IpNet>],
    ground: &Ground<'_>,
    problems: &mut Diagnostics,
) {
    let mut remains = cidrs.is_empty();
    for cidr in cidrs {
        let open = ground.open(cidr.value);
        remains |= !open.ranges().is_empty();
        if !open.covers(AddressRange::from(cidr.value)) {
            note(cidr, &open, ground, problems);
        }
    }
    if !remains {
        let problem = format!("nothing of {what} remains after what no rule may reach is cut");
        let help = "reach infrastructure by a service or `reaches: infrastructure`, devices by `between`";
        problems.error(at, problem, help);
    }
}

fn note(cidr: &Located<IpNet>, open: &RangeSet, ground: &Ground<'_>, problems: &mut Diagnostics) {
    if problems.is_quiet() {
        return;
    }
    let reasons = ground.reasons(cidr.value);
    // Nothing is missing but the place of IPv4 inside IPv6, which nobody means.
    if reasons.is_empty() {
        return;
    }
    let how_much = if open.ranges().is_empty() { "all of it is" } else { "parts of it are" };
    let problem = format!("{} reaches too far; {how_much} cut", cidr.value);
    problems.note(&cidr.at, problem, format!("cut: {}", reasons.join("; ")));
}

/// A tunnel would carry whatever else past every rule, so no wide entry opens one.
fn tunnels(what: &str, ports: &[Port], at: &Location, problems: &mut Diagnostics) {
    let spanned = |tunnel: &Port| ports.iter().any(|port| port.covers(tunnel));
    let named = |tunnel: &Port| ports.iter().any(|port| port.opens(tunnel));
    let cut: Vec<String> =
        policy::ports::tunnels().filter(|t| spanned(t) && !named(t)).map(|t| t.to_string()).collect();
    if !cut.is_empty() && !problems.is_quiet() {
        let problem = format!("the ports of {what} span tunnels, which it does not open");
        let help = format!("cut: {}; a tunnel is opened by its own name alone", cut.join(", "));
        problems.note(at, problem, help);
    }
}

/// A service on a device's address would open the way from device to device.
fn services(network: &Network, ground: &Ground<'_>, problems: &mut Diagnostics) {
    for (name, service) in &network.services {
        for address in &service.addresses {
            let prefix = IpNet::from(address.value);
            if ground.open_inside(prefix, &network.name).ranges().is_empty() {
                let problem = format!("service {name} names {}, which devices cannot reach", address.value);
                let reasons = ground.reasons(prefix).join("; ");
                problems.error(&address.at, problem, format!("it lies in {reasons}"));
            }
        }
    }
}
