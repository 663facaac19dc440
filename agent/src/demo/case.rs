//! The cases as a table: who does what, and what has to come of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bulkhead_common::verdict::DropReason;

use crate::lab::Topology;
use crate::lab::topology::{DNS, Dual, FORBIDDEN, OUTSIDER, SCADA, SERVER};

/// One attempt and its expectation.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// A sentence for the table.
    pub(crate) what: String,
    /// Namespace of who does it.
    pub(crate) actor: &'static str,
    /// From which address.
    pub(crate) source: Source,
    /// What is done.
    pub(crate) act: Act,
    /// What has to come of it.
    pub(crate) expect: Expect,
}

/// The source address of an attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    /// One of the actor's own.
    Own(IpAddr),
    /// Somebody else's, or nobody's.
    Spoofed(IpAddr),
}

impl Source {
    /// Returns the address on the wire.
    pub(crate) fn address(self) -> IpAddr {
        match self {
            Self::Own(address) | Self::Spoofed(address) => address,
        }
    }
}

/// What is done.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    /// A TCP connection that carries a payload both ways.
    Tcp(SocketAddr),
    /// A UDP datagram and its answer.
    Udp(SocketAddr),
    /// An ICMP or ICMPv6 echo.
    Ping(IpAddr),
    /// A connection attempt to each of the usual ports, and an echo.
    Scan(IpAddr),
}

impl Act {
    /// Returns the address aimed at.
    pub(crate) fn target(self) -> IpAddr {
        match self {
            Self::Tcp(to) | Self::Udp(to) => to.ip(),
            Self::Ping(to) | Self::Scan(to) => to,
        }
    }
}

/// What has to come of an attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expect {
    /// The payload comes back.
    Reply,
    /// Nothing arrives, for this reason, which is told of this device: whom the packet is from, or on its way down for.
    Drop(DropReason, Option<&'static str>),
}

/// Ports that an attacker tries first.
pub(crate) const SCANNED: [u16; 8] = [21, 22, 23, 80, 443, 502, 554, 8080];

/// Lists the cases for IPv4 and then for IPv6.
pub(crate) fn cases(topology: &Topology) -> Vec<Case> {
    [Family::V4, Family::V6].into_iter().flat_map(|family| Scene { topology, family }.cases()).collect()
}

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

/// The same cases in one family's addresses.
struct Scene<'a> {
    topology: &'a Topology,
    family: Family,
}

impl Scene<'_> {
    fn cases(&self) -> Vec<Case> {
        [self.allowed(), self.devices(), self.remotes(), self.identities()].concat()
    }

    fn allowed(&self) -> Vec<Case> {
        let (cloud, pump, camera) = (self.ip(SERVER), self.device("pump-1"), self.device("camera-1"));
        let scada = Source::Own(self.ip(SCADA));
        vec![
            self.case("charger-1 calls the cloud", "charger-1", tcp(cloud, 443), Expect::Reply),
            self.case("charger-1 resolves a name", "charger-1", udp(self.ip(DNS), 53), Expect::Reply),
            self.case("charger-1 pings the cloud", "charger-1", Act::Ping(cloud), Expect::Reply),
            self.case("pump-1 reports telemetry", "pump-1", tcp(cloud, 8883), Expect::Reply),
            self.case("nvr-1 pulls video from camera-1", "nvr-1", tcp(camera, 554), Expect::Reply),
            Case {
                source: scada,
                ..self.case("the control room polls pump-1", "dn", tcp(pump, 502), Expect::Reply)
            },
        ]
    }

    fn devices(&self) -> Vec<Case> {
        let denied = |device| Expect::Drop(DropReason::SegmentDenied, Some(device));
        let (charger, pump, nvr) = (self.device("charger-2"), self.device("pump-1"), self.device("nvr-1"));
        vec![
            self.case(
                "charger-1 tries its neighbour's SSH",
                "charger-1",
                tcp(charger, 22),
                denied("charger-1"),
            ),
            self.case("charger-1 tries a pump's Modbus", "charger-1", tcp(pump, 502), denied("charger-1")),
            self.case("charger-1 pings its neighbour", "charger-1", Act::Ping(charger), denied("charger-1")),
            self.case("camera-1 calls the recorder", "camera-1", tcp(nvr, 554), denied("camera-1")),
        ]
    }

    fn remotes(&self) -> Vec<Case> {
        let (cloud, forbidden) = (self.ip(SERVER), self.ip(FORBIDDEN));
        let no_rule = Expect::Drop(DropReason::NoRule, Some("charger-1"));
        let never = Expect::Drop(DropReason::Never, Some("camera-1"));
        let unsolicited = |device| Expect::Drop(DropReason::Unsolicited, Some(device));
        let (charger, pump) = (self.device("charger-1"), self.device("pump-1"));
        vec![
            self.case("charger-1 calls a forbidden server", "charger-1", tcp(forbidden, 443), no_rule),
            self.case("charger-1 tries SSH on the cloud", "charger-1", tcp(cloud, 22), no_rule),
            self.case("camera-1 tries telnet (never)", "camera-1", tcp(cloud, 23), never),
            self.case("an outsider scans charger-1", "outside", Act::Scan(charger), unsolicited("charger-1")),
            self.case("an outsider polls pump-1", "outside", tcp(pump, 502), unsolicited("pump-1")),
        ]
    }

    fn identities(&self) -> Vec<Case> {
        let (cloud, dns) = (self.ip(SERVER), self.ip(DNS));
        let spoofed = |device| Expect::Drop(DropReason::SpoofedSource, device);
        let stolen = Source::Spoofed(self.device("charger-1"));
        let foreign = Source::Spoofed(self.nobody());
        let unknown = Expect::Drop(DropReason::UnknownDevice, None);
        let thief =
            self.case("camera-1 poses as charger-1", "camera-1", udp(dns, 53), spoofed(Some("charger-1")));
        let stranger = self.case("charger-2 sends from no pool", "charger-2", udp(dns, 53), spoofed(None));
        vec![
            self.case("an unknown SIM calls the cloud", "stray-1", tcp(cloud, 443), unknown),
            Case { source: stolen, ..thief },
            Case { source: foreign, ..stranger },
        ]
    }

    fn case(&self, what: &str, actor: &'static str, act: Act, expect: Expect) -> Case {
        let what = format!("{what}, {}", if matches!(self.family, Family::V4) { "IPv4" } else { "IPv6" });
        Case { what, actor, source: Source::Own(self.own(actor)), act, expect }
    }

    fn own(&self, actor: &str) -> IpAddr {
        if actor == "outside" { self.ip(OUTSIDER) } else { self.device(actor) }
    }

    /// The address of a device; for a namespace that is none, an address that nobody has.
    fn device(&self, name: &str) -> IpAddr {
        self.topology.device(name).map_or_else(|| self.nobody(), |device| self.ip(device.address))
    }

    fn ip(&self, host: Dual) -> IpAddr {
        match self.family {
            Family::V4 => host.v4.into(),
            Family::V6 => host.v6.into(),
        }
    }

    /// An address in no pool and on no host of the lab.
    fn nobody(&self) -> IpAddr {
        match self.family {
            Family::V4 => Ipv4Addr::new(172, 16, 9, 9).into(),
            Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0x9, 0, 0, 0, 0, 9).into(),
        }
    }
}

fn tcp(to: IpAddr, port: u16) -> Act {
    Act::Tcp(SocketAddr::new(to, port))
}

fn udp(to: IpAddr, port: u16) -> Act {
    Act::Udp(SocketAddr::new(to, port))
}
