//! The system calls that no safe wrapper offers: the lab's only unsafe code.

use std::io::{Error, Result};
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::Context;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// One instruction of classic BPF.
pub(crate) type Instruction = libc::sock_filter;

/// Of linux/ethtool.h.
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_SFLAGS: u32 = 0x26;
const ETHTOOL_STXCSUM: u32 = 0x17;
const ETHTOOL_SGRO: u32 = 0x2c;
const VLAN_FLAGS: u32 = (1 << 7) | (1 << 8);

/// Of linux/if_packet.h: the kernel took a tag out of the frame; the tag's protocol is valid too.
const VLAN_VALID: u32 = 1 << 4;
const VLAN_TPID_VALID: u32 = 1 << 6;

/// `struct ethtool_value` of linux/ethtool.h.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// Makes an interface, in the namespace of the calling thread, leave VLAN tags inside the frame.
pub(crate) fn disable_vlan_offload(interface: &str) -> anyhow::Result<()> {
    let opened = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None);
    let socket = opened.context("open a socket for ethtool")?;
    let flags = ethtool(&socket, interface, ETHTOOL_GFLAGS, 0);
    let flags = flags.with_context(|| format!("read the offloads of {interface}"))?;
    ethtool(&socket, interface, ETHTOOL_SFLAGS, flags & !VLAN_FLAGS)
        .with_context(|| format!("switch VLAN offload of {interface} off"))?;
    Ok(())
}

/// Makes an interface, in the namespace of the calling thread, take frames from XDP programs: a veth does if it merges
/// what it receives (GRO).
pub(crate) fn take_frames_from_xdp(interface: &str) -> anyhow::Result<()> {
    switch(interface, ETHTOOL_SGRO, 1).with_context(|| format!("switch GRO of {interface} on"))
}

/// Makes an interface, in the namespace of the calling thread, send frames with whole checksums.
pub(crate) fn finish_checksums(interface: &str) -> anyhow::Result<()> {
    switch(interface, ETHTOOL_STXCSUM, 0)
        .with_context(|| format!("switch checksum offload of {interface} off"))
}

fn switch(interface: &str, command: u32, data: u32) -> anyhow::Result<()> {
    let opened = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None);
    ethtool(&opened.context("open a socket for ethtool")?, interface, command, data)?;
    Ok(())
}

fn ethtool(socket: &OwnedFd, interface: &str, command: u32, data: u32) -> Result<u32> {
    let mut value = EthtoolValue { command, data };
    // SAFETY: ifreq is plain old data of C; all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { MaybeUninit::zeroed().assume_init() };
    // One byte stays zero: the name is a C string.
    let name = request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1);
    name.zip(interface.bytes()).for_each(|(to, from)| *to = from.cast_signed());
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: request names `value`, which outlives the call and is as long as both commands read and write.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    check(result)?;
    Ok(value.data)
}

/// Lets only packets that `program` accepts into a packet socket.
pub(crate) fn attach_filter(socket: &OwnedFd, program: &[Instruction]) -> Result<()> {
    let length = program.len().try_into().map_err(|_| Error::from(std::io::ErrorKind::InvalidInput))?;
    // The kernel copies the program and does not write to it.
    let filter = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    set_option(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &filter)
}

/// Asks for the tags that the kernel takes out of frames before a packet socket sees them.
pub(crate) fn report_vlan_tags(socket: &OwnedFd) -> Result<()> {
    set_option(socket, libc::SOL_PACKET, libc::PACKET_AUXDATA, &1i32)
}

fn set_option<T>(socket: &OwnedFd, level: i32, name: i32, value: &T) -> Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: value is valid for reads of `length` bytes during the call.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const *value).cast(), length) })
}

/// Returns how many packets passed the socket's filter since the last call, delivered or out of room.
pub(crate) fn take_packet_count(socket: &OwnedFd) -> Result<u32> {
    let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
    let (level, name) = (libc::SOL_PACKET, libc::PACKET_STATISTICS);
    // SAFETY: stats is valid for writes of `length` bytes during the call.
    check(unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut stats).cast(), &raw mut length)
    })?;
    Ok(stats.tp_packets)
}

/// Receives one frame with its VLAN tag back in place; `None` for a frame that this host sent.
pub(crate) fn receive_frame(socket: &OwnedFd) -> Result<Option<Vec<u8>>> {
    let mut frame = vec![0u8; 64 * 1024];
    let mut control = [0u64; 16];
    // SAFETY: sockaddr_ll and msghdr are plain old data of C; all zeroes is a valid value.
    let mut from: libc::sockaddr_ll = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: as above.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    let mut part = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
    message.msg_name = (&raw mut from).cast();
    message.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of::<[u64; 16]>();
    // SAFETY: every pointer in message is to a live buffer of the length stated beside it.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    let length = usize::try_from(received).map_err(|_| Error::last_os_error())?;
    frame.truncate(length);
    if let Some(tag) = vlan_tag(&message).filter(|_| frame.len() >= 12) {
        frame.splice(12..12, tag);
    }
    Ok((from.sll_pkttype != libc::PACKET_OUTGOING).then_some(frame))
}

/// Reads the tag that the kernel reports beside a frame.
fn vlan_tag(message: &libc::msghdr) -> Option<[u8; 4]> {
    // SAFETY: message and its control buffer were filled in by recvmsg and are still alive.
    let header = unsafe { libc::CMSG_FIRSTHDR(message).as_ref() }?;
    if (header.cmsg_level, header.cmsg_type) != (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
        return None;
    }
    // SAFETY: a PACKET_AUXDATA message carries a tpacket_auxdata, which the buffer is long enough for.
    let aux = unsafe { libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned() };
    let known = aux.tp_status & VLAN_TPID_VALID != 0;
    let protocol = if known { aux.tp_vlan_tpid } else { libc::ETH_P_8021Q as u16 };
    let ([a, b], [c, d]) = (protocol.to_be_bytes(), aux.tp_vlan_tci.to_be_bytes());
    (aux.tp_status & VLAN_VALID != 0).then_some([a, b, c, d])
}

fn check(result: i32) -> Result<()> {
    if result < 0 { Err(Error::last_os_error()) } else { Ok(()) }
}
