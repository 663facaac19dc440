//! The host as it is: interfaces, their numbers and addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nameindex;
use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage};

use crate::datapath;
use crate::tables::{Host, HostInterface};

/// Asks the kernel for every interface of this network namespace.
///
/// # Errors
/// The kernel does not answer.
pub(super) fn observe() -> Result<Host> {
    let mut host = Host::default();
    for interface in &if_nameindex().context("list the network interfaces")? {
        let name = interface.name().to_string_lossy().into_owned();
        // What cannot be read cannot be attached to either, and that is told there.
        let link = datapath::link_type(&name).unwrap_or_default();
        let found = HostInterface { ifindex: interface.index(), link, ..HostInterface::default() };
        host.interfaces.insert(name, found);
    }
    for entry in getifaddrs().context("list the addresses of the network interfaces")? {
        let prefix = entry.address.as_ref().zip(entry.netmask.as_ref()).and_then(|(a, m)| prefix(a, m));
        let interface = host.interfaces.get_mut(&entry.interface_name);
        if let (Some(interface), Some(prefix)) = (interface, prefix) {
            interface.addresses.push(prefix);
        }
    }
    for interface in host.interfaces.values_mut() {
        interface.addresses.sort_unstable();
        interface.addresses.dedup();
    }
    // Absent where the kernel has no VLAN interface.
    add_vlan_names(&mut host, &std::fs::read_to_string(VLANS).unwrap_or_default());
    Ok(host)
}

/// The VLAN interfaces of this thread's network namespace.
const VLANS: &str = "/proc/thread-self/net/vlan/config";

/// Makes VLAN interfaces known as `parent.number` too, however they are called: the policy compiler looks
/// for them there, and without their prefixes the neighbours on such a link could not be resolved.
fn add_vlan_names(host: &mut Host, config: &str) {
    let vlans: Vec<[&str; 3]> = config.lines().filter_map(vlan).collect();
    for [name, ..] in &vlans {
        let plain = plain_name(name, &vlans);
        if let Some(interface) = host.interfaces.get(*name).filter(|_| plain != *name).cloned() {
            host.interfaces.entry(plain).or_insert(interface);
        }
    }
}

/// Name, number and parent of a line like `uplink  | 100  | eth0`.
fn vlan(line: &str) -> Option<[&str; 3]> {
    let mut fields = line.split('|').map(str::trim);
    let vlan = [fields.next()?, fields.next()?, fields.next()?];
    vlan[1].parse::<u16>().is_ok().then_some(vlan)
}

/// `eth0.100.7` for VLAN 7 on an interface of VLAN 100 on eth0.
fn plain_name(name: &str, vlans: &[[&str; 3]]) -> String {
    let found = |name: &str| vlans.iter().find(|vlan| vlan[0] == name);
    match found(name) {
        Some([_, number, parent]) => match found(parent) {
            Some([_, outer, interface]) => format!("{interface}.{outer}.{number}"),
            None => format!("{parent}.{number}"),
        },
        None => name.to_owned(),
    }
}

/// An address with its prefix; link-local IPv6 is left out: every link has it, and it names no host.
fn prefix(address: &SockaddrStorage, netmask: &SockaddrStorage) -> Option<IpNet> {
    let ip = ip(address)?;
    let length = match ip_of_mask(netmask, address.family()?)? {
        IpAddr::V4(mask) => mask.to_bits().count_ones(),
        IpAddr::V6(mask) => mask.to_bits().count_ones(),
    };
    let is_link_local = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    if is_link_local { None } else { IpNet::new(ip, u8::try_from(length).ok()?).ok() }
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(v4.ip().into());
    }
    address.as_sockaddr_in6().map(|v6| v6.ip().into())
}

/// The kernel leaves the family of a mask empty now and then; the address tells it.
fn ip_of_mask(mask: &SockaddrStorage, family: AddressFamily) -> Option<IpAddr> {
    if family == AddressFamily::Inet {
        return Some(ip(mask).unwrap_or(Ipv4Addr::BROADCAST.into()));
    }
    (family == AddressFamily::Inet6).then(|| ip(mask).unwrap_or(Ipv6Addr::from_bits(u128::MAX).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vlan_interfaces_are_found_whatever_they_are_called() {
        let config = "VLAN Dev name\t | VLAN ID\nName-Type: VLAN_NAME_TYPE_RAW_PLUS_VID_NO_PAD\n\
                      uplink         | 100  | eth0\ncustomer       | 7  | uplink\neth0.9         | 9  | eth0\n";
        let mut host = Host::default();
        for (name, ifindex) in [("eth0", 2), ("uplink", 3), ("customer", 4), ("eth0.9", 5)] {
            host.interfaces.insert(name.to_owned(), HostInterface { ifindex, ..HostInterface::default() });
        }
        add_vlan_names(&mut host, config);
        let number = |name: &str| host.interfaces.get(name).map(|interface| interface.ifindex);
        assert_eq!([number("eth0.100"), number("eth0.100.7"), number("eth0.9")], [Some(3), Some(4), Some(5)]);
        assert_eq!(host.interfaces.len(), 6);
    }

    #[test]
    fn loopback_is_always_there() {
        let host = super::observe().unwrap();
        let lo = &host.interfaces["lo"];
        assert_eq!(lo.ifindex, 1);
        assert!(lo.addresses.contains(&"127.0.0.1/8".parse().unwrap()), "{:?}", lo.addresses);
    }
}
