//! Segments that a sender's stack hands on as one packet (GSO), for an interface that takes them so.

use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result, ensure};
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike as _, bind, send,
    socket,
};

use crate::netns::Namespace;

/// `struct virtio_net_hdr` (linux/virtio_net.h) in front of an IPv4 packet with TCP that is to be cut into segments of
/// this many bytes, and that begins `at` bytes into the frame.
pub fn header(at: u16, segment: u16) -> [u8; 10] {
    const NEEDS_CHECKSUM: u8 = 1;
    const TCP_V4: u8 = 1;
    const HEADERS: u16 = 40;
    const TCP: u16 = 20;
    const CHECKSUM: u16 = 16;
    let mut header = [0; 10];
    header[..2].copy_from_slice(&[NEEDS_CHECKSUM, TCP_V4]);
    for (index, word) in [at + HEADERS, segment, at + TCP, CHECKSUM].into_iter().enumerate() {
        header[2 + 2 * index..][..2].copy_from_slice(&word.to_ne_bytes());
    }
    header
}

/// A packet socket that puts merged segments on an interface's link.
#[derive(Debug)]
pub struct Merger(OwnedFd);

impl Merger {
    /// Opens it on an interface inside a namespace.
    ///
    /// # Errors
    /// The kernel's; there is no such interface.
    pub fn open(namespace: &Namespace, interface: &str) -> Result<Self> {
        namespace.run(|| -> Result<Self> {
            let socket = packet_socket(interface)?;
            expect_headers(&socket)?;
            Ok(Self(socket))
        })?
    }

    /// Sends an Ethernet frame whose TCP payload is to be cut into segments of this many bytes.
    ///
    /// # Errors
    /// The kernel's.
    pub fn send(&self, frame: &[u8], segment: u16) -> Result<()> {
        let whole = [&header(14, segment), frame].concat();
        let sent = send(self.0.as_raw_fd(), &whole, MsgFlags::empty()).context("send merged segments")?;
        ensure!(sent == whole.len(), "{sent} of {} bytes went out", whole.len());
        Ok(())
    }
}

/// A packet socket on an interface in the calling thread's namespace.
///
/// # Errors
/// The kernel's; there is no such interface.
pub fn packet_socket(interface: &str) -> Result<OwnedFd> {
    let protocol = SockProtocol::EthAll;
    let opened = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol);
    let socket = opened.context("open a packet socket")?;
    bind(socket.as_raw_fd(), &address(interface)?).with_context(|| format!("bind it to {interface}"))?;
    Ok(socket)
}

/// By its number: an interface without a hardware address is in no list of addresses.
fn address(interface: &str) -> Result<LinkAddr> {
    let ifindex = if_nametoindex(interface).with_context(|| format!("find the interface {interface}"))?;
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: ifindex.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: it is an address of packet sockets, and as long as it says.
    let address = unsafe { LinkAddr::from_raw((&raw const address).cast(), Some(length)) };
    address.context("an address of packet sockets is none")
}

/// Every frame begins with a [`header`] from here on.
fn expect_headers(socket: &OwnedFd) -> Result<()> {
    /// Of linux/if_packet.h.
    const PACKET_VNET_HDR: libc::c_int = 15;
    let on: libc::c_int = 1;
    let (value, length) = ((&raw const on).cast(), size_of_val(&on) as libc::socklen_t);
    // SAFETY: the kernel reads `length` bytes of `value`, which outlives the call.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_PACKET, PACKET_VNET_HDR, value, length) };
    ensure!(result == 0, "let frames begin with their offload: {}", std::io::Error::last_os_error());
    Ok(())
}
