//! Values of the maps, and how a published one is read.

use core::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use super::addr::Addr;
use super::id::{DeviceId, Generation, NetworkId, ProfileId, RuleId};
use super::key::{FlowKey, SubinterfaceKey, VLAN_OTHER};
use crate::address_table::ENTRIES;
use crate::verdict::DropReason;

/// The one word that a packet reads before anything else: generation, and which bank of the small tables it uses.
///
/// Stored as one aligned `u64` (`generation << 32 | bank`); changing it is one store.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct Epoch {
    /// Everything staged with `since` up to here is in force.
    pub generation: Generation,
    /// 0 or 1.
    pub bank: u32,
}

impl Epoch {
    /// Unpacks the word of the map `GENERATION`.
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self { generation: Generation((word >> 32) as u32), bank: (word & 1) as u32 }
    }

    /// Packs it again.
    pub const fn to_word(self) -> u64 {
        ((self.generation.0 as u64) << 32) | (self.bank & 1) as u64
    }
}

/// Two words `{since, value}`; the one with the greatest `since` not above the packet's generation holds.
///
/// Staging overwrites the word that does not hold, by one aligned store, so a running packet never
/// sees half a change. Value 0 is "absent".
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Versioned {
    words: [u64; 2],
}

impl Versioned {
    /// From the two words as read.
    #[inline(always)]
    pub const fn from_words(words: [u64; 2]) -> Self {
        Self { words }
    }

    /// Packs one word.
    pub const fn word(since: Generation, value: u32) -> u64 {
        ((since.0 as u64) << 32) | value as u64
    }

    /// The value at `generation` and since when it holds; value 0 if none was staged yet.
    #[inline(always)]
    pub const fn at(self, generation: Generation) -> (Generation, u32) {
        let [a, b] = self.words;
        let (a_since, b_since) = ((a >> 32) as u32, (b >> 32) as u32);
        let a_ok = a_since <= generation.0;
        let b_ok = b_since <= generation.0;
        let word = if a_ok && (!b_ok || a_since >= b_since) {
            a
        } else if b_ok {
            b
        } else {
            0
        };
        (Generation((word >> 32) as u32), word as u32)
    }

    /// Which word does not hold at `generation`, so may be overwritten.
    pub const fn spare(self, generation: Generation) -> usize {
        let [a, b] = self.words;
        let (a_since, b_since) = ((a >> 32) as u32, (b >> 32) as u32);
        let a_ok = a_since <= generation.0;
        let b_ok = b_since <= generation.0;
        if a_ok && (!b_ok || a_since >= b_since) { 1 } else { 0 }
    }

    /// The raw words.
    pub const fn words(self) -> [u64; 2] {
        self.words
    }
}

/// An address: whom it leads to, and how it comes. A cache line of its own, because the program writes in it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct AddressRow {
    /// Row in [`super::map::DEVICES`], by generation.
    pub identity: Versioned,
    /// [`super::AddressKey::words`]; rows that no entry of the index leads to may have any.
    pub key: [u64; 3],
    /// `teid << 32 | seconds` of the tunnel that the address came through last; 0 before the first packet.
    pub tunnel: u64,
    /// Zero.
    pub _pad: [u64; 2],
}

impl AddressRow {
    /// The first word of [`Self::key`]; those before are [`Self::identity`].
    pub const KEY: usize = offset_of!(Self, key) / 8;
    /// The word of [`Self::tunnel`].
    pub const TUNNEL: usize = offset_of!(Self, tunnel) / 8;
}

/// A line of [`super::map::ADDRESS_INDEX`], as [`crate::address_table`] says.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct IndexLine {
    words: [u64; ENTRIES],
}

/// A run of entries in a flat table.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Pod, Zeroable)]
#[repr(C)]
pub struct Span {
    /// Index of the first entry.
    pub start: u32,
    /// How many.
    pub len: u32,
}

impl Span {
    /// No entries.
    pub const EMPTY: Self = Self { start: 0, len: 0 };
}

