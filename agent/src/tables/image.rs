//! The tables laid out flat on the host, and the engine's view of them.
//!
//! The same rows that the kernel's maps hold, in vectors: `check`, `explain`, in-file tests and the
//! model run `bulkhead_common::judge` on an [`Image`], with a flow table of their own.

use std::collections::BTreeMap;
use std::convert::Infallible;

use bulkhead_common::abi::map::NETWORK_CAPACITY;
use bulkhead_common::abi::{
    AddressKey, Device, DeviceId, Epoch, Flow, FlowGeometry, FlowKey, Generation, Limits, Network, NetworkId,
    Peer, PortRange, Range, RuleSet, ScopeRange, Span, Subinterface, SubinterfaceKey, Versioned, Window,
};
use bulkhead_common::case::{Arrival, Case, LinkType};
use bulkhead_common::decide::{FlowStart, FlowUpdate, FlowWords, Flows};
use bulkhead_common::express::{Sought, Vouched, Voucher};
use bulkhead_common::limits::Toll;
use bulkhead_common::tunnel::Tunnels;
use bulkhead_common::verdict::{DropReason, Verdict};

use super::{Behind, FlowTable, Passing, Remote, Rules, Scoped, Tables, TunnelTable, passes_on};

/// Flat rows, as a layout fills them; row 0 of devices and rule sets is nobody's.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// By key, bank 0.
    pub subinterfaces: BTreeMap<SubinterfaceKey, Subinterface>,
    /// By network number, bank 0.
    pub networks: Vec<Network>,
    /// All scopes.
    pub scopes: Vec<ScopeRange>,
    /// Slots by address.
    pub addresses: BTreeMap<AddressKey, u32>,
    /// Device rows by slot.
    pub identities: Vec<Versioned>,
    /// Device rows.
    pub devices: Vec<Device>,
    /// Rule sets by profile.
    pub profiles: Vec<Versioned>,
    /// Rule sets.
    pub rule_sets: Vec<RuleSet>,
    /// All ranges.
    pub ranges: Vec<Range>,
    /// All windows.
    pub windows: Vec<Window>,
    /// All peers.
    pub peers: Vec<Peer>,
    /// All ports.
    pub ports: Vec<PortRange>,
}

/// The generation of an image: it never changes.
const GENERATION: Generation = Generation(1);

impl Layout {
    fn of(tables: &Tables) -> Self {
        let mut layout = Self {
            networks: vec![Network::default(); NETWORK_CAPACITY as usize],
            devices: vec![Device::default()],
            rule_sets: vec![RuleSet::default()],
            ..Self::default()
        };
        layout.add_places(tables);
        layout.add_devices(tables);
        layout.add_profiles(tables);
        layout
    }

    fn add_places(&mut self, tables: &Tables) {
        for (place, facts) in &tables.subinterfaces {
            let key = SubinterfaceKey::new(0, place.ifindex, place.outer_vlan, place.inner_vlan);
            let row: Result<_, Infallible> = facts.row(GENERATION, |scopes| Ok(self.add_scopes(scopes)));
            let Ok(row) = row;
            self.subinterfaces.insert(key, row);
        }
        for (network, facts) in &tables.networks {
            let scopes = self.add_scopes(&facts.scopes);
            let prefixes = self.add_scopes(&facts.prefixes);
            if let Some(row) = self.networks.get_mut(network.0 as usize) {
                *row = Network {
                    since: GENERATION,
                    flags: facts.flags,
                    scopes,
                    prefixes,
                    timeouts: facts.timeouts,
                };
            }
        }
    }

    fn add_scopes(&mut self, scopes: &[Scoped]) -> Span {
        let rows = scopes.iter().map(|s| ScopeRange { first: s.first, last: s.last, scope: s.scope });
        append(&mut self.scopes, rows)
    }

    fn add_devices(&mut self, tables: &Tables) {
        let mut rows = BTreeMap::<DeviceId, u32>::new();
        for (id, device) in &tables.devices {
            rows.insert(*id, index(self.devices.len()));
            self.devices.push(*device);
        }
        for (key, owner) in &tables.addresses {
            let identity = owner.identity(rows.get(&owner.device).copied().unwrap_or_default());
            self.addresses.insert(*key, index(self.identities.len()));
            self.identities.push(Versioned::from_words([Versioned::word(GENERATION, identity), 0]));
        }
    }

