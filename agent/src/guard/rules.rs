//! The table's chains and rules, as values.

use sha2::{Digest, Sha256};

use super::Layer;
use super::expression::{End, Expression, Header, Meta, Test, Verdict, list};
use crate::netlink::IPSEC;
use crate::policy::LocalOutput;

/// A chain, with its hook if it has one.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    pub(super) name: &'static str,
    pub(super) hook: Option<u32>,
    pub(super) rules: Vec<Rule>,
}

/// A rule, and what it is for in words.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) expressions: Vec<Expression>,
    why: String,
}

/// Interfaces whose packets XDP has judged.
pub(super) const HELD: &str = "held";
/// Interfaces by which something entered that was dropped, each with its counter.
pub(super) const REFUSED: &str = "refused";
/// Pools by family.
pub(super) const POOLS: [&str; 2] = ["pools_ipv4", "pools_ipv6"];
/// What is counted.
pub(super) const fn counters(layer: Layer) -> &'static [&'static str] {
    match layer {
        Layer::Routed => &["from_ipv4", "to_ipv4", "from_ipv6", "to_ipv6", "output_ipv4", "output_ipv6"],
        Layer::Switched => &["switched_ipv4", "switched_ipv6"],
    }
}

/// Before connection tracking puts fragments together (-400): put together, they would have one interface.
pub(super) const PRIORITY: i32 = -450;

/// `NF_INET_PRE_ROUTING`, `NF_INET_LOCAL_OUT`, `NF_BR_FORWARD`
const PREROUTING: u32 = 0;
const OUTPUT: u32 = 3;
const FORWARD: u32 = 2;

/// `RTN_LOCAL` as the kernel leaves it in a register.
const LOCAL: u32 = libc::RTN_LOCAL as u32;

/// One family: its number, where its addresses are, its set, its counters.
struct Family {
    number: u8,
    addresses: [(End, u32); 2],
    length: u32,
    pools: &'static str,
    /// As a frame says it.
    ether_type: u16,
    counters: [&'static str; 2],
    output: &'static str,
    switched: &'static str,
}

const FAMILIES: [Family; 2] = [
    Family {
        number: libc::NFPROTO_IPV4 as u8,
        addresses: [(End::Source, 12), (End::Destination, 16)],
        length: 4,
        pools: POOLS[0],
        ether_type: libc::ETH_P_IP as u16,
        counters: ["from_ipv4", "to_ipv4"],
        output: "output_ipv4",
        switched: "switched_ipv4",
    },
    Family {
        number: libc::NFPROTO_IPV6 as u8,
        addresses: [(End::Source, 8), (End::Destination, 24)],
        length: 16,
        pools: POOLS[1],
        ether_type: libc::ETH_P_IPV6 as u16,
        counters: ["from_ipv6", "to_ipv6"],
        output: "output_ipv6",
        switched: "switched_ipv6",
    },
];

/// All chains; what is jumped to comes first.
pub(super) fn chains(layer: Layer, local_output: LocalOutput) -> Vec<Chain> {
    let refuse = Chain { name: "refuse", hook: None, rules: refuse() };
    let output = match local_output {
        LocalOutput::Pass => Vec::new(),
        LocalOutput::Drop => output(),
    };
    match layer {
        Layer::Routed => vec![
            refuse,
            Chain { name: "prerouting", hook: Some(PREROUTING), rules: prerouting() },
            Chain { name: "output", hook: Some(OUTPUT), rules: output },
        ],
        Layer::Switched => {
            vec![refuse, Chain { name: "forward", hook: Some(FORWARD), rules: forward() }]
        }
    }
}

/// What a bridge passes on is nobody's own, so there is no asking for the host's addresses.
fn forward() -> Vec<Rule> {
    let mut rules = vec![rule("judged by XDP", held_and(Vec::new()), Verdict::Accept)];
    for family in &FAMILIES {
        for (_, offset) in family.addresses {
            let mut expressions =
                vec![Expression::Meta(Meta::EtherType), is(&family.ether_type.to_be_bytes())];
            expressions.extend(family.in_pools(offset));
            expressions.push(Expression::Count(family.switched));
            rules.push(rule(
                "from or to a device, and XDP did not see it",
                expressions,
                Verdict::GoTo("refuse"),
            ));
        }
    }
    rules
}

fn prerouting() -> Vec<Rule> {
    let mut rules = vec![
        // First, because most packets are.
        rule("judged by XDP", held_and(vec![Expression::Meta(Meta::Decrypted), is(&[0])]), Verdict::Accept),
        // It comes here a second time, as the VRF's, after it came as its member's (vrf_rcv_nfhook, drivers/net/vrf.c).
        rule("looked at when it entered by the VRF's member", kind("vrf"), Verdict::Accept),
    ];
    // Without an interface of its own, what IPsec decrypts keeps the number of the one that it came by encrypted.
    for name in IPSEC {
        rules.push(rule("decrypted, then judged by XDP", held_and(kind(name)), Verdict::Accept));
    }
    for family in &FAMILIES {
        for ((end, offset), counter) in family.addresses.iter().zip(family.counters) {
            let why = match end {
                End::Source => "from a device, and XDP did not see it",
                End::Destination => "to a device, and XDP did not see it",
            };
            let mut expressions = family.of_pool(*end, *offset);
            expressions.push(Expression::Count(counter));
            rules.push(rule(why, expressions, Verdict::GoTo("refuse")));
        }
    }
    rules
}

/// In two rules: a set that is full ends the first one, not the drop.
fn refuse() -> Vec<Rule> {
    let count = vec![Expression::Meta(Meta::Interface), Expression::CountIn(REFUSED)];
    vec![
        Rule { expressions: count, why: "which interface it was".to_owned() },
        rule("not by a guarded interface", Vec::new(), Verdict::Drop),
    ]
}

/// What keeps addresses resolved and paths known is not held back.
fn output() -> Vec<Rule> {
    let icmp = |number| vec![Expression::Meta(Meta::Protocol), is(&[number])];
    let kind = || Expression::Payload { header: Header::Transport, offset: 0, length: 1 };
    let compare = |test, number| Expression::Compare(test, vec![number]);
    let mut rules = Vec::new();
    for error in [3, 11, 12] {
        let expressions = [icmp(1), vec![kind(), is(&[error])]].concat();
        rules.push(rule("an ICMP error (RFC 792)", expressions, Verdict::Accept));
    }
    let error = [icmp(58), vec![kind(), compare(Test::AtMost, 4)]].concat();
    rules.push(rule("an ICMPv6 error (RFC 4443)", error, Verdict::Accept));
    let discovery = vec![kind(), compare(Test::AtLeast, 133), compare(Test::AtMost, 137)];
    rules.push(rule("neighbour discovery (RFC 4861)", [icmp(58), discovery].concat(), Verdict::Accept));
    for family in &FAMILIES {
        let [_, (end, offset)] = family.addresses;
        let mut expressions = family.of_pool(end, offset);
        expressions.push(Expression::Count(family.output));
        rules.push(rule("from this host to a device: localOutput is drop", expressions, Verdict::Drop));
    }
    rules
}

impl Family {
    /// An address lies in a pool, and is not this host's own.
    fn of_pool(&self, end: End, offset: u32) -> Vec<Expression> {
        let mut expressions = vec![Expression::Meta(Meta::Family), is(&[self.number])];
        expressions.extend(self.in_pools(offset));
        expressions.push(Expression::AddressType(end));
        expressions.push(Expression::Compare(Test::IsNot, LOCAL.to_ne_bytes().to_vec()));
        expressions
    }