/// Role bit: frames from the device side enter here.
pub const ROLE_ACCESS: u8 = 1;
/// Role bit: frames from the data network enter here.
pub const ROLE_CORE: u8 = 2;
/// Role bit: devices' packets pass here that were judged elsewhere; nothing is dropped.
pub const ROLE_WITNESS: u8 = 4;
/// Role bit: what the host itself sends passes, where what leaves is judged.
pub const ROLE_HOST_PASSES: u8 = 8;

/// Traffic of no device is dropped.
pub const TRANSIT_DROP: u8 = 0;
/// Traffic of no device passes.
pub const TRANSIT_PASS: u8 = 1;
/// Traffic of no device passes only to the host's own addresses: what a host without an accepted policy does.
pub const TRANSIT_HOST: u8 = 2;

/// What is known of one interface and VLAN stack. Banked; immutable while its bank is in force.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Subinterface {
    /// Since when this row has this content.
    pub since: Generation,
    /// The network seen here, or none.
    pub network: NetworkId,
    /// The host's own prefixes on this link, as [`ScopeRange`]s: who may speak ARP and ND.
    pub link: Span,
    /// This host's GTP-U endpoints, as [`ScopeRange`]s: what comes for them is judged inside. Empty where there are none.
    pub endpoints: Span,
    /// Who may send to them, as [`ScopeRange`]s.
    pub peers: Span,
    /// Ranges of TEIDs as [`ScopeRange`]s from `::teid` to `::teid`; the scope is the number of the network they belong to.
    pub teids: Span,
    /// Pools of the networks seen here as [`ScopeRange`]s; the scope is the network's number, with [`OWNER_BY_TEID`] where
    /// only a TEID tells. Used where `network` is none.
    pub owners: Span,
    /// Seconds of silence after which a device may come through another tunnel.
    pub tunnel_idle: u16,
    /// [`ROLE_ACCESS`], [`ROLE_CORE`] or both.
    pub roles: u8,
    /// [`TRANSIT_DROP`], [`TRANSIT_PASS`] or [`TRANSIT_HOST`].
    pub transit: u8,
}

impl Subinterface {
    /// A place with no role, where nothing passes.
    pub const NOWHERE: Self = Self {
        since: Generation::NONE,
        network: NetworkId::NONE,
        link: Span::EMPTY,
        endpoints: Span::EMPTY,
        peers: Span::EMPTY,
        teids: Span::EMPTY,
        owners: Span::EMPTY,
        tunnel_idle: 0,
        roles: 0,
        transit: TRANSIT_DROP,
    };
}

/// A row of the table of interfaces and VLANs, with its key; free if the key is nobody's. One cache line.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct SubinterfaceRow {
    /// Whose row it is.
    pub key: SubinterfaceKey,
    /// What is known of it.
    pub value: Subinterface,
}

/// An IP interface of this host, as frames enter or leave by it past the kernel's stack.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Pod, Zeroable)]
#[repr(C)]
pub struct Leg {
    /// The interface that routes name.
    pub ifindex: u32,
    /// The interface that its frames travel on: itself, or the one below its VLAN tags.
    pub port: u32,
    /// Its VLAN tags, the outer one first: `EtherType << 16 | VLAN number`; 0 is no tag.
    pub tags: [u32; 2],
    /// What frames to it are addressed to.
    pub mac: [u8; 6],
    /// Zero.
    pub _pad: [u8; 2],
}

impl Leg {
    /// How many tags its frames have.
    #[inline(always)]
    pub const fn depth(&self) -> u32 {
        (self.tags[0] != 0) as u32 + (self.tags[1] != 0) as u32
    }
}

/// A row of the table of [`Leg`]s, with its key; free if the key is nobody's. Banked, with a bank of its own: legs are the
/// host's, not the policy's. Immutable while its bank is in force.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct LegRow {
    /// [`SubinterfaceKey::entry`] or [`SubinterfaceKey::exit`].
    pub key: SubinterfaceKey,
    /// What enters or leaves there.
    pub leg: Leg,
}

