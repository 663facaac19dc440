//! Does this host translate devices' addresses? The kernel's table of connections tells (ctnetlink).
//!
//! Where it does, answers enter by the core interface with an address of the host: nobody there can
//! tell whose they are, and only what leaves towards the devices can be judged.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::time::Instant;

use ipnet::IpNet;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt};
use nix::sys::time::TimeVal;

use super::engine::Engine;
use super::seldom::Seldom;
use crate::policy::{AgentConfig, Downlink, Name, Policy, Role};

/// Whose addresses this host translates, as it was at the last look.
#[derive(Debug, Default)]
pub(super) struct Translation {
    /// Networks whose downlink cannot be judged where it enters, with a device that was seen translated.
    pub(super) hidden: Vec<(Name, IpAddr)>,
    /// The kernel walks its whole table of connections for a look.
    listing: Seldom,
}

impl Engine {
    /// Looks for networks whose devices' addresses this host translates.
    pub(super) fn look_for_translation(&mut self) {
        let begun = Instant::now();
        let Some(in_force) = self.in_force.as_ref().filter(|_| self.translation.listing.is_due(begun)) else {
            return;
        };
        self.translation.hidden = hidden(&in_force.policy, &self.agent);
        self.translation.listing.done(begun, Instant::now());
    }
}

fn hidden(policy: &Policy, agent: &AgentConfig) -> Vec<(Name, IpAddr)> {
    let concerned: Vec<(&Name, Vec<IpNet>)> = policy
        .networks()
        .values()
        .filter(|network| network.seen_on.iter().any(|seen| enters(agent, &seen.value.interface)))
        .map(|network| (&network.name, network.pools.iter().map(|pool| pool.value).collect()))
        .collect();
    if concerned.is_empty() {
        return Vec::new();
    }
    // A host without connection tracking translates nothing.
    let translated = translated().unwrap_or_default();
    let seen = |pools: &[IpNet]| translated.iter().find(|ip| pools.iter().any(|pool| pool.contains(*ip)));
    concerned.iter().filter_map(|(name, pools)| Some(((*name).clone(), *seen(pools)?))).collect()
}

/// True if downlink is judged where it enters by this interface.
fn enters(agent: &AgentConfig, interface: &str) -> bool {
    agent.interface(interface).is_some_and(|i| i.plays(Role::Core) && i.downlink == Downlink::Ingress)
}

/// Sources of connections whose answers go to another address.
fn translated() -> io::Result<BTreeSet<IpAddr>> {
    let protocol = Some(SockProtocol::NetlinkNetFilter);
    let opened = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    setsockopt(&opened, sockopt::ReceiveTimeout, &TimeVal::new(1, 0))?;
    let mut link = File::from(opened);
    link.write_all(&request())?;
    let mut found = BTreeSet::new();
    let mut buffer = vec![0; BUFFER];
    for _ in 0..READS {
        let length = link.read(&mut buffer)?;
        let mut messages = Pieces::messages(buffer.get(..length).unwrap_or_default());
        if !messages.all(|(kind, body)| keep(kind, body, &mut found)) {
            break;
        }
    }
    Ok(found)
}

/// Room for one datagram of a dump.
const BUFFER: usize = 32 * 1024;
/// A look every few seconds must stay cheap: some thousands of connections.
const READS: usize = 32;

/// `IPCTNL_MSG_CT_GET` of everything (linux/netfilter/nfnetlink_conntrack.h).
fn request() -> [u8; 20] {
    const GET: u16 = (NFNL_SUBSYS_CTNETLINK << 8) | 1;
    const FLAGS: u16 = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    let mut request = [0; 20];
    request[..4].copy_from_slice(&20u32.to_ne_bytes());
    request[4..6].copy_from_slice(&GET.to_ne_bytes());
    request[6..8].copy_from_slice(&FLAGS.to_ne_bytes());
    request
}

const NFNL_SUBSYS_CTNETLINK: u16 = 1;
/// Attributes of a connection: `CTA_TUPLE_ORIG`, `CTA_TUPLE_REPLY`; of a tuple: `CTA_TUPLE_IP`.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ADDRESSES: u16 = 1;
/// `CTA_IP_V4_SRC` and `CTA_IP_V6_SRC`; the destinations follow each.
const SOURCE: [u16; 2] = [1, 3];
const DESTINATION: [u16; 2] = [2, 4];

