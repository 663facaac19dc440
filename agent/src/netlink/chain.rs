//! Chains of nftables that packets meet on their way, whoever made them.

use std::io;

use super::{Message, Socket, find, number, text};

/// A chain that hangs at a hook.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct BaseChain {
    /// `ip`, `ip6`, `inet`, `bridge`, `netdev` or `arp`, by number.
    pub family: u8,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// The number of its hook, which means something else in each family.
    pub hook: u32,
    /// True if it has rules, or drops what it has no rule for.
    pub is_effective: bool,
}

/// `struct nfgenmsg`
const HEADER: usize = 4;
/// `NFTA_CHAIN_*`, `NFTA_HOOK_HOOKNUM` (linux/netfilter/nf_tables.h)
const TABLE: u16 = 1;
const NAME: u16 = 3;
const HOOK: u16 = 4;
const POLICY: u16 = 5;
const USE: u16 = 6;
const HOOK_NUMBER: u16 = 1;
/// `NF_ACCEPT`
const ACCEPT: u32 = 1;

/// Lists the chains at hooks, of every family.
///
/// # Errors
/// The kernel does not tell.
pub fn base_chains(socket: &Socket) -> io::Result<Vec<BaseChain>> {
    let kind = (libc::NFNL_SUBSYS_NFTABLES << 8 | libc::NFT_MSG_GETCHAIN) as u16;
    let replies = socket.dump(&Message { kind, flags: 0, body: vec![0; HEADER] })?;
    Ok(replies.iter().filter_map(|reply| read(&reply.body)).collect())
}

fn read(body: &[u8]) -> Option<BaseChain> {
    let chain = body.get(HEADER..)?;
    let hook = number(find(chain, HOOK)?, HOOK_NUMBER)?;
    // Nothing jumps to a chain at a hook: whatever uses it is a rule in it.
    let rules = number(chain, USE).unwrap_or_default();
    Some(BaseChain {
        family: *body.first()?,
        table: text(chain, TABLE)?,
        name: text(chain, NAME)?,
        hook,
        is_effective: rules > 0 || number(chain, POLICY).is_some_and(|policy| policy != ACCEPT),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Attributes;
    use super::*;

    fn chain(rules: u32, policy: u32) -> BaseChain {
        let hook = Attributes::new().number(HOOK_NUMBER, 2);
        let attributes = Attributes::new().text(TABLE, "filter").text(NAME, "forward").nest(HOOK, &hook);
        let attributes = attributes.number(POLICY, policy).number(USE, rules);
        read(&[&[2, 0, 0, 0], attributes.bytes()].concat()).unwrap()
    }

    #[test]
    fn a_chain_without_rules_does_nothing_if_it_accepts() {
        let empty = chain(0, ACCEPT);
        assert_eq!(
            (empty.family, empty.table.as_str(), empty.name.as_str(), empty.hook),
            (2, "filter", "forward", 2)
        );
        assert!(!empty.is_effective);
        assert!(chain(1, ACCEPT).is_effective && chain(0, 0).is_effective);
    }

    #[test]
    fn a_chain_at_no_hook_is_none() {
        let attributes = Attributes::new().text(TABLE, "filter").text(NAME, "refuse");
        assert_eq!(read(&[&[2, 0, 0, 0], attributes.bytes()].concat()), None);
    }
}
