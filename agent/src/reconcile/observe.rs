//! Kernel state as a value, after an interrupted apply has been undone.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bulkhead_common::abi::map::NETWORK_CAPACITY;
use bulkhead_common::abi::value::IDENTITY_ROW;
use bulkhead_common::abi::{
    AddressKey, DeviceId, Epoch, Network, NetworkId, Peer, PortRange, ProfileId, Range, RuleSet, Span,
    Subinterface, SubinterfaceKey, Versioned,
};

use super::op::{Op, Rows};
use super::state::{State, Stored};
use crate::tables::{Behind, Callable, NetworkFacts, Place, PlaceFacts, Remote, Rules, Scoped};

/// Erases words that were staged and never published, then reads everything.
///
/// # Errors
/// The tables cannot be read or written, or contradict themselves.
pub(super) fn recover(rows: &mut impl Rows) -> Result<State> {
    let staged = staged(rows)?;
    for op in &staged {
        rows.perform(op).context("erase what an interrupted apply staged")?;
    }
    // Elements that an interrupted sweep freed must not be reused under a running packet.
    rows.perform(&Op::Wait)?;
    observe(rows)
}

/// Words with `since` above the generation in force.
fn staged(rows: &impl Rows) -> Result<Vec<Op>> {
    let generation = rows.epoch().generation;
    let is_staged = |word: u64| (word >> 32) as u32 > generation.0;
    let mut ops = Vec::new();
    for (_, slot) in rows.addresses()? {
        let words = rows.identity(slot).unwrap_or_default().words();
        let staged = (0..2).filter(|word| is_staged(words[*word]));
        ops.extend(staged.map(|word| Op::Identity { slot, word, value: 0 }));
    }
    for profile in 0..rows.capacity().profiles {
        let words = rows.profile(profile).unwrap_or_default().words();
        let staged = (0..2).filter(|word| is_staged(words[*word]));
        ops.extend(staged.map(|word| Op::Profile { profile, word, value: 0 }));
    }
    Ok(ops)
}

fn observe(rows: &impl Rows) -> Result<State> {
    let epoch = rows.epoch();
    let mut state = State { epoch, capacity: rows.capacity(), ..State::default() };
    for (key, row) in rows.places()? {
        read_place(rows, &mut state, key, row)?;
    }
    read_networks(rows, &mut state)?;
    let addresses = rows.addresses()?.into_iter();
    // Whole maps are built faster than grown.
    let addresses = addresses.map(|(key, slot)| Ok((key, read_address(rows, &mut state, key, slot)?)));
    state.addresses = addresses.collect::<Result<_>>()?;
    read_profiles(rows, &mut state)?;
    Ok(state)
}

fn read_place(rows: &impl Rows, state: &mut State, key: SubinterfaceKey, row: Subinterface) -> Result<()> {
    if key.bank() != state.epoch.bank {
        state.stale_places.push(key);
        return Ok(());
    }
    let (outer_vlan, inner_vlan) = key.vlans();
    let place = Place { ifindex: key.ifindex(), outer_vlan, inner_vlan };
    let facts = PlaceFacts::of_row(&row, |span| read_scopes(rows, span))?;
    state.places.insert(place, (row.since, facts));
    Ok(())
}

fn read_networks(rows: &impl Rows, state: &mut State) -> Result<()> {
    for id in 0..NETWORK_CAPACITY {
        let row = rows.network(bank_row(state.epoch, id)).unwrap_or_default();
        if row != Network::default() {
            let facts = NetworkFacts {
                flags: row.flags,
                scopes: read_scopes(rows, row.scopes)?,
                prefixes: read_scopes(rows, row.prefixes)?,
                timeouts: row.timeouts,
            };
            state.networks.insert(NetworkId(id), (row.since, facts));
        }
        let other = bank_row(other_bank(state.epoch), id);
        if rows.network(other).unwrap_or_default() != Network::default() {
            state.stale_networks.push(other);
        }
    }
    Ok(())
}

fn read_scopes(rows: &impl Rows, span: Span) -> Result<Vec<Scoped>> {
    let read =
        |index| rows.scope(index).map(|row| Scoped { first: row.first, last: row.last, scope: row.scope });
    read_span(span, read, "scopes")
}

/// Where an address leads, and the device that it leads to.
fn read_address(rows: &impl Rows, state: &mut State, key: AddressKey, slot: u32) -> Result<(u32, Versioned)> {
    let versioned = rows.identity(slot).with_context(|| format!("{} has no slot {slot}", key.address()))?;
    let (_, identity) = versioned.at(state.epoch.generation);
    let row = identity & IDENTITY_ROW;
    if row != 0 {
        let device =
            rows.device(row).with_context(|| format!("{} has no device row {row}", key.address()))?;
        // Whatever somebody wrote there: a row is one of the device's whose number is half its own.
        state.devices.set(DeviceId(row / 2), Some((row, device)));
    }
    state.slots.set(slot, true);
    Ok((slot, versioned))
}