/// One network's scopes. Banked: index is `bank * NETWORK_CAPACITY + id`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Network {
    /// Since when this row has this content.
    pub since: Generation,
    /// [`NETWORK_DROPS_FRAGMENTS`], [`NETWORK_PASSES_OPTIONS`], [`NETWORK_OBSERVES`], [`NETWORK_FORWARDS`].
    pub flags: u32,
    /// Pools and infrastructure, sorted and disjoint.
    pub scopes: Span,
    /// Which prefix of a device covers an address: as [`ScopeRange`]s whose scope is the prefix's length.
    pub prefixes: Span,
    /// How long its flows live.
    pub timeouts: Timeouts,
}

/// How long flows of a network live without a packet of their device, in seconds; 0 is the engine's own.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Timeouts {
    /// TCP that nobody answered yet.
    pub tcp_half_open: u32,
    /// TCP that was answered.
    pub tcp_established: u32,
    /// TCP that both sides have closed, or that was reset.
    pub tcp_closing: u32,
    /// UDP that was answered.
    pub udp: u32,
    /// UDP that nobody answered yet.
    pub udp_unanswered: u32,
    /// SCTP.
    pub sctp: u32,
    /// ICMP echo.
    pub icmp: u32,
    /// Protocols without ports.
    pub portless: u32,
}

impl Timeouts {
    /// The engine's own for all of them.
    pub const DEFAULT: Self = Self {
        tcp_half_open: 0,
        tcp_established: 0,
        tcp_closing: 0,
        udp: 0,
        udp_unanswered: 0,
        sctp: 0,
        icmp: 0,
        portless: 0,
    };
}

/// [`Network::flags`]: no fragment from or to a device passes.
pub const NETWORK_DROPS_FRAGMENTS: u32 = 1;
/// [`Network::flags`]: packets with IPv4 options or IPv6 options headers are judged like others.
pub const NETWORK_PASSES_OPTIONS: u32 = 2;
/// [`Network::flags`]: addresses of its pools that no device has are only observed.
pub const NETWORK_OBSERVES: u32 = 4;
/// [`Network::flags`]: packets of live flows may leave past the kernel's stack.
pub const NETWORK_FORWARDS: u32 = 8;

impl Network {
    /// A network without addresses.
    pub const NOBODY: Self = Self {
        since: Generation::NONE,
        flags: 0,
        scopes: Span::EMPTY,
        prefixes: Span::EMPTY,
        timeouts: Timeouts::DEFAULT,
    };
}

/// [`ScopeRange::scope`]: addresses that belong to devices or to nobody.
pub const SCOPE_POOL: u32 = 1;
/// [`ScopeRange::scope`]: the operator's own machines, this host's addresses among them.
pub const SCOPE_INFRASTRUCTURE: u32 = 2;
/// [`ScopeRange::scope`]: a prefix on the link itself.
pub const SCOPE_LINK: u32 = 3;
/// [`ScopeRange::scope`]: a GTP-U endpoint, this host's or a peer's.
pub const SCOPE_ENDPOINT: u32 = 4;
/// Set in the scope of [`Subinterface::owners`]: the network is told by its TEIDs, so a tunnel's inner address alone is not enough.
pub const OWNER_BY_TEID: u32 = 1 << 31;

/// A range of addresses and what it is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct ScopeRange {
    /// First address.
    pub first: Addr,
    /// Last address, inclusive.
    pub last: Addr,
    /// [`SCOPE_POOL`], [`SCOPE_INFRASTRUCTURE`] or [`SCOPE_LINK`]; in [`Network::prefixes`] a length.
    pub scope: u32,
}

/// In the value of an identity beside the device row: the address lies behind the device, on its LAN.
pub const IDENTITY_BEHIND: u32 = 1 << 31;
/// As above, of an IPv6 /64: longer prefixes of its device lie in it, and count for what they cover.
pub const IDENTITY_NESTED: u32 = 1 << 30;
/// The device row of an identity.
pub const IDENTITY_ROW: u32 = !(IDENTITY_BEHIND | IDENTITY_NESTED);

