//! Addresses of devices: inside the pools, outside infrastructure, one device each; and what lies behind them.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::policy::address::{AddressRange, plain};
use crate::policy::compile::ground::special;
use crate::policy::compile::ranges::RangeSet;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::location::Located;
use crate::policy::model::{Device, Network, Policy};
use crate::policy::name::Name;

pub(super) fn check(policy: &Policy, problems: &mut Diagnostics) {
    let mut by_network: BTreeMap<&Name, Vec<(AddressRange, Owned<'_>)>> = BTreeMap::new();
    for device in policy.devices.values() {
        for address in device.prefixes() {
            let range = AddressRange::from(address.value);
            by_network.entry(&device.network.value).or_default().push((range, (device, address)));
        }
    }
    for (name, owned) in by_network {
        if let Some(network) = policy.networks.get(name) {
            refuse_misplaced(network, &owned, problems);
        }
        for (later, first) in overlaps(owned) {
            // Prefixes of one device may nest: the longest says what an address is.
            if later.0.name != first.0.name || later.1.value == first.1.value {
                refuse_shared(name, later, first, problems);
            }
        }
    }
}

type Owned<'a> = (&'a Device, &'a Located<IpNet>);

/// Everything that overlaps something before it, with what it overlaps.
///
/// One pass over the sorted ranges: prefixes nest or are apart, so the widest one that is still
/// open is enough to find a partner.
pub(super) fn overlaps<T: Copy>(mut ranges: Vec<(AddressRange, T)>) -> Vec<(T, T)> {
    ranges.sort_by_key(|(range, _)| (range.first, std::cmp::Reverse(range.last)));
    let mut found = Vec::new();
    let mut open: Option<(AddressRange, T)> = None;
    for (range, item) in ranges {
        match open {
            Some((wide, first)) if wide.overlaps(range) => found.push((item, first)),
            _ => open = Some((range, item)),
        }
    }
    found
}

fn refuse_misplaced(network: &Network, owned: &[(AddressRange, Owned<'_>)], problems: &mut Diagnostics) {
    let pools = set(&network.pools);
    let infrastructure = set(&network.infrastructure);
    for (range, (device, address)) in owned {
        // What lies behind a device has addresses of its own; everything else is the network's to give.
        let own = device.addresses.iter().any(|own| std::ptr::eq(own, *address));
        if !own && special().touches(*range) {
            let problem = format!("framed route {} covers addresses that no host may have", address.value);
            let help = "name the LAN's own prefix; loopback, link-local, multicast and the like are nobody's";
            problems.error(&address.at, problem, help);
        } else if own && !pools.covers(*range) {
            let pools: Vec<String> = network.pools.iter().map(|pool| pool.value.to_string()).collect();
            let problem =
                format!("{} is outside the pools of network {}", plain(&address.value), network.name);
            problems.error(&address.at, problem, format!("its pools are {}", shortened(&pools)));
        } else if infrastructure.touches(*range) {
            let problem = format!(
                "{} is infrastructure of network {}{}",
                plain(&address.value),
                network.name,
                origin(network, *range)
            );
            let help = if own { "give the device another address" } else { "narrow the framed route" };
            problems.error(&address.at, problem, help);
        }
    }
}

/// The prefixes of a list as a set of addresses.
pub(super) fn set(prefixes: &[Located<IpNet>]) -> RangeSet {
    prefixes.iter().map(|prefix| AddressRange::from(prefix.value)).collect()
}

/// Which line makes a range infrastructure, in brackets.
fn origin(network: &Network, range: AddressRange) -> String {
    let mut prefixes = network.infrastructure.iter();
    let found = prefixes.find(|prefix| AddressRange::from(prefix.value).overlaps(range));
    found.map(|found| format!(" ({}, {})", found.value, found.at)).unwrap_or_default()
}

fn shortened(items: &[String]) -> String {
    match items.len() {
        0..=4 => items.join(", "),
        more => format!("{} and {} more", items[..4].join(", "), more - 4),
    }
}

fn refuse_shared(network: &Name, later: Owned<'_>, first: Owned<'_>, problems: &mut Diagnostics) {
    // Whichever stands later in the text is the one to complain about.
    let (later, first) = match (first.1.at.file(), first.1.at.line()) > (later.1.at.file(), later.1.at.line())
    {
        true => (first, later),
        false => (later, first),
    };
    let (device, address) = later;
    let (other, taken) = first;
    let what = match address.value == taken.value {
        true => format!("{} is used twice in network {network}", plain(&address.value)),
        false => format!(
            "{} of device {} overlaps {} in network {network}",
            plain(&address.value),
            device.name,
            plain(&taken.value)
        ),
    };
    let (problem, help) = match device.name == other.name {
        true => (format!("{what} by device {} itself", device.name), "remove one of them".to_owned()),
        false => (
            format!("{what}: devices {} and {} ({})", device.name, other.name, taken.at),
            format!("give {} an address of its own", device.name),
        ),
    };
    problems.error(&address.at, problem, help);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps_are_found_in_one_pass() {
        let range = |first, last| AddressRange { first, last };
        let found = overlaps(vec![
            (range(20, 20), "c"),
            (range(0, 9), "a"),
            (range(3, 3), "b"),
            (range(20, 20), "d"),
            (range(5, 5), "e"),
        ]);
        assert_eq!(found, [("b", "a"), ("e", "a"), ("d", "c")]);
    }
}
