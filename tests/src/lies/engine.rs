//! The engine with a clock, a search or a flow table that does not do its part.
#![expect(clippy::wildcard_enum_match_arm, reason = "a lie touches one thing and leaves the rest")]

use bulkhead::tables::Image;
use bulkhead_common::abi::key::EGRESS;
use bulkhead_common::abi::{
    Addr, AddressKey, Device, DeviceId, Epoch, FlowKey, Generation, Limits, Network, Peer, PortRange,
    ProfileId, Range, RuleSet, ScopeRange, Span, Subinterface, SubinterfaceKey, Versioned, Window,
};
use bulkhead_common::case::Case;
use bulkhead_common::decide::{FlowStart, FlowUpdate, FlowWords, Flows, Tables};
use bulkhead_common::express::{Sought, Vouched, Voucher};
use bulkhead_common::fragment::{Datagram, Fragments};
use bulkhead_common::icmp_error::ErrorBudgets;
use bulkhead_common::limits::Toll;
use bulkhead_common::search::{self, Found};
use bulkhead_common::tunnel::Tunnels;
use bulkhead_common::verdict::{DropReason, Verdict};

use super::Row;
use crate::generate::Shot;

/// What the engine gets wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EngineLie {
    /// A table has no rows; not in `ALL`, since `Row::ALL` says which.
    Missing(Row),
    /// The clock stands still.
    Clock,
    /// The monotonic clock is taken for the boot clock.
    BootClock,
    /// Searches find the entry before the one that counts.
    Search,
    /// No flow is ever found.
    NoFlow,
    /// Flows never end.
    Endless,
    /// Flows forget where their packets enter.
    NoAccess,
    /// The called side is taken for the caller.
    Initiator,
    /// Updates are lost.
    NoUpdate,
    /// Nothing is opened, and nobody is told.
    NoOpen,
    /// An IPv6 device is found by its /64 only.
    PrefixOnly,
    /// An IPv6 device is found by its address only.
    HostOnly,
    /// The last entry of a port list is not seen.
    ShortList,
    /// Nobody remembers which tunnel a device came through.
    NoTunnel,
    /// No fragment is ever remembered.
    NoFragment,
    /// A datagram never comes further than its first fragment.
    StuckFragment,
    /// All datagrams have the same number.
    OtherFragment,
    /// ICMP errors are not counted.
    NoErrorBudget,
    /// The host sends nothing itself.
    NothingOwn,
    /// All that leaves is the host's own.
    AllOwn,
    /// What leaves is taken for what enters.
    LeavingEnters,
    /// Nobody is over a limit.
    NoCharge,
    /// What is refused stays charged.
    NoRefund,
    /// What is sent to a device uses up what it may send.
    OneWay,
}

impl EngineLie {
    /// All of them.
    pub const ALL: [Self; 23] = [
        Self::Clock,
        Self::BootClock,
        Self::Search,
        Self::NoFlow,
        Self::Endless,
        Self::NoAccess,
        Self::Initiator,
        Self::NoUpdate,
        Self::NoOpen,
        Self::PrefixOnly,
        Self::HostOnly,
        Self::ShortList,
        Self::NoTunnel,
        Self::NoFragment,
        Self::StuckFragment,
        Self::OtherFragment,
        Self::NoErrorBudget,
        Self::NothingOwn,
        Self::AllOwn,
        Self::LeavingEnters,
        Self::NoCharge,
        Self::NoRefund,
        Self::OneWay,
    ];
}

/// An image, seen through a lie.
#[derive(Debug)]
pub struct LyingEngine<'i> {
    image: &'i Image,
    lie: EngineLie,
}

impl<'i> LyingEngine<'i> {
    /// Looks at an image through a lie.
    pub const fn new(image: &'i Image, lie: EngineLie) -> Self {
        Self { image, lie }
    }

    /// As [`Shot::judged`].
    pub fn judge(&self, shot: &Shot) -> (Verdict, Case) {
        let mut arrival = shot.arrival();
        match self.lie {
            EngineLie::NothingOwn => arrival.from_host = false,
            EngineLie::AllOwn => arrival.from_host = !shot.enters(),
            EngineLie::LeavingEnters => arrival.ifindex &= !EGRESS,
            _ => {}
        }
        let mut case = Case::new(self.epoch(), arrival);
        (bulkhead_common::judge(&*shot.bytes, self, &mut case), case)
    }
}

