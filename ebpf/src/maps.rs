//! Every map, and the engine's view of them.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::btf_maps::{Array, PerCpuArray, ProgramArray, RingBuf};
use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::XdpContext;
use bulkhead_common::abi::counter::{
    CandidateCounters, Counters, DecidedWords, EVENT_BUCKETS, EventBudget, EventCounters, Would,
};
use bulkhead_common::abi::event::Event;
use bulkhead_common::abi::seek::seek;
use bulkhead_common::abi::{
    Addr, AddressKey, AddressRow, Device, DeviceState, Epoch, FlowGeometry, FlowSlot, IndexLine,
    InterfaceRow, Leg, LegRow, Network, Peer, PortRange, ProfileId, Range, ReplayInput, RuleSet, ScopeRange,
    Span, Subinterface, SubinterfaceKey, SubinterfaceRow, Versioned, Window, map,
};
use bulkhead_common::address_table::Index;
use bulkhead_common::case::{Case, LinkType};
use bulkhead_common::decide::Tables;
use bulkhead_common::fragment::{self, FragmentPlace};
use bulkhead_common::tunnel::Tunnels;
use bulkhead_common::{address_table, forward, search};

use crate::bounded::is_zero;
use crate::{atomic, clock, subprogram};

const MMAP: usize = BPF_F_MMAPABLE as usize;
const BANKS: usize = 2;
const LINK_TYPES: usize = 2;

#[btf_map]
pub(crate) static GENERATION: Array<u64, 1, MMAP> = Array::new();
#[btf_map]
static SUBINTERFACES: Array<SubinterfaceRow, { map::SUBINTERFACE_ROWS as usize * BANKS }, MMAP> =
    Array::new();
#[btf_map]
static LEG_BANK: Array<u64, 1, MMAP> = Array::new();
#[btf_map]
static LEGS: Array<LegRow, { map::SUBINTERFACE_ROWS as usize * BANKS }, MMAP> = Array::new();
#[btf_map]
pub(crate) static NETWORKS: Array<Network, { map::NETWORK_CAPACITY as usize * BANKS }, MMAP> = Array::new();
#[btf_map]
pub(crate) static SCOPES: Array<ScopeRange, { map::SCOPE_CAPACITY as usize * BANKS }, MMAP> = Array::new();
#[btf_map]
static ADDRESS_INDEX: Array<IndexLine, { address_table::size(map::ADDRESS_CAPACITY) as usize }, MMAP> =
    Array::new();
#[btf_map]
static ADDRESSES: Array<AddressRow, { map::ADDRESS_CAPACITY as usize }, MMAP> = Array::new();
#[btf_map]
pub(crate) static DEVICES: Array<Device, { map::DEVICE_CAPACITY as usize * 2 }, MMAP> = Array::new();
#[btf_map]
pub(crate) static PROFILES: Array<Versioned, { map::PROFILE_CAPACITY as usize }, MMAP> = Array::new();
#[btf_map]
pub(crate) static RULE_SETS: Array<RuleSet, { map::RULE_SET_CAPACITY as usize }, MMAP> = Array::new();
#[btf_map]
pub(crate) static RANGES: Array<Range, { map::RANGE_CAPACITY as usize }, MMAP> = Array::new();
#[btf_map]
pub(crate) static PEERS: Array<Peer, { map::PEER_CAPACITY as usize }, MMAP> = Array::new();
#[btf_map]
pub(crate) static PORTS: Array<PortRange, { map::PORT_CAPACITY as usize }, MMAP> = Array::new();
#[btf_map]
pub(crate) static WINDOWS: Array<Window, { map::WINDOW_CAPACITY as usize }, MMAP> = Array::new();
#[btf_map]
pub(crate) static FLOWS: Array<FlowSlot, { map::FLOW_CAPACITY as usize }, MMAP> = Array::new();
#[btf_map]
pub(crate) static FLOW_GEOMETRY: Array<FlowGeometry, 1, MMAP> = Array::new();
#[btf_map]
pub(crate) static DEVICE_STATES: Array<DeviceState, { map::DEVICE_CAPACITY as usize }, MMAP> = Array::new();
#[btf_map]
pub(crate) static FRAGMENTS: Array<
    FragmentPlace,
    { map::DEVICE_CAPACITY as usize * fragment::PLACES as usize },
    MMAP,