/// [`Device::flags`]: `mac` must match.
pub const DEVICE_MAC_BOUND: u16 = 1;
/// [`Device::flags`]: what [`RuleSet::repair`] names stays open while the device is in quarantine.
pub const DEVICE_REPAIR: u16 = 2;
/// [`Device::flags`]: what its policy refuses passes, and is told as what would have been dropped.
pub const DEVICE_OBSERVES: u16 = 4;
/// [`Device::quarantine`]: until somebody lifts it.
pub const QUARANTINE_OPEN_END: u64 = u64::MAX;

/// One device as one generation sees it. Immutable: a change is written to the device's other row.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Device {
    /// Who it is.
    pub device: DeviceId,
    /// Where it lives.
    pub network: NetworkId,
    /// What applies to it.
    pub profile: ProfileId,
    /// The interface its frames must enter by; 0 is any that shows its network.
    pub ifindex: u32,
    /// The outer VLAN its frames must carry; [`VLAN_OTHER`] is any.
    pub outer_vlan: u16,
    /// The inner VLAN its frames must carry; [`VLAN_OTHER`] is any.
    pub inner_vlan: u16,
    /// The source MAC address its frames must have if [`DEVICE_MAC_BOUND`].
    pub mac: [u8; 6],
    /// [`DEVICE_MAC_BOUND`], [`DEVICE_REPAIR`], [`DEVICE_OBSERVES`].
    pub flags: u16,
    /// The TEID its packets must come with; 0 is the first one that it uses.
    pub teid: u32,
    /// Boot time in nanoseconds until which it is in quarantine; 0 if it is not.
    pub quarantine: u64,
    /// Boot time in nanoseconds from which [`Device::aged`] applies to it instead; 0 if `profile` stays.
    pub aged_at: u64,
    /// What applies to it when what is known of it is too old, and nobody said anything new.
    pub aged: ProfileId,
    /// Zero.
    pub _pad: u32,
}

impl Device {
    /// A device bound to nothing but its network.
    pub const fn unbound(device: DeviceId, network: NetworkId, profile: ProfileId) -> Self {
        Self {
            device,
            network,
            profile,
            ifindex: 0,
            outer_vlan: VLAN_OTHER,
            inner_vlan: VLAN_OTHER,
            mac: [0; 6],
            flags: 0,
            teid: 0,
            quarantine: 0,
            aged_at: 0,
            aged: ProfileId::NONE,
            _pad: 0,
        }
    }
}

/// What a profile may do; stored once per content, immutable while any profile refers to it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct RuleSet {
    /// [`Range`]s that devices may open flows to.
    pub outbound: Span,
    /// [`Range`]s that may open flows to the devices' own addresses.
    pub inbound: Span,
    /// [`Range`]s of addresses behind the devices; each leads to the [`Range`]s that may open flows to it.
    pub behind: Span,
    /// [`Peer`]s that devices may open flows to.
    pub peers: Span,
    /// [`PortRange`]s that beat every rule, at either end.
    pub never: Span,
    /// [`Range`]s that devices may open flows to while they are in quarantine, if [`DEVICE_REPAIR`].
    pub repair: Span,
    /// The [`Window`]s of all its ports.
    pub windows: Span,
    /// What each device may do.
    pub limits: Limits,
}

/// What one device may do, each way apart; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Pod, Zeroable)]
#[repr(C)]
pub struct Limits {
    /// Nanoseconds that a packet costs, of a second that may be owed.
    pub packet_ns: u32,
    /// Nanoseconds that a new flow costs.
    pub flow_ns: u32,
    /// Flows at once.
    pub flows: u32,
    /// Zero.
    pub _pad: u32,
    /// Nanoseconds that a byte costs, times 65,536.
    pub byte_cost: u64,
}

impl Limits {
    /// True if there is no limit at all.
    #[inline(always)]
    pub const fn is_none(&self) -> bool {
        self.packet_ns == 0 && self.flow_ns == 0 && self.flows == 0 && self.byte_cost == 0
    }

    /// Nanoseconds that a frame of this length costs.
    #[inline(always)]
    pub const fn frame_ns(&self, length: u32) -> u64 {
        self.byte_cost.wrapping_mul(length as u64) >> 16
    }
}