impl LyingEngine<'_> {
    fn row<T>(&self, row: Row, found: Option<T>) -> Option<T> {
        found.filter(|_| self.lie != EngineLie::Missing(row))
    }
}

impl Tables for LyingEngine<'_> {
    fn epoch(&self) -> Epoch {
        self.image.epoch()
    }

    fn now(&self) -> u64 {
        if self.lie == EngineLie::Clock { 1_000_000_000 } else { self.image.now() }
    }

    fn boot_now(&self) -> u64 {
        if self.lie == EngineLie::BootClock { self.image.now() } else { self.image.boot_now() }
    }

    fn subinterface(&self, key: &SubinterfaceKey) -> Option<&Subinterface> {
        self.image.subinterface(key)
    }

    fn network(&self, index: u32) -> Option<&Network> {
        self.row(Row::Network, self.image.network(index))
    }

    fn scope(&self, index: u32) -> Option<&ScopeRange> {
        self.row(Row::Scope, self.image.scope(index))
    }

    fn identity(&self, slot: u32) -> Option<Versioned> {
        self.image.identity(slot)
    }

    fn address(&self, key: &AddressKey) -> Option<u32> {
        let hidden = match self.lie {
            EngineLie::PrefixOnly => key.prefix_len() == 128 && !key.address().is_v4(),
            EngineLie::HostOnly => key.prefix_len() == 64,
            _ => false,
        };
        if hidden { None } else { self.image.address(key) }
    }

    fn device(&self, index: u32) -> Option<&Device> {
        self.row(Row::Device, self.image.device(index))
    }

    fn profile(&self, index: u32) -> Option<Versioned> {
        let unstaged = self.lie == EngineLie::Missing(Row::Staged);
        let found = self.image.profile(index);
        self.row(Row::Profile, if unstaged { found.map(|_| Versioned::default()) } else { found })
    }

    fn rule_set(&self, index: u32) -> Option<&RuleSet> {
        self.row(Row::RuleSet, self.image.rule_set(index))
    }

    fn range(&self, index: u32) -> Option<&Range> {
        self.row(Row::Range, self.image.range(index))
    }

    fn peer(&self, index: u32) -> Option<&Peer> {
        self.row(Row::Peer, self.image.peer(index))
    }

    fn port(&self, index: u32) -> Option<&PortRange> {
        self.row(Row::Port, self.image.port(index))
    }

    fn window(&self, index: u32) -> Option<&Window> {
        self.row(Row::Window, self.image.window(index))
    }

    fn range_before(&self, span: Span, address: Addr) -> Found {
        let found = search::range_before(self, span, address);
        let first = found == u64::from(span.start) || found >= search::NONE;
        if self.lie == EngineLie::Search && !first { found - 1 } else { found }
    }

    fn peer_before(&self, span: Span, profile: ProfileId) -> Found {
        search::peer_before(self, span, profile)
    }

    fn port_before(&self, span: Span, wanted: u32) -> Found {
        let short = u32::from(self.lie == EngineLie::ShortList && span.len > 1);
        search::port_before(self, Span { len: span.len - short, ..span }, wanted)
    }

    fn port_before_at(&self, span: Span, address: Addr, wanted: u32) -> Found {
        match search::range(self, span, address) {
            Ok(Some(open)) => self.port_before(open, wanted),
            Ok(None) => search::NONE,
            Err(_) => search::MISSING,
        }
    }
}

impl Tunnels for LyingEngine<'_> {
    fn tunnel(&self, slot: u32) -> Option<u64> {
        let word = self.image.tunnel(slot)?;
        Some(if self.lie == EngineLie::NoTunnel { 0 } else { word })
    }

    fn bind(&self, slot: u32, seen: u64, word: u64) -> bool {
        self.lie == EngineLie::NoTunnel || self.image.bind(slot, seen, word)
    }
}

