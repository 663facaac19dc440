//! The host as it is: interfaces, their numbers and addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nameindex;
use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage};

use crate::tables::{Host, HostInterface};

/// Asks the kernel for every interface of this network namespace.
///
/// # Errors
/// The kernel does not answer.
pub(super) fn observe() -> Result<Host> {
    let mut host = Host::default();
    for interface in &if_nameindex().context("list the network interfaces")? {
        let name = interface.name().to_string_lossy().into_owned();
        host.interfaces.insert(name, HostInterface { ifindex: interface.index(), addresses: Vec::new() });
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
    Ok(host)
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
    #[test]
    fn loopback_is_always_there() {
        let host = super::observe().unwrap();
        let lo = &host.interfaces["lo"];
        assert_eq!(lo.ifindex, 1);
        assert!(lo.addresses.contains(&"127.0.0.1/8".parse().unwrap()), "{:?}", lo.addresses);
    }
}