/// Takes the source of a translated connection; false when the dump is over.
fn keep(kind: u16, body: &[u8], found: &mut BTreeSet<IpAddr>) -> bool {
    if kind >> 8 != NFNL_SUBSYS_CTNETLINK {
        return false;
    }
    // Behind the family, version and resource of `struct nfgenmsg`.
    let tuples = body.get(4..).unwrap_or_default();
    let source = address(tuples, ORIGINAL, SOURCE);
    let answered = address(tuples, REPLY, DESTINATION);
    if let (Some(source), Some(answered)) = (source, answered)
        && source != answered
    {
        found.insert(source);
    }
    true
}

fn address(tuples: &[u8], tuple: u16, kinds: [u16; 2]) -> Option<IpAddr> {
    let addresses = attribute(attribute(tuples, tuple)?, ADDRESSES)?;
    kinds.iter().find_map(|kind| match attribute(addresses, *kind)? {
        v4 if v4.len() == 4 => <[u8; 4]>::try_from(v4).ok().map(IpAddr::from),
        v6 => <[u8; 16]>::try_from(v6).ok().map(IpAddr::from),
    })
}

fn attribute(within: &[u8], wanted: u16) -> Option<&[u8]> {
    // The highest bits say that it is nested and in network order (linux/netlink.h).
    Pieces::attributes(within).find(|(kind, _)| kind & 0x3fff == wanted).map(|(_, value)| value)
}

/// Messages or attributes: a length, a kind, a body, padded to four bytes.
struct Pieces<'b> {
    rest: &'b [u8],
    head: usize,
}

impl<'b> Pieces<'b> {
    /// `struct nlmsghdr` each: length, kind, and ten bytes more.
    const fn messages(rest: &'b [u8]) -> Self {
        Self { rest, head: 16 }
    }

    /// `struct nlattr` each: length and kind.
    const fn attributes(rest: &'b [u8]) -> Self {
        Self { rest, head: 4 }
    }

    fn length_and_kind(&self) -> Option<(usize, u16)> {
        let number = |at: usize| Some(u16::from_ne_bytes(self.rest.get(at..at + 2)?.try_into().ok()?));
        if self.head == 4 {
            return Some((number(0)?.into(), number(2)?));
        }
        let length = u32::from_ne_bytes(self.rest.get(..4)?.try_into().ok()?);
        Some((usize::try_from(length).ok()?, number(4)?))
    }
}

impl<'b> Iterator for Pieces<'b> {
    type Item = (u16, &'b [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (length, kind) = self.length_and_kind()?;
        let body = self.rest.get(self.head..length)?;
        self.rest = self.rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute_of(kind: u16, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + body.len()).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn connection(source: [u8; 4], answered: [u8; 4]) -> Vec<u8> {
        let nested = |kind, inner: Vec<u8>| attribute_of(kind | 0x8000, &inner);
        let original = nested(ORIGINAL, nested(ADDRESSES, attribute_of(1, &source)));
        let reply = nested(REPLY, nested(ADDRESSES, attribute_of(2, &answered)));
        [vec![2, 0, 0, 0], original, reply].concat()
    }

    #[test]
    fn only_what_is_answered_elsewhere_is_translated() {
        let mut found = BTreeSet::new();
        let kind = NFNL_SUBSYS_CTNETLINK << 8;
        assert!(keep(kind, &connection([10, 45, 0, 17], [10, 45, 0, 17]), &mut found));
        assert!(found.is_empty());
        assert!(keep(kind, &connection([10, 45, 0, 17], [192, 0, 2, 1]), &mut found));
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [IpAddr::from([10, 45, 0, 17])]);
    }

    #[test]
    fn a_dump_ends_at_its_last_message_and_nonsense_is_no_connection() {
        let mut found = BTreeSet::new();
        assert!(!keep(3, &[0; 4], &mut found));
        assert!(keep(NFNL_SUBSYS_CTNETLINK << 8, &[1, 2], &mut found));
        assert_eq!(Pieces::messages(&[9; 3]).count(), 0);
        assert_eq!(Pieces::attributes(&[3, 0, 1, 0, 9, 9]).count(), 0, "shorter than its own head");
    }
}