impl Fragments for LyingEngine<'_> {
    type Place = u32;

    fn place(&self, index: u32) -> Option<u32> {
        self.image.place(index)
    }

    fn progress(&self, place: u32) -> u64 {
        if self.lie == EngineLie::NoFragment { 0 } else { self.image.progress(place) }
    }

    fn advance(&self, place: u32, seen: u64, next: u64) -> bool {
        self.lie == EngineLie::StuckFragment && seen != 0 || self.image.advance(place, seen, next)
    }

    fn datagram(&self, place: u32) -> Datagram {
        let datagram = self.image.datagram(place);
        if self.lie == EngineLie::OtherFragment { Datagram { id: 7, ..datagram } } else { datagram }
    }

    fn describe(&self, place: u32, datagram: &Datagram) {
        self.image.describe(place, datagram);
    }
}

impl ErrorBudgets for LyingEngine<'_> {
    fn error_budget(&self, device: DeviceId) -> Option<u64> {
        if self.lie == EngineLie::NoErrorBudget { Some(0) } else { self.image.error_budget(device) }
    }

    fn spend_error(&self, device: DeviceId, seen: u64, next: u64) -> bool {
        self.image.spend_error(device, seen, next)
    }
}

impl Vouched for LyingEngine<'_> {
    fn vouched(&self, key: &FlowKey, generation: Generation, now: u64) -> Sought<Self::Handle> {
        self.image.vouched(key, generation, now)
    }

    fn begin(&self, key: &FlowKey, start: &FlowStart) -> bool {
        self.image.begin(key, start)
    }

    fn vouch(&self, flow: Self::Handle, key: &FlowKey, words: &FlowWords, voucher: Voucher) {
        self.image.vouch(flow, key, words, voucher);
    }
}

impl LyingEngine<'_> {
    /// What a packet is charged for.
    fn toll(&self, toll: Toll) -> Toll {
        const RECEIVED: u64 = 1 << 62;
        if self.lie == EngineLie::OneWay { Toll(toll.0 & !RECEIVED) } else { toll }
    }
}

impl Flows for LyingEngine<'_> {
    type Handle = <Image as Flows>::Handle;

    fn flow(&self, key: &FlowKey) -> Option<(Self::Handle, FlowWords)> {
        let (handle, mut words) = self.image.flow(key)?;
        match self.lie {
            EngineLie::NoFlow => return None,
            EngineLie::NoAccess => words.access = [0; 2],
            EngineLie::Initiator => words.initiator ^= 1,
            _ => {}
        }
        Some((handle, words))
    }

    fn lived(&self, key: &FlowKey, then: u64) -> bool {
        self.lie != EngineLie::NoFlow && self.image.lived(key, then)
    }

    fn update(&self, flow: Self::Handle, key: &FlowKey, update: &FlowUpdate) {
        let mut update = *update;
        match self.lie {
            EngineLie::NoUpdate => return,
            EngineLie::Endless => update.deadline = ENDLESS,
            _ => {}
        }
        self.image.update(flow, key, &update);
    }

    fn end(&self, flow: Self::Handle, key: &FlowKey) {
        self.image.end(flow, key);
    }

    fn charge(&self, device: DeviceId, limits: &Limits, toll: Toll, now: u64) -> Result<(), DropReason> {
        let charged = self.image.charge(device, limits, self.toll(toll), now);
        // The image charges in any case; the lie is that nobody is refused.
        if self.lie == EngineLie::NoCharge { Ok(()) } else { charged }
    }

    fn refund(&self, device: DeviceId, limits: &Limits, toll: Toll) {
        if self.lie != EngineLie::NoRefund {
            self.image.refund(device, limits, self.toll(toll));
        }
    }

    fn open(&self, key: &FlowKey, start: &FlowStart) -> Result<(), DropReason> {
        let mut start = *start;
        match self.lie {
            EngineLie::NoOpen => return Ok(()),
            EngineLie::Endless => start.update.deadline = ENDLESS,
            _ => {}
        }
        self.image.open(key, &start)
    }
}

/// Later than any traffic.
const ENDLESS: u64 = 1 << 59;
