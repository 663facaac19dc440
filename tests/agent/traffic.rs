//! What passes and what does not, as devices and receivers see it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use tests::netns::{Client, FORBIDDEN, LiveConnection, Load, Match, OUTSIDER, SERVER, Witness};

use super::host::Host;

/// Long enough for an answer over five hops on a busy machine; a refused attempt takes all of it.
const GLANCE: Duration = Duration::from_millis(350);
/// A live connection may be judged late but must be answered.
const EXCHANGE: Duration = Duration::from_secs(3);
/// Nobody listens there: what arrives is counted below any socket.
const PORT: u16 = 4444;

impl Host {
    /// True if `device` gets an answer from a server.
    pub(crate) fn reaches(&self, device: &str, server: IpAddr, port: u16) -> Result<bool> {
        let client = Client::new(self.lab.namespace(device)?).timeout(GLANCE);
        Ok(client.tcp(SocketAddr::new(server, port), b"hello")?.echoed(b"hello"))
    }

    /// True if charger-1 may do what the demo's policies allow.
    pub(crate) fn allows(&self) -> Result<bool> {
        self.reaches("charger-1", SERVER.v4.into(), 443)
    }

    /// True if charger-1 gets nowhere else.
    pub(crate) fn forbids(&self) -> Result<bool> {
        Ok(!self.reaches("charger-1", FORBIDDEN.v4.into(), 443)?)
    }

    /// Allowed works and forbidden does not.
    pub(crate) fn is_guarded(&self) -> Result<bool> {
        Ok(self.allows()? && self.forbids()?)
    }

    /// A connection of `device` that the demo's policies allow.
    pub(crate) fn connection(&self, device: &str, port: u16) -> Result<LiveConnection> {
        let client = Client::new(self.lab.namespace(device)?).timeout(EXCHANGE);
        let connected = client.connect(SocketAddr::new(SERVER.v4.into(), port))?;
        connected.map_err(|outcome| anyhow::anyhow!("{device} could not connect: {outcome:?}"))
    }

    /// True if the host itself answers on an access link: it is never locked out.
    pub(crate) fn host_answers(&self) -> Result<bool> {
        let client = Client::new(self.lab.namespace("dn")?).timeout(GLANCE);
        Ok(client.ping(IpAddr::from([10, 99, 3, 1]), b"there?")?.echoed(b"there?"))
    }

    /// Starts what must never arrive: from a device to a stranger and to a neighbour, and from outside to a device.
    pub(crate) fn forbidden(&self) -> Result<Forbidden> {
        let address = |name: &str| -> Result<IpAddr> {
            Ok(self.lab.topology().device(name).context("no such device")?.address.v4.into())
        };
        let (charger, neighbour) = (address("charger-1")?, address("charger-2")?);
        let streams = [
            ("charger-1", charger, FORBIDDEN.v4.into(), "dn", "n6"),
            ("charger-1", charger, neighbour, "charger-2", "radio"),
            ("outside", OUTSIDER.v4.into(), charger, "charger-1", "radio"),
        ];
        let started = streams.map(|(actor, source, target, receiver, interface)| {
            let wanted = Match { source: Some(source), destination: Some(target) };
            let witness = Witness::open(self.lab.namespace(receiver)?, interface, wanted)?;
            let client = Client::new(self.lab.namespace(actor)?);
            let load = Load::start(&client, SocketAddr::new(target, PORT), Duration::from_millis(2))?;
            Ok((load, witness))
        });
        Ok(Forbidden(started.into_iter().collect::<Result<_>>()?))
    }
}

/// Forbidden datagrams, and the receivers' kernels that count them.
pub(crate) struct Forbidden(Vec<(Load, Witness)>);

impl Forbidden {
    /// How many were sent and how many of them arrived.
    pub(crate) fn stop(self) -> Result<(u64, u64)> {
        let (mut sent, mut arrived) = (0, 0);
        for (load, witness) in self.0 {
            sent += load.stop();
            arrived += witness.seen()?;
        }
        Ok((sent, arrived))
    }
}
