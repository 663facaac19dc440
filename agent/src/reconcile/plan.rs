//! State and tables → the writes that lead from one to the other; pure.
//!
//! Order matters and nothing else does: content where no packet looks, words that do not hold yet,
//! the flip, a grace period, then what nobody can see any more.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use bulkhead_common::abi::map::{NETWORK_CAPACITY, SCOPE_CAPACITY, SUBINTERFACE_CAPACITY};
use bulkhead_common::abi::{
    AddressKey, Device, DeviceId, Epoch, Generation, Network, NetworkId, Peer, PortRange, ProfileId, Range,
    RuleSet, ScopeRange, Span, SubinterfaceKey, Versioned,
};

use super::allocate::Free;
use super::next::{Bank, Next};
use super::observe::{bank_row, other_bank};
use super::op::Op;
use super::state::{State, Stored};
use crate::side_by_side::side_by_side;
use crate::tables::{Behind, NetworkFacts, Place, PlaceFacts, Remote, Rules, Scoped, Tables, Touched};

/// A table that is too small for what it should hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Full {
    /// The table, as policy writers know it.
    pub table: &'static str,
    /// Rows that are needed.
    pub needed: u64,
    /// Rows that there are.
    pub capacity: u64,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, needed, capacity } = self;
        write!(
            f,
            "{needed} {table} are needed and there is room for {capacity}: raise spec.tables in agent.yaml, then "
        )?;
        f.write_str("run `bulkhead detach` and start the agent again, or make the policy smaller")
    }
}

impl std::error::Error for Full {}

/// Plans the writes that make the kernel hold `tables`, and what they change of the state.
///
/// No writes are planned if nothing differs.
///
/// # Errors
/// [`Full`], if anything does not fit.
pub fn plan(state: &State, tables: &Tables) -> Result<(Vec<Op>, Next), Full> {
    let mut plan = Plan::new(state);
    plan.profiles(tables)?;
    plan.banks(tables)?;
    // After all else that is staged: nothing leads to what is not written yet.
    plan.addresses(tables)?;
    Ok(plan.finish())
}

/// Plans the writes for tables in which nothing differs but the rows and addresses of these devices: looks at nothing
/// else.
///
/// # Errors
/// [`Full`], if anything does not fit.
pub fn plan_touched(state: &State, tables: &Tables, touched: &Touched) -> Result<(Vec<Op>, Next), Full> {
    let mut plan = Plan::new(state);
    let highest = tables.devices.last_key().map_or(0, |device| device.0);
    fits("devices", u64::from(highest) + 1, u64::from(state.capacity.device_rows / 2))?;
    let devices = touched.0.keys().zip(tables.devices.get_all(touched.0.keys()));
    let rows: BTreeMap<DeviceId, u32> =
        devices.map(|(id, device)| (*id, plan.device(*id, state.devices.get(*id), device))).collect();
    // One may leave an address to another.
    let keys: BTreeSet<&AddressKey> = touched.0.values().flatten().collect();
    let (owners, held) =
        (tables.addresses.get_all(keys.iter().copied()), state.addresses.get_all(keys.iter().copied()));
    for (key, (owner, held)) in keys.into_iter().zip(owners.into_iter().zip(held)) {
        let row = match owner {
            Some(owner) => match rows.get(&owner.device) {
                Some(row) => Some(owner.identity(*row)),
                // It is not as it was: the whole has to be looked at.
                None => return self::plan(state, tables),
            },
            None => None,
        };
        plan.address(*key, held, row).ok_or_else(|| plan.more_addresses(tables))?;
    }
    Ok(plan.finish())
}

struct Plan<'s> {
    state: &'s State,
    next: Next,
    /// The generation that the flip publishes.
    since: Generation,
    /// From here on, slots of addresses may be free.
    slot: u32,
    staging: Vec<Op>,
    sweep: Vec<Op>,
}

impl<'s> Plan<'s> {
    fn new(state: &'s State) -> Self {
        Self {
            state,
            next: Next { epoch: state.epoch, ..Next::default() },
            since: Generation(state.epoch.generation.0 + 1),
            slot: 0,
            staging: Vec::new(),
            sweep: Vec::new(),
        }
    }

