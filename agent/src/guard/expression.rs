//! The expressions that rules are made of (linux/netfilter/nf_tables.h), each as the kernel reads it.

use crate::netlink::Attributes;

/// One step of a rule: it goes on to the next, or the rule does not match.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Expression {
    /// Reads something of the packet that is not in it.
    Meta(Meta),
    /// Reads bytes of the packet.
    Payload { header: Header, offset: u32, length: u32 },
    /// Asks the routing table whether the source or the destination is this host's own.
    AddressType(End),
    /// What was read is, or is not, this.
    Compare(Test, Vec<u8>),
    /// What was read is in a set.
    In(&'static str),
    /// Counts what was read, key by key, in a set.
    CountIn(&'static str),
    /// Counts in a counter of the table.
    Count(&'static str),
    /// Ends the rule.
    Verdict(Verdict),
}

/// What [`Expression::Meta`] reads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Meta {
    /// The number of the interface by which the packet entered.
    Interface,
    /// What kind of interface that is, as `ip -d link` says it.
    InterfaceKind,
    /// IPv4 or IPv6.
    Family,
    /// The same as a frame says it.
    EtherType,
    /// The protocol above IP.
    Protocol,
    /// 1 if the packet came out of IPsec.
    Decrypted,
}

/// Where [`Expression::Payload`] counts from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Header {
    /// The IP header.
    Network,
    /// The header above.
    Transport,
}

/// Which address is meant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// The source.
    Source,
    /// The destination.
    Destination,
}

/// How [`Expression::Compare`] compares.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Test {
    Is,
    IsNot,
    AtMost,
    AtLeast,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    Accept,
    Drop,
    GoTo(&'static str),
}

/// The one register that is used.
const REGISTER: u32 = libc::NFT_REG_1 as u32;
/// `NFT_META_IIFKIND`
const IIFKIND: u32 = 26;
/// `NFT_META_SECPATH`
const SECPATH: u32 = 25;
/// `NFT_FIB_RESULT_ADDRTYPE`
const ADDRESS_TYPE: u32 = 3;
/// `NFT_OBJECT_COUNTER`
pub(super) const COUNTER: u32 = 1;

/// `NFTA_LIST_ELEM`
const ELEMENT: u16 = 1;

/// A list of expressions as an attribute's value.
pub(super) fn list(expressions: &[Expression]) -> Attributes {
    expressions.iter().fold(Attributes::new(), |list, expression| list.nest(ELEMENT, &expression.encode()))
}

/// A value, as a comparison or a set's element holds it (`NFTA_DATA_VALUE`).
pub(super) fn value(bytes: &[u8]) -> Attributes {
    Attributes::new().raw(1, bytes)
}

impl Expression {
    /// Name and data (`NFTA_EXPR_*`).
    fn encode(&self) -> Attributes {
        let (name, data) = match self {
            Self::Meta(meta) => ("meta", numbers(&[(1, REGISTER), (2, meta.number())])),
            Self::Payload { header, offset, length } => {
                ("payload", numbers(&[(1, REGISTER), (2, header.number()), (3, *offset), (4, *length)]))
            }
            Self::AddressType(end) => {
                ("fib", numbers(&[(1, REGISTER), (2, ADDRESS_TYPE), (3, end.number())]))
            }
            Self::Compare(test, with) => {
                ("cmp", numbers(&[(1, REGISTER), (2, test.number())]).nest(3, &value(with)))
            }
            Self::In(set) => ("lookup", Attributes::new().text(1, set).number(2, REGISTER)),
            Self::CountIn(set) => ("dynset", count_in(set)),
            Self::Count(counter) => ("objref", Attributes::new().number(1, COUNTER).text(2, counter)),
            Self::Verdict(verdict) => ("immediate", verdict.encode()),
        };
        Attributes::new().text(1, name).nest(2, &data)
    }
}

fn numbers(numbers: &[(u16, u32)]) -> Attributes {
    numbers.iter().fold(Attributes::new(), |list, (kind, number)| list.number(*kind, *number))
}

/// `NFTA_DYNSET_*`: adds the key with a counter of its own, or counts in the one that is there.
fn count_in(set: &str) -> Attributes {
    let add = libc::NFT_DYNSET_OP_ADD as u32;
    let counter = Attributes::new().text(1, "counter").nest(2, &Attributes::new());
    Attributes::new().text(1, set).number(3, add).number(4, REGISTER).nest(7, &counter)
}

impl Meta {
    const fn number(self) -> u32 {
        match self {
            Self::Interface => libc::NFT_META_IIF as u32,
            Self::InterfaceKind => IIFKIND,
            Self::Family => libc::NFT_META_NFPROTO as u32,
            Self::EtherType => libc::NFT_META_PROTOCOL as u32,
            Self::Protocol => libc::NFT_META_L4PROTO as u32,
            Self::Decrypted => SECPATH,
        }
    }
}

impl Header {
    const fn number(self) -> u32 {
        match self {
            Self::Network => libc::NFT_PAYLOAD_NETWORK_HEADER as u32,
            Self::Transport => libc::NFT_PAYLOAD_TRANSPORT_HEADER as u32,
        }
    }
}

impl End {
    /// `NFTA_FIB_F_SADDR`, `NFTA_FIB_F_DADDR`
    const fn number(self) -> u32 {
        match self {
            Self::Source => 1,
            Self::Destination => 2,
        }
    }
}

impl Test {
    const fn number(self) -> u32 {
        match self {
            Self::Is => libc::NFT_CMP_EQ as u32,
            Self::IsNot => libc::NFT_CMP_NEQ as u32,
            Self::AtMost => libc::NFT_CMP_LTE as u32,
            Self::AtLeast => libc::NFT_CMP_GTE as u32,
        }
    }
}

impl Verdict {
    /// `NFTA_IMMEDIATE_*` with `NFTA_DATA_VERDICT`.
    fn encode(self) -> Attributes {
        let code = match self {
            Self::Accept => libc::NF_ACCEPT,
            Self::Drop => libc::NF_DROP,
            Self::GoTo(_) => libc::NFT_GOTO,
        };
        let verdict = Attributes::new().number(1, code.cast_unsigned());
        let verdict = match self {
            Self::GoTo(chain) => verdict.text(2, chain),
            Self::Accept | Self::Drop => verdict,
        };
        numbers(&[(1, libc::NFT_REG_VERDICT as u32)]).nest(2, &Attributes::new().nest(2, &verdict))
    }
}
