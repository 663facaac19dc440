//! Arbitrary frames on a link, and the frames that arrive there.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;

use super::{Namespace, sys};

/// A packet socket on one interface.
#[derive(Debug)]
pub struct Injector {
    socket: OwnedFd,
    mac: [u8; 6],
}

impl Injector {
    /// Opens a packet socket on `interface` inside `namespace`.
    pub fn open(namespace: &Namespace, interface: &str) -> Result<Self> {
        let (socket, address) = namespace.run(|| packet_socket(interface))??;
        sys::report_vlan_tags(&socket).context("ask a packet socket for VLAN tags")?;
        Ok(Self { socket, mac: address.addr().unwrap_or_default() })
    }

    /// Returns the interface's own hardware address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Puts `frame`, from its destination MAC on, onto the link as it is.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        let sent = send(self.socket.as_raw_fd(), frame, MsgFlags::empty()).context("send a frame")?;
        anyhow::ensure!(sent == frame.len(), "send a frame: {sent} of {} bytes went out", frame.len());
        Ok(())
    }

    /// Waits up to `timeout` for a frame that `wanted` takes, sent ones left out; tags are back in their place.
    pub fn receive(&self, timeout: Duration, wanted: impl Fn(&[u8]) -> bool) -> Result<Option<Vec<u8>>> {
        let until = Instant::now() + timeout;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            // Zero microseconds would mean to wait for ever.
            let left = TimeVal::new(left.as_secs().cast_signed(), i64::from(left.subsec_micros().max(1)));
            setsockopt(&self.socket, sockopt::ReceiveTimeout, &left)
                .context("set a packet socket's timeout")?;
            match sys::receive_frame(&self.socket) {
                Ok(Some(frame)) if wanted(&frame) => return Ok(Some(frame)),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error).context("receive a frame"),
            }
        }
    }
}

/// Opens a packet socket for every protocol on `interface`, in the namespace of the calling thread.
pub(crate) fn packet_socket(interface: &str) -> Result<(OwnedFd, LinkAddr)> {
    let address = link_address(interface)?;
    // Without a protocol at first: nothing is queued from other interfaces before the bind.
    let opened = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll);
    let socket = opened.context("open a packet socket (needs CAP_NET_RAW)")?;
    bind(socket.as_raw_fd(), &address).with_context(|| format!("bind a packet socket to {interface}"))?;
    Ok((socket, address))
}

/// The MAC address of `interface` in the namespace of the calling thread.
///
/// # Errors
/// There is no such interface, or it has no such address.
pub fn mac(interface: &str) -> Result<[u8; 6]> {
    link_address(interface)?.addr().with_context(|| format!("{interface} has no MAC address"))
}

/// Finds the link-layer address of `interface` in the namespace of the calling thread.
fn link_address(interface: &str) -> Result<LinkAddr> {
    let all = nix::ifaddrs::getifaddrs().context("list interfaces")?;
    let named = all.filter(|entry| entry.interface_name == interface);
    let found = named.filter_map(|entry| entry.address?.as_link_addr().copied()).next();
    found.with_context(|| format!("interface {interface} is not in this namespace"))
}
