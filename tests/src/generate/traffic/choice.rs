//! Who and where: near to what the policy names, or somewhere else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::super::policy::PLACES;
use super::super::world::{INTERFACES, LEAVING, WITNESS};
use super::{EGRESS, Place, Traffic};

/// What leaves to devices by [`LEAVING`].
const LEAVES: u32 = LEAVING | EGRESS;

pub(super) const OUTSIDE: [&str; 40] = [
    "203.0.113.10",
    "203.0.113.9",
    "203.0.113.128",
    "203.0.113.255",
    "203.0.112.0",
    "198.51.100.7",
    "198.51.100.8",
    "198.51.101.0",
    "2001:db8:cafe::10",
    "2001:db8:cafe::13",
    "2001:db8:cafe::14",
    "2001:db8:cafe:1::",
    "2001:db9::1",
    "10.99.0.53",
    "10.99.0.88",
    "10.45.255.53",
    "10.46.255.53",
    "2001:db8:99::88",
    "10.99.0.1",
    "192.0.2.1",
    "192.0.2.77",
    "10.0.0.0",
    "128.0.0.1",
    "127.255.255.255",
    "64.0.0.0",
    "9.255.255.255",
    "64:ff9b::10.45.0.17",
    "64:ff9b::203.0.113.10",
    "64:ff9b::192.0.2.255",
    "64:ff9b:1:2::10.99.0.53",
    "64:ff9b:1:2::198.51.100.7",
    "2002:a2d:11::1",
    "2002:cb00:710a::1",
    "2001:0:1::1",
    "::203.0.113.10",
    "::ffff:0:203.0.113.10",
    "192.0.2.255",
    "192.0.2.0",
    "10.99.0.255",
    "2001:db8:1::",
];

/// So many of [`OUTSIDE`] are in prefixes that rules name.
const NAMED: usize = 10;

pub(super) const ODD: [&str; 22] = [
    "0.0.0.0",
    "127.0.0.1",
    "169.254.1.1",
    "224.0.0.251",
    "239.1.2.3",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "febf::2",
    "ff02::1",
    "::ffff:10.45.0.17",
    "::10.45.0.17",
    "10.45.0.1",
    "10.46.0.1",
    "10.45.0.0",
    "10.45.255.255",
    "10.46.3.3",
    "fd00:45::1",
    "fd00:46:0:17::99",
    "172.16.0.1",
];

impl Traffic {
    pub(super) fn place(&mut self, places: &[Place], outgoing: bool) -> Place {
        let core = |place: &&Place| matches!(place.0, 21 | 31 | 52 | LEAVES);
        let access = |place: &&Place| !matches!(place.0, 21 | WITNESS | LEAVES);
        let good: Vec<Place> = match outgoing {
            true => places.iter().filter(access).copied().collect(),
            false => places.iter().filter(core).copied().collect(),
        };
        if good.is_empty() || self.random.chance(8) { self.any_place() } else { *self.random.pick(&good) }
    }

    pub(super) fn any_place(&mut self) -> Place {
        if self.random.chance(10) {
            let (_, ifindex, _, _) = *self.random.pick(&INTERFACES);
            return (ifindex, *self.random.pick(&[0, 1, 7, 102, 4095]), *self.random.pick(&[0, 9, 10]));
        }
        let (name, vlan, inner) = *self.random.pick(&PLACES);
        let ifindex = INTERFACES.iter().find(|interface| interface.0 == name).expect("a known interface").1;
        (ifindex, vlan, inner)
    }

    /// The address itself, or some host of a prefix, its first and last among them.
    pub(super) fn host_of(&mut self, net: IpNet) -> IpAddr {
        let inside = match self.random.below(4) {
            0 => u128::MAX,
            1 => u128::from(self.random.next()),
            _ => self.random.below(4) as u128,
        };
        match net {
            IpNet::V6(v6) if v6.prefix_len() >= 64 && self.random.chance(50) => {
                let [a, b, c, d, ..] = v6.addr().segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, self.random.below(4) as u16).into()
            }
            IpNet::V6(v6) => {
                let host = u128::MAX.checked_shr(v6.prefix_len().into()).unwrap_or(0);
                Ipv6Addr::from_bits(v6.network().to_bits() | inside & host).into()
            }
            IpNet::V4(v4) => {
                let host = u32::MAX.checked_shr(v4.prefix_len().into()).unwrap_or(0);
                Ipv4Addr::from_bits(v4.network().to_bits() | inside as u32 & host).into()
            }
        }
    }

    pub(super) fn near_or_odd(&mut self) -> IpAddr {
        if self.random.chance(50) {
            return parse(self.random.pick(&ODD));
        }
        let net = self.random.pick(&self.devices).net;
        // The bit that ends the prefix says whether an address is just inside or just outside of it.
        let edge = usize::from(net.max_prefix_len() - net.prefix_len()) + self.random.below(2);
        match net.addr() {
            IpAddr::V4(v4) => {
                let bit = if self.random.chance(50) { self.random.below(17) } else { edge.min(31) };
                Ipv4Addr::from_bits(v4.to_bits() ^ (1 << bit)).into()
            }
            IpAddr::V6(v6) => {
                let bit = if self.random.chance(50) { 60 + self.random.below(10) } else { edge.min(127) };
                Ipv6Addr::from_bits(v6.to_bits() ^ (1 << bit)).into()
            }
        }
    }

    /// Somebody outside, mostly one of those that rules like to name.
    pub(super) fn outside(&mut self) -> IpAddr {
        let named = if self.random.chance(50) { NAMED } else { OUTSIDE.len() };
        parse(self.random.pick(&OUTSIDE[..named]))
    }

    pub(super) fn of_family(&mut self, like: IpAddr) -> IpAddr {
        let named = if self.random.chance(50) { NAMED } else { OUTSIDE.len() };
        let all: Vec<IpAddr> = OUTSIDE[..named].iter().map(parse).collect();
        let alike: Vec<IpAddr> = all.into_iter().filter(|it| it.is_ipv4() == like.is_ipv4()).collect();
        *self.random.pick(&alike)
    }
}

pub(super) fn parse(text: &&str) -> IpAddr {
    text.parse().expect("an address")
}

/// The same address, or in the same /64.
pub(super) fn same_host(a: IpAddr, b: IpAddr) -> bool {
    match (a, b) {
        (IpAddr::V6(a), IpAddr::V6(b)) => a.segments()[..4] == b.segments()[..4],
        _ => a == b,
    }
}