> = Array::new();
#[btf_map]
pub(crate) static ERROR_BUDGETS: Array<u64, { map::DEVICE_CAPACITY as usize }, MMAP> = Array::new();
#[btf_map]
static INTERFACES: Array<InterfaceRow, { map::INTERFACE_ROWS as usize }, MMAP> = Array::new();
#[btf_map]
static COUNTERS: PerCpuArray<Counters, { map::INTERFACE_CAPACITY as usize }> = PerCpuArray::new();
#[btf_map]
pub(crate) static EVENTS: RingBuf<Event, { map::EVENT_BYTES as usize }> = RingBuf::new();
#[btf_map]
pub(crate) static EVENT_BUDGETS: PerCpuArray<EventBudget, { EVENT_BUCKETS as usize + 1 }> =
    PerCpuArray::new();
#[btf_map]
pub(crate) static EVENT_COUNTERS: PerCpuArray<EventCounters, 1> = PerCpuArray::new();
#[btf_map]
pub(crate) static REPLAY_INPUT: Array<ReplayInput, 1, MMAP> = Array::new();
#[btf_map]
pub(crate) static DECIDED: PerCpuArray<DecidedWords, 1> = PerCpuArray::new();
#[btf_map]
pub(crate) static CANDIDATES: ProgramArray<LINK_TYPES> = ProgramArray::new();
#[btf_map]
pub(crate) static LEAVING: ProgramArray<1> = ProgramArray::new();
#[btf_map]
pub(crate) static WOULD: PerCpuArray<CandidateCounters, 1> = PerCpuArray::new();
#[btf_map]
pub(crate) static WOULD_DEVICES: Array<Would, { map::DEVICE_CAPACITY as usize }, MMAP> = Array::new();
#[btf_map]
pub(crate) static WOULD_RULES: Array<Would, { map::WOULD_RULE_ROWS as usize }, MMAP> = Array::new();

/// The packet at hand.
#[btf_map]
static CASES: PerCpuArray<Case, 1> = PerCpuArray::new();

/// The last turn of each next hop.
#[btf_map]
pub(crate) static TURNS: PerCpuArray<u64, { forward::PLACES as usize }> = PerCpuArray::new();

/// 1 in a program that is only ever run by `BPF_PROG_TEST_RUN`: clock, interface, link type and length come
/// from [`REPLAY_INPUT`]. Set before loading, so the verifier removes the branch that is not taken.
#[unsafe(no_mangle)]
static REPLAY: u32 = 0;

/// 1 in a program that tells of every packet, whatever its verdict and without a budget: `bulkhead replay`.
#[unsafe(no_mangle)]
static TELL_ALL: u32 = 0;

/// 0 where the kernel has no frames of several buffers, nor the helpers that read them (before Linux 5.18).
#[unsafe(no_mangle)]
static FRAGS: u32 = 1;

/// 1 in a candidate: it judges what the program of the enforced policy hands on, and only counts.
#[unsafe(no_mangle)]
static CANDIDATE: u32 = 0;

/// True in a candidate.
#[inline(always)]
pub(crate) fn is_candidate() -> bool {
    // SAFETY: a volatile read of our own constant, as of `REPLAY`.
    unsafe { (&raw const CANDIDATE).read_volatile() != 0 }
}

/// True if a frame may lie in several buffers.
#[inline(always)]
pub(crate) fn has_frags() -> bool {
    // SAFETY: a volatile read of our own constant, as of `REPLAY`.
    unsafe { (&raw const FRAGS).read_volatile() != 0 }
}

/// True if every packet is to be told of.
#[inline(always)]
pub(crate) fn tells_all() -> bool {
    // SAFETY: a volatile read of our own constant, as of `REPLAY`.
    unsafe { (&raw const TELL_ALL).read_volatile() != 0 }
}

/// How the frame at hand entered, if the program does not run on an interface.
#[inline(always)]
pub(crate) fn replay() -> Option<&'static ReplayInput> {
    // SAFETY: a volatile read of our own constant; volatile because the loader overrides it.
    if unsafe { (&raw const REPLAY).read_volatile() } == 0 {
        return None;
    }
    REPLAY_INPUT.get(0)
}

/// [`LinkType`] of every interface that this copy of the program is attached to.
#[unsafe(no_mangle)]
static LINK_TYPE: u32 = 0;

