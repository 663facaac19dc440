//! Tables for many devices that are all alike, and frames of theirs.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use bulkhead::tables::{NetworkFacts, Owner, Place, PlaceFacts, Remote, Rules, Scoped, Tables, TunnelFacts};
use bulkhead_common::abi::key::VLAN_OTHER;
use bulkhead_common::abi::value::{ROLE_ACCESS, SCOPE_ENDPOINT, SCOPE_POOL, TRANSIT_DROP};
use bulkhead_common::abi::{Addr, AddressKey, Device, DeviceId, NetworkId, PortRange, ProfileId, RuleId};
use tests::frame::{Frame, eth};

use super::lab::ROUTER_MAC;

/// The interface that `BPF_PROG_TEST_RUN` says frames came by, unless it is told another: loopback.
pub(crate) const LOOPBACK: u32 = 1;
/// The first device's address; device number n has this plus n.
pub(crate) const FIRST: u32 = 0x0a40_0000;
/// The same of IPv6, in the last four bytes.
const FIRST_V6: [u16; 6] = [0xfd00, 0, 0, 0, 0, 0];
/// An address of the pool that no device has, and as many behind it.
pub(crate) const STRANGER: u32 = 0x0a80_0000;
const REMOTE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
const REMOTE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xcafe, 0, 0, 0, 0, 0x10);
/// The port that devices may call, and one that they may not.
pub(crate) const OPEN: u16 = 5000;
pub(crate) const CLOSED: u16 = 6000;
const PEER: Ipv4Addr = Ipv4Addr::new(10, 3, 0, 21);
const ENDPOINT: Ipv4Addr = Ipv4Addr::new(10, 3, 0, 10);
const NETWORK: NetworkId = NetworkId(1);
const PROFILE: ProfileId = ProfileId(1);

/// The tables of `devices` devices, each with an address of either family.
pub(crate) fn tables(devices: u32, ifindex: u32) -> Tables {
    let mut tables = Tables::default();
    let facts = PlaceFacts {
        network: NETWORK,
        roles: ROLE_ACCESS,
        transit: TRANSIT_DROP,
        link: Vec::new(),
        tunnels: TunnelFacts::default(),
    };
    let plain = Place { ifindex, outer_vlan: 0, inner_vlan: 0 };
    tables
        .subinterfaces
        .insert(Place { outer_vlan: VLAN_OTHER, inner_vlan: VLAN_OTHER, ..plain }, facts.clone());
    tables.subinterfaces.insert(plain, facts.clone());
    // Tagged frames carry tunnels, so that both ways can be measured over one set of tables.
    let one = |address: Ipv4Addr| vec![scoped(address.into(), address.into(), SCOPE_ENDPOINT)];
    let tunnels =
        TunnelFacts { endpoints: one(ENDPOINT), peers: one(PEER), idle: 30, ..TunnelFacts::default() };
    tables.subinterfaces.insert(Place { outer_vlan: 7, ..plain }, PlaceFacts { tunnels, ..facts });
    let mut pools = vec![
        scoped(device_v6(0).into(), device_v6(u32::MAX).into(), SCOPE_POOL),
        scoped(Ipv4Addr::new(10, 64, 0, 0).into(), Ipv4Addr::new(10, 255, 255, 255).into(), SCOPE_POOL),
    ];
    pools.sort();
    let network = NetworkFacts { scopes: pools, ..NetworkFacts::default() };
    tables.networks.insert(NetworkId::NONE, network.clone());
    tables.networks.insert(NETWORK, network);
    for number in 0..devices {
        let id = DeviceId(number + 1);
        tables.devices.insert(id, Device::unbound(id, NETWORK, PROFILE));
        for address in [IpAddr::V4(device(number)), IpAddr::V6(device_v6(number))] {
            tables
                .addresses
                .insert(AddressKey::host(NETWORK, address.into()), Owner { device: id, ..Owner::default() });
        }
    }
    tables.profiles = BTreeMap::from([(PROFILE, Arc::new(rules()))]);
    tables
}

fn rules() -> Rules {
    let open = PortRange { protocol: 17, first: OPEN, last: OPEN, rule: RuleId(1), ..PortRange::default() };
    let remote = |address: IpAddr| Remote { first: address.into(), last: address.into(), ports: vec![open] };
    Rules { outbound: vec![remote(REMOTE.into()), remote(REMOTE_V6.into())], ..Rules::default() }.sorted()
}

trait Sorted {
    fn sorted(self) -> Self;
}

impl Sorted for Rules {
    fn sorted(mut self) -> Self {
        self.outbound.sort();
        self
    }
}

fn scoped(first: IpAddr, last: IpAddr, scope: u32) -> Scoped {
    Scoped { first: Addr::from(first), last: Addr::from(last), scope }
}

fn device(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(FIRST + number)
}

fn device_v6(number: u32) -> Ipv6Addr {
    let [a, b, c, d, e, f] = FIRST_V6;
    Ipv6Addr::new(a, b, c, d, e, f, (number >> 16) as u16, number as u16)
}

/// A device's datagram, and where its source address's last four bytes and its ports lie.
pub(crate) struct Sample {
    pub(crate) frame: Vec<u8>,
    pub(crate) source_at: i16,
    pub(crate) ports_at: i16,
}

impl Sample {
    /// Writes the last four bytes of the source address.
    pub(crate) fn starts_from(&mut self, number: u32) {
        let at = usize::from(self.source_at.cast_unsigned());
        self.frame[at..at + 4].copy_from_slice(&number.to_be_bytes());
    }
}

const PAYLOAD: [u8; 18] = [0; 18];

pub(crate) fn v4(port: u16) -> Sample {
    let frame =
        eth().ip(IpAddr::from(device(0)), IpAddr::from(REMOTE)).udp(40_000, port).payload(&PAYLOAD).build();
    Sample { frame, source_at: 26, ports_at: 34 }
}

/// A datagram from `source` to the router, without a checksum of the ports: it would be wrong for all sources but one.
pub(crate) fn routed(source: u32) -> Sample {
    let frame = eth().to_mac(ROUTER_MAC).ip(IpAddr::from(Ipv4Addr::from_bits(source)), IpAddr::from(REMOTE));
    let frame = frame.udp(40_000, OPEN).set(6, &[0, 0]).payload(&PAYLOAD).build();
    Sample { frame, source_at: 26, ports_at: 34 }
}

pub(crate) fn v6(port: u16) -> Sample {
    let frame = eth().ip(IpAddr::from(device_v6(0)), IpAddr::from(REMOTE_V6)).udp(40_000, port);
    Sample { frame: frame.payload(&PAYLOAD).build(), source_at: 14 + 20, ports_at: 14 + 40 }
}

pub(crate) fn gtpu(port: u16) -> Sample {
    let outer: Frame = eth().vlan(7).ipv4(PEER, ENDPOINT).udp(2152, 2152);
    let inner = outer.gtpu(0x34, 255, 0x1a2b, &[0, 0, 0, 0x85, 1, 0x10, 9, 0]);
    let frame =
        inner.ip(IpAddr::from(device(0)), IpAddr::from(REMOTE)).udp(40_001, port).payload(&PAYLOAD).build();
    // Ethernet and tag, IPv4, UDP, GTP-U with options and one extension header.
    let inner_at = 18 + 20 + 8 + 16;
    Sample { frame, source_at: inner_at + 12, ports_at: inner_at + 20 }
}
