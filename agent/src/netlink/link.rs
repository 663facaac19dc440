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
    /// True if it is administratively up.
    pub is_up: bool,
    /// True if an XDP program runs on it.
    pub has_xdp: bool,
}

/// Kinds of interfaces that give what IPsec decrypts a number of its own.
pub const IPSEC: [&str; 3] = ["xfrm", "vti", "vti6"];

/// `struct ifinfomsg`
const HEADER: usize = 16;
/// `IFLA_XDP_ATTACHED`
const XDP_ATTACHED: u16 = 2;

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
    Some(Link {
        ifindex: word(4)?,
        name: text(attributes, libc::IFLA_IFNAME)?,
        kind: text(info, libc::IFLA_INFO_KIND).unwrap_or_default(),
        master: number(libc::IFLA_MASTER).map_or(0, u32::from_ne_bytes),
        parent: if is_elsewhere { 0 } else { parent },
        is_up: word(8)? & libc::IFF_UP as u32 != 0,
        has_xdp: find(xdp, XDP_ATTACHED).is_some_and(|mode| mode.first().is_some_and(|mode| *mode != 0)),
    })
}