    fn add_profiles(&mut self, tables: &Tables) {
        let mut stored = BTreeMap::<&Rules, u32>::new();
        for (profile, rules) in &tables.profiles {
            let row = match stored.get(&**rules) {
                Some(row) => *row,
                None => {
                    let row = self.add_rules(rules);
                    stored.insert(rules, row);
                    row
                }
            };
            let slot = profile.0 as usize;
            if self.profiles.len() <= slot {
                self.profiles.resize(slot + 1, Versioned::default());
            }
            self.profiles[slot] = Versioned::from_words([Versioned::word(GENERATION, row), 0]);
        }
    }

    fn add_rules(&mut self, rules: &Rules) -> u32 {
        let windows = append(&mut self.windows, rules.windows.iter().copied());
        let first_port = self.ports.len();
        let row = RuleSet {
            outbound: self.add_remotes(&rules.outbound),
            inbound: self.add_remotes(&rules.inbound),
            behind: self.add_behind(&rules.behind),
            peers: self.add_peers(rules),
            never: append(&mut self.ports, rules.never.iter().copied()),
            repair: self.add_remotes(&rules.repair),
            limits: rules.limits,
            windows,
        };
        for entry in &mut self.ports[first_port..] {
            *entry = entry.with_windows_from(windows.start);
        }
        self.rule_sets.push(row);
        index(self.rule_sets.len() - 1)
    }

    fn add_remotes(&mut self, remotes: &[Remote]) -> Span {
        let rows: Vec<Range> = remotes
            .iter()
            .map(|r| Range {
                first: r.first,
                last: r.last,
                open: append(&mut self.ports, r.ports.iter().copied()),
            })
            .collect();
        append(&mut self.ranges, rows)
    }

    fn add_behind(&mut self, locals: &[Behind]) -> Span {
        let rows: Vec<Range> = locals
            .iter()
            .map(|l| Range { first: l.first, last: l.last, open: self.add_remotes(&l.callers) })
            .collect();
        append(&mut self.ranges, rows)
    }

    fn add_peers(&mut self, rules: &Rules) -> Span {
        let rows: Vec<Peer> = rules
            .peers
            .iter()
            .map(|peer| Peer {
                profile: peer.profile,
                ports: append(&mut self.ports, peer.ports.iter().copied()),
                behind: self.add_remotes(&peer.behind),
            })
            .collect();
        append(&mut self.peers, rows)
    }
}

fn append<T>(into: &mut Vec<T>, rows: impl IntoIterator<Item = T>) -> Span {
    let start = into.len();
    into.extend(rows);
    Span { start: index(start), len: index(into.len() - start) }
}

