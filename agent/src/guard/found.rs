//! What the kernel holds of the table.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::messages::{message, on, shape};
use super::rules::{HELD, POOLS, PRIORITY, REFUSED, chains, counters};
use super::{Dropped, Layer, Pools, TABLE};
use crate::netlink::{Attributes, Reply, Socket, find, number, numbers64, read, text};
use crate::policy::LocalOutput;

/// The table as it is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Found {
    /// Interfaces that are let through.
    pub held: BTreeSet<u32>,
    /// What is closed.
    pub pools: Pools,
    /// What was dropped.
    pub dropped: Dropped,
    /// Packets that were dropped, by the interface that they entered by.
    pub refused: BTreeMap<u32, u64>,
    /// Comments of the rules by chain.
    pub(super) rules: Vec<(String, Vec<String>)>,
    /// What it looks at.
    layer: Layer,
    /// Flags of the table: 1 is asleep.
    flags: u32,
    /// Hook and priority by chain.
    chains: BTreeMap<String, Option<(u32, i32)>>,
    /// Flags, type and length of the keys by set.
    sets: BTreeMap<String, (u32, u32, u32)>,
}

impl Found {
    /// True if everything but rules and elements is as we make it.
    pub(super) fn is_framed(&self) -> bool {
        let ours = chains(self.layer, LocalOutput::Pass);
        let ours = ours.iter().map(|c| (c.name.to_owned(), c.hook.map(|hook| (hook, PRIORITY))));
        let sets = [HELD, REFUSED].iter().chain(&POOLS).map(|set| ((*set).to_owned(), shape(set)));
        self.flags == 0
            && self.chains == ours.collect()
            && self.sets == sets.collect()
            && self.dropped.packets.keys().map(String::as_str).eq(sorted(counters(self.layer)))
    }
}

fn sorted<'a>(names: &[&'a str]) -> Vec<&'a str> {
    let mut names = names.to_vec();
    names.sort_unstable();
    names
}

/// `struct nfgenmsg`
const HEADER: usize = 4;

/// Asks for all of it.
pub(super) fn observe(socket: &Socket, layer: Layer) -> io::Result<Option<Found>> {
    let Some(table) = socket.get(&asking(layer, libc::NFT_MSG_GETTABLE))? else { return Ok(None) };
    let mut found = Found { layer, flags: number(body(&table), 2).unwrap_or_default(), ..Found::default() };
    for reply in list(socket, layer, libc::NFT_MSG_GETCHAIN)? {
        let name = text(body(&reply), 3).unwrap_or_default();
        found.chains.insert(name, hook(body(&reply)));
    }
    for reply in list(socket, layer, libc::NFT_MSG_GETSET)? {
        let field = |kind| number(body(&reply), kind).unwrap_or_default();
        // Beyond flags that we know, a kernel may say more of a set (NFT_SET_EXPR) than it was told.
        let flags = field(3) & !NFT_SET_EXPR;
        found.sets.insert(text(body(&reply), 2).unwrap_or_default(), (flags, field(4), field(5)));
    }
    for reply in list(socket, layer, libc::NFT_MSG_GETOBJ)? {
        let counter = find(body(&reply), 4).unwrap_or_default();
        let name = text(body(&reply), 2).unwrap_or_default();
        found.dropped.packets.insert(name, numbers64(counter, 2).unwrap_or_default());
    }
    found.rules = rules(socket, &found)?;
    found.held = elements(socket, &found, HELD)?.iter().filter_map(|element| ifindex(element)).collect();
    found.refused =
        elements(socket, &found, REFUSED)?.iter().filter_map(|element| refused(element)).collect();
    found.pools = pools(socket, &found)?;
    Ok(Some(found))
}

/// A kernel that keeps an expression for each element says so by this flag.
const NFT_SET_EXPR: u32 = 0x100;

fn asking(layer: Layer, kind: i32) -> crate::netlink::Message {
    on(layer, message(kind, 0, &Attributes::new().text(1, TABLE)))
}

/// The table is the first attribute of everything in it.
fn list(socket: &Socket, layer: Layer, kind: i32) -> io::Result<Vec<Reply>> {
    let replies = socket.dump(&asking(layer, kind))?;
    let ours = |reply: &Reply| text(body(reply), 1).is_some_and(|table| table == TABLE);
    Ok(replies.into_iter().filter(ours).collect())
}

