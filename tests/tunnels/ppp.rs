//! PPP, as an access concentrator ends it: a PPPoE session without its discovery, which a program would do.

use std::fs::File;
use std::io::{Error, ErrorKind};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use anyhow::{Context as _, Result, ensure};
use bulkhead::datapath::link_type;
use bulkhead_common::case::LinkType;
use tests::frame::{bare, eth};
use tests::kernel::privilege;
use tests::netns::mac;

use super::host::Guarded;
use super::{inside, sixth};

/// The session's number, and the protocol of its frames on the wire (RFC 2516 sections 4 and 6).
const SESSION: u16 = 0x0b07;
const PPPOE_SESSION: u16 = 0x8864;
/// PPP's numbers of IPv4 and IPv6 (RFC 1332, RFC 5072).
const IPV4: u16 = 0x0021;
const IPV6: u16 = 0x0057;

/// `PX_PROTO_OE` (linux/if_pppox.h).
const PPPOE: libc::c_int = 0;

mod ioctl {
    //! linux/ppp-ioctl.h
    nix::ioctl_read!(pppiocgchan, b't', 55, libc::c_int);
    nix::ioctl_write_ptr!(pppiocattchan, b't', 56, libc::c_int);
    nix::ioctl_write_ptr!(pppiocconnect, b't', 58, libc::c_int);
    nix::ioctl_readwrite!(pppiocnewunit, b't', 62, libc::c_int);
}

#[test]
fn what_comes_by_ppp_is_judged_inside() -> Result<()> {
    let Some(mut host) = Guarded::start("link set lo up")? else { return Ok(()) };
    let Some(session) = Session::start(mac("n7")?)? else { return Ok(()) };
    let interface = session.interface();
    ensure!(link_type(&interface)? == LinkType::RawIp);
    host.guard(&interface, LinkType::RawIp)?;
    let sent = |protocol, packet: &[u8], verdict| {
        host.expect(&interface, &session.frame(host.mac, protocol, packet), verdict, packet.len())
    };
    inside(bare).iter().try_for_each(|(packet, verdict)| sent(IPV4, packet, *verdict))?;
    sixth()?.iter().try_for_each(|(packet, verdict)| sent(IPV6, packet, *verdict))
}

/// A session with whom the link to the data network leads to; its interface is gone with it.
struct Session {
    peer: [u8; 6],
    unit: libc::c_int,
    _interface: File,
    _channel: File,
    _socket: OwnedFd,
}

impl Session {
    /// Nothing where the kernel has no driver.
    fn start(peer: [u8; 6]) -> Result<Option<Self>> {
        let Some(socket) = socket()? else { return Ok(None) };
        connect(&socket, peer)?;
        let channel = ppp()?;
        let number = asked(|number| {
            // SAFETY: the kernel writes the channel's number there, during the call.
            unsafe { ioctl::pppiocgchan(socket.as_raw_fd(), number) }
        })?;
        // SAFETY: the kernel reads the channel's number there, during the call.
        unsafe { ioctl::pppiocattchan(channel.as_raw_fd(), &raw const number) }
            .context("take the channel")?;
        let interface = ppp()?;
        let unit = asked(|unit| {
            // SAFETY: the kernel writes the interface's number there, during the call.
            unsafe { ioctl::pppiocnewunit(interface.as_raw_fd(), unit) }
        })?;
        // SAFETY: the kernel reads the interface's number there, during the call.
        unsafe { ioctl::pppiocconnect(channel.as_raw_fd(), &raw const unit) }.context("join the two")?;
        Ok(Some(Self { peer, unit, _interface: interface, _channel: channel, _socket: socket }))
    }

    fn interface(&self) -> String {
        format!("ppp{}", self.unit)
    }

    /// A packet as the session's other end sends it.
    fn frame(&self, to: [u8; 6], protocol: u16, packet: &[u8]) -> Vec<u8> {
        let inside = [&protocol.to_be_bytes(), packet].concat();
        let header = [0x1100, SESSION, inside.len() as u16].map(u16::to_be_bytes).concat();
        eth()
            .from_mac(self.peer)
            .to_mac(to)
            .ether_type(PPPOE_SESSION)
            .payload(&[header, inside].concat())
            .build()
    }
}

fn ppp() -> Result<File> {
    File::options().read(true).write(true).open("/dev/ppp").context("open /dev/ppp")
}

/// What the kernel answers to a question for a number; minus one has it choose.
fn asked(question: impl FnOnce(*mut libc::c_int) -> nix::Result<libc::c_int>) -> Result<libc::c_int> {
    let mut number = -1;
    question(&raw mut number).context("ask for a number")?;
    Ok(number)
}

fn socket() -> Result<Option<OwnedFd>> {
    // SAFETY: no memory is handed over.
    let opened: RawFd =
        unsafe { libc::socket(libc::AF_PPPOX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, PPPOE) };
    if opened < 0 {
        let error = Error::last_os_error();
        ensure!(error.kind() != ErrorKind::PermissionDenied, "open a PPPoE socket: {error}");
        privilege::skip(&format!("no driver for PPPoE: {error}"));
        return Ok(None);
    }
    // SAFETY: it was just opened, and nobody else has it.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(opened) }))
}

/// Binds the session to the link to the data network, by a packed `struct sockaddr_pppox` (linux/if_pppox.h).
fn connect(socket: &OwnedFd, peer: [u8; 6]) -> Result<()> {
    let mut address = [0_u8; 30];
    address[..2].copy_from_slice(&(libc::AF_PPPOX as u16).to_ne_bytes());
    address[2..6].copy_from_slice(&PPPOE.to_ne_bytes());
    address[6..8].copy_from_slice(&SESSION.to_be_bytes());
    address[8..14].copy_from_slice(&peer);
    address[14..16].copy_from_slice(b"n6");
    let length = address.len() as libc::socklen_t;
    // SAFETY: the kernel reads that many bytes there, during the call.
    let answer = unsafe { libc::connect(socket.as_raw_fd(), address.as_ptr().cast(), length) };
    ensure!(answer == 0, "bind the session to n6: {}", Error::last_os_error());
    Ok(())
}