    /// An address lies in a pool.
    fn in_pools(&self, offset: u32) -> [Expression; 2] {
        let address = Expression::Payload { header: Header::Network, offset, length: self.length };
        [address, Expression::In(self.pools)]
    }
}

fn is(value: &[u8]) -> Expression {
    Expression::Compare(Test::Is, value.to_vec())
}

/// The interface is of a kind; a register holds its name to the full 16 octets.
fn kind(name: &str) -> Vec<Expression> {
    let mut padded = name.as_bytes().to_vec();
    padded.resize(libc::IFNAMSIZ, 0);
    vec![Expression::Meta(Meta::InterfaceKind), is(&padded)]
}

fn held_and(mut expressions: Vec<Expression>) -> Vec<Expression> {
    expressions.extend([Expression::Meta(Meta::Interface), Expression::In(HELD)]);
    expressions
}

fn rule(why: &str, mut expressions: Vec<Expression>, verdict: Verdict) -> Rule {
    expressions.push(Expression::Verdict(verdict));
    Rule { expressions, why: why.to_owned() }
}

impl Rule {
    /// What the kernel keeps beside the rule: words for people, and a mark of the content for us.
    ///
    /// The kernel gives expressions back in other words than it took them, so they are not compared.
    pub(super) fn comment(&self) -> String {
        let mark = Sha256::digest(list(&self.expressions).bytes());
        let mark: String = mark.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        format!("{} [{mark}]", self.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_tell_rules_apart_and_fit() {
        let chains = chains(Layer::Routed, LocalOutput::Drop);
        let mut comments: Vec<String> =
            chains.iter().flat_map(|chain| chain.rules.iter().map(Rule::comment)).collect();
        assert!(comments.iter().all(|comment| comment.len() < 128));
        let count = comments.len();
        comments.sort();
        comments.dedup();
        assert_eq!(comments.len(), count);
    }

    #[test]
    fn nothing_is_held_back_that_the_host_sends_unless_it_is_asked_for() {
        let chains = chains(Layer::Routed, LocalOutput::Pass);
        assert!(chains.iter().any(|chain| chain.name == "output" && chain.rules.is_empty()));
    }
}