    fn finish(mut self) -> (Vec<Op>, Next) {
        if self.staging.is_empty() && self.sweep.is_empty() {
            return (Vec::new(), self.next);
        }
        let mut ops = self.staging;
        let bank =
            if self.next.bank.is_some() { other_bank(self.state.epoch).bank } else { self.state.epoch.bank };
        self.next.epoch = Epoch { generation: self.since, bank };
        // A free element may be taken by the next apply's inserts: wait after the sweep too.
        ops.extend([Op::Flip(self.next.epoch), Op::Wait]);
        if !self.sweep.is_empty() {
            ops.append(&mut self.sweep);
            ops.push(Op::Wait);
        }
        (ops, self.next)
    }

    /// Stores rule sets that are new, and stages the profiles whose rule set differs.
    fn profiles(&mut self, tables: &Tables) -> Result<(), Full> {
        let highest = tables.profiles.keys().next_back().map_or(0, |profile| profile.0);
        fits("profiles", u64::from(highest) + 1, u64::from(self.state.capacity.profiles))?;
        let rows = self.rule_sets(tables)?;
        for (profile, rules) in &tables.profiles {
            self.stage_profile(*profile, rows[rules]);
        }
        let gone: Vec<_> =
            self.state.profiles.keys().filter(|p| !tables.profiles.contains_key(p)).copied().collect();
        gone.into_iter().for_each(|profile| self.stage_profile(profile, 0));
        Ok(())
    }

    fn stage_profile(&mut self, profile: ProfileId, row: u32) {
        let versioned = self.state.profiles.get(&profile).copied().unwrap_or_default();
        if versioned.at(self.state.epoch.generation).1 == row {
            return;
        }
        let (word, value) = self.word(versioned, row);
        self.staging.push(Op::Profile { profile: profile.0, word, value });
        self.next.profiles.push((profile, with_word(versioned, word, value)));
    }