/// A range of addresses and what is open there. The ranges of one span are sorted and disjoint.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Range {
    /// First address.
    pub first: Addr,
    /// Last address, inclusive.
    pub last: Addr,
    /// Allowed [`PortRange`]s; in [`RuleSet::behind`] the [`Range`]s of those who may call.
    pub open: Span,
}

/// A profile that may be reached, with its ports. The peers of one span are sorted by profile.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Peer {
    /// The responder's profile.
    pub profile: ProfileId,
    /// Allowed [`PortRange`]s at its devices' own addresses.
    pub ports: Span,
    /// [`Range`]s of addresses behind its devices, with their ports.
    pub behind: Span,
}

/// Ports of the responder. The entries of one span are sorted by (protocol, first) and disjoint.
///
/// For ICMP the "port" is the type of the request: 8 (ICMP echo) or 128 (ICMPv6 echo).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Pod, Zeroable)]
#[repr(C)]
pub struct PortRange {
    /// IP protocol number.
    pub protocol: u8,
    /// [`PORT_OPEN`], or what closes the rule to the devices: nothing else opens these ports.
    pub closed: u8,
    /// Zero.
    pub _pad: [u8; 2],
    /// First port.
    pub first: u16,
    /// Last port, inclusive.
    pub last: u16,
    /// The rule that says so.
    pub rule: RuleId,
    /// Idle time of its flows in seconds; 0 is the protocol's default.
    pub idle: u32,
    /// When it is open, as [`Window`]s; always if there are none.
    pub windows: Span,
}

/// A stretch of boot time in which a rule is open. The windows of one span are sorted and disjoint.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Pod, Zeroable)]
#[repr(C)]
pub struct Window {
    /// Boot time in nanoseconds at which it opens.
    pub open: u64,
    /// Boot time in nanoseconds at which it is closed again.
    pub close: u64,
    /// Boot time in nanoseconds at which flows end that it let in: later than `close` where another rule takes over.
    pub until: u64,
    /// The rule that says so.
    pub rule: RuleId,
    /// Idle time of its flows in seconds; 0 is the protocol's default.
    pub idle: u32,
}

/// [`PortRange::closed`]: the rule allows it.
pub const PORT_OPEN: u8 = 0;
/// [`PortRange::closed`]: the rule allows it, by something that gets too old: every packet of its flows is judged.
pub const PORT_AGES: u8 = 3;
/// [`PortRange::closed`]: the rule demands a posture that the devices do not have.
pub const PORT_CLOSED_BY_POSTURE: u8 = 1;
/// [`PortRange::closed`]: the rule demands that the devices be elsewhere, or connected otherwise.
pub const PORT_CLOSED_BY_PLACE: u8 = 2;

impl PortRange {
    /// The same with windows that lie from `base` on, and not from 0.
    pub const fn with_windows_from(self, base: u32) -> Self {
        if self.windows.len == 0 {
            return self;
        }
        Self { windows: Span { start: self.windows.start.wrapping_add(base), len: self.windows.len }, ..self }
    }

    /// What closes it; `None` if it is open. A number that nobody knows opens nothing.
    #[inline(always)]
    pub const fn closed_by(&self) -> Option<DropReason> {
        match self.closed {
            PORT_OPEN | PORT_AGES => None,
            PORT_CLOSED_BY_POSTURE => Some(DropReason::ConditionPosture),
            PORT_CLOSED_BY_PLACE => Some(DropReason::ConditionPlace),
            _ => Some(DropReason::InternalTable),
        }
    }
}

/// [`Flow::initiator`]: the device opened the flow.
pub const INITIATOR_LOCAL: u32 = 0;
/// [`Flow::initiator`]: the other end did, by an explicit inbound rule.
pub const INITIATOR_REMOTE: u32 = 1;

/// [`Flow::state`]: the responder has answered.
pub const STATE_REPLIED: u64 = 1;
/// [`Flow::state`]: both sides have closed the TCP connection, or one has reset it.
pub const STATE_CLOSING: u64 = 2;
/// [`Flow::state`]: the initiator has closed its side of the TCP connection.
pub const STATE_FIN_BY_INITIATOR: u64 = 4;
/// [`Flow::state`]: the responder has.
pub const STATE_FIN_BY_RESPONDER: u64 = 8;

