//! The routes of this network namespace, in all tables.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::{Message, Socket, find};

/// A route to somewhere by an interface.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Route {
    /// Where it leads.
    pub to: IpNet,
    /// The interface that it leaves by.
    pub ifindex: u32,
}

/// `struct rtmsg`
const HEADER: usize = 12;
/// `struct rtnexthop`
const NEXT_HOP: usize = 8;

/// Lists the routes that forward, of both families; one with several next hops is listed for each.
///
/// # Errors
/// The kernel does not tell.
pub fn routes(socket: &Socket) -> io::Result<Vec<Route>> {
    let mut routes = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let mut body = vec![0; HEADER];
        body[0] = family as u8;
        let replies = socket.dump(&Message { kind: libc::RTM_GETROUTE, flags: 0, body })?;
        routes.extend(replies.iter().filter_map(|reply| each(&reply.body)).flatten());
    }
    Ok(routes)
}

fn each(body: &[u8]) -> Option<Vec<Route>> {
    let [family, length, .., kind, _, _, _, _] = *body.first_chunk::<HEADER>()?;
    let attributes = body.get(HEADER..)?;
    let to = destination(i32::from(family), length, find(attributes, libc::RTA_DST))?;
    let single = find(attributes, libc::RTA_OIF).and_then(interface);
    let several = hops(find(attributes, libc::RTA_MULTIPATH).unwrap_or_default());
    let by = single.into_iter().chain(several);
    (kind == libc::RTN_UNICAST).then(|| by.map(|ifindex| Route { to, ifindex }).collect())
}

/// A default route has no address.
fn destination(family: i32, length: u8, address: Option<&[u8]>) -> Option<IpNet> {
    let address: IpAddr = match (family, address) {
        (libc::AF_INET, None) => Ipv4Addr::UNSPECIFIED.into(),
        (libc::AF_INET6, None) => Ipv6Addr::UNSPECIFIED.into(),
        (libc::AF_INET, Some(octets)) => Ipv4Addr::from(*octets.first_chunk::<4>()?).into(),
        (libc::AF_INET6, Some(octets)) => Ipv6Addr::from(*octets.first_chunk::<16>()?).into(),
        _ => return None,
    };
    IpNet::new(address, length).ok()
}

fn interface(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|number| u32::from_ne_bytes(*number))
}

/// `struct rtnexthop`s one behind the other, each with attributes of its own.
fn hops(mut bytes: &[u8]) -> Vec<u32> {
    let mut found = Vec::new();
    while let Some(header) = bytes.first_chunk::<NEXT_HOP>() {
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        found.extend(interface(&header[4..]));
        if length < NEXT_HOP {
            break;
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::Attributes;
    use super::*;

    fn route(kind: u8, length: u8, attributes: &Attributes) -> Vec<u8> {
        [&[libc::AF_INET as u8, length, 0, 0, 254, 3, 0, kind, 0, 0, 0, 0], attributes.bytes()].concat()
    }

    #[test]
    fn every_next_hop_is_a_route() {
        let to = Attributes::new().raw(libc::RTA_DST, &[10, 45, 0, 0]);
        let hop =
            |ifindex: u32| [&16u16.to_ne_bytes()[..], &[0, 0], &ifindex.to_ne_bytes(), &[0; 8]].concat();
        let several = to.clone().raw(libc::RTA_MULTIPATH, &[hop(3), hop(4)].concat());
        let found = each(&route(libc::RTN_UNICAST, 16, &several)).unwrap();
        let net: IpNet = "10.45.0.0/16".parse().unwrap();
        assert_eq!(found, [3, 4].map(|ifindex| Route { to: net, ifindex }));
        let single = to.raw(libc::RTA_OIF, &7u32.to_ne_bytes());
        assert_eq!(each(&route(libc::RTN_UNICAST, 16, &single)), Some(vec![Route { to: net, ifindex: 7 }]));
        assert_eq!(each(&route(libc::RTN_LOCAL, 16, &single)), None);
    }

    #[test]
    fn broken_next_hops_end_the_list() {
        assert!(hops(&[0; 7]).is_empty());
        assert_eq!(hops(&[0; 16]), [0]);
    }
}