    fn rule_sets<'t>(&mut self, tables: &'t Tables) -> Result<BTreeMap<&'t Arc<Rules>, u32>, Full> {
        let wanted: BTreeSet<&Arc<Rules>> = tables.profiles.values().collect();
        let stored: BTreeMap<&Arc<Rules>, u32> =
            self.state.rule_sets.iter().map(|(row, s)| (&s.rules, *row)).collect();
        let mut rows = BTreeMap::new();
        let mut free = FreeRows::new(self.state);
        let mut kept = BTreeMap::new();
        for rules in &wanted {
            let row = match stored.get(*rules) {
                Some(row) => *row,
                None => self.store(rules, &mut free, &mut kept)?,
            };
            rows.insert(*rules, row);
        }
        let used: BTreeSet<u32> = rows.values().copied().collect();
        if !kept.is_empty() || used.len() != self.state.rule_sets.len() {
            let stay = self.state.rule_sets.iter().filter(|(row, _)| used.contains(row));
            kept.extend(stay.map(|(row, stored)| (*row, stored.clone())));
            self.next.rule_sets = Some(kept);
        }
        Ok(rows)
    }

    /// Writes a rule set into free rows; they were freed a grace period ago or never used.
    fn store(
        &mut self,
        rules: &Arc<Rules>,
        free: &mut FreeRows,
        kept: &mut BTreeMap<u32, Stored>,
    ) -> Result<u32, Full> {
        let row = free.rule_sets.take(1).ok_or(free.full("rule sets", 1))?.start;
        let lists = PortLists::of(rules);
        let ports = free.ports.take(lists.len()).ok_or(free.full("ports", lists.len()))?;
        let rows = count(rules.range_rows());
        let ranges = free.ranges.take(rows).ok_or(free.full("ranges", rows))?;
        let reachable = count(rules.peers.len());
        let peers = free.peers.take(reachable).ok_or(free.full("peers", reachable))?;
        let needed = count(rules.windows.len());
        let windows = free.windows.take(needed).ok_or(free.full("windows", needed))?;

        let each = lists.rows.iter().map(|port| port.with_windows_from(windows.start));
        self.staging.extend(each.zip(ports.start..).map(|(port, at)| Op::Port(at, port)));
        let each = rules.windows.iter().zip(windows.start..);
        self.staging.extend(each.map(|(window, at)| Op::Window(at, *window)));
        let mut room = Room { range: ranges.start, ports: ports.start, lists };
        let outbound = self.store_remotes(&rules.outbound, &mut room);
        let inbound = self.store_remotes(&rules.inbound, &mut room);
        let behind = self.store_behind(&rules.behind, &mut room);
        for (peer, at) in rules.peers.iter().zip(peers.start..) {
            let behind = self.store_remotes(&peer.behind, &mut room);
            let peer = Peer { profile: peer.profile, ports: room.ports(&peer.ports), behind };
            self.staging.push(Op::Peer(at, peer));
        }
        let never = room.ports(&rules.never);
        let repair = self.store_remotes(&rules.repair, &mut room);
        let limits = rules.limits;
        let set = RuleSet { outbound, inbound, behind, peers, never, repair, limits, windows };
        self.staging.push(Op::RuleSet(row, set));
        kept.insert(row, Stored { rules: Arc::clone(rules), ranges, peers, ports, windows });
        Ok(row)
    }

    fn store_remotes(&mut self, remotes: &[Remote], room: &mut Room<'_>) -> Span {
        let span = room.ranges(remotes.len());
        for (remote, at) in remotes.iter().zip(span.start..) {
            let range = Range { first: remote.first, last: remote.last, open: room.ports(&remote.ports) };
            self.staging.push(Op::Range(at, range));
        }
        span
    }

    fn store_behind(&mut self, locals: &[Behind], room: &mut Room<'_>) -> Span {
        let span = room.ranges(locals.len());
        for (local, at) in locals.iter().zip(span.start..) {
            let open = self.store_remotes(&local.callers, room);
            self.staging.push(Op::Range(at, Range { first: local.first, last: local.last, open }));
        }
        span
    }

    /// Writes devices that differ into their other row, and stages the addresses that lead elsewhere.
    fn addresses(&mut self, tables: &Tables) -> Result<(), Full> {
        let highest = tables.devices.last_key().map_or(0, |device| device.0);
        fits("devices", u64::from(highest) + 1, u64::from(self.state.capacity.device_rows / 2))?;
        let rows = self.devices(tables);
        for (key, held, owner) in side_by_side(&self.state.addresses, &tables.addresses) {
            let row =
                owner.map(|owner| owner.identity(rows.get(owner.device.0 as usize).copied().unwrap_or(0)));
            self.address(*key, held, row).ok_or_else(|| self.more_addresses(tables))?;
        }
        Ok(())
    }

    /// Leads an address to a row, or nowhere any more; nothing if there is no slot left for it.
    fn address(&mut self, key: AddressKey, held: Option<&(u32, Versioned)>, row: Option<u32>) -> Option<()> {
        match (held, row) {
            (Some((slot, versioned)), Some(row)) => self.stage_address(key, *slot, *versioned, row),
            (Some((slot, versioned)), None) => self.remove_address(key, *slot, *versioned),
            (None, Some(row)) => {
                let slot = self.state.slots.free_from(self.slot);
                if slot >= self.state.capacity.addresses {
                    return None;
                }
                self.slot = slot + 1;
                self.insert_address(key, slot, row);
            }
            (None, None) => {}
        }
        Some(())
    }

    fn more_addresses(&self, tables: &Tables) -> Full {
        let fresh = tables.addresses.keys().filter(|key| !self.state.addresses.contains_key(key)).count();
        let free = u64::from(self.state.capacity.addresses) - self.state.addresses.len() as u64;
        Full { table: "addresses", needed: fresh as u64, capacity: free }
    }

    /// The rows of all devices, by their numbers.
    fn devices(&mut self, tables: &Tables) -> Vec<u32> {
        let highest = tables.devices.last_key().map_or(0, |id| id.0 as usize);
        let mut rows = vec![0; highest + 1];
        let wanted = tables.devices.iter().map(|(id, device)| (*id, device));
        for (id, held, device) in side_by_side(self.state.devices.iter(), wanted) {
            let row = self.device(id, held, device);
            if let Some(place) = rows.get_mut(id.0 as usize) {
                *place = row;
            }
        }
        rows
    }

    /// Writes a device if it differs; returns its row.
    fn device(&mut self, id: DeviceId, held: Option<&(u32, Device)>, device: Option<&Device>) -> u32 {
        let Some(device) = device else {
            self.next.gone.extend(held.map(|_| id));
            return 0;
        };
        let row = match held {
            Some((row, same)) if same == device => return *row,
            // Each device has two rows; packets look at this one, so the other is written.
            Some((row, _)) => row ^ 1,
            None => id.0 * 2,
        };
        self.staging.push(Op::Device(row, *device));
        row
    }

    fn stage_address(&mut self, key: AddressKey, slot: u32, versioned: Versioned, row: u32) {
        if let Some(staged) = self.stage_word(slot, versioned, row) {
            self.next.addresses.push((key, Some((slot, staged))));
        }
    }

    /// Stages the word of a slot that leads elsewhere, and returns its words.
    fn stage_word(&mut self, slot: u32, versioned: Versioned, row: u32) -> Option<Versioned> {
        let before = versioned.at(self.state.epoch.generation).1;
        if before == row {
            return None;
        }
        if before / 2 != row / 2 {
            // Another device has the address: its tunnel is not the old one's.
            self.sweep.push(Op::ForgetTunnel(slot));
        }
        let (word, value) = self.word(versioned, row);
        self.staging.push(Op::Identity { slot, word, value });
        Some(with_word(versioned, word, value))
    }

    fn insert_address(&mut self, key: AddressKey, slot: u32, row: u32) {
        let value = Versioned::word(self.since, row);
        self.staging.push(Op::InsertAddress { key, slot, value });
        self.next.addresses.push((key, Some((slot, Versioned::from_words([value, 0])))));
    }

    fn remove_address(&mut self, key: AddressKey, slot: u32, versioned: Versioned) {
        self.stage_word(slot, versioned, 0);
        self.sweep.push(Op::RemoveAddress(key));
        self.next.addresses.push((key, None));
    }

    /// Writes the small tables whole into the other bank if any of them differs.
    fn banks(&mut self, tables: &Tables) -> Result<(), Full> {
        let same_places =
            tables.subinterfaces.iter().eq(self.state.places.iter().map(|(p, (_, facts))| (p, facts)));
        let same_networks = tables.networks.iter().eq(self.state.networks.iter().map(|(n, (_, s))| (n, s)));
        if same_places && same_networks {
            return Ok(());
        }
        fits("subinterfaces", tables.subinterfaces.len() as u64, u64::from(SUBINTERFACE_CAPACITY))?;
        let highest = tables.networks.keys().next_back().map_or(0, |network| network.0);
        fits("networks", u64::from(highest) + 1, u64::from(NETWORK_CAPACITY))?;
        self.clear_bank();
        let bank = other_bank(self.state.epoch);
        let mut scopes = Free::new(bank.bank * SCOPE_CAPACITY, (bank.bank + 1) * SCOPE_CAPACITY, []);
        let mut next = self.stale();
        next.places = self.write_places(tables, bank, &mut scopes)?;
        next.networks = self.write_networks(tables, bank, &mut scopes)?;
        self.next.bank = Some(next);
        Ok(())
    }

    fn clear_bank(&mut self) {
        self.staging.extend(self.state.stale_places.iter().map(|key| Op::RemovePlace(*key)));
        self.staging
            .extend(self.state.stale_networks.iter().map(|row| Op::Network(*row, Network::default())));
    }

    /// What is in force now is what the next change of bank must clear.
    fn stale(&self) -> Bank {
        let bank = self.state.epoch.bank;
        let key =
            |place: &Place| SubinterfaceKey::new(bank, place.ifindex, place.outer_vlan, place.inner_vlan);
        Bank {
            stale_places: self.state.places.keys().map(key).collect(),
            stale_networks: self.state.networks.keys().map(|n| bank_row(self.state.epoch, n.0)).collect(),
            ..Bank::default()
        }
    }

    fn write_places(&mut self, tables: &Tables, bank: Epoch, scopes: &mut Free) -> Result<Places, Full> {
        let mut places = Places::new();
        let mut taken = BTreeSet::new();
        for (place, facts) in &tables.subinterfaces {
            let since = match self.state.places.get(place) {
                Some((since, same)) if same == facts => *since,
                Some(_) | None => self.since,
            };
            let row = facts.row(since, |content| self.write_scopes(content, scopes))?;
            let key = SubinterfaceKey::new(bank.bank, place.ifindex, place.outer_vlan, place.inner_vlan);
            take_row(&mut taken, key)?;
            self.staging.push(Op::InsertPlace(key, row));
            places.insert(*place, (since, facts.clone()));
        }
        Ok(places)
    }

    fn write_networks(&mut self, tables: &Tables, bank: Epoch, scopes: &mut Free) -> Result<Networks, Full> {
        let mut networks = Networks::new();
        for (network, facts) in &tables.networks {
            let since = match self.state.networks.get(network) {
                Some((since, same)) if same == facts => *since,
                Some(_) | None => self.since,
            };
            let row = Network {
                since,
                flags: facts.flags,
                scopes: self.write_scopes(&facts.scopes, scopes)?,
                prefixes: self.write_scopes(&facts.prefixes, scopes)?,
                timeouts: facts.timeouts,
            };
            self.staging.push(Op::Network(bank_row(bank, network.0), row));
            networks.insert(*network, (since, facts.clone()));
        }
        Ok(networks)
    }

    fn write_scopes(&mut self, content: &[Scoped], free: &mut Free) -> Result<Span, Full> {
        let len = count(content.len());
        let room = free.len();
        let span = free.take(len).ok_or(Full { table: "scopes", needed: u64::from(len), capacity: room })?;
        for (scoped, at) in content.iter().zip(span.start..) {
            self.staging.push(Op::Scope(
                at,
                ScopeRange { first: scoped.first, last: scoped.last, scope: scoped.scope },
            ));
        }
        Ok(span)
    }

    /// Which word may be overwritten, and with what.
    const fn word(&self, versioned: Versioned, value: u32) -> (usize, u64) {
        (versioned.spare(self.state.epoch.generation), Versioned::word(self.since, value))
    }
}

