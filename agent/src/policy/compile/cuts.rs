//! Says what is cut from prefixes that reach too far, and refuses those of which nothing remains.

use ipnet::IpNet;

use super::ground::Ground;
use super::ranges::RangeSet;
use crate::policy::address::AddressRange;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::location::{Located, Location};
use crate::policy::model::{Direction, Network, Policy};

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
    for network in policy.networks.values() {
        services(network, ground, problems);
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