/// Rows are counted in 32 bits; a table that large was refused before it was laid out.
fn index(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// The engine on the host: rows, a clock that is set by hand, and a flow table.
#[derive(Debug, Default)]
pub struct Image {
    layout: Layout,
    flows: FlowTable,
    tunnels: TunnelTable,
    passing: Passing,
}

impl Image {
    /// Lays the tables out, with an empty flow table at time 0.
    pub fn new(tables: &Tables) -> Self {
        Self { layout: Layout::of(tables), ..Self::default() }
    }

    /// The rows.
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Sets the monotonic clock and the boot clock, in nanoseconds.
    pub fn set_now(&self, now: u64, boot: u64) {
        self.flows.set_now(now, boot);
    }

    /// Forgets every flow, so that one question does not answer the next.
    pub fn forget_flows(&self) {
        self.flows.clear();
    }

    /// Gives up flows that are dead, as the kernel's timer does.
    pub fn sweep_flows(&self) {
        self.flows.sweep();
    }

    /// Gives it another flow table, empty.
    pub fn with_flows(mut self, geometry: FlowGeometry) -> Self {
        self.flows = FlowTable::new(geometry);
        self
    }

    /// Every flow, dead ones too.
    pub fn flows(&self) -> Vec<Flow> {
        self.flows.all()
    }

    /// Parses and judges a frame that enters by an interface, as the XDP program does.
    pub fn judge(&self, frame: &[u8], ifindex: u32) -> (Verdict, Case) {
        super::judge(self, frame, ifindex)
    }

    /// Judges a packet that was never a frame, for `explain` and in-file tests.
    pub fn judge_packet(&self, packet: bulkhead_common::parse::Packet, ifindex: u32) -> (Verdict, Case) {
        let arrival = Arrival::of(ifindex, LinkType::Ethernet, packet.length);
        let mut case = Case::new(bulkhead_common::decide::Tables::epoch(self), arrival);
        case.packet = packet;
        (bulkhead_common::judge_parsed(self, &mut case), case)
    }

    /// The network of a row number, for callers that iterate.
    pub fn network_row(&self, network: NetworkId) -> Option<&Network> {
        self.layout.networks.get(network.0 as usize)
    }
}

impl bulkhead_common::decide::Tables for Image {
    fn epoch(&self) -> Epoch {
        Epoch { generation: GENERATION, bank: 0 }
    }

    fn now(&self) -> u64 {
        self.flows.now()
    }

    fn boot_now(&self) -> u64 {
        self.flows.boot_now()
    }

    fn subinterface(&self, key: &SubinterfaceKey) -> Option<&Subinterface> {
        self.layout.subinterfaces.get(key)
    }

    fn network(&self, index: u32) -> Option<&Network> {
        self.layout.networks.get(index as usize)
    }

    fn scope(&self, index: u32) -> Option<&ScopeRange> {
        self.layout.scopes.get(index as usize)
    }

    fn address(&self, key: &AddressKey) -> Option<u32> {
        self.layout.addresses.get(key).copied()
    }

    fn identity(&self, slot: u32) -> Option<Versioned> {
        self.layout.identities.get(slot as usize).copied()
    }

    fn device(&self, index: u32) -> Option<&Device> {
        self.layout.devices.get(index as usize)
    }

    fn profile(&self, index: u32) -> Option<Versioned> {
        self.layout.profiles.get(index as usize).copied()
    }

    fn rule_set(&self, index: u32) -> Option<&RuleSet> {
        self.layout.rule_sets.get(index as usize)
    }

    fn range(&self, index: u32) -> Option<&Range> {
        self.layout.ranges.get(index as usize)
    }

    fn peer(&self, index: u32) -> Option<&Peer> {
        self.layout.peers.get(index as usize)
    }

    fn port(&self, index: u32) -> Option<&PortRange> {
        self.layout.ports.get(index as usize)
    }

    fn window(&self, index: u32) -> Option<&Window> {
        self.layout.windows.get(index as usize)
    }
}

passes_on!(Image);

impl Tunnels for Image {
    fn tunnel(&self, slot: u32) -> Option<u64> {
        self.tunnels.tunnel(slot)
    }

    fn bind(&self, slot: u32, seen: u64, word: u64) -> bool {
        self.tunnels.bind(slot, seen, word)
    }
}

impl Vouched for Image {
    fn vouched(&self, key: &FlowKey, generation: Generation, now: u64) -> Sought<Self::Handle> {
        self.flows.vouched(key, generation, now)
    }

    fn begin(&self, key: &FlowKey, start: &FlowStart) -> bool {
        self.flows.begin(key, start)
    }

    fn vouch(&self, flow: Self::Handle, key: &FlowKey, words: &FlowWords, voucher: Voucher) {
        self.flows.vouch(flow, key, words, voucher);
    }
}

impl Flows for Image {
    type Handle = <FlowTable as Flows>::Handle;

    fn flow(&self, key: &FlowKey) -> Option<(Self::Handle, FlowWords)> {
        self.flows.flow(key)
    }

    fn lived(&self, key: &FlowKey, then: u64) -> bool {
        Flows::lived(&self.flows, key, then)
    }

    fn update(&self, flow: Self::Handle, key: &FlowKey, update: &FlowUpdate) {
        self.flows.update(flow, key, update);
    }

    fn end(&self, flow: Self::Handle, key: &FlowKey) {
        self.flows.end(flow, key);
    }

    fn charge(&self, device: DeviceId, limits: &Limits, toll: Toll, now: u64) -> Result<(), DropReason> {
        self.flows.charge(device, limits, toll, now)
    }

    fn refund(&self, device: DeviceId, limits: &Limits, toll: Toll) {
        self.flows.refund(device, limits, toll);
    }

    fn open(&self, key: &FlowKey, start: &FlowStart) -> Result<(), DropReason> {
        self.flows.open(key, start)
    }
}
