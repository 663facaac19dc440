//! What an interface is: what its frames begin with, and where a program can be hooked in.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result, bail};
use bulkhead_common::case::LinkType;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::netlink::{IPSEC, Protocol, Socket, links};

/// What the frames of an interface of this thread's network namespace begin with.
///
/// # Errors
/// A kind of interface whose frames the program cannot read.
pub fn link_type(interface: &str) -> Result<LinkType> {
    let number = hardware_type(interface).with_context(|| format!("ask what {interface} is"))?;
    match number {
        libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => Ok(LinkType::Ethernet),
        // What IPsec decrypts is shown behind the Ethernet header with which it came (`skb_mac_header_rebuild`,
        // net/xfrm/xfrm_input.c), though such interfaces have none.
        libc::ARPHRD_NONE | libc::ARPHRD_TUNNEL | libc::ARPHRD_TUNNEL6 if is_ipsec(interface)? => {
            Ok(LinkType::Ethernet)
        }
        libc::ARPHRD_NONE
        | ARPHRD_RAWIP
        | libc::ARPHRD_PPP
        | libc::ARPHRD_TUNNEL
        | libc::ARPHRD_TUNNEL6
        | libc::ARPHRD_SIT
        | ARPHRD_IP6GRE => Ok(LinkType::RawIp),
        libc::ARPHRD_IPGRE if has_one_peer(interface)? => Ok(LinkType::RawIp),
        // Without one, packet sockets are shown who has sent the tunnel's packets: the MAC header stays at the outer IP
        // header (`ipgre_header_ops`, net/ipv4/ip_gre.c), and XDP begins there. The others reset it, since Linux 5.14.
        // Which it is cannot change: the kernel refuses to give such a tunnel a remote later, or to take it away
        // (`ip_tunnel_changelink`, net/ipv4/ip_tunnel.c).
        libc::ARPHRD_IPGRE => bail!(
            "{interface} is a GRE tunnel without a remote end of its own (ARPHRD {number}), where the kernel shows a program \
             the outer packet: make it anew with a remote, or use gretap or IPIP"
        ),
        _ => bail!(
            "{interface} is neither Ethernet nor raw IP (ARPHRD {number}), and its frames cannot be read"
        ),
    }
}

/// Of linux/if_arp.h; libc has no names for these.
const ARPHRD_RAWIP: u16 = 519;
/// As above.
const ARPHRD_IP6GRE: u16 = 823;

fn hardware_type(interface: &str) -> io::Result<u16> {
    let asked = ask(interface, libc::SIOCGIFHWADDR)?;
    // SAFETY: the kernel filled this variant of the union; all its bits are valid anyway.
    Ok(unsafe { asked.ifr_ifru.ifru_hwaddr.sa_family })
}

/// True where IPsec gives what it decrypts an interface of its own.
fn is_ipsec(interface: &str) -> Result<bool> {
    let links = Socket::open(Protocol::Route).and_then(|socket| Ok(links(&socket)?));
    let links = links.with_context(|| format!("ask which driver {interface} has"))?;
    Ok(links.iter().any(|link| link.name == interface && IPSEC.contains(&link.kind.as_str())))
}

/// True for a tunnel to one other end, which is no group of them.
fn has_one_peer(interface: &str) -> Result<bool> {
    let asked = ask(interface, libc::SIOCGIFFLAGS);
    let asked = asked.with_context(|| format!("ask for the other end of {interface}"))?;
    // SAFETY: as above.
    let flags = libc::c_int::from(unsafe { asked.ifr_ifru.ifru_flags });
    Ok(flags & (libc::IFF_POINTOPOINT | libc::IFF_BROADCAST) == libc::IFF_POINTOPOINT)
}

fn ask(interface: &str, command: libc::Ioctl) -> io::Result<libc::ifreq> {
    let opened = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut request = request(interface);
    ioctl(&opened, command, &mut request)?;
    Ok(request)
}

/// A request about an interface, with nothing else in it.
pub(super) fn request(interface: &str) -> libc::ifreq {
    // SAFETY: `ifreq` is plain old data of C; all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // One byte stays zero: the name is a C string.
    let name = request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1);
    name.zip(interface.bytes()).for_each(|(to, from)| *to = from.cast_signed());
    request
}

/// Asks the kernel about an interface; what the request points to must outlive the call.
pub(super) fn ioctl(socket: &OwnedFd, command: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: the commands of this crate read and write `request` and what it points to, no more.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), command, std::ptr::from_mut(request)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
