//! The connection that a change is made from: would the new tables drop it?

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bulkhead_common::parse::{Kind, Packet};
use bulkhead_common::verdict::Verdict;
use bulkhead_common::wire::{ether_type, ip_proto};

use crate::tables::{Host, Image, Place, Tables};

/// TCP's acknowledgement flag: the connection is established (RFC 9293 section 3.1).
const ACK: u8 = 0x10;

/// A TCP connection of this host, as `SSH_CONNECTION` tells it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Connection {
    /// Address and port of whoever sits there.
    pub client: (IpAddr, u16),
    /// Address and port of this host.
    pub server: (IpAddr, u16),
}

/// One route of the kernel's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Route {
    /// Where it leads.
    pub network: ipnet::IpNet,
    /// By which interface.
    pub interface: String,
    /// The smaller is preferred.
    pub metric: u32,
}

impl Connection {
    /// Reads `198.51.100.7 50123 192.0.2.1 22`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let mut end = || {
            let address = words.next()?.split('%').next()?.parse().ok()?;
            Some((address, words.next()?.parse().ok()?))
        };
        Some(Self { client: end()?, server: end()? })
    }

    /// Where its packets may arrive: by the interface that leads to the client, and by the one that has the address
    /// it called.
    fn places(&self, host: &Host, routes: &[Route]) -> Vec<(String, Place)> {
        let leads = routes.iter().filter(|route| route.network.contains(&self.client.0));
        let leads = leads.max_by_key(|route| (route.network.prefix_len(), u32::MAX - route.metric));
        let has = host
            .interfaces
            .iter()
            .find(|(_, interface)| interface.addresses.iter().any(|address| address.addr() == self.server.0));
        let names = leads.map(|route| &route.interface).into_iter().chain(has.map(|(name, _)| name));
        let mut places: Vec<(String, Place)> = names.flat_map(|name| places_of(host, name)).collect();
        places.sort_by_key(|(_, place)| *place);
        places.dedup_by_key(|(_, place)| *place);
        places
    }

    /// Says where and why the tables would drop it; nothing if they would not, or it does not arrive where they judge.
    pub fn dropped(&self, tables: &Tables, host: &Host, routes: &[Route]) -> Option<String> {
        let image = Image::new(tables);
        let guarded = |place: &Place| tables.subinterfaces.keys().any(|known| known.ifindex == place.ifindex);
        self.places(host, routes).into_iter().filter(|(_, place)| guarded(place)).find_map(|(name, place)| {
            image.forget_flows();
            match image.judge_packet(self.packet(place), place.ifindex).0 {
                Verdict::Pass(_) | Verdict::Observe(_) => None,
                Verdict::Drop(reason) => Some(format!(
                    "would cut the connection it is made from: {} → {} port {} on {name} ({})",
                    self.client.0,
                    self.server.0,
                    self.server.1,
                    reason.as_str()
                )),
            }
        })
    }

    fn packet(&self, place: Place) -> Packet {
        Packet {
            source: self.client.0.into(),
            destination: self.server.0.into(),
            source_port: self.client.1,
            destination_port: self.server.1,
            outer_vlan: place.outer_vlan,
            inner_vlan: place.inner_vlan,
            ether_type: if self.client.0.is_ipv4() { ether_type::IPV4 } else { ether_type::IPV6 },
            length: 64,
            kind: Kind::Ports,
            protocol: ip_proto::TCP,
            detail: ACK,
            ..Packet::EMPTY
        }
    }
}

/// The interface itself, or the one below a VLAN interface with its tags: there the frames enter.
fn places_of(host: &Host, name: &str) -> Vec<(String, Place)> {
    let Some(found) = host.interfaces.get(name) else { return Vec::new() };
    let aliases = host.interfaces.iter().filter(|(_, interface)| interface.ifindex == found.ifindex);
    let tagged = aliases.filter_map(|(alias, _)| {
        let mut parts = alias.rsplitn(3, '.').collect::<Vec<_>>();
        parts.reverse();
        let vlan = |text: &str| text.parse::<u16>().ok();
        let (below, outer_vlan, inner_vlan) = match parts[..] {
            [below, outer] => (below, vlan(outer)?, 0),
            [below, outer, inner] => (below, vlan(outer)?, vlan(inner)?),
            _ => return None,
        };
        let ifindex = host.interfaces.get(below)?.ifindex;
        Some((alias.clone(), Place { ifindex, outer_vlan, inner_vlan }))
    });
    let itself = Place { ifindex: found.ifindex, outer_vlan: 0, inner_vlan: 0 };
    tagged.chain([(name.to_owned(), itself)]).collect()
}

/// Routes in the form of `/proc/net/route`.
pub fn routes_in(text: &str) -> Vec<Route> {
    text.lines().skip(1).filter_map(route).collect()
}

