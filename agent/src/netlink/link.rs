//! The interfaces of this network namespace, and how they hang together.

use std::io;

use super::{Message, Socket, find, text};

/// One interface.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Link {
    /// The kernel's number.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// `vlan`, `bridge`, `wireguard`, …; empty for hardware.
    pub kind: String,
    /// The bridge, bond or VRF that it belongs to; 0 for none.
    pub master: u32,
    /// The interface that it is made on, in this namespace; 0 for none.
    pub parent: u32,
    /// Its MAC address, if it has one.
    pub mac: Option<[u8; 6]>,
    /// Bytes that a packet may have there.
    pub mtu: u32,
    /// What a VLAN interface puts before its frames.
    pub vlan: Option<Vlan>,
    /// True if it is administratively up.
    pub is_up: bool,
    /// True if an XDP program runs on it.
    pub has_xdp: bool,
}

/// Kinds of interfaces that give what IPsec decrypts a number of its own.
pub const IPSEC: [&str; 3] = ["xfrm", "vti", "vti6"];

/// A VLAN interface's tag.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Vlan {
    /// The EtherType of its tag: 0x8100 or 0x88a8.
    pub ether_type: u16,
    /// The VLAN number.
    pub number: u16,
    /// True if the tag's priority depends on the packet.
    pub has_priorities: bool,
}

/// `struct ifinfomsg`
const HEADER: usize = 16;
/// `IFLA_XDP_ATTACHED`
const XDP_ATTACHED: u16 = 2;

/// `IFLA_VLAN_ID`, `IFLA_VLAN_EGRESS_QOS`, `IFLA_VLAN_PROTOCOL` (linux/if_link.h)
const VLAN_ID: u16 = 1;
const VLAN_EGRESS_QOS: u16 = 3;
const VLAN_PROTOCOL: u16 = 5;

/// Lists the interfaces.
///
/// # Errors
/// The kernel does not tell.
pub fn links(socket: &Socket) -> io::Result<Vec<Link>> {
    let asked = Message { kind: libc::RTM_GETLINK, flags: 0, body: vec![0; HEADER] };
    let replies = socket.dump(&asked)?;
    Ok(replies.iter().filter_map(|reply| read(&reply.body)).collect())
}

fn read(body: &[u8]) -> Option<Link> {
    let word = |at: usize| Some(u32::from_ne_bytes(*body.get(at..)?.first_chunk()?));
    let attributes = body.get(HEADER..)?;
    let number = |kind| find(attributes, kind).and_then(|value| value.first_chunk().copied());
    let info = find(attributes, libc::IFLA_LINKINFO).unwrap_or_default();
    let xdp = find(attributes, libc::IFLA_XDP).unwrap_or_default();
    // The number of a parent elsewhere is another interface's here.
    let is_elsewhere = find(attributes, libc::IFLA_LINK_NETNSID).is_some();
    let parent = number(libc::IFLA_LINK).map_or(0, u32::from_ne_bytes);
    let kind = text(info, libc::IFLA_INFO_KIND).unwrap_or_default();
    let is_ethernet = u16::from_ne_bytes([*body.get(2)?, *body.get(3)?]) == libc::ARPHRD_ETHER;
    let address = find(attributes, libc::IFLA_ADDRESS).and_then(|mac| mac.try_into().ok());
    Some(Link {
        ifindex: word(4)?,
        name: text(attributes, libc::IFLA_IFNAME)?,
        mac: address.filter(|_| is_ethernet),
        mtu: number(libc::IFLA_MTU).map_or(0, u32::from_ne_bytes),
        vlan: find(info, libc::IFLA_INFO_DATA).filter(|_| kind == "vlan").and_then(vlan),
        kind,
        master: number(libc::IFLA_MASTER).map_or(0, u32::from_ne_bytes),
        parent: if is_elsewhere { 0 } else { parent },
        is_up: word(8)? & libc::IFF_UP as u32 != 0,
        has_xdp: find(xdp, XDP_ATTACHED).is_some_and(|mode| mode.first().is_some_and(|mode| *mode != 0)),
    })
}

fn vlan(data: &[u8]) -> Option<Vlan> {
    let half = |kind| find(data, kind)?.first_chunk().copied();
    Some(Vlan {
        ether_type: u16::from_be_bytes(half(VLAN_PROTOCOL)?),
        number: u16::from_ne_bytes(half(VLAN_ID)?),
        has_priorities: find(data, VLAN_EGRESS_QOS).is_some_and(|map| !map.is_empty()),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Attributes;
    use super::*;

    #[test]
    fn a_vlan_interface_tells_its_tag() {
        let data = Attributes::new().raw(VLAN_PROTOCOL, &[0x88, 0xa8]).raw(VLAN_ID, &100u16.to_ne_bytes());
        let plain = Vlan { ether_type: 0x88a8, number: 100, has_priorities: false };
        assert_eq!(vlan(data.bytes()), Some(plain));
        let mapped = data.raw(VLAN_EGRESS_QOS, &[12, 0, 1, 0, 0, 0, 0, 0, 5, 0, 0, 0]);
        assert_eq!(vlan(mapped.bytes()), Some(Vlan { has_priorities: true, ..plain }));
        assert_eq!(vlan(&[]), None);
    }

    #[test]
    fn only_ethernet_has_a_mac_address() {
        let attributes = Attributes::new().text(libc::IFLA_IFNAME, "x").raw(libc::IFLA_ADDRESS, &[2; 6]);
        let link = |hardware: u16| {
            let mut body = vec![0; HEADER];
            body[2..4].copy_from_slice(&hardware.to_ne_bytes());
            read(&[&body, attributes.bytes()].concat()).unwrap()
        };
        assert_eq!(link(libc::ARPHRD_ETHER).mac, Some([2; 6]));
        assert_eq!(link(libc::ARPHRD_NONE).mac, None);
    }
}
