//! What packets that go past the kernel's stack would miss.

use std::{fs, io};

use anyhow::{Context, Result};

use crate::guard::TABLE;
use crate::netlink::{BaseChain, Protocol, Socket, base_chains, has_ipsec, routes_by_mark};

/// Every obstacle of this thread's network namespace, in words; `routes` is a socket to ask about routing.
pub(super) fn found(routes: &Socket) -> Result<Vec<String>> {
    let mut found = Vec::new();
    if let Some(socket) = open(Protocol::Netfilter)? {
        let chains = base_chains(&socket).context("list the chains of nftables")?;
        found.extend(chains.iter().filter(|chain| is_gone_round(chain)).map(of_chain));
    }
    for path in TABLES {
        found.extend(of_tables(&read_if_there(path).with_context(|| format!("read {path}"))?));
    }
    if let Some(socket) = open(Protocol::Ipsec)?
        && has_ipsec(&socket).context("ask for the policies of IPsec")?
    {
        found.push("IPsec has policies (`ip xfrm policy`), which decide what leaves encrypted".to_owned());
    }
    if routes_by_mark(routes).context("list the rules of policy routing")? {
        found.push("policy routing asks for marks (`ip rule`), which nobody sets before XDP".to_owned());
    }
    Ok(found)
}

/// A kernel without nftables or IPsec has none that could be gone round; whatever else goes wrong hides them.
fn open(protocol: Protocol) -> Result<Option<Socket>> {
    let is_unknown = |error: &anyhow::Error| {
        let told = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        told == Some(libc::EPROTONOSUPPORT)
    };
    match Socket::open(protocol) {
        Err(error) if is_unknown(&error) => Ok(None),
        opened => opened.map(Some),
    }
}

fn read_if_there(path: &str) -> io::Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read,
    }
}

/// `NF_INET_PRE_ROUTING`, `NF_INET_FORWARD`, `NF_INET_POST_ROUTING`, `NF_INET_INGRESS`
const ON_THE_WAY: [u32; 4] = [0, 2, 4, 5];

/// True if forwarded packets meet the chain, and it may do something to them.
fn is_gone_round(chain: &BaseChain) -> bool {
    let meets = match i32::from(chain.family) {
        // The second guard of this agent stands aside for what XDP has judged.
        libc::NFPROTO_INET if chain.table == TABLE => false,
        libc::NFPROTO_INET | libc::NFPROTO_IPV4 | libc::NFPROTO_IPV6 => ON_THE_WAY.contains(&chain.hook),
        libc::NFPROTO_NETDEV => true,
        // Neither ARP nor what a bridge passes on is forwarded by XDP.
        _ => false,
    };
    meets && chain.is_effective
}

fn of_chain(chain: &BaseChain) -> String {
    let BaseChain { table, name, .. } = chain;
    let family = match i32::from(chain.family) {
        libc::NFPROTO_INET => "inet",
        libc::NFPROTO_IPV4 => "ip",
        libc::NFPROTO_IPV6 => "ip6",
        _ => "netdev",
    };
    format!("the nftables chain {family} {table} {name} has rules or drops")
}

/// Tables of iptables in their old form, which nftables does not list.
const TABLES: [&str; 2] = ["/proc/thread-self/net/ip_tables_names", "/proc/thread-self/net/ip6_tables_names"];

fn of_tables(names: &str) -> Option<String> {
    let names: Vec<&str> = names.lines().filter(|name| !name.is_empty()).collect();
    (!names.is_empty()).then(|| format!("old iptables tables are loaded ({})", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(family: i32, table: &str, hook: u32) -> BaseChain {
        let (table, name) = (table.to_owned(), "c".to_owned());
        BaseChain { family: family as u8, table, name, hook, is_effective: true }
    }

    #[test]
    fn only_what_forwarded_packets_meet_is_in_the_way() {
        for (family, table, hook, expected) in [
            (libc::NFPROTO_IPV4, "nat", 4, true),
            (libc::NFPROTO_INET, "filter", 2, true),
            (libc::NFPROTO_IPV6, "raw", 0, true),
            (libc::NFPROTO_INET, "x", 5, true),
            (libc::NFPROTO_NETDEV, "x", 0, true),
            (libc::NFPROTO_INET, "filter", 1, false),
            (libc::NFPROTO_IPV4, "filter", 3, false),
            (libc::NFPROTO_BRIDGE, "filter", 2, false),
            (libc::NFPROTO_ARP, "filter", 0, false),
            (libc::NFPROTO_INET, TABLE, 0, false),
            (libc::NFPROTO_IPV4, TABLE, 0, true),
        ] {
            assert_eq!(is_gone_round(&chain(family, table, hook)), expected, "{family} {table} {hook}");
        }
        let idle = BaseChain { is_effective: false, ..chain(libc::NFPROTO_INET, "filter", 2) };
        assert!(!is_gone_round(&idle));
        assert_eq!(
            of_chain(&chain(libc::NFPROTO_IPV4, "nat", 4)),
            "the nftables chain ip nat c has rules or drops"
        );
    }

    #[test]
    fn old_tables_are_told_by_name() {
        assert_eq!(
            of_tables("nat\nfilter\n").as_deref(),
            Some("old iptables tables are loaded (nat, filter)")
        );
        assert_eq!(of_tables(""), None);
    }
}
