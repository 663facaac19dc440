//! Rules about the outside → disjoint ranges with their ports.
//!
//! Prefixes of different rules overlap as they like. The ranges are cut at every edge, and each
//! piece gets the union of what the rules covering it open, so that the engine needs one search.
//! A port that several rules open is counted for the rule with the longest prefix, then for the
//! first by policy name and place in the policy.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use bulkhead_common::abi::{Addr, PortRange};

use super::calendar::Calendar;
use super::ports::{Family, Opening, list};
use crate::policy::address::{AddressRange, IPV4};
use crate::tables::Remote;

/// A stretch of remotes that one opening covers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    pub(super) range: AddressRange,
    /// Length of the prefix it was cut from, counted in 128 bits.
    pub(super) length: u8,
    /// Which opening, by its rank.
    pub(super) opening: usize,
}

/// Resolves overlapping claims.
pub(super) fn resolve(claims: &[Claim], openings: &[Opening<'_>], calendar: &Calendar<'_>) -> Vec<Remote> {
    let mut sweep =
        Sweep { openings, calendar, active: BTreeSet::new(), lists: BTreeMap::new(), remotes: Vec::new() };
    let mut edges: BTreeMap<u128, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
    for (index, claim) in claims.iter().enumerate() {
        edges.entry(claim.range.first).or_default().0.push(index);
        // Nothing ends at the last address: multicast lies there and was cut away.
        edges.entry(claim.range.last.saturating_add(1)).or_default().1.push(index);
    }
    let mut from = 0;
    for (edge, (begin, end)) in edges {
        sweep.piece(from, edge);
        for index in end {
            sweep.active.remove(&rank(&claims[index], index));
        }
        for index in begin {
            sweep.active.insert(rank(&claims[index], index));
        }
        from = edge;
    }
    sweep.remotes
}

/// Longest prefix first, then the opening's rank; the claim's number keeps doubles apart.
type Rank = (Reverse<u8>, usize, usize);

fn rank(claim: &Claim, index: usize) -> Rank {
    (Reverse(claim.length), claim.opening, index)
}

struct Sweep<'a> {
    openings: &'a [Opening<'a>],
    calendar: &'a Calendar<'a>,
    active: BTreeSet<Rank>,
    lists: BTreeMap<(Vec<usize>, Family), Vec<PortRange>>,
    remotes: Vec<Remote>,
}

impl Sweep<'_> {
    /// Ends the piece before an edge.
    fn piece(&mut self, from: u128, edge: u128) {
        if self.active.is_empty() || from >= edge {
            return;
        }
        let family = match (IPV4.first..=IPV4.last).contains(&from) {
            true => Family::V4,
            false => Family::V6,
        };
        let ports = self.ports(family);
        let (first, last) = (Addr::from_bits(from), Addr::from_bits(edge - 1));
        match self.remotes.last_mut() {
            Some(before) if touches(before, first) && before.ports == ports => before.last = last,
            _ => self.remotes.push(Remote { first, last, ports }),
        }
    }

    fn ports(&mut self, family: Family) -> Vec<PortRange> {
        let mut order: Vec<usize> = Vec::with_capacity(self.active.len());
        for (_, opening, _) in &self.active {
            if !order.contains(opening) {
                order.push(*opening);
            }
        }
        let (openings, calendar) = (self.openings, self.calendar);
        let made = self.lists.entry((order, family));
        made.or_insert_with_key(|(order, family)| {
            list(order.iter().map(|index| &openings[*index]), *family, calendar)
        })
        .clone()
    }
}

fn touches(before: &Remote, first: Addr) -> bool {
    before.last.to_bits().checked_add(1) == Some(first.to_bits()) && before.last.is_v4() == first.is_v4()
}
