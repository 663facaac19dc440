//! Short ways that are wrong in one thing each.

use std::cell::OnceCell;

use bulkhead::reconcile::Memory;
use bulkhead_common::abi::key::VLAN_OTHER;
use bulkhead_common::abi::value::{PORT_OPEN, STATE_TIMED, STATE_WINDOW};
use bulkhead_common::abi::{
    AddressKey, Device, DeviceId, Epoch, FlowKey, Generation, Limits, Network, Peer, PortRange, Range,
    RuleSet, ScopeRange, Span, Subinterface, SubinterfaceKey, Versioned, Window,
};
use bulkhead_common::decide::{FlowStart, FlowUpdate, FlowWords, Flows, Tables};
use bulkhead_common::express::{Sought, Strangers, Vouched, Voucher};
use bulkhead_common::limits::Toll;
use bulkhead_common::tunnel::Tunnels;
use bulkhead_common::verdict::{DropReason, Verdict};

/// What a short way could get wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Lie {
    /// Any generation is as good as today's.
    Generation,
    /// It does not matter where a packet enters.
    Access,
    /// The called side is taken for the caller.
    Initiator,
    /// FIN, RST and SYN are not seen.
    Flags,
    /// The clock stands still.
    Clock,
    /// A MAC address or a clock has no say in who a device is.
    Steady,
    /// Nobody pays.
    Limits,
    /// No rule ends by a clock.
    Timed,
    /// A device is where it sends, also one that is in quarantine or bound to a MAC address; no rule is closed.
    Bound,
    Shut,
    Closed,
    /// A first packet joins a flow that is there.
    Joins,
    /// Packets are not counted.
    NoUpdate,
    /// Nobody has an address of his own, or a prefix.
    Addresses,
    Prefixes,
    /// Networks that only observe do not.
    Observes,
    /// Every tunnel is the device's.
    Tunnel,
    /// A tunnel that is used keeps silent.
    Silence,
}

pub(super) const LIES: [Lie; 18] = [
    Lie::Generation,
    Lie::Access,
    Lie::Initiator,
    Lie::Flags,
    Lie::Clock,
    Lie::Steady,
    Lie::Limits,
    Lie::Timed,
    Lie::Bound,
    Lie::Shut,
    Lie::Closed,
    Lie::Joins,
    Lie::NoUpdate,
    Lie::Addresses,
    Lie::Prefixes,
    Lie::Observes,
    Lie::Tunnel,
    Lie::Silence,
];

/// How a frame enters.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    /// The word of the place.
    pub(super) place: u64,
    /// The tunnel, 0 for none.
    pub(super) teid: u32,
    /// True if strangers are looked for before flows.
    pub(super) flood: bool,
}

/// Tables as a wrong short way sees them.
pub(super) struct Lying<'m> {
    memory: &'m Memory,
    pub(super) lie: Option<Lie>,
    entry: Entry,
    /// The network that it enters, as it is taken for.
    network: OnceCell<Network>,
    devices: Told<Device>,
    rule_sets: Told<RuleSet>,
    ports: Told<PortRange>,
}

/// Rows as a lie has them, written when the first one is asked for.
#[derive(Default)]
struct Told<T>(OnceCell<Vec<T>>);

impl<T: Copy> Told<T> {
    fn row<'m>(
        &'m self,
        index: u32,
        rows: impl Fn(u32) -> Option<&'m T>,
        lie: impl Fn(T) -> T,
    ) -> Option<&'m T> {
        let told = || (0..).map_while(rows).map(|row| lie(*row)).collect();
        self.0.get_or_init(told).get(index as usize)
    }
}

impl<'m> Lying<'m> {
    pub(super) fn new(memory: &'m Memory, lie: Option<Lie>, entry: Entry) -> Self {
        let network = OnceCell::new();
        let (devices, rule_sets, ports) = (Told::default(), Told::default(), Told::default());
        Self { memory, lie, entry, network, devices, rule_sets, ports }
    }

    /// What it takes a flow for.
    fn taken_for(&self, mut flow: FlowWords) -> FlowWords {
        match self.lie {
            Some(Lie::Access) => flow.access[0] = self.entry.place,
            Some(Lie::Initiator) => flow.initiator ^= 1,
            Some(Lie::Timed) => flow.state &= !(STATE_TIMED | STATE_WINDOW),
            _ => {}
        }
        flow
    }
}

impl Vouched for Lying<'_> {
    fn vouched(&self, key: &FlowKey, generation: Generation, now: u64) -> Sought<Self::Handle> {
        let oldest = if self.lie == Some(Lie::Generation) { 1 } else { generation.0 };
        let any = (oldest..=generation.0).find_map(|stamp| {
            match self.memory.vouched(key, Generation(stamp), now) {
                Sought::Vouched(handle, flow) => Some(Sought::Vouched(handle, self.taken_for(flow))),
                Sought::Other | Sought::Nothing => None,
            }
        });
        any.unwrap_or_else(|| self.memory.vouched(key, generation, now))
    }

    fn begin(&self, key: &FlowKey, start: &FlowStart) -> bool {
        match self.lie {
            Some(Lie::Joins) => self.memory.open(key, start).is_ok(),
            _ => self.memory.begin(key, start),
        }
    }

    fn vouch(&self, handle: Self::Handle, key: &FlowKey, flow: &FlowWords, voucher: Voucher) {
        self.memory.vouch(handle, key, flow, voucher);
    }
}

