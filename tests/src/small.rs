//! The smallest tables that judge something: one network, devices that may reach one UDP port each.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use bulkhead::tables::{NetworkFacts, Owner, Place, PlaceFacts, Remote, Rules, Scoped, Tables, TunnelFacts};
use bulkhead_common::abi::key::VLAN_OTHER;
use bulkhead_common::abi::value::{SCOPE_LINK, SCOPE_POOL, TRANSIT_DROP};
use bulkhead_common::abi::{AddressKey, Device, DeviceId, NetworkId, PortRange, ProfileId, RuleId};

/// The network that the tables hold.
pub const NETWORK: NetworkId = NetworkId(1);
/// The one remote that devices may reach.
pub const REMOTE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10));

/// The same server's IPv6 address, in [`in_ipv6`].
pub const REMOTE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xcafe, 0, 0, 0, 0, 0x10);

/// The IPv6 address of a device, in [`in_ipv6`].
pub const fn address_v6(device: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x45, 0, 0, 0, 0, 0, device as u16)
}

/// Tables with an IPv6 address for each device, and one of the remote that all may reach.
pub fn in_ipv6(mut tables: Tables) -> Tables {
    for facts in tables.networks.values_mut() {
        facts.scopes.push(pool("fd00:45::", "fd00:45::ffff"));
    }
    for device in tables.devices.values() {
        let number = u8::try_from(device.device.0).unwrap_or_default();
        let key = AddressKey::host(NETWORK, IpAddr::from(address_v6(number)).into());
        tables.addresses.insert(key, Owner { device: device.device, behind: false, nested: false });
    }
    for rules in tables.profiles.values_mut() {
        let remote = IpAddr::from(REMOTE_V6).into();
        let rules = Arc::make_mut(rules);
        let ports = rules.outbound.iter().flat_map(|remote| &remote.ports).copied().collect();
        rules.outbound.push(Remote { first: remote, last: remote, ports });
    }
    tables
}

/// The address of a device.
pub fn address(device: u8) -> IpAddr {
    Ipv4Addr::new(10, 45, 0, device).into()
}

/// One network on `(ifindex, roles)`, with a device for each `(number, open UDP port)` that has a profile of its own.
pub fn tables(places: &[(u32, u8)], devices: &[(u8, u16)]) -> Tables {
    let mut tables = Tables::default();
    for (ifindex, roles) in places {
        let link = vec![Scoped { scope: SCOPE_LINK, ..pool("10.99.0.0", "10.99.255.255") }];
        let facts = PlaceFacts {
            network: NETWORK,
            roles: *roles,
            transit: TRANSIT_DROP,
            link,
            tunnels: TunnelFacts::default(),
        };
        let other = PlaceFacts { network: NetworkId::NONE, ..facts.clone() };
        tables.subinterfaces.insert(Place { ifindex: *ifindex, ..Place::default() }, facts);
        let any = Place { ifindex: *ifindex, outer_vlan: VLAN_OTHER, inner_vlan: VLAN_OTHER };
        tables.subinterfaces.insert(any, other);
    }
    let pool = pool("10.45.0.0", "10.45.255.255");
    let facts = NetworkFacts { scopes: vec![pool], ..NetworkFacts::default() };
    tables.networks.insert(NetworkId::NONE, facts.clone());
    tables.networks.insert(NETWORK, facts);
    devices.iter().for_each(|(number, port)| add_device(&mut tables, *number, *port));
    tables
}

fn add_device(tables: &mut Tables, number: u8, port: u16) {
    let id = u32::from(number);
    tables.devices.insert(DeviceId(id), Device::unbound(DeviceId(id), NETWORK, ProfileId(id)));
    tables.addresses.insert(
        AddressKey::host(NETWORK, address(number).into()),
        Owner { device: DeviceId(id), behind: false, nested: false },
    );
    let open = PortRange { protocol: 17, first: port, last: port, rule: RuleId(id), ..PortRange::default() };
    let remote = Remote { first: REMOTE.into(), last: REMOTE.into(), ports: vec![open] };
    tables.profiles.insert(ProfileId(id), Arc::new(Rules { outbound: vec![remote], ..Rules::default() }));
}

/// A range of the network's pool.
pub fn pool(first: &str, last: &str) -> Scoped {
    let parse = |text: &str| text.parse::<IpAddr>().map(Into::into).unwrap_or_default();
    Scoped { first: parse(first), last: parse(last), scope: SCOPE_POOL }
}
