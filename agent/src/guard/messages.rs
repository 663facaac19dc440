//! Steps as the messages that take them.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::expression::{COUNTER, list, value};
use super::plan::Step;
use super::rules::{Chain, HELD, POOLS, PRIORITY, REFUSED, Rule, chains, counters};
use super::{Layer, TABLE, Wanted};
use crate::netlink::{Attributes, Message};

/// Ranges in one message: an attribute is no longer than 64 KiB.
const RANGES: usize = 400;
/// Interfaces that are told apart when they are refused.
const REFUSED_ROOM: u32 = 1024;

/// Types of keys, as `nft list` shows them.
const IPV4_ADDRESS: u32 = 7;
const IPV6_ADDRESS: u32 = 8;
const INTERFACE: u32 = 20;

/// What a set is: its flags, the type of its keys and their length.
pub(super) fn shape(set: &str) -> (u32, u32, u32) {
    let interval = libc::NFT_SET_INTERVAL as u32;
    match set {
        REFUSED => (libc::NFT_SET_EVAL as u32, INTERFACE, 4),
        HELD => (0, INTERFACE, 4),
        set if set == POOLS[0] => (interval, IPV4_ADDRESS, 4),
        _ => (interval, IPV6_ADDRESS, 16),
    }
}

/// The messages of one step.
pub(super) fn of(step: &Step, wanted: &Wanted) -> Vec<Message> {
    let messages = match step {
        Step::Remove => vec![message(libc::NFT_MSG_DELTABLE, 0, &Attributes::new().text(1, TABLE))],
        Step::Frame => frame(wanted),
        Step::Empty => empty(wanted),
        Step::Fill => fill(wanted),
        Step::Hold(ifindex) => vec![elements(libc::NFT_MSG_NEWSETELEM, HELD, &one(*ifindex))],
        Step::Release(ifindex) => vec![elements(libc::NFT_MSG_DELSETELEM, HELD, &one(*ifindex))],
    };
    messages.into_iter().map(|message| on(wanted.layer, message)).collect()
}

/// What stays for the table's life: counters, chains, the sets of interfaces.
fn frame(wanted: &Wanted) -> Vec<Message> {
    let mut messages = vec![create(libc::NFT_MSG_NEWTABLE, &Attributes::new().text(1, TABLE).number(2, 0))];
    messages.extend(counters(wanted.layer).iter().map(|name| {
        let named = Attributes::new().text(1, TABLE).text(2, name).number(3, COUNTER);
        create(libc::NFT_MSG_NEWOBJ, &named.nest(4, &Attributes::new()))
    }));
    messages.extend([HELD, REFUSED].map(set));
    messages.extend(chains(wanted.layer, wanted.local_output).iter().map(chain));
    messages
}

/// Rules and pools, taken out.
fn empty(wanted: &Wanted) -> Vec<Message> {
    // Who refers to another goes first.
    let rules = chains(wanted.layer, wanted.local_output).into_iter().rev().map(|chain| {
        message(libc::NFT_MSG_DELRULE, 0, &Attributes::new().text(1, TABLE).text(2, chain.name))
    });
    let sets =
        POOLS.map(|name| message(libc::NFT_MSG_DELSET, 0, &Attributes::new().text(1, TABLE).text(2, name)));
    rules.chain(sets).collect()
}

/// Rules and pools, put in.
fn fill(wanted: &Wanted) -> Vec<Message> {
    let mut messages: Vec<Message> = POOLS.map(set).into();
    let [v4, v6] = POOLS;
    let add = |set, elements_of: &[Attributes]| elements(libc::NFT_MSG_NEWSETELEM, set, elements_of);
    messages.extend(wanted.pools.v4.chunks(RANGES).map(|ranges| {
        add(
            v4,
            &ranges.iter().flat_map(|range| interval(range, &Ipv4Addr::octets, next_v4)).collect::<Vec<_>>(),
        )
    }));
    messages.extend(wanted.pools.v6.chunks(RANGES).map(|ranges| {
        add(
            v6,
            &ranges.iter().flat_map(|range| interval(range, &Ipv6Addr::octets, next_v6)).collect::<Vec<_>>(),
        )
    }));
    for chain in chains(wanted.layer, wanted.local_output) {
        messages.extend(chain.rules.iter().map(|rule| self::rule(chain.name, rule)));
    }
    messages
}

