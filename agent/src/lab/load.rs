//! Datagrams sent without waiting for answers, in the background: the traffic under which something breaks.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};

use super::client::Client;

/// A stream of datagrams that ends when this value is dropped.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    sent: AtomicU64,
}

impl Load {
    /// Starts to send a datagram to `to` every `period`.
    pub fn start(client: &Client<'_>, to: SocketAddr, period: Duration) -> Result<Self> {
        let socket = client.udp_socket(to)?;
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("lab-load".into());
        let thread = thread.spawn(move || send(&socket, &theirs, period)).context("start a load thread")?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Returns how many datagrams the kernel has taken so far.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Ends the stream and returns how many datagrams were sent in all.
    pub fn stop(mut self) -> u64 {
        self.end();
        self.sent()
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

fn send(socket: &UdpSocket, shared: &Shared, period: Duration) {
    while !shared.stop.load(Ordering::Relaxed) {
        // An ICMP error about an earlier datagram is reported here; that one was sent all the same.
        if socket.send(b"bulkhead lab load").is_ok() {
            shared.sent.fetch_add(1, Ordering::Relaxed);
        }
        std::thread::sleep(period);
    }
}
