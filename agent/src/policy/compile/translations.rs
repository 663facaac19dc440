//! IPv6 prefixes in which IPv4 addresses are written: who sends there reaches IPv4 behind a translator or relay.
//!
//! A rule reaches into one only if it names a part of it, and then not where the IPv4 address is one
//! that the rule could not reach by itself. Teredo hides the address behind a server's and a mask, so
//! nothing in it is ever open.

use ipnet::IpNet;

use super::ranges::RangeSet;
use crate::policy::address::{AddressRange, IPV4};

/// Where an IPv4 address stands in an IPv6 address.
#[derive(Clone, Copy)]
enum Embedded {
    /// So many bits before the end.
    Before(u32),
    /// At the end, behind a /96 that the operator chooses.
    BehindPrefix,
    /// Where no range of it is a range here.
    Scattered,
}

/// NAT64 (RFC 6052, RFC 8215), 6to4 (RFC 3056), Teredo (RFC 4380), IPv4-compatible (RFC 4291) and
/// IPv4-translated addresses (RFC 2765).
const TRANSLATIONS: [(&str, Embedded); 6] = [
    ("64:ff9b::/96", Embedded::Before(0)),
    ("64:ff9b:1::/48", Embedded::BehindPrefix),
    ("2002::/16", Embedded::Before(80)),
    ("2001::/32", Embedded::Scattered),
    ("::/96", Embedded::Before(0)),
    ("::ffff:0:0:0/96", Embedded::Before(0)),
];

/// What of a prefix is not open although its IPv6 addresses are nobody's: `closed` are the IPv4
/// addresses that may not be reached.
pub(super) fn closed(prefix: IpNet, closed: &RangeSet) -> RangeSet {
    let IpNet::V6(_) = prefix else { return RangeSet::default() };
    let meant = AddressRange::from(prefix);
    let touched = translations().filter(|(range, _)| range.overlaps(meant));
    let parts = touched.flat_map(|(range, embedded)| match embedded {
        Embedded::Before(bits) if range.contains(meant) => written(closed, range.first, bits),
        Embedded::BehindPrefix if prefix.prefix_len() >= 96 => written(closed, meant.first & !0xffff_ffff, 0),
        Embedded::Before(_) | Embedded::BehindPrefix | Embedded::Scattered => vec![range],
    });
    parts.collect()
}

/// True if a prefix touches one of them.
pub(super) fn touches(prefix: IpNet) -> bool {
    let meant = AddressRange::from(prefix);
    prefix.addr().is_ipv6() && translations().any(|(range, _)| range.overlaps(meant))
}

fn translations() -> impl Iterator<Item = (AddressRange, Embedded)> {
    let parsed = TRANSLATIONS.iter().filter_map(|(text, at)| Some((text.parse::<IpNet>().ok()?, *at)));
    parsed.map(|(net, at)| (AddressRange::from(net), at))
}

/// IPv4 ranges as they stand `bits` before the end of an address that begins with `base`.
fn written(ranges: &RangeSet, base: u128, bits: u32) -> Vec<AddressRange> {
    let rest = (1 << bits) - 1;
    let v4 = ranges.ranges().iter().filter(|range| IPV4.contains(**range));
    let stands = |address: u128| base | ((address - IPV4.first) << bits);
    v4.map(|range| AddressRange { first: stands(range.first), last: stands(range.last) | rest }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    /// Whether an address is open, by a prefix, where 10.45.0.0/16 is closed.
    fn is_open(prefix: &str, address: &str) -> bool {
        let pool = ["10.45.0.0/16".parse::<IpNet>().unwrap()].map(AddressRange::from).into_iter().collect();
        let address = AddressRange::from(address.parse::<IpAddr>().unwrap());
        !closed(prefix.parse().unwrap(), &pool).touches(address)
    }

    #[test]
    fn a_wide_prefix_reaches_into_no_translation() {
        for address in
            ["64:ff9b::203.0.113.10", "64:ff9b:1::1", "2002:cb00:710a::1", "2001:0:1::1", "::1.2.3.4"]
        {
            assert!(!is_open("::/0", address), "{address}");
        }
        assert!(is_open("::/0", "2001:db8::1") && is_open("::/0", "64:ff9b:2::1"));
        assert!(!is_open("2002::/15", "2002:cb00:710a::1") && !is_open("64:ff9b::/32", "64:ff9b::1.2.3.4"));
    }

    #[test]
    fn a_named_translation_leads_to_no_pool() {
        for (prefix, open, shut) in [
            ("64:ff9b::/96", "64:ff9b::203.0.113.10", "64:ff9b::10.45.0.17"),
            ("64:ff9b::/96", "64:ff9b::10.46.0.0", "64:ff9b::10.45.255.255"),
            ("64:ff9b:1:7::/96", "64:ff9b:1:7::10.44.255.255", "64:ff9b:1:7::10.45.0.0"),
            ("2002::/16", "2002:cb00:710a::1", "2002:a2d:11:ffff::1"),
            ("::ffff:0:0:0/96", "::ffff:0:203.0.113.10", "::ffff:0:10.45.0.17"),
        ] {
            assert!(is_open(prefix, open), "{open}");
            assert!(!is_open(prefix, shut), "{shut}");
        }
        assert!(!is_open("64:ff9b:1::/64", "64:ff9b:1::203.0.113.10"), "where the /96 begins is not said");
        assert!(!is_open("2001:0:c000:201::/64", "2001:0:c000:201::1"), "Teredo");
    }

    #[test]
    fn what_is_no_translation_is_left_alone() {
        assert_eq!(closed("2001:db8::/32".parse().unwrap(), &RangeSet::default()), RangeSet::default());
        assert_eq!(closed("0.0.0.0/0".parse().unwrap(), &RangeSet::default()), RangeSet::default());
    }
}
