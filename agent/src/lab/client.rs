//! Clients in a namespace: one exchange each, and what came of it as a value.

use std::io::{Error, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, connect, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;

use super::Namespace;
use super::live::LiveConnection;

/// Long enough for a loaded two-core machine, shorter than TCP's first retransmission (1 s).
const TIMEOUT: Duration = Duration::from_millis(600);

/// What came of an exchange, from where the client stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// These bytes came back.
    Replied(Vec<u8>),
    /// The other host said that nobody listens.
    Refused,
    /// The connection was reset or closed by the other side.
    Reset,
    /// Nothing came back.
    TimedOut,
    /// A router said that there is no way, or the host has no route.
    Unreachable,
}

impl Outcome {
    /// Says whether exactly `payload` came back.
    pub fn echoed(&self, payload: &[u8]) -> bool {
        matches!(self, Self::Replied(bytes) if bytes == payload)
    }

    /// Turns a socket's error into an outcome; an error that says nothing about the network stays one.
    pub(crate) fn from_error(error: Error) -> Result<Self> {
        // A blocking connect() that runs into SO_SNDTIMEO reports EINPROGRESS, which has no ErrorKind of its own.
        if error.raw_os_error() == Some(nix::errno::Errno::EINPROGRESS as i32) {
            return Ok(Self::TimedOut);
        }
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "ErrorKind is non-exhaustive; the rest stays an error"
        )]
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Ok(Self::TimedOut),
            ErrorKind::ConnectionRefused => Ok(Self::Refused),
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => Ok(Self::Reset),
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Ok(Self::Unreachable),
            _ => Err(error).context("exchange over a socket"),
        }
    }
}

/// A client in one namespace.
#[derive(Clone, Debug)]
pub struct Client<'a> {
    namespace: &'a Namespace,
    source: Option<IpAddr>,
    spoof: bool,
    timeout: Duration,
}

impl<'a> Client<'a> {
    /// Makes a client that sends from the namespace's own address.
    pub fn new(namespace: &'a Namespace) -> Self {
        Self { namespace, source: None, spoof: false, timeout: TIMEOUT }
    }

    /// Sends from `source`, one of the namespace's addresses.
    pub fn from(self, source: impl Into<IpAddr>) -> Self {
        Self { source: Some(source.into()), ..self }
    }

    /// Sends from `source`, which belongs to somebody else or to nobody; answers go there, not here.
    pub fn spoofing(self, source: impl Into<IpAddr>) -> Self {
        Self { source: Some(source.into()), spoof: true, ..self }
    }

    /// Waits `timeout` for each step of an exchange.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Connects, sends `payload` and reads as many bytes back.
    pub fn tcp(&self, to: SocketAddr, payload: &[u8]) -> Result<Outcome> {
        match self.connect(to)? {
            Ok(mut connection) => connection.exchange(payload),
            Err(outcome) => Ok(outcome),
        }
    }

    /// Sends one datagram and waits for one.
    pub fn udp(&self, to: SocketAddr, payload: &[u8]) -> Result<Outcome> {
        let socket = self.udp_socket(to)?;
        let exchange = || {
            socket.send(payload)?;
            let mut buffer = vec![0; 64 * 1024];
            let length = socket.recv(&mut buffer)?;
            buffer.truncate(length);
            Ok(buffer)
        };
        exchange().map_or_else(Outcome::from_error, |bytes| Ok(Outcome::Replied(bytes)))
    }

    /// Opens a UDP socket towards `to`; sending on it never waits.
    pub(crate) fn udp_socket(&self, to: SocketAddr) -> Result<UdpSocket> {
        let socket = UdpSocket::from(self.open(to.ip(), SockType::Datagram, None)?);
        socket.connect(to).with_context(|| format!("point a udp socket at {to}"))?;
        Ok(socket)
    }

    /// Sends an ICMP or ICMPv6 echo request with `payload` and returns the payload that came back.
    pub fn ping(&self, to: impl Into<IpAddr>, payload: &[u8]) -> Result<Outcome> {
        let to = to.into();
        let (protocol, request) = match to {
            IpAddr::V4(_) => (SockProtocol::Icmp, 8),
            IpAddr::V6(_) => (SockProtocol::IcmpV6, 128),
        };
        let socket = UdpSocket::from(self.open(to, SockType::Datagram, Some(protocol))?);
        // The kernel fills in identifier and checksum, and passes on only answers to this identifier.
        let message = [&[request, 0, 0, 0, 0, 0, 0, 1], payload].concat();
        let exchange = || {
            socket.connect(SocketAddr::new(to, 0))?;
            socket.send(&message)?;
            let mut buffer = vec![0; 64 * 1024];
            let length = socket.recv(&mut buffer)?;
            Ok(buffer.get(8..length).unwrap_or_default().to_vec())
        };
        exchange().map_or_else(Outcome::from_error, |bytes| Ok(Outcome::Replied(bytes)))
    }

    /// Opens a connection to exchange over later, or says what came instead.
    pub fn connect(&self, to: SocketAddr) -> Result<Result<LiveConnection, Outcome>> {
        let socket = self.open(to.ip(), SockType::Stream, None)?;
        match connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
            Ok(()) => Ok(Ok(LiveConnection::new(TcpStream::from(socket)))),
            Err(errno) => Ok(Err(Outcome::from_error(errno.into())?)),
        }
    }

    /// Opens a socket of the family of `to` inside the namespace, with timeouts, bound to the source if one is set.
    fn open(&self, to: IpAddr, kind: SockType, protocol: Option<SockProtocol>) -> Result<OwnedFd> {
        let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let opened = self.namespace.run(|| socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol))?;
        let socket = opened.with_context(|| format!("open a socket in {}", self.namespace.name()))?;
        let timeout =
            TimeVal::new(self.timeout.as_secs().cast_signed(), i64::from(self.timeout.subsec_micros()));
        setsockopt(&socket, sockopt::ReceiveTimeout, &timeout).context("set a socket's receive timeout")?;
        setsockopt(&socket, sockopt::SendTimeout, &timeout).context("set a socket's send timeout")?;
        if self.spoof {
            setsockopt(&socket, sockopt::IpTransparent, &true).context("allow a foreign source address")?;
        }
        if let Some(source) = self.source {
            bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(source, 0)))
                .with_context(|| format!("send from {source} in {}", self.namespace.name()))?;
        }
        Ok(socket)
    }
}
