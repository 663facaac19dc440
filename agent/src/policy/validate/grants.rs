//! Grants, and the rules that they are.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::policy::address::{AddressRange, plain};
use crate::policy::diagnostic::Diagnostics;
use crate::policy::grant::Grant;
use crate::policy::location::Located;
use crate::policy::model::{Policy, PolicyRules};
use crate::policy::name::Name;

/// Puts the rule of every grant among the policies; one whose name a policy has is refused.
pub(super) fn put(
    grants: &BTreeMap<Name, Grant>,
    policies: &mut BTreeMap<Name, PolicyRules>,
    problems: &mut Diagnostics,
) {
    for grant in grants.values() {
        if let Some(policy) = policies.get(&grant.name) {
            let problem = format!("a policy is called {} too, at {}", grant.name, policy.at);
            problems.error(&grant.at, problem, "name the grant otherwise: both stand in records by name");
            continue;
        }
        policies.extend(grant.rules().map(|rules| (grant.name.clone(), rules)));
    }
}

/// A grant that opens nothing fails when the visitor is there: both ends must be what they are said to be.
pub(super) fn check(policy: &Policy, problems: &mut Diagnostics) {
    for grant in policy.grants.values() {
        comes_from_outside(policy, grant, problems);
        let Some(device) = policy.devices.get(&grant.device.value) else { continue };
        for Located { value: prefix, at } in &grant.behind {
            let range = AddressRange::from(*prefix);
            let mut routes = device.framed_routes.iter();
            if !routes.any(|route| AddressRange::from(route.value).contains(range)) {
                let problem = format!("{} does not lie behind {}", plain(prefix), device.name);
                problems.error(at, problem, "compare it with `framedRoutes` of the device");
            }
        }
    }
}

/// Rules let in from outside: devices' addresses are no visitor's, and infrastructure is cut from every rule.
fn comes_from_outside(policy: &Policy, grant: &Grant, problems: &mut Diagnostics) {
    for Located { value: prefix, at } in &grant.from {
        let range = AddressRange::from(*prefix);
        let touches =
            |all: &[Located<IpNet>]| all.iter().any(|own| AddressRange::from(own.value).overlaps(range));
        for network in policy.networks.values() {
            let whose = match (touches(&network.pools), touches(&network.infrastructure)) {
                (_, true) => "infrastructure",
                (true, false) => "pools",
                (false, false) => continue,
            };
            let problem = format!("{} is among the {whose} of network {}", plain(prefix), network.name);
            problems.error(at, problem, "name the address that the visitor has outside");
        }
    }
}
