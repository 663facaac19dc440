//! What a rule says about protocols and ports: `any`, `tcp/443`, `udp/100-200`, `icmp/echo`, `gre`.

use std::fmt;
use std::time::Duration;

use bulkhead_common::wire::ip_proto;

use super::node::Node;
use super::reader::Reader;

/// The last port there is.
const LAST: u16 = u16::MAX;

/// A transport protocol that rules can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    pub(crate) const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// The word in a policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// The number in an IP header (IANA protocol numbers).
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

/// A protocol without ports that rules can name, by its own name only: what is in it, nobody sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Portless {
    /// Generic routing encapsulation.
    Gre,
    /// IPsec's encapsulating security payload.
    Esp,
    /// IPsec's authentication header.
    Ah,
    /// IPv4 in IP.
    Ipip,
    /// IPv6 in IP.
    SixInFour,
    /// Ethernet in IP.
    EtherIp,
    /// L2TP version 3 without UDP.
    L2tp,
}

impl Portless {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Gre, Self::Esp, Self::Ah, Self::Ipip, Self::SixInFour, Self::EtherIp, Self::L2tp];

    /// The word in a policy.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gre => "gre",
            Self::Esp => "esp",
            Self::Ah => "ah",
            Self::Ipip => "ipip",
            Self::SixInFour => "6in4",
            Self::EtherIp => "etherip",
            Self::L2tp => "l2tp",
        }
    }

    /// The number in an IP header (IANA protocol numbers).
    pub const fn number(self) -> u8 {
        match self {
            Self::Gre => ip_proto::GRE,
            Self::Esp => ip_proto::ESP,
            Self::Ah => ip_proto::AUTHENTICATION,
            Self::Ipip => ip_proto::IPIP,
            Self::SixInFour => ip_proto::IPV6,
            Self::EtherIp => ip_proto::ETHERIP,
            Self::L2tp => ip_proto::L2TP,
        }
    }

    /// The protocol with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.number() == number)
    }
}

/// UDP ports of tunnels: L2TP (RFC 2661), Teredo (RFC 4380), VXLAN (RFC 7348) and its older port in Linux,
/// Geneve (RFC 8926). GTP-U is not here: no rule opens it.
pub(super) const TUNNEL_PORTS: [u16; 5] = [1701, 3544, 4789, 6081, 8472];

/// Everything that carries other packets.
pub(super) fn tunnels() -> impl Iterator<Item = Port> {
    let by_port = TUNNEL_PORTS.into_iter().map(|port| Port::single(Protocol::Udp, port));
    Portless::ALL.into_iter().map(Port::Portless).chain(by_port)
}

/// One entry of a `ports` list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Port {
    /// Every protocol and port the engine understands, except tunnels.
    Any,
    /// A run of ports of one protocol, both ends included; `tcp/any` is 0–65535.
    Range {
        /// The protocol.
        protocol: Protocol,
        /// The first port.
        first: u16,
        /// The last port.
        last: u16,
    },
    /// Echo requests of ICMP and ICMPv6, and their replies.
    Echo,
    /// A protocol without ports.
    Portless(Portless),
}

impl Port {
    /// A single port.
    pub fn single(protocol: Protocol, port: u16) -> Self {
        Self::Range { protocol, first: port, last: port }
    }

    /// True if a rule with this entry opens what `other` names: tunnels only by their own names.
    pub fn opens(&self, other: &Self) -> bool {
        self.covers(other) && (!other.is_tunnel() || self == other)
    }

    /// True for what carries other packets.
    pub fn is_tunnel(&self) -> bool {
        tunnels().any(|tunnel| tunnel == *self)
    }

    /// True if every packet that `other` names is named by this one: what a `never` list forbids.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) | (Self::Echo, Self::Echo) => true,
            (Self::Range { protocol, first, last }, Self::Range { protocol: p, first: f, last: l }) => {
                protocol == p && first <= f && l <= last
            }
            (Self::Portless(protocol), Self::Portless(other)) => protocol == other,
            (Self::Range { .. } | Self::Echo | Self::Portless(_), _) => false,
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Any => f.write_str("any"),
            Self::Echo => f.write_str("icmp/echo"),
            Self::Portless(protocol) => f.write_str(protocol.as_str()),
            Self::Range { protocol, first: 0, last: LAST } => write!(f, "{}/any", protocol.as_str()),
            Self::Range { protocol, first, last } if first == last => {
                write!(f, "{}/{first}", protocol.as_str())
            }
            Self::Range { protocol, first, last } => write!(f, "{}/{first}-{last}", protocol.as_str()),
        }
    }
}

/// Why a text is no port, and what to write instead.
#[derive(Debug, PartialEq, Eq)]
pub struct NotAPort {
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub help: String,
}

impl fmt::Display for NotAPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.problem, self.help)
    }
}

impl std::error::Error for NotAPort {}

impl std::str::FromStr for Port {
    type Err = NotAPort;