fn route(line: &str) -> Option<Route> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [interface, network, _, flags, _, _, metric, mask, ..] = fields[..] else { return None };
    // The kernel prints its own byte order, of what lies in memory in the network's.
    let address = |text| u32::from_str_radix(text, 16).ok().map(|bits| Ipv4Addr::from(bits.to_ne_bytes()));
    let network = ipnet::Ipv4Net::with_netmask(address(network)?, address(mask)?).ok()?;
    (u32::from_str_radix(flags, 16).ok()? & RTF_UP != 0).then_some(Route {
        network: network.into(),
        interface: interface.to_owned(),
        metric: metric.parse().ok()?,
    })
}

/// Routes in the form of `/proc/net/ipv6_route`.
pub fn routes_in_v6(text: &str) -> Vec<Route> {
    text.lines().filter_map(route_v6).collect()
}

fn route_v6(line: &str) -> Option<Route> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [network, length, _, _, _, metric, _, _, flags, interface] = fields[..] else { return None };
    let address = Ipv6Addr::from(u128::from_str_radix(network, 16).ok()?);
    let network = ipnet::Ipv6Net::new(address, u8::from_str_radix(length, 16).ok()?).ok()?;
    let flags = u32::from_str_radix(flags, 16).ok()?;
    (flags & RTF_UP != 0 && flags & RTF_REJECT == 0).then_some(Route {
        network: network.into(),
        interface: interface.to_owned(),
        metric: u32::from_str_radix(metric, 16).ok()?,
    })
}

/// Flags of `linux/route.h`.
const RTF_UP: u32 = 0x1;
const RTF_REJECT: u32 = 0x200;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::HostInterface;

    #[test]
    fn a_connection_is_read_as_ssh_writes_it() {
        let connection = Connection::parse("198.51.100.7 50123 192.0.2.1 22").unwrap();
        assert_eq!(connection.client, ("198.51.100.7".parse().unwrap(), 50123));
        assert_eq!(connection.server, ("192.0.2.1".parse().unwrap(), 22));
        assert!(Connection::parse("fe80::1%n6 50123 2001:db8::1 22").is_some());
        for text in
            ["", "198.51.100.7", "198.51.100.7 x 192.0.2.1 22", "a 1 b 2", "198.51.100.7 1 192.0.2.1 70000"]
        {
            assert_eq!(Connection::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_kernel_s_routes_are_read() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                    n6\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
                    acc0\t00002D0A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
                    down\t00002D0A\t00000000\t0000\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        let found: Vec<(String, String)> =
            routes_in(text).into_iter().map(|route| (route.network.to_string(), route.interface)).collect();
        let route = |network: &str, interface: &str| (network.to_owned(), interface.to_owned());
        assert_eq!(found, [route("0.0.0.0/0", "n6"), route("10.45.0.0/16", "acc0")]);
        let text = "20010db8000000000000000000000000 20 00000000000000000000000000000000 00 \
                    00000000000000000000000000000000 00000400 00000001 00000000 00000001       n6\n\
                    00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
                    00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n";
        let found = routes_in_v6(text);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].network.to_string().as_str(), found[0].metric), ("2001:db8::/32", 1024));
    }

    #[test]
    fn a_connection_arrives_by_its_route_and_by_the_address_it_called_with_their_tags() {
        let mut host = Host::default();
        for (name, ifindex, address) in
            [("n6", 4, "192.0.2.1/24"), ("n6.100", 5, "198.51.100.1/24"), ("mgmt", 6, "10.0.0.1/8")]
        {
            let addresses = vec![address.parse().unwrap()];
            host.interfaces
                .insert(name.to_owned(), HostInterface { ifindex, addresses, ..HostInterface::default() });
        }
        let route = |network: &str, interface: &str| Route {
            network: network.parse().unwrap(),
            interface: interface.to_owned(),
            metric: 0,
        };
        let routes = [route("0.0.0.0/0", "mgmt"), route("203.0.113.0/24", "n6.100")];
        let places = |text: &str| -> Vec<(String, u32, u16)> {
            let places = Connection::parse(text).unwrap().places(&host, &routes);
            places.into_iter().map(|(name, place)| (name, place.ifindex, place.outer_vlan)).collect()
        };
        let at = |name: &str, ifindex, vlan| (name.to_owned(), ifindex, vlan);
        assert_eq!(
            places("203.0.113.9 50000 192.0.2.1 22"),
            [at("n6", 4, 0), at("n6.100", 4, 100), at("n6.100", 5, 0)]
        );
        assert_eq!(places("198.18.0.9 50000 10.0.0.1 22"), [at("mgmt", 6, 0)]);
    }
}