type Places = BTreeMap<Place, (Generation, PlaceFacts)>;
type Networks = BTreeMap<NetworkId, (Generation, NetworkFacts)>;

/// Rows that no published rule set uses.
struct FreeRows {
    rule_sets: Free,
    ranges: Free,
    peers: Free,
    ports: Free,
    windows: Free,
}

impl FreeRows {
    fn new(state: &State) -> Self {
        let capacity = state.capacity;
        let stored = || state.rule_sets.values();
        Self {
            // Row 0 is "no rules".
            rule_sets: Free::new(
                1,
                capacity.rule_sets,
                state.rule_sets.keys().map(|row| Span { start: *row, len: 1 }),
            ),
            ranges: Free::new(0, capacity.ranges, stored().map(|s| s.ranges)),
            peers: Free::new(0, capacity.peers, stored().map(|s| s.peers)),
            ports: Free::new(0, capacity.ports, stored().map(|s| s.ports)),
            windows: Free::new(0, capacity.windows, stored().map(|s| s.windows)),
        }
    }

    fn full(&self, table: &'static str, needed: u32) -> Full {
        let free = match table {
            "rule sets" => &self.rule_sets,
            "ranges" => &self.ranges,
            "peers" => &self.peers,
            "windows" => &self.windows,
            _ => &self.ports,
        };
        Full { table, needed: u64::from(needed), capacity: free.len() }
    }
}

