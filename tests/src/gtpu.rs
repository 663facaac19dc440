//! Both ends of a GTP-U tunnel in user space: a base station and a UPF, each with a TUN device behind it.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::netns::Namespace;
use crate::tun::Tun;

/// The port of GTP-U (TS 29.281 clause 4.4.2).
pub const PORT: u16 = 2152;
/// A PDU session container behind sequence and N-PDU number, as 5G base stations send it (TS 38.415).
const CONTAINER: [u8; 8] = [0, 0, 0, 0x85, 1, 0x10, 9, 0];
const ECHO_REQUEST: u8 = 1;
const ECHO_RESPONSE: u8 = 2;
const G_PDU: u8 = 255;
const PATIENCE: Duration = Duration::from_millis(20);

/// One end: relays between its TUN device and the other end until it is dropped.
#[derive(Debug)]
pub struct TunnelEnd {
    socket: Arc<UdpSocket>,
    peer: SocketAddr,
    tun: Arc<Tun>,
    over: Arc<AtomicBool>,
    packets: Arc<AtomicU64>,
    echoes: Arc<AtomicU64>,
    relays: Vec<JoinHandle<()>>,
}

impl TunnelEnd {
    /// Listens on `local` inside a namespace and sends what `tun` has to `peer`, with this TEID.
    ///
    /// # Errors
    /// The kernel's.
    pub fn start(
        namespace: &Namespace,
        local: SocketAddr,
        peer: SocketAddr,
        teid: u32,
        tun: Tun,
    ) -> Result<Self> {
        let socket =
            namespace.run(|| UdpSocket::bind(local))?.with_context(|| format!("listen on {local}"))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let end = Self {
            socket: Arc::new(socket),
            peer,
            tun: Arc::new(tun),
            over: Arc::default(),
            packets: Arc::default(),
            echoes: Arc::default(),
            relays: Vec::new(),
        };
        Ok(end.relaying(teid))
    }

    fn relaying(mut self, teid: u32) -> Self {
        let tun = Arc::clone(&self.tun);
        let (socket, over, peer, device) = (self.socket.clone(), self.over.clone(), self.peer, tun.clone());
        let outward = move || {
            let mut buffer = [0; 65_536];
            while !over.load(Ordering::Relaxed) {
                match device.read(&mut buffer) {
                    Ok(Some(length)) => drop(socket.send_to(&wrap(teid, &buffer[..length]), peer)),
                    Ok(None) | Err(_) => sleep(Duration::from_micros(200)),
                }
            }
        };
        let (socket, over) = (self.socket.clone(), self.over.clone());
        let (packets, echoes) = (self.packets.clone(), self.echoes.clone());
        let inward = move || {
            let mut buffer = [0; 65_536];
            while !over.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                match buffer[1] {
                    G_PDU => {
                        packets.fetch_add(1, Ordering::Relaxed);
                        drop(tun.write(unwrap(&buffer[..length])));
                    }
                    ECHO_REQUEST => {
                        drop(socket.send_to(&message(0x32, ECHO_RESPONSE, 0, &[0, 1, 0, 0, 14, 0]), from))
                    }
                    ECHO_RESPONSE => drop(echoes.fetch_add(1, Ordering::Relaxed)),
                    _ => {}
                }
            }
        };
        self.relays = vec![std::thread::spawn(outward), std::thread::spawn(inward)];
        self
    }

    /// Sends a device's packet through a tunnel of one's own choice.
    ///
    /// # Errors
    /// The kernel's.
    pub fn send(&self, teid: u32, packet: &[u8]) -> Result<()> {
        self.socket.send_to(&wrap(teid, packet), self.peer).context("send a G-PDU")?;
        Ok(())
    }

    /// Hands a device's packet to this end's kernel, as if it had come through a tunnel.
    ///
    /// # Errors
    /// The kernel's.
    pub fn hand_over(&self, packet: &[u8]) -> Result<()> {
        self.tun.write(packet)
    }

    /// Sends any bytes to the other end.
    ///
    /// # Errors
    /// The kernel's.
    pub fn send_raw(&self, bytes: &[u8]) -> Result<()> {
        self.socket.send_to(bytes, self.peer).context("send a datagram")?;
        Ok(())
    }

    /// True if the other end answers an echo request (TS 29.281 clause 7.2).
    ///
    /// # Errors
    /// The kernel's.
    pub fn is_alive(&self) -> Result<bool> {
        let before = self.echoes.load(Ordering::Relaxed);
        self.send_raw(&message(0x32, ECHO_REQUEST, 0, &[0, 1, 0, 0]))?;
        for _ in 0..50 {
            if self.echoes.load(Ordering::Relaxed) > before {
                return Ok(true);
            }
            sleep(Duration::from_millis(10));
        }
        Ok(false)
    }

    /// How many devices' packets have come in.
    pub fn packets(&self) -> u64 {
        self.packets.load(Ordering::Relaxed)
    }
}

impl Drop for TunnelEnd {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.relays.drain(..).for_each(|relay| drop(relay.join()));
    }
}

fn wrap(teid: u32, packet: &[u8]) -> Vec<u8> {
    message(0x34, G_PDU, teid, &[&CONTAINER[..], packet].concat())
}

/// The packet in a message that [`wrap`] made.
fn unwrap(message: &[u8]) -> &[u8] {
    message.get(8 + CONTAINER.len()..).unwrap_or_default()
}

fn message(flags: u8, kind: u8, teid: u32, rest: &[u8]) -> Vec<u8> {
    let length = (rest.len() as u16).to_be_bytes();
    [&[flags, kind], &length[..], &teid.to_be_bytes(), rest].concat()
}
