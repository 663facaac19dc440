//! Inbound rules by the address behind the device that they open.
//!
//! The addresses that rules name with `behind` are cut at every edge; each piece gets what the rules
//! covering it let call, resolved as for the devices themselves.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_common::abi::Addr;

use super::calendar::Calendar;
use super::ports::Opening;
use super::remotes::{Claim, resolve};
use crate::policy::address::AddressRange;
use crate::tables::Behind;

/// Who may call where: `local` says which addresses an opening is about, `callers` from where.
pub(super) fn pieces(
    local: &[(AddressRange, usize)],
    callers: &[Claim],
    openings: &[Opening<'_>],
    calendar: &Calendar<'_>,
) -> Vec<Behind> {
    let mut edges: BTreeMap<u128, Vec<(bool, usize)>> = BTreeMap::new();
    for (range, opening) in local {
        edges.entry(range.first).or_default().push((true, *opening));
        edges.entry(range.last.saturating_add(1)).or_default().push((false, *opening));
    }
    let mut pieces: Vec<Behind> = Vec::new();
    let mut active: BTreeMap<usize, usize> = BTreeMap::new();
    let mut from = 0;
    for (edge, changes) in edges {
        let covering: BTreeSet<usize> = active.keys().copied().collect();
        if !covering.is_empty() {
            let callers: Vec<Claim> =
                callers.iter().filter(|claim| covering.contains(&claim.opening)).copied().collect();
            push(&mut pieces, from, edge, resolve(&callers, openings, calendar));
        }
        changes.into_iter().for_each(|change| count(&mut active, change));
        from = edge;
    }
    pieces
}

/// One rule may name an address twice.
fn count(active: &mut BTreeMap<usize, usize>, (begins, opening): (bool, usize)) {
    let covering = active.entry(opening).or_default();
    *covering = if begins { *covering + 1 } else { *covering - 1 };
    if *covering == 0 {
        active.remove(&opening);
    }
}

fn push(pieces: &mut Vec<Behind>, from: u128, edge: u128, callers: Vec<crate::tables::Remote>) {
    let (first, last) = (Addr::from_bits(from), Addr::from_bits(edge - 1));
    match pieces.last_mut() {
        Some(before) if before.last.to_bits() + 1 == from && before.callers == callers => before.last = last,
        Some(_) | None if callers.is_empty() => {}
        Some(_) | None => pieces.push(Behind { first, last, callers }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::compile::profiles::State;
    use crate::policy::timeline::Timeline;
    use bulkhead_common::abi::RuleId;

    #[test]
    fn each_piece_has_the_rules_that_cover_it() {
        let ports = ["tcp/22".parse().unwrap()];
        let openings = [1, 2].map(|rule| Opening {
            rule: RuleId(rule),
            ports: &ports,
            idle: 0,
            state: State::Open,
            hours: None,
        });
        let range = |first, last| AddressRange { first, last };
        let claim = |opening| Claim {
            range: range(100 + 100 * opening as u128, 199 + 100 * opening as u128),
            length: 0,
            opening,
        };
        let local = [(range(10, 19), 0), (range(15, 15), 1), (range(20, 29), 0), (range(12, 13), 0)];
        let found = pieces(&local, &[claim(0), claim(1)], &openings, &Calendar::new(&Timeline::Unknown));
        let found: Vec<_> =
            found.iter().map(|p| (p.first.to_bits(), p.last.to_bits(), p.callers.len())).collect();
        assert_eq!(found, [(10, 14, 1), (15, 15, 2), (16, 29, 1)], "{found:?}");
    }
}