impl Tunnels for Lying<'_> {
    fn tunnel(&self, slot: u32) -> Option<u64> {
        let word = self.memory.tunnel(slot)?;
        let second = word & u64::from(u32::MAX);
        Some(if self.lie == Some(Lie::Tunnel) { u64::from(self.entry.teid) << 32 | second } else { word })
    }

    fn bind(&self, slot: u32, seen: u64, word: u64) -> bool {
        self.lie == Some(Lie::Silence) || self.memory.bind(slot, seen, word)
    }
}

impl Strangers for Lying<'_> {
    fn is_silent(&self, _device: DeviceId, _verdict: Verdict, _now: u64) -> bool {
        true
    }

    fn was_one_before(&self, _reason: DropReason) -> bool {
        self.entry.flood
    }
}

impl Flows for Lying<'_> {
    type Handle = <Memory as Flows>::Handle;

    fn flow(&self, key: &FlowKey) -> Option<(Self::Handle, FlowWords)> {
        let found = self.memory.flow(key);
        if self.lie == Some(Lie::Timed) {
            return found.map(|(handle, flow)| (handle, self.taken_for(flow)));
        }
        found
    }

    fn lived(&self, key: &FlowKey, then: u64) -> bool {
        self.memory.lived(key, then)
    }

    fn update(&self, handle: Self::Handle, key: &FlowKey, update: &FlowUpdate) {
        if self.lie != Some(Lie::NoUpdate) {
            self.memory.update(handle, key, update);
        }
    }

    fn charge(&self, device: DeviceId, limits: &Limits, toll: Toll, now: u64) -> Result<(), DropReason> {
        self.memory.charge(device, limits, toll, now)
    }

    fn refund(&self, device: DeviceId, limits: &Limits, toll: Toll) {
        self.memory.refund(device, limits, toll);
    }

    fn end(&self, handle: Self::Handle, key: &FlowKey) {
        self.memory.end(handle, key);
    }

    fn open(&self, key: &FlowKey, start: &FlowStart) -> Result<(), DropReason> {
        self.memory.open(key, start)
    }
}

impl Tables for Lying<'_> {
    fn epoch(&self) -> Epoch {
        Tables::epoch(self.memory)
    }

    fn now(&self) -> u64 {
        if self.lie == Some(Lie::Clock) { 1_000_000_000 } else { self.memory.now() }
    }

    fn boot_now(&self) -> u64 {
        self.memory.boot_now()
    }

    fn subinterface(&self, key: &SubinterfaceKey) -> Option<&Subinterface> {
        self.memory.subinterface(key)
    }

    fn network(&self, index: u32) -> Option<&Network> {
        let network = Tables::network(self.memory, index)?;
        Some(match self.lie {
            Some(Lie::Prefixes) => self.network.get_or_init(|| Network { prefixes: Span::EMPTY, ..*network }),
            Some(Lie::Observes) => self.network.get_or_init(|| Network { flags: 0, ..*network }),
            _ => network,
        })
    }

    fn scope(&self, index: u32) -> Option<&ScopeRange> {
        Tables::scope(self.memory, index)
    }

    fn address(&self, key: &AddressKey) -> Option<u32> {
        if self.lie == Some(Lie::Addresses) { None } else { self.memory.address(key) }
    }

    fn identity(&self, slot: u32) -> Option<Versioned> {
        Tables::identity(self.memory, slot)
    }

    fn device(&self, index: u32) -> Option<&Device> {
        let told =
            |lie: fn(Device) -> Device| self.devices.row(index, |row| Tables::device(self.memory, row), lie);
        match self.lie {
            Some(Lie::Bound) => told(|device| Device {
                ifindex: 0,
                outer_vlan: VLAN_OTHER,
                inner_vlan: VLAN_OTHER,
                teid: 0,
                ..device
            }),
            Some(Lie::Shut) => told(|device| Device { flags: 0, quarantine: 0, aged_at: 0, ..device }),
            _ => Tables::device(self.memory, index),
        }
    }

    fn profile(&self, index: u32) -> Option<Versioned> {
        Tables::profile(self.memory, index)
    }

    fn rule_set(&self, index: u32) -> Option<&RuleSet> {
        let told = |lie: fn(RuleSet) -> RuleSet| {
            self.rule_sets.row(index, |row| Tables::rule_set(self.memory, row), lie)
        };
        match self.lie {
            Some(Lie::Limits) => told(|rules| RuleSet { limits: Limits::default(), ..rules }),
            _ => Tables::rule_set(self.memory, index),
        }
    }

    fn range(&self, index: u32) -> Option<&Range> {
        Tables::range(self.memory, index)
    }

    fn peer(&self, index: u32) -> Option<&Peer> {
        Tables::peer(self.memory, index)
    }

    fn port(&self, index: u32) -> Option<&PortRange> {
        let open = |port| PortRange { closed: PORT_OPEN, windows: Span::EMPTY, ..port };
        match self.lie {
            Some(Lie::Closed) => self.ports.row(index, |row| Tables::port(self.memory, row), open),
            _ => Tables::port(self.memory, index),
        }
    }

    fn window(&self, index: u32) -> Option<&Window> {
        Tables::window(self.memory, index)
    }
}
