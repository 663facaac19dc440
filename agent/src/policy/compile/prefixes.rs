//! Which prefix of a device covers an address, where no lookup of the address alone finds it.
//!
//! Prefixes of two devices never overlap; those of one may nest, and then the longest counts. So they are
//! cut into disjoint ranges that each name one length: the engine searches these once.

use std::collections::BTreeMap;

use bulkhead_common::abi::{Addr, AddressKey, NetworkId};

use crate::policy::address::AddressRange;
use crate::tables::{Scoped, Tables};

/// Adds the ranges of every network, from the addresses that are there.
pub(super) fn add(tables: &mut Tables) {
    let mut by_network: BTreeMap<NetworkId, Vec<(AddressRange, u32)>> = BTreeMap::new();
    let keys: Vec<AddressKey> = tables.addresses.keys().filter(|key| !key.is_exact()).copied().collect();
    for key in keys {
        by_network.entry(key.network()).or_default().push((range(key), key.prefix_len()));
        let around = AddressKey::prefix64(key.network(), key.address());
        if key.prefix_len() > 64
            && let Some(owner) = tables.addresses.get_mut(&around)
        {
            owner.nested = true;
        }
    }
    for (network, prefixes) in by_network {
        tables.networks.entry(network).or_default().prefixes = disjoint(prefixes);
    }
}

fn range(key: AddressKey) -> AddressRange {
    let first = key.address().to_bits();
    AddressRange { first, last: first | u128::MAX.checked_shr(key.prefix_len()).unwrap_or(0) }
}

/// Cuts prefixes, which nest or are apart, so that each address has the longest one alone.
fn disjoint(mut prefixes: Vec<(AddressRange, u32)>) -> Vec<Scoped> {
    prefixes.sort_by_key(|(range, length)| (range.first, *length));
    let mut cut = Cut { open: Vec::new(), from: 0, ranges: Vec::new() };
    for (range, length) in prefixes {
        cut.close_before(range.first);
        cut.up_to(range.first);
        cut.open.push((range.last, length));
    }
    cut.close_before(u128::MAX);
    cut.ranges
}

struct Cut {
    /// Last address and length of the prefixes that cover the place in hand, the longest last.
    open: Vec<(u128, u32)>,
    /// The first address that no range has yet.
    from: u128,
    ranges: Vec<Scoped>,
}

impl Cut {
    /// Ends every prefix that ends before an address.
    fn close_before(&mut self, address: u128) {
        while let Some((last, _)) = self.open.last().copied().filter(|(last, _)| *last < address) {
            // Nothing ends at the last address: multicast lies there, and is nobody's.
            self.up_to(last + 1);
            self.open.pop();
        }
    }

    /// Gives what lies before an address to the longest prefix that is open.
    fn up_to(&mut self, address: u128) {
        if let Some((_, length)) = self.open.last()
            && self.from < address
        {
            let (first, last) = (Addr::from_bits(self.from), Addr::from_bits(address - 1));
            self.ranges.push(Scoped { first, last, scope: *length });
        }
        self.from = self.from.max(address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipnet::IpNet;

    fn cut(prefixes: &[&str]) -> Vec<(String, String, u32)> {
        let nets = prefixes.iter().map(|text| text.parse::<IpNet>().unwrap());
        let prefixes = nets.map(|net| (AddressRange::from(net), super::super::length(net)));
        let ranges = disjoint(prefixes.collect()).into_iter();
        ranges.map(|r| (r.first.to_string(), r.last.to_string(), r.scope)).collect()
    }

    #[test]
    fn the_longest_prefix_has_each_address_alone() {
        let expected = [
            ("10.0.0.0", "10.0.0.255", 112),
            ("10.0.1.0", "10.0.1.15", 124),
            ("10.0.1.16", "10.0.1.255", 120),
            ("10.0.2.0", "10.0.255.255", 112),
            ("10.9.0.0", "10.9.0.1", 127),
        ];
        let found = cut(&["10.9.0.0/31", "10.0.1.0/24", "10.0.0.0/16", "10.0.1.0/28"]);
        let expected: Vec<_> = expected.map(|(a, b, n)| (a.to_owned(), b.to_owned(), n)).into();
        assert_eq!(found, expected);
    }

    #[test]
    fn prefixes_that_share_an_edge_leave_no_gap() {
        let found = cut(&["2001:db8::/48", "2001:db8::/56", "2001:db8:0:ff00::/56"]);
        let lengths: Vec<u32> = found.iter().map(|(_, _, length)| *length).collect();
        assert_eq!(lengths, [56, 48, 56]);
    }
}