fn body(reply: &Reply) -> &[u8] {
    reply.body.get(HEADER..).unwrap_or_default()
}

fn hook(chain: &[u8]) -> Option<(u32, i32)> {
    let hook = find(chain, 4)?;
    Some((number(hook, 1)?, number(hook, 2)?.cast_signed()))
}

/// Comments by chain, in their order; a rule without one is a stranger's.
fn rules(socket: &Socket, found: &Found) -> io::Result<Vec<(String, Vec<String>)>> {
    let mut rules: BTreeMap<String, Vec<String>> =
        found.chains.keys().map(|chain| (chain.clone(), Vec::new())).collect();
    for reply in list(socket, found.layer, libc::NFT_MSG_GETRULE)? {
        let chain = text(body(&reply), 2).unwrap_or_default();
        rules.entry(chain).or_default().push(comment(body(&reply)));
    }
    Ok(rules.into_iter().collect())
}

fn comment(rule: &[u8]) -> String {
    let data = find(rule, 7).unwrap_or_default();
    let text = data.get(2..data.len().saturating_sub(1)).unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// The elements of one set, each as its attributes.
fn elements(socket: &Socket, found: &Found, set: &str) -> io::Result<Vec<Vec<u8>>> {
    if !found.sets.contains_key(set) {
        return Ok(Vec::new());
    }
    let asked = message(libc::NFT_MSG_GETSETELEM, 0, &Attributes::new().text(1, TABLE).text(2, set));
    let mut elements = Vec::new();
    for reply in socket.dump(&on(found.layer, asked))? {
        let list = find(body(&reply), 3).unwrap_or_default();
        elements.extend(read(list).map(|(_, element)| element.to_vec()));
    }
    Ok(elements)
}

/// The key of an element, as it lies in the kernel.
fn key<const N: usize>(element: &[u8]) -> Option<[u8; N]> {
    find(find(element, 1)?, 1)?.first_chunk().copied()
}

fn ifindex(element: &[u8]) -> Option<u32> {
    key(element).map(u32::from_ne_bytes)
}

/// The counter stands in an expression of its own, or first in a list of them.
fn refused(element: &[u8]) -> Option<(u32, u64)> {
    let expression = find(element, 7).or_else(|| find(find(element, 11)?, 1))?;
    let counter = find(expression, 2)?;
    Some((ifindex(element)?, numbers64(counter, 2)?))
}

fn pools(socket: &Socket, found: &Found) -> io::Result<Pools> {
    let v4 = elements(socket, found, POOLS[0])?;
    let v6 = elements(socket, found, POOLS[1])?;
    let v4 = ranges(&v4, |octets: [u8; 4]| u128::from(u32::from_be_bytes(octets)), u32::MAX.into());
    let v6 = ranges(&v6, u128::from_be_bytes, u128::MAX);
    // An IPv4 address has no more than 32 bits in here.
    let v4_of = |bits: u128| Ipv4Addr::from_bits(bits as u32);
    Ok(Pools {
        v4: v4.into_iter().map(|(first, last)| (v4_of(first), v4_of(last))).collect(),
        v6: v6
            .into_iter()
            .map(|(first, last)| (Ipv6Addr::from_bits(first), Ipv6Addr::from_bits(last)))
            .collect(),
    })
}

/// Starts and ends in their order; the kernel lists them in any.
fn ranges<const N: usize>(
    elements: &[Vec<u8>],
    bits: impl Fn([u8; N]) -> u128,
    most: u128,
) -> Vec<(u128, u128)> {
    let is_end = |element: &Vec<u8>| number(element, 3).unwrap_or_default() & 1 != 0;
    let mut edges: Vec<(u128, bool)> =
        elements.iter().filter_map(|element| Some((bits(key(element)?), is_end(element)))).collect();
    edges.sort_unstable();
    let mut ranges: Vec<(u128, u128)> = Vec::new();
    for (at, is_end) in edges {
        match (is_end, ranges.last_mut()) {
            (true, Some(open)) => open.1 = at.saturating_sub(1),
            (true, None) => {}
            (false, _) => ranges.push((at, most)),
        }
    }
    ranges
}