    fn from_str(text: &str) -> Result<Self, NotAPort> {
        let not = |problem: String, help: &str| NotAPort { problem, help: help.to_owned() };
        match text.split_once('/') {
            None if text == "any" => Ok(Self::Any),
            Some(("icmp", "echo")) => Ok(Self::Echo),
            Some(("icmp" | "icmpv6" | "icmp6", _)) => Err(not(
                format!("{text:?} is not yet supported"),
                "use icmp/echo; errors about live flows pass by themselves",
            )),
            Some((protocol, ports)) => {
                let protocol = Protocol::ALL.into_iter().find(|p| p.as_str() == protocol);
                let protocol = protocol.ok_or_else(|| {
                    not(format!("{text:?} names no known protocol"), "use tcp, udp, sctp or icmp/echo")
                })?;
                range(protocol, ports)
            }
            None => match Portless::ALL.into_iter().find(|protocol| protocol.as_str() == text) {
                Some(protocol) => Ok(Self::Portless(protocol)),
                None => Err(not(
                    format!("{text:?} is not a port"),
                    "write it like tcp/443, tcp/8883-8884, udp/any, icmp/echo, gre or any",
                )),
            },
        }
    }
}

fn range(protocol: Protocol, ports: &str) -> Result<Port, NotAPort> {
    if ports == "any" {
        return Ok(Port::Range { protocol, first: 0, last: LAST });
    }
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(NotAPort {
            problem: format!("ports {first}-{last} are reversed"),
            help: format!("write {}/{last}-{first}", protocol.as_str()),
        });
    }
    Ok(Port::Range { protocol, first, last })
}

fn number(text: &str) -> Result<u16, NotAPort> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse::<u16>().ok().filter(|port| digits && *port > 0);
    port.ok_or_else(|| NotAPort {
        problem: match digits {
            true => format!("port {text} is out of range"),
            false => format!("{text:?} is not a port number"),
        },
        help: "ports are 1 to 65535, in decimal".to_owned(),
    })
}

impl Reader<'_> {
    /// A list of ports that may not be empty; doubled entries are harmless.
    pub(crate) fn ports(&mut self, node: &Node) -> Option<Vec<Port>> {
        let mut ports = self.some(node, "`ports`", |reader, node| reader.port(node))?;
        ports.sort();
        ports.dedup();
        Some(ports)
    }

    /// One port.
    pub(crate) fn port(&mut self, node: &Node) -> Option<Port> {
        let text = self.word(node, "a port like tcp/443")?;
        match text.parse() {
            Ok(port) => Some(port),
            Err(NotAPort { problem, help }) => self.refuse(node.span, problem, help),
        }
    }

    /// A duration like `30s`, `5m` or `2h`, from one second to a day.
    pub(crate) fn duration(&mut self, node: &Node, what: &str) -> Option<Duration> {
        let text = self.word(node, what)?;
        match seconds(text) {
            Some(seconds) if (1..=86_400).contains(&seconds) => Some(Duration::from_secs(seconds)),
            Some(_) => self.refuse(node.span, format!("{what} {text} is out of range"), "use 1s to 24h"),
            None => self.refuse(
                node.span,
                format!("{what} {text:?} is not a duration"),
                "write it like 30s, 5m or 2h4m",
            ),
        }
    }
}

/// `2h4m` and the like: units from large to small, none twice.
pub(crate) fn seconds(text: &str) -> Option<u64> {
    let (mut sum, mut smallest) = (0u64, u64::MAX);
    for part in text.split_inclusive(|sign: char| sign.is_ascii_alphabetic()) {
        let (seconds, unit) = part_seconds(part)?;
        if unit >= smallest {
            return None;
        }
        sum = sum.checked_add(seconds)?;
        smallest = unit;
    }
    (smallest < u64::MAX).then_some(sum)
}

/// Seconds of `4m`, and of the unit.
fn part_seconds(text: &str) -> Option<(u64, u64)> {
    let unit = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    Some((digits.parse::<u64>().ok().filter(|_| plain)?.checked_mul(unit)?, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_read_as_they_are_written() {
        for text in ["any", "tcp/443", "tcp/8883-8884", "udp/any", "sctp/36412", "icmp/echo", "gre", "6in4"] {
            assert_eq!(text.parse::<Port>().map(|port| port.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn tunnels_are_opened_by_their_own_names_and_forbidden_by_any() {
        let port = |text: &str| text.parse::<Port>().unwrap();
        for (text, opened) in [("any", false), ("gre", true), ("esp", false), ("udp/any", false)] {
            assert_eq!(port(text).opens(&port("gre")), opened, "{text}");
        }
        for (text, opened) in [("any", false), ("udp/4789", true), ("udp/4788-4790", false), ("gre", false)] {
            assert_eq!(port(text).opens(&port("udp/4789")), opened, "{text}");
        }
        assert!(port("any").covers(&port("gre")) && port("udp/any").covers(&port("udp/4789")));
        assert!(port("udp/any").opens(&port("udp/4788")) && port("tcp/any").opens(&port("tcp/4789")));
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for text in [
            "",
            "tcp",
            "443",
            "tcp/",
            "tcp/0",
            "tcp/65536",
            "tcp/2-1",
            "tcp/+1",
            "tcp/1-",
            "icmp/any",
            "gre/1",
            "TCP/1",
        ] {
            assert!(text.parse::<Port>().is_err(), "{text}");
        }
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(seconds("30s"), Some(30));
        assert_eq!(seconds("2h"), Some(7200));
        assert_eq!(seconds("2h4m"), Some(7440));
        for text in ["", "4m2h", "1s1s", "2h4", "s", "2", "2d", "+2h", "é", "99999999999999999999h"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
