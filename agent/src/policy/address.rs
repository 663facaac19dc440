//! Addresses and prefixes as policies write them, and as ranges to compare them by.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::location::{Located, Span};
use super::node::{Node, Word};
use super::reader::Reader;

/// A stretch of addresses, both ends included, in one order: IPv4 stands as `::ffff:a.b.c.d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressRange {
    /// The first address.
    pub first: u128,
    /// The last address.
    pub last: u128,
}

/// Where IPv4 lies in the common order.
pub const IPV4: AddressRange = AddressRange { first: 0xffff_0000_0000, last: 0xffff_ffff_ffff };

impl AddressRange {
    /// True if the two have an address in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// True if every address of `other` is in here.
    pub fn contains(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }
}

impl From<IpAddr> for AddressRange {
    fn from(address: IpAddr) -> Self {
        let number = match address {
            IpAddr::V4(v4) => IPV4.first | u128::from(u32::from(v4)),
            IpAddr::V6(v6) => u128::from(v6),
        };
        Self { first: number, last: number }
    }
}

impl From<IpNet> for AddressRange {
    fn from(net: IpNet) -> Self {
        Self { first: Self::from(net.network()).first, last: Self::from(net.broadcast()).last }
    }
}

/// The address at a place in the common order.
pub fn address(number: u128) -> IpAddr {
    match (IPV4.first..=IPV4.last).contains(&number) {
        #[expect(clippy::cast_possible_truncation, reason = "the upper bits are IPV4's prefix")]
        true => IpAddr::V4(Ipv4Addr::from(number as u32)),
        false => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

/// A prefix written as an operator expects to read it: a single address without its length.
pub fn plain(net: &IpNet) -> String {
    match net.prefix_len() == net.max_prefix_len() {
        true => net.addr().to_string(),
        false => net.to_string(),
    }
}

impl Reader<'_> {
    /// A prefix, or a plain address standing for itself.
    pub(crate) fn prefix(&mut self, node: &Node) -> Option<Located<IpNet>> {
        let text = self.word(node, "an address or prefix")?;
        self.prefix_of(Word { text, span: node.span })
    }

    pub(crate) fn prefix_of(&mut self, Word { text, span }: Word<'_>) -> Option<Located<IpNet>> {
        let (address, length) = match text.split_once('/') {
            None => (text, None),
            Some((address, length)) => (address, Some(length)),
        };
        let address = self.parsed_address(span, address, length)?;
        let net = self.of_length(span, address, length)?;
        if net.network() != net.addr() {
            return self.refuse(
                span,
                format!("{text} has host bits set"),
                format!("the network is {}; a single address is {}", net.trunc(), net.addr()),
            );
        }
        Some(Located::new(net, self.at(span)))
    }

    /// A single address.
    pub(crate) fn address(&mut self, node: &Node) -> Option<Located<IpAddr>> {
        let text = self.word(node, "an address")?;
        let address = self.parsed_address(node.span, text, None)?;
        Some(Located::new(address, self.at(node.span)))
    }

    fn parsed_address(&mut self, span: Span, text: &str, length: Option<&str>) -> Option<IpAddr> {
        let parsed = text.parse::<IpAddr>();
        if let Ok(IpAddr::V6(v6)) = parsed
            && let Some(v4) = v6.to_ipv4_mapped()
        {
            let length = length.and_then(|text| text.parse::<u8>().ok()?.checked_sub(96));
            let length = length.map(|length| format!("/{length}")).unwrap_or_default();
            let problem = format!("{text} is IPv4 in IPv6 clothes");
            return self.refuse(span, problem, format!("write {v4}{length}"));
        }
        match parsed {
            Ok(address) => Some(address),
            Err(_) => self.refuse(
                span,
                format!("{text:?} is not an IP address"),
                "write it like 192.0.2.1, 192.0.2.0/24 or \"2001:db8::/32\"",
            ),
        }
    }

    fn of_length(&mut self, span: Span, address: IpAddr, length: Option<&str>) -> Option<IpNet> {
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => most,
            Some(text) => {
                let digits = text.bytes().all(|byte| byte.is_ascii_digit());
                match text.parse::<u8>().ok().filter(|n| digits && *n <= most) {
                    Some(length) => length,
                    None => {
                        let problem = format!("prefix length /{text} is out of range");
                        return self.refuse(span, problem, format!("use /0 to /{most}"));
                    }
                }
            }
        };
        match address {
            IpAddr::V4(v4) => Ipv4Net::new(v4, length).ok().map(IpNet::V4),
            IpAddr::V6(v6) => Ipv6Net::new(v6, length).ok().map(IpNet::V6),
        }
    }
}