/// Where one rule set is written: the next row of ranges, and its port lists.
struct Room<'r> {
    range: u32,
    ports: u32,
    lists: PortLists<'r>,
}

impl Room<'_> {
    fn ranges(&mut self, rows: usize) -> Span {
        let span = Span { start: self.range, len: count(rows) };
        self.range += span.len;
        span
    }

    fn ports(&self, list: &[PortRange]) -> Span {
        self.lists.span(list, self.ports)
    }
}

/// The port lists of one rule set, each content once.
struct PortLists<'r> {
    starts: BTreeMap<&'r [PortRange], u32>,
    rows: Vec<PortRange>,
}

impl<'r> PortLists<'r> {
    fn of(rules: &'r Rules) -> Self {
        let mut lists = Self { starts: BTreeMap::new(), rows: Vec::new() };
        for list in rules.port_lists() {
            let at = count(lists.rows.len());
            if !lists.starts.contains_key(list.as_slice()) {
                lists.starts.insert(list, at);
                lists.rows.extend_from_slice(list);
            }
        }
        lists
    }

    fn len(&self) -> u32 {
        count(self.rows.len())
    }

    fn span(&self, list: &[PortRange], base: u32) -> Span {
        let start = self.starts.get(list).copied().unwrap_or_default();
        Span { start: base + start, len: count(list.len()) }
    }
}

const fn with_word(versioned: Versioned, word: usize, value: u64) -> Versioned {
    let mut words = versioned.words();
    words[word] = value;
    Versioned::from_words(words)
}

/// Takes a row of `SUBINTERFACES` for a place; other places may have all that its own is looked for in.
fn take_row(taken: &mut BTreeSet<u32>, key: SubinterfaceKey) -> Result<(), Full> {
    let capacity = taken.len() as u64;
    let row = key.seek(|row| !taken.contains(&row));
    taken.insert(row.ok_or(Full { table: "subinterfaces", needed: capacity + 1, capacity })?);
    Ok(())
}

const fn fits(table: &'static str, needed: u64, capacity: u64) -> Result<(), Full> {
    if needed <= capacity { Ok(()) } else { Err(Full { table, needed, capacity }) }
}

/// Rows are numbered in 32 bits; more than that fits no table, and is refused as too many.
fn count(rows: usize) -> u32 {
    u32::try_from(rows).unwrap_or(u32::MAX)
}
