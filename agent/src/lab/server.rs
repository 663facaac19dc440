//! Echo servers in a namespace, which count what reached them.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use super::Namespace;

/// How long a server thread waits before it looks whether it is to end.
const PATIENCE: TimeVal = TimeVal::new(0, 100_000);

/// What a server listens on. The unspecified address `::` takes both families; UDP wants an exact address, because
/// an answer from a host with several must leave from the one that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Echoes a stream; a request that begins with `GET ` is answered as HTTP and closed, so that `curl` works too.
    Tcp(SocketAddr),
    /// Echoes each datagram.
    Udp(SocketAddr),
}

impl Endpoint {
    /// Makes a TCP endpoint.
    pub fn tcp(address: impl Into<IpAddr>, port: u16) -> Self {
        Self::Tcp(SocketAddr::new(address.into(), port))
    }

    /// Makes a UDP endpoint.
    pub fn udp(address: impl Into<IpAddr>, port: u16) -> Self {
        Self::Udp(SocketAddr::new(address.into(), port))
    }
}

/// What has reached one port of one address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// TCP connections that completed the handshake.
    pub connections: u64,
    /// UDP datagrams.
    pub datagrams: u64,
    /// Bytes of payload.
    pub bytes: u64,
}

type Tally = Mutex<BTreeMap<SocketAddr, Received>>;

/// Running servers; they end when this value is dropped.
#[derive(Debug, Default)]
pub struct Servers {
    shared: Arc<Shared>,
    listeners: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    closing: AtomicBool,
    tally: Tally,
}

impl Servers {
    /// Starts nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a server on each endpoint inside `namespace`; it listens when this returns.
    pub fn start(&self, namespace: &Namespace, endpoints: &[Endpoint]) -> Result<()> {
        endpoints.iter().try_for_each(|endpoint| match *endpoint {
            Endpoint::Tcp(address) => self.start_tcp(namespace, address),
            Endpoint::Udp(address) => self.start_udp(namespace, address),
        })
    }

    /// Returns what has reached `address`, which is the one the client named.
    pub fn received(&self, address: SocketAddr) -> Received {
        let tally = self.shared.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.get(&address).copied().unwrap_or_default()
    }

    fn start_tcp(&self, namespace: &Namespace, address: SocketAddr) -> Result<()> {
        let name = namespace.name();
        let listener = namespace.run(|| TcpListener::bind(address))?;
        let listener = listener.with_context(|| format!("listen on tcp {address} in {name}"))?;
        be_patient(&listener)?;
        let shared = Arc::clone(&self.shared);
        self.listen(move || accept(&listener, &shared))
    }

    fn start_udp(&self, namespace: &Namespace, address: SocketAddr) -> Result<()> {
        let name = namespace.name();
        let socket = namespace.run(|| UdpSocket::bind(address))?;
        let socket = socket.with_context(|| format!("listen on udp {address} in {name}"))?;
        be_patient(&socket)?;
        let shared = Arc::clone(&self.shared);
        self.listen(move || echo_datagrams(&socket, address, &shared))
    }

    fn listen(&self, serve: impl FnOnce() + Send + 'static) -> Result<()> {
        let thread = spawn(serve)?;
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        let listeners = std::mem::take(&mut *self.listeners.lock().unwrap_or_else(PoisonError::into_inner));
        // Waited for, so that the ports are free when this returns.
        listeners.into_iter().for_each(|thread| drop(thread.join()));
    }
}

impl Shared {
    fn open(&self) -> bool {
        !self.closing.load(Ordering::Relaxed)
    }

    fn count(&self, address: SocketAddr, add: impl FnOnce(&mut Received)) {
        let canonical = SocketAddr::new(address.ip().to_canonical(), address.port());
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        add(tally.entry(canonical).or_default());
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while shared.open() {
        let Ok((stream, _)) = listener.accept() else {
            continue;
        };
        let Ok(local) = stream.local_addr() else {
            continue;
        };
        shared.count(local, |received| received.connections += 1);
        let shared = Arc::clone(shared);
        // A connection that gets no thread is closed; its client sees a reset and the demo says so.
        drop(spawn(move || echo_stream(stream, local, &shared)));
    }
}

fn echo_stream(mut stream: TcpStream, local: SocketAddr, shared: &Shared) {
    if be_patient(&stream).is_err() {
        return;
    }
    let mut buffer = [0; 16 * 1024];
    while shared.open() {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => {
                shared.count(local, |received| received.bytes += length as u64);
                let request = &buffer[..length];
                let is_http = request.starts_with(b"GET ");
                let sent = if is_http { stream.write_all(PAGE) } else { stream.write_all(request) };
                if is_http || sent.is_err() {
                    return;
                }
            }
            Err(error) if is_impatience(error.kind()) => {}
            Err(_) => return,
        }
    }
}

fn echo_datagrams(socket: &UdpSocket, local: SocketAddr, shared: &Shared) {
    let mut buffer = [0; 64 * 1024];
    while shared.open() {
        let Ok((length, peer)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        shared.count(local, |received| {
            received.datagrams += 1;
            received.bytes += length as u64;
        });
        // The peer sees a missing answer; there is nobody else to tell.
        drop(socket.send_to(&buffer[..length], peer));
    }
}

fn be_patient(socket: &impl AsFd) -> Result<()> {
    setsockopt(socket, sockopt::ReceiveTimeout, &PATIENCE).context("set a socket's receive timeout")
}

fn is_impatience(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

fn spawn(serve: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let thread = std::thread::Builder::new().name("lab-server".into());
    thread.spawn(serve).context("start a server thread")
}

const PAGE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 22\r\nConnection: close\r\n\r\nhello from the server\n";
