//! A netlink socket of this thread's network namespace.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd as _, OwnedFd, RawFd};

use anyhow::{Context, Result};
use nix::sys::socket::{MsgFlags, NetlinkAddr, SockFlag, bind, recv, send, setsockopt, sockopt};

/// Whom a socket talks to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// Links, addresses, routes.
    Route,
    /// nftables.
    Netfilter,
    /// What other parts of the kernel tell, each a family of its own.
    Generic,
    /// IPsec.
    Ipsec,
}

/// One message to the kernel.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message {
    /// Its type.
    pub kind: u16,
    /// Flags beside `NLM_F_REQUEST`.
    pub flags: i32,
    /// The family's header, then attributes.
    pub body: Vec<u8>,
}

/// One message from the kernel.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reply {
    /// Its type.
    pub kind: u16,
    /// The family's header, then attributes.
    pub body: Vec<u8>,
}

/// A netlink socket.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// The kernel writes a dump in pieces of at most 32 KiB.
const BUFFER: usize = 64 * 1024;
/// A batch is sent in one piece, and every pool may be in it.
const ROOM: usize = 8 * 1024 * 1024;
/// Somebody else changed what was being listed: listed anew, so often.
const ATTEMPTS: usize = 5;

impl Socket {
    /// Opens one for requests.
    ///
    /// # Errors
    /// The kernel knows no such protocol.
    pub fn open(protocol: Protocol) -> Result<Self> {
        Self::of(protocol, 0, SockFlag::SOCK_CLOEXEC)
    }

    /// Opens one that is told of changes, by a mask of groups; it does not wait.
    ///
    /// # Errors
    /// The kernel knows no such protocol or group.
    pub fn listening(protocol: Protocol, groups: u32) -> Result<Self> {
        Self::of(protocol, groups, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)
    }

    fn of(protocol: Protocol, groups: u32, flags: SockFlag) -> Result<Self> {
        let (number, name) = match protocol {
            Protocol::Route => (libc::NETLINK_ROUTE, "rtnetlink"),
            Protocol::Netfilter => (libc::NETLINK_NETFILTER, "netfilter netlink"),
            Protocol::Generic => (libc::NETLINK_GENERIC, "generic netlink"),
            Protocol::Ipsec => (libc::NETLINK_XFRM, "IPsec netlink"),
        };
        let fd = open(number, flags).with_context(|| format!("open a {name} socket"))?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))
            .with_context(|| format!("bind a {name} socket"))?;
        Ok(Self(fd))
    }

    /// Throws away what lies there to be read; false if nothing did.
    pub fn drain(&self) -> bool {
        let mut buffer = vec![0; BUFFER];
        let mut found = false;
        loop {
            match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                // An overrun says that there was more than fits: that is a change, too.
                Ok(1..) | Err(nix::errno::Errno::ENOBUFS) => found = true,
                Ok(0) | Err(_) => return found,
            }
        }
    }

    /// Asks for one thing; nothing if there is none.
    ///
    /// # Errors
    /// What the kernel says of it.
    pub fn get(&self, message: &Message) -> io::Result<Option<Reply>> {
        self.send(&encode(message, libc::NLM_F_ACK))?;
        let mut replies = Vec::new();
        match self.receive(&mut replies) {
            Ok(()) => Ok(replies.into_iter().next()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lists all there is.
    ///
    /// # Errors
    /// What the kernel says of it.
    pub fn dump(&self, message: &Message) -> io::Result<Vec<Reply>> {
        let mut attempts = ATTEMPTS;
        loop {
            self.send(&encode(message, libc::NLM_F_DUMP))?;
            let mut replies = Vec::new();
            match self.receive(&mut replies) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted && attempts > 0 => attempts -= 1,
                Err(error) => return Err(error),
                Ok(()) => return Ok(replies),
            }
        }
    }

    /// Changes nftables in one transaction: all of it, or nothing.
    ///
    /// # Errors
    /// What the kernel says of the first message that it refuses.
    pub fn transact(&self, messages: &[Message]) -> io::Result<()> {
        // Without the privilege the usual room has to do.
        let _ = setsockopt(&self.0, sockopt::SndBufForce, &ROOM);
        let _ = setsockopt(&self.0, sockopt::RcvBufForce, &ROOM);
        let begin = edge(libc::NFNL_MSG_BATCH_BEGIN);
        let mut batch = encode(&begin, 0);
        messages.iter().for_each(|message| batch.extend(encode(message, libc::NLM_F_ACK)));
        batch.extend(encode(&edge(libc::NFNL_MSG_BATCH_END), 0));
        self.send(&batch)?;
        // The kernel has done it when the call returns, and says so of each message.
        let mut refused = None;
        for _ in messages {
            if let Err(error) = self.receive(&mut Vec::new()) {
                refused.get_or_insert(error);
                if self.is_silent() {
                    break;
                }
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// True if nothing lies there to be read: a batch that fails at its begin is answered once.
    fn is_silent(&self) -> bool {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK;
        recv(self.0.as_raw_fd(), &mut [0], flags).is_err()
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        send(self.0.as_raw_fd(), bytes, MsgFlags::empty())?;
        Ok(())
    }

    /// Reads until the kernel says that this was all.
    fn receive(&self, replies: &mut Vec<Reply>) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        let mut interrupted = false;
        loop {
            let length = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let mut rest = &buffer[..length];
            while let Some((header, body)) = split(&mut rest) {
                interrupted |= header.flags & libc::NLM_F_DUMP_INTR as u16 != 0;
                match i32::from(header.kind) {
                    libc::NLMSG_DONE if interrupted => return Err(io::ErrorKind::Interrupted.into()),
                    libc::NLMSG_DONE | libc::NLMSG_ERROR => return outcome(body),
                    _ => replies.push(Reply { kind: header.kind, body: body.to_vec() }),
                }
            }
        }
    }
}

/// By hand: nix has no name for the number of IPsec.
fn open(number: i32, flags: SockFlag) -> io::Result<OwnedFd> {
    // SAFETY: the call takes numbers only.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | flags.bits(), number) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The start of `struct nlmsghdr`, behind its length.
struct Header {
    kind: u16,
    flags: u16,
}

fn split<'a>(rest: &mut &'a [u8]) -> Option<(Header, &'a [u8])> {
    let bytes = *rest;
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let half = |at: usize| Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
    let header = Header { kind: half(4)?, flags: half(6)? };
    let body = bytes.get(HEADER..length)?;
    *rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((header, body))
}

/// Both ends of a list begin with an error number, 0 for none.
fn outcome(body: &[u8]) -> io::Result<()> {
    let code = body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code.wrapping_neg())) }
}

fn encode(message: &Message, flags: i32) -> Vec<u8> {
    let flags = message.flags | flags | libc::NLM_F_REQUEST;
    let mut bytes = Vec::with_capacity(HEADER + message.body.len());
    bytes.extend(((HEADER + message.body.len()) as u32).to_ne_bytes());
    bytes.extend(message.kind.to_ne_bytes());
    bytes.extend((flags as u16).to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend(&message.body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// What a transaction of nftables begins and ends with: `struct nfgenmsg` with the subsystem as its resource.
fn edge(kind: i32) -> Message {
    let [high, low] = (libc::NFNL_SUBSYS_NFTABLES as u16).to_be_bytes();
    Message { kind: kind as u16, flags: 0, body: vec![0, 0, high, low] }
}