/// What frames begin with.
#[inline(always)]
pub(crate) fn link_type() -> LinkType {
    let number = match replay() {
        Some(input) => input.link,
        // SAFETY: a volatile read of our own constant, as of `REPLAY`.
        None => unsafe { (&raw const LINK_TYPE).read_volatile() },
    };
    LinkType::from_number(number).unwrap_or(LinkType::Ethernet)
}

/// The interface that the frame entered by.
#[inline(always)]
pub(crate) fn interface(context: &XdpContext) -> u32 {
    match replay() {
        Some(input) => input.ifindex,
        // SAFETY: the kernel's context outlives the program. Volatile, or LLVM merges this load with the one above into
        // one through a chosen pointer: "dereference of modified ctx ptr disallowed".
        None => unsafe { (&raw const (*context.ctx).ingress_ifindex).read_volatile() },
    }
}

/// This CPU's place for the packet at hand.
#[inline(always)]
pub(crate) fn case() -> Option<&'static mut Case> {
    // SAFETY: the entry is this CPU's own and XDP does not nest on a CPU, so there is one reference at a time.
    CASES.get_ptr_mut(0).map(|case| unsafe { &mut *case })
}

/// This CPU's counters of an interface, or those of all that have none of their own.
#[inline(always)]
pub(crate) fn counters(interface: u32) -> Option<*mut Counters> {
    let mut row = InterfaceRow::default();
    let found = seek(interface, map::INTERFACE_ROWS, |at| {
        row = InterfaceRow(INTERFACES.get_ptr(at).map_or(0, |row| atomic::load(row.cast())));
        row.interface() == interface
    });
    COUNTERS.get_ptr_mut(found.map_or(0, |_| row.row()))
}

/// The bank of legs in force. It is written before it is published, and not touched until a grace period after.
#[inline(always)]
pub(crate) fn leg_bank() -> u32 {
    LEG_BANK.get_ptr(0).map_or(0, atomic::load) as u32
}

/// The leg that has a key, bank and all.
#[inline(always)]
pub(crate) fn leg(key: SubinterfaceKey) -> Option<Leg> {
    let mut found = None;
    key.seek(|row| {
        found = LEGS.get(row);
        found.is_none_or(|row| is_same(row.key, key))
    })?;
    found.map(|row| row.leg)
}

/// As [`Tables::subinterface`], by another look at the row instead of a number more on the stack.
#[inline(always)]
pub(crate) fn place(key: SubinterfaceKey) -> Option<&'static Subinterface> {
    let row = key.seek(|row| SUBINTERFACES.get(row).is_none_or(|row| is_same(row.key, key)))?;
    SUBINTERFACES.get(row).map(|row| &row.value)
}

/// Compares keys in one branch: the verifier would follow each of several, in every row that is tried. For the same reason a
/// row that is not there, and all are, ends a search.
#[inline(always)]
fn is_same(one: SubinterfaceKey, other: SubinterfaceKey) -> bool {
    is_zero(one.difference(other))
}

/// The maps as the engine sees them.
pub(crate) struct Maps;

impl Tables for Maps {
    #[inline(always)]
    fn epoch(&self) -> Epoch {
        // Absent is impossible for an array of one; generation 0 has no tables, so it drops.
        Epoch::from_word(GENERATION.get_ptr(0).map_or(0, atomic::load))
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        match replay() {
            Some(input) => input.now,
            None => clock::coarse(),
        }
    }

    #[inline(always)]
    fn boot_now(&self) -> u64 {
        match replay() {
            Some(input) => input.boot,
            // SAFETY: the helper takes no arguments.
            None => unsafe { bpf_ktime_get_boot_ns() },
        }
    }

    #[inline(always)]
    fn subinterface(&self, key: &SubinterfaceKey) -> Option<&Subinterface> {
        // A bank's rows are written before the bank is published and not touched until a grace period after.
        let mut found = None;
        key.seek(|row| {
            found = SUBINTERFACES.get(row);
            found.is_none_or(|row| is_same(row.key, *key))
        })?;
        found.map(|row| &row.value)
    }

    #[inline(always)]
    fn network(&self, index: u32) -> Option<&Network> {
        NETWORKS.get(index)
    }

    #[inline(always)]
    fn scope(&self, index: u32) -> Option<&ScopeRange> {
        SCOPES.get(index)
    }

