//! Where devices are, as the kernel's interval sets hold it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::policy::{AddressRange, address};

/// Ranges of addresses by family: sorted, disjoint, both ends included.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Pools {
    /// IPv4.
    pub v4: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// IPv6.
    pub v6: Vec<(Ipv6Addr, Ipv6Addr)>,
}

impl Pools {
    /// Takes sorted, disjoint ranges apart by family.
    pub fn new(ranges: &[AddressRange]) -> Self {
        let mut pools = Self::default();
        for range in ranges {
            // The policy reader lets no range cross from one family into the other.
            match (address(range.first), address(range.last)) {
                (IpAddr::V4(first), IpAddr::V4(last)) => pools.v4.push((first, last)),
                (IpAddr::V6(first), IpAddr::V6(last)) => pools.v6.push((first, last)),
                (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {}
            }
        }
        pools
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// How many ranges there are.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// What either has.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        let ranges = self.ranges().chain(other.ranges()).collect();
        Self::new(&crate::policy::merged(ranges))
    }

    /// True if any address of a range lies in a pool.
    pub fn touch(&self, range: AddressRange) -> bool {
        self.ranges().any(|pool| pool.overlaps(range))
    }

    fn ranges(&self) -> impl Iterator<Item = AddressRange> {
        let v4 = self.v4.iter().map(|(first, last)| (IpAddr::V4(*first), IpAddr::V4(*last)));
        let v6 = self.v6.iter().map(|(first, last)| (IpAddr::V6(*first), IpAddr::V6(*last)));
        v4.chain(v6).map(|(first, last)| AddressRange {
            first: AddressRange::from(first).first,
            last: AddressRange::from(last).last,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pools(nets: &[&str]) -> Pools {
        let ranges = nets.iter().map(|net| AddressRange::from(net.parse::<ipnet::IpNet>().unwrap()));
        Pools::new(&crate::policy::merged(ranges.collect()))
    }

    #[test]
    fn families_keep_apart_and_neighbours_become_one() {
        let found = pools(&["10.45.0.0/16", "10.46.0.0/16", "fd00:45::/32"]);
        assert_eq!(found.v4, [(Ipv4Addr::new(10, 45, 0, 0), Ipv4Addr::new(10, 46, 255, 255))]);
        assert_eq!((found.v6.len(), found.len()), (1, 2));
        assert!(found.touch(AddressRange::from("10.46.3.0/24".parse::<ipnet::IpNet>().unwrap())));
        assert!(!found.touch(AddressRange::from("10.47.0.0/24".parse::<ipnet::IpNet>().unwrap())));
        assert_eq!(pools(&["10.45.0.0/16"]).with(&pools(&["10.46.0.0/16", "fd00:45::/32"])), found);
    }
}