/// [`Flow::state`]: what allows it ends by the clock, so every packet of it is judged.
pub const STATE_TIMED: u64 = 16;

/// [`Flow::state`]: a [`Window`] allows it, so its deadline may be the window's end.
pub const STATE_WINDOW: u64 = 32;

/// A slot of the flow table, as [`crate::flow_table`] lays it out: two cache lines.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct FlowSlot {
    words: [u64; 16],
}

/// Size of the flow table, and the secret of its hash. Never changes while there are flows.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct FlowGeometry {
    /// Random numbers that nobody outside knows.
    pub secret: [u64; 13],
    /// How many buckets there are: a power of two.
    pub buckets: u32,
    /// Zero.
    pub _pad: u32,
}

/// What is counted of one device: a cache line of its own, so that no device slows another down.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct DeviceState {
    words: [u64; 8],
}

/// Words of [`DeviceState`]: until when its packets are paid off, in nanoseconds; for those it sent, and for those it was sent.
pub const PACKETS_OWED: usize = 0;
/// Words of [`DeviceState`]: the same for bytes.
pub const BYTES_OWED: usize = 2;
/// Words of [`DeviceState`]: the same for flows that it opened, and that others opened to it.
pub const FLOWS_OWED: usize = 4;
/// Word of [`DeviceState`]: flows that the device opened, dead ones too until they are swept.
pub const FLOWS_BY_DEVICE: usize = 6;
/// Word of [`DeviceState`]: flows that others opened to the device.
pub const FLOWS_BY_OTHERS: usize = 7;

/// One flow, as it is read out of its slot.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Flow {
    /// Whose flow it is.
    pub key: FlowKey,
    /// `stamp << 32 | rule`: the generation that the deciding packet read first, and the deciding rule.
    pub decision: u64,
    /// Monotonic time in nanoseconds from which the flow is dead; 0 if it was cut.
    pub deadline: u64,
    /// Where the packets of `local` and of a device at the other end enter, as [`Flow::access_word`]; 0 before the first.
    pub access: [u64; 2],
    /// `idle << 32 | flags`: idle time in seconds (0 is the protocol's default); `STATE_*`.
    pub state: u64,
    /// [`INITIATOR_LOCAL`] or [`INITIATOR_REMOTE`].
    pub initiator: u32,
    /// The device at the other end, or none.
    pub peer: DeviceId,
    /// Monotonic time in nanoseconds of the first packet.
    pub opened: u64,
    /// Packets and bytes (whole frames) sent by `local`.
    pub sent: [u64; 2],
    /// Packets and bytes (whole frames) sent to `local`.
    pub received: [u64; 2],
}

impl Flow {
    /// The generation that the deciding packet read before any policy.
    #[inline(always)]
    pub const fn stamp(&self) -> Generation {
        Generation((self.decision >> 32) as u32)
    }

    /// The rule that allowed it; none if none did, and those who refuse it only observe.
    #[inline(always)]
    pub const fn rule(&self) -> RuleId {
        RuleId(self.decision as u32)
    }

    /// Packs an access word: 56 bits, VLAN numbers have twelve.
    #[inline(always)]
    pub const fn access_word(ifindex: u32, outer_vlan: u16, inner_vlan: u16) -> u64 {
        (ifindex as u64) << 24 | (outer_vlan as u64 & 0xfff) << 12 | inner_vlan as u64 & 0xfff
    }

    /// Interface, outer and inner VLAN of an access word.
    pub const fn place(access: u64) -> (u32, u16, u16) {
        ((access >> 24) as u32, (access >> 12) as u16 & 0xfff, access as u16 & 0xfff)
    }

    /// Packs a decision word.
    #[inline(always)]
    pub const fn decision_word(stamp: Generation, rule: RuleId) -> u64 {
        ((stamp.0 as u64) << 32) | rule.0 as u64
    }
}
