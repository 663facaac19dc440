//! A host with something on its chargers that a visitor may want, and a visitor.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use tests::netns::{Client, Endpoint, LiveConnection, OUTSIDER, Servers};

use super::host::{Host, words};

/// Long enough for an answer over five hops on a busy machine.
const GLANCE: Duration = Duration::from_millis(350);
const EXCHANGE: Duration = Duration::from_secs(3);

/// The demo's host, with something on its chargers that a visitor may want.
pub(crate) struct Site {
    pub(crate) host: Host,
    _servers: Servers,
}

impl Site {
    pub(crate) fn new(limits: &str) -> Result<Option<Self>> {
        let Some(host) = Host::trusting_its_clock(limits)? else { return Ok(None) };
        let servers = Servers::new();
        for device in ["charger-1", "charger-2"] {
            let ports = [22, 502].map(|port| Endpoint::tcp(std::net::Ipv6Addr::UNSPECIFIED, port));
            servers.start(host.lab.namespace(device)?, &ports)?;
        }
        Ok(Some(Self { host, _servers: servers }))
    }

    pub(crate) fn address(&self, device: &str) -> Result<IpAddr> {
        let device = self.host.lab.topology().device(device).context("no such device")?;
        Ok(device.address.v4.into())
    }

    /// True if somebody gets an answer from a device.
    pub(crate) fn opens(&self, from: (&str, IpAddr), device: &str, port: u16) -> Result<bool> {
        self.opens_at(from, SocketAddr::new(self.address(device)?, port))
    }

    /// True if somebody gets an answer from there.
    pub(crate) fn opens_at(&self, from: (&str, IpAddr), to: SocketAddr) -> Result<bool> {
        let client = Client::new(self.host.lab.namespace(from.0)?).from(from.1).timeout(GLANCE);
        Ok(client.tcp(to, b"hello")?.echoed(b"hello"))
    }

    /// True if the visitor is let in.
    pub(crate) fn is_open(&self) -> Result<bool> {
        self.opens(VISITOR, "charger-1", 22)
    }

    /// The visitor's session.
    pub(crate) fn session(&self) -> Result<LiveConnection> {
        self.session_at(SocketAddr::new(self.address("charger-1")?, 22))
    }

    /// The visitor's session with somebody.
    pub(crate) fn session_at(&self, to: SocketAddr) -> Result<LiveConnection> {
        let client = Client::new(self.host.lab.namespace(VISITOR.0)?).from(VISITOR.1).timeout(EXCHANGE);
        let connected = client.connect(to)?;
        connected.map_err(|outcome| anyhow!("the visitor could not connect: {outcome:?}"))
    }

    /// Runs a command as a person who used `sudo`; exit code and words.
    pub(crate) fn run(&self, who: &str, arguments: &[&str]) -> Result<(Option<i32>, String)> {
        let mut command = self.host.command(arguments)?;
        let child = self.host.spawn(command.env("SUDO_USER", who))?;
        let output = child.wait_with_output()?;
        Ok((output.status.code(), words(&output)))
    }

    pub(crate) fn done(&self, who: &str, arguments: &[&str]) -> Result<String> {
        let (code, said) = self.run(who, arguments)?;
        ensure!(code == Some(0), "{arguments:?}: {said}");
        Ok(said)
    }

    /// Why it was refused.
    pub(crate) fn refused(&self, who: &str, arguments: &[&str]) -> Result<String> {
        let (code, said) = self.run(who, arguments)?;
        ensure!(code == Some(1), "{arguments:?}: {said}");
        Ok(said)
    }

    pub(crate) fn create(&self, lasts: &str) -> Result<String> {
        self.done("kari", &[&CREATE[..], &["--for", lasts]].concat())
    }

    pub(crate) fn report(&self) -> Result<Value> {
        let said = self.done("kari", &["grant", "show", "chg-4711", "-o", "json"])?;
        Ok(serde_json::from_str(&said)?)
    }
}

/// Holds a session over the end of a grant of so many seconds that was asked for and created then: it lives until it has
/// to end, and is cut.
pub(crate) fn hold_over_the_end(
    live: &mut LiveConnection,
    seconds: u64,
    (asked, created): (Instant, Instant),
) -> Result<()> {
    let mut exchanges = 0;
    loop {
        let alive = live.is_alive()?;
        if asked.elapsed() >= Duration::from_secs(seconds - 1) {
            break;
        }
        ensure!(alive, "it was cut before its time");
        exchanges += 1;
        std::thread::sleep(Duration::from_millis(200));
    }
    ensure!(exchanges > 0, "the machine was too busy to see the session live");
    std::thread::sleep(Duration::from_millis(seconds * 1_000 + 1_500).saturating_sub(created.elapsed()));
    ensure!(!live.is_alive()?, "what is live is not cut");
    Ok(())
}

pub(crate) const VISITOR: (&str, IpAddr) = ("outside", IpAddr::V4(OUTSIDER.v4));
pub(crate) const CREATE: [&str; 15] = [
    "grant",
    "create",
    "--who",
    "Åse Berg",
    "--organisation",
    "Vendor AS",
    "--from",
    "192.0.2.66",
    "--device",
    "charger-1",
    "--port",
    "tcp/22",
    "--ticket",
    "CHG-4711",
    "--contact=+47 22 00 00 00",
];