fn read_profiles(rows: &impl Rows, state: &mut State) -> Result<()> {
    let mut referred = BTreeSet::new();
    for profile in 0..state.capacity.profiles {
        let versioned = rows.profile(profile).unwrap_or_default();
        if versioned == Versioned::default() {
            continue;
        }
        let (_, row) = versioned.at(state.epoch.generation);
        if row != 0 {
            referred.insert(row);
        }
        state.profiles.insert(ProfileId(profile), versioned);
    }
    for row in referred {
        let set = rows.rule_set(row).with_context(|| format!("there is no rule set {row}"))?;
        state.rule_sets.insert(row, read_rule_set(rows, set)?);
    }
    Ok(())
}

fn read_rule_set(rows: &impl Rows, set: RuleSet) -> Result<Stored> {
    let (ranges, ports) = (Extent::default(), Extent::default());
    let mut reading = Reading { rows, windows: set.windows.start, ranges, ports };
    let outbound = reading.remotes(set.outbound)?;
    let inbound = reading.remotes(set.inbound)?;
    let behind = reading.behind(set.behind)?;
    let peers = reading.peers(set.peers)?;
    let never = reading.ports(set.never)?;
    let repair = reading.remotes(set.repair)?;
    let windows = read_span(set.windows, |index| rows.window(index), "windows")?;
    let rules =
        Arc::new(Rules { outbound, inbound, behind, peers, never, repair, limits: set.limits, windows });
    Ok(Stored {
        rules,
        ranges: reading.ranges.span(),
        peers: set.peers,
        ports: reading.ports.span(),
        windows: set.windows,
    })
}

/// One rule set, and the rows that were found to be its own.
struct Reading<'r, R> {
    rows: &'r R,
    /// Its first row in `WINDOWS`.
    windows: u32,
    ranges: Extent,
    ports: Extent,
}

impl<R: Rows> Reading<'_, R> {
    fn ports(&mut self, span: Span) -> Result<Vec<PortRange>> {
        self.ports.cover(span);
        let base = self.windows.wrapping_neg();
        read_span(span, |index| self.rows.port(index).map(|port| port.with_windows_from(base)), "ports")
    }

    fn ranges(&mut self, span: Span) -> Result<Vec<Range>> {
        self.ranges.cover(span);
        read_span(span, |index| self.rows.range(index), "ranges")
    }

    fn remotes(&mut self, span: Span) -> Result<Vec<Remote>> {
        let ranges = self.ranges(span)?.into_iter();
        ranges
            .map(|Range { first, last, open }| Ok(Remote { first, last, ports: self.ports(open)? }))
            .collect()
    }

    fn behind(&mut self, span: Span) -> Result<Vec<Behind>> {
        let ranges = self.ranges(span)?.into_iter();
        ranges
            .map(|Range { first, last, open }| Ok(Behind { first, last, callers: self.remotes(open)? }))
            .collect()
    }

    fn peers(&mut self, span: Span) -> Result<Vec<Callable>> {
        let peers = read_span(span, |index| self.rows.peer(index), "peers")?.into_iter();
        peers
            .map(|Peer { profile, ports, behind }| {
                Ok(Callable { profile, ports: self.ports(ports)?, behind: self.remotes(behind)? })
            })
            .collect()
    }
}

fn read_span<T>(span: Span, read: impl Fn(u32) -> Option<T>, what: &str) -> Result<Vec<T>> {
    // A span longer than any table would be read for ever.
    ensure!(span.len < 1 << 24, "a run of {} {what} cannot be", span.len);
    let rows = (span.start..span.start.saturating_add(span.len)).map(&read);
    rows.collect::<Option<Vec<T>>>().with_context(|| format!("a run of {what} ends behind its table"))
}

/// The smallest span that covers several.
#[derive(Default)]
struct Extent(Option<(u32, u32)>);

impl Extent {
    fn cover(&mut self, span: Span) {
        if span.len == 0 {
            return;
        }
        let (start, end) = (span.start, span.start + span.len);
        self.0 = Some(self.0.map_or((start, end), |(s, e)| (s.min(start), e.max(end))));
    }

    fn span(&self) -> Span {
        self.0.map_or(Span::default(), |(start, end)| Span { start, len: end - start })
    }
}

/// Index of a network in a bank.
pub(super) const fn bank_row(epoch: Epoch, network: u32) -> u32 {
    epoch.bank * NETWORK_CAPACITY + network
}

/// The bank that is not in force, at the same generation.
pub(super) const fn other_bank(epoch: Epoch) -> Epoch {
    Epoch { generation: epoch.generation, bank: epoch.bank ^ 1 }
}