    #[inline(always)]
    fn address(&self, key: &AddressKey) -> Option<u32> {
        subprogram::address(key)
    }

    #[inline(always)]
    fn is_absent(&self, key: &AddressKey) -> bool {
        address_table::is_absent(self, key.words())
    }

    #[inline(always)]
    fn identity(&self, slot: u32) -> Option<Versioned> {
        versioned(ADDRESSES.get_ptr(slot)?.cast())
    }

    #[inline(always)]
    fn device(&self, index: u32) -> Option<&Device> {
        DEVICES.get(index)
    }

    #[inline(always)]
    fn profile(&self, index: u32) -> Option<Versioned> {
        versioned(PROFILES.get_ptr(index)?)
    }

    #[inline(always)]
    fn rule_set(&self, index: u32) -> Option<&RuleSet> {
        RULE_SETS.get(index)
    }

    #[inline(always)]
    fn range(&self, index: u32) -> Option<&Range> {
        RANGES.get(index)
    }

    #[inline(always)]
    fn peer(&self, index: u32) -> Option<&Peer> {
        PEERS.get(index)
    }

    #[inline(always)]
    fn port(&self, index: u32) -> Option<&PortRange> {
        PORTS.get(index)
    }

    #[inline(always)]
    fn window(&self, index: u32) -> Option<&Window> {
        WINDOWS.get(index)
    }

    #[inline(always)]
    fn window_open(&self, span: Span) -> search::Found {
        subprogram::window_open(span.start, span.len)
    }

    #[inline(always)]
    fn scope_before(&self, span: Span, address: Addr) -> search::Found {
        subprogram::scope_before(span.start, span.len, address.high(), address.low())
    }

    #[inline(always)]
    fn range_before(&self, span: Span, address: Addr) -> search::Found {
        subprogram::range_before(span.start, span.len, address.high(), address.low())
    }

    #[inline(always)]
    fn peer_before(&self, span: Span, profile: ProfileId) -> search::Found {
        subprogram::peer_before(span.start, span.len, profile.0)
    }

    #[inline(always)]
    fn port_before(&self, span: Span, wanted: u32) -> search::Found {
        subprogram::port_before(span.start, span.len, wanted)
    }

    #[inline(always)]
    fn port_before_at(&self, span: Span, address: Addr, wanted: u32) -> search::Found {
        subprogram::port_before_at(span.start, span.len, address.high(), address.low(), wanted)
    }
}

impl Index for Maps {
    type Line = *const u64;

    #[inline(always)]
    fn line(&self, number: u32) -> Option<Self::Line> {
        ADDRESS_INDEX.get_ptr(number).map(<*const _>::cast)
    }

    #[inline(always)]
    fn load(&self, line: Self::Line, word: usize) -> u64 {
        atomic::load(line.wrapping_add(word))
    }

    #[inline(always)]
    fn has(&self, slot: u32, key: [u64; 3]) -> bool {
        // A row's key is written before an entry leads there, and not again until a grace period after the entry is gone.
        // Word by word: compared whole, both keys are copied to the stack first.
        let Some(row) = ADDRESSES.get_ptr(slot) else { return false };
        let word = |at| atomic::load(row.cast::<u64>().wrapping_add(AddressRow::KEY + at));
        (word(0) ^ key[0]) | (word(1) ^ key[1]) | (word(2) ^ key[2]) == 0
    }
}

impl Tunnels for Maps {
    #[inline(always)]
    fn tunnel(&self, slot: u32) -> Option<u64> {
        let row = ADDRESSES.get_ptr(slot)?.cast::<u64>();
        Some(atomic::load(row.wrapping_add(AddressRow::TUNNEL)))
    }

    #[inline(always)]
    fn bind(&self, slot: u32, seen: u64, word: u64) -> bool {
        let Some(row) = ADDRESSES.get_ptr_mut(slot) else { return false };
        atomic::replace(row.cast::<u64>().wrapping_add(AddressRow::TUNNEL), seen, word)
    }
}

/// Reads both words, each in one load.
#[inline(always)]
fn versioned(pair: *const Versioned) -> Option<Versioned> {
    let words = pair.cast::<u64>();
    Some(Versioned::from_words([atomic::load(words), atomic::load(words.wrapping_add(1))]))
}
