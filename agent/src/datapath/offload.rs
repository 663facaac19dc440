//! VLAN tags must be in the frame: a driver that takes them off hides from XDP which network a frame belongs to.

use std::io;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::kind;

/// Of linux/ethtool.h.
const GET_FLAGS: u32 = 0x25;
/// Of linux/ethtool.h.
const SET_FLAGS: u32 = 0x26;
/// `ETH_FLAG_RXVLAN` of linux/ethtool.h: the driver moves the outer tag of received frames out of the frame.
const RECEIVE_VLAN: u32 = 1 << 8;

/// Makes an interface of this thread's network namespace leave VLAN tags where the program can read them.
///
/// True if that had to be changed.
///
/// # Errors
/// The driver does not let go of it: every tagged frame would be judged as an untagged one.
pub fn keep_vlan_tags(interface: &str) -> Result<bool> {
    let opened = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None);
    let socket = opened.context("open a socket for ethtool")?;
    let flags = match call(&socket, interface, GET_FLAGS, 0) {
        Ok(flags) => flags,
        // A driver without any offload hides nothing.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(false),
        Err(error) => return Err(error).with_context(|| format!("read the offloads of {interface}")),
    };
    if flags & RECEIVE_VLAN == 0 {
        return Ok(false);
    }
    let hint = || {
        format!(
            "{interface} takes VLAN tags off before they can be read, so networks on VLANs cannot be told apart: \
             switch it off with `ethtool -K {interface} rxvlan off`"
        )
    };
    call(&socket, interface, SET_FLAGS, flags & !RECEIVE_VLAN).with_context(hint)?;
    let flags = call(&socket, interface, GET_FLAGS, 0).with_context(hint)?;
    ensure!(flags & RECEIVE_VLAN == 0, hint());
    Ok(true)
}

fn call(socket: &OwnedFd, interface: &str, command: u32, data: u32) -> io::Result<u32> {
    let mut value = Value { command, data };
    let mut request = kind::request(interface);
    // Both commands read and write as much as `value` has.
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    kind::ioctl(socket, libc::SIOCETHTOOL, &mut request)?;
    Ok(value.data)
}

/// `struct ethtool_value` of linux/ethtool.h.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}
