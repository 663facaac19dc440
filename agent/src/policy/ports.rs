//! What a rule says about protocols and ports: `any`, `tcp/443`, `udp/100-200`, `icmp/echo`.

use std::fmt;
use std::time::Duration;

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

/// One entry of a `ports` list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Port {
    /// Every protocol and port the engine understands.
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
}

impl Port {
    /// A single port.
    pub fn single(protocol: Protocol, port: u16) -> Self {
        Self::Range { protocol, first: port, last: port }
    }

    /// True if every packet that `other` names is named by this one.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) | (Self::Echo, Self::Echo) => true,
            (Self::Range { protocol, first, last }, Self::Range { protocol: p, first: f, last: l }) => {
                protocol == p && first <= f && l <= last
            }
            (Self::Range { .. } | Self::Echo, _) => false,
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Any => f.write_str("any"),
            Self::Echo => f.write_str("icmp/echo"),
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
            None => Err(not(
                format!("{text:?} is not a port"),
                "write it like tcp/443, tcp/8883-8884, udp/any, icmp/echo or any",
            )),
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
                "write it like 30s, 5m or 2h",
            ),
        }
    }
}

fn seconds(text: &str) -> Option<u64> {
    let unit = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse::<u64>().ok().filter(|_| plain)?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_read_as_they_are_written() {
        for text in ["any", "tcp/443", "tcp/8883-8884", "udp/any", "sctp/36412", "icmp/echo"] {
            assert_eq!(text.parse::<Port>().map(|port| port.to_string()), Ok(text.to_owned()));
        }
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
        for text in ["", "s", "2", "2d", "+2h", "é", "99999999999999999999h"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