/// A range is its first address, and the first one behind it with a flag; none is behind the last of all.
fn interval<A: Copy, const N: usize>(
    (first, last): &(A, A),
    octets: &impl Fn(&A) -> [u8; N],
    next: impl Fn(A) -> Option<A>,
) -> Vec<Attributes> {
    let start = Attributes::new().nest(1, &value(&octets(first)));
    let end = next(*last).map(|end| {
        let flag = libc::NFT_SET_ELEM_INTERVAL_END as u32;
        Attributes::new().nest(1, &value(&octets(&end))).number(3, flag)
    });
    [Some(start), end].into_iter().flatten().collect()
}

fn next_v4(address: Ipv4Addr) -> Option<Ipv4Addr> {
    address.to_bits().checked_add(1).map(Ipv4Addr::from_bits)
}

fn next_v6(address: Ipv6Addr) -> Option<Ipv6Addr> {
    address.to_bits().checked_add(1).map(Ipv6Addr::from_bits)
}

/// An interface as an element.
fn one(ifindex: u32) -> [Attributes; 1] {
    [Attributes::new().nest(1, &value(&ifindex.to_ne_bytes()))]
}

/// `NFTA_SET_ELEM_LIST_*`
fn elements(kind: i32, set: &str, elements: &[Attributes]) -> Message {
    let list = elements.iter().fold(Attributes::new(), |list, element| list.nest(1, element));
    let body = Attributes::new().text(1, TABLE).text(2, set).nest(3, &list);
    if kind == libc::NFT_MSG_NEWSETELEM { create(kind, &body) } else { message(kind, 0, &body) }
}

/// `NFTA_SET_*`; the number ties a set to nothing else in the transaction, but the kernel wants one.
fn set(name: &'static str) -> Message {
    let (flags, kind, length) = shape(name);
    let described = Attributes::new().text(1, TABLE).text(2, name).number(3, flags).number(4, kind);
    let described = described.number(5, length).number(10, 1).raw(13, &byte_order(kind));
    let described = match name == REFUSED {
        // How many it has room for.
        true => described.nest(9, &Attributes::new().number(1, REFUSED_ROOM)),
        false => described,
    };
    create(libc::NFT_MSG_NEWSET, &described)
}

/// For `nft list`, which would read an interface's number the wrong way round: type, length, host order or network order.
fn byte_order(kind: u32) -> Vec<u8> {
    let order: u32 = if kind == INTERFACE { 1 } else { 2 };
    [&[0, 4][..], &order.to_ne_bytes()].concat()
}

/// `NFTA_CHAIN_*`
fn chain(chain: &Chain) -> Message {
    let named = Attributes::new().text(1, TABLE).text(3, chain.name);
    let hooked = match chain.hook {
        Some(hook) => {
            let at = Attributes::new().number(1, hook).number(2, PRIORITY.cast_unsigned());
            named.nest(4, &at).number(5, libc::NF_ACCEPT.cast_unsigned()).text(7, "filter")
        }
        None => named,
    };
    create(libc::NFT_MSG_NEWCHAIN, &hooked)
}

/// `NFTA_RULE_*`
fn rule(chain: &str, rule: &Rule) -> Message {
    let placed = Attributes::new().text(1, TABLE).text(2, chain).nest(4, &list(&rule.expressions));
    let body = placed.raw(7, &user_data(&rule.comment()));
    let flags = libc::NLM_F_CREATE | libc::NLM_F_APPEND;
    message(libc::NFT_MSG_NEWRULE, flags, &body)
}

/// A comment as `nft list` shows it: type, length, text with its zero.
fn user_data(comment: &str) -> Vec<u8> {
    let length = u8::try_from(comment.len() + 1).unwrap_or(u8::MAX);
    [&[0, length], comment.as_bytes(), &[0]].concat()
}

fn create(kind: i32, body: &Attributes) -> Message {
    message(kind, libc::NLM_F_CREATE, body)
}

/// A message about the table of a layer.
pub(super) fn on(layer: Layer, mut message: Message) -> Message {
    if let Some(family) = message.body.first_mut() {
        *family = layer.family();
    }
    message
}

/// A message about no family yet.
pub(super) fn message(kind: i32, flags: i32, attributes: &Attributes) -> Message {
    let kind = ((libc::NFNL_SUBSYS_NFTABLES << 8) | kind) as u16;
    let body = [&[libc::NFPROTO_UNSPEC as u8, 0, 0, 0], attributes.bytes()].concat();
    Message { kind, flags, body }
}
