//! Identified packet → verdict: a live flow that still holds, or never, rules and `between` in that order.
//!
//! Rules only allow. State is opened by the initiator alone, and a flow remembers the generation
//! that its deciding packet read before any policy: whatever changed since about either end makes
//! the next packet be judged again, in the initiator's direction, whichever way it goes itself.
//!
//! What is refused by those only who observe passes, and has a flow of its own if it tells who began. Such a
//! flow has no rule, so every packet of it is judged again: it becomes another as soon as a rule allows it,
//! and ends as soon as somebody enforces that none does.

use crate::abi::value::{INITIATOR_LOCAL, INITIATOR_REMOTE, PORT_AGES, PORT_OPEN, STATE_TIMED, STATE_WINDOW};
use crate::abi::{
    Addr, AddressKey, Device, DeviceId, Epoch, Flow, FlowKey, Limits, Network, Peer, PortRange, ProfileId,
    Range, RuleId, RuleSet, ScopeRange, Span, Subinterface, SubinterfaceKey, Versioned, Window,
};
use crate::case::{Case, Confined, Course, Identity, Party};
use crate::ends::Ends;
use crate::engine::Step;
use crate::limits::Toll;
use crate::parse::Kind;
use crate::search;
use crate::timeouts::{next_state, timeout};
use crate::tunnel::Binding;
use crate::verdict::{DropReason, Pass};
use crate::wire::{gtpu, icmp, ip_proto, l4};

/// Everything compiled from policy, as one packet reads it; BPF maps in the kernel, collections on the host.
///
/// An index that must exist and does not makes the engine answer `internal_table`.
pub trait Tables {
    /// The epoch word. Read once for each packet, before anything else.
    fn epoch(&self) -> Epoch;
    /// Coarse monotonic time in nanoseconds.
    fn now(&self) -> u64;
    /// Boot time in nanoseconds: unlike the monotonic clock it goes on while the host sleeps.
    fn boot_now(&self) -> u64;
    /// A row of the banked table of interfaces and VLANs.
    fn subinterface(&self, key: &SubinterfaceKey) -> Option<&Subinterface>;
    /// A row of the banked table of networks.
    fn network(&self, index: u32) -> Option<&Network>;
    /// An entry of the banked table of scopes.
    fn scope(&self, index: u32) -> Option<&ScopeRange>;
    /// The slot of an address.
    fn address(&self, key: &AddressKey) -> Option<u32>;
    /// The versioned device row of a slot.
    fn identity(&self, slot: u32) -> Option<Versioned>;
    /// A device row.
    fn device(&self, index: u32) -> Option<&Device>;
    /// The versioned rule set of a profile.
    fn profile(&self, index: u32) -> Option<Versioned>;
    /// A rule set.
    fn rule_set(&self, index: u32) -> Option<&RuleSet>;
    /// A remote range.
    fn range(&self, index: u32) -> Option<&Range>;
    /// A reachable profile.
    fn peer(&self, index: u32) -> Option<&Peer>;
    /// A port range.
    fn port(&self, index: u32) -> Option<&PortRange>;
    /// A window.
    fn window(&self, index: u32) -> Option<&Window>;

    /// True if one look tells that an address has no slot; elsewhere [`Self::address`] does, which the kernel side calls as a
    /// subprogram.
    #[inline(always)]
    fn is_absent(&self, _key: &AddressKey) -> bool {
        false
    }
    /// As [`search::scope_before`]; the kernel side calls it as a subprogram.
    #[inline(always)]
    fn scope_before(&self, span: Span, address: Addr) -> search::Found {
        search::scope_before(self, span, address)
    }
    /// As [`search::range_before`].
    #[inline(always)]
    fn range_before(&self, span: Span, address: Addr) -> search::Found {
        search::range_before(self, span, address)
    }
    /// As [`search::peer_before`].
    #[inline(always)]
    fn peer_before(&self, span: Span, profile: ProfileId) -> search::Found {
        search::peer_before(self, span, profile)
    }
    /// As [`search::port_before`].
    #[inline(always)]
    fn port_before(&self, span: Span, wanted: u32) -> search::Found {
        search::port_before(self, span, wanted)
    }
    /// As [`search::port_before_at`].
    #[inline(always)]
    fn port_before_at(&self, span: Span, address: Addr, wanted: u32) -> search::Found {
        search::port_before_at(self, span, address, wanted)
    }
    /// As [`search::window_open`].
    #[inline(always)]
    fn window_open(&self, span: Span) -> search::Found {
        search::window_open(self, span)
    }
}

/// The words of a flow that deciding reads, taken while the entry held the asked key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FlowWords {
    /// As [`Flow::decision`].
    pub decision: u64,
    /// True if its packets may take the short way in the generation of its stamp: see [`crate::express`].
    pub vouched: bool,
    /// As [`Flow::deadline`].
    pub deadline: u64,
    /// As [`Flow::access`]; the second may be a [`Binding`] instead.
    pub access: [u64; 2],
    /// As [`Flow::state`].
    pub state: u64,
    /// As [`Flow::initiator`].
    pub initiator: u32,
}

impl FlowWords {
    /// The generation that it was decided on in.
    #[inline(always)]
    pub const fn stamp(&self) -> u32 {
        (self.decision >> 32) as u32
    }

    /// The rule that allowed it.
    #[inline(always)]
    pub const fn rule(&self) -> RuleId {
        RuleId(self.decision as u32)
    }

    /// The flow as a candidate sees it: who began and where it entered; and although its rule has a name, it holds in
    /// no generation.
    #[inline(always)]
    pub const fn undecided(self) -> Self {
        Self { decision: self.decision & u32::MAX as u64, vouched: false, ..self }
    }

    /// In which tunnels its device's packets come, as who vouched for it has found.
    #[inline(always)]
    pub const fn tunnel(&self) -> Binding {
        Binding(self.access[1])
    }

    /// What is known of where the packets of its device enter, or those of the other end.
    #[inline(always)]
    const fn entry(&self, own: bool) -> u64 {
        if own { self.access[0] } else { self.access[1] }
    }

    /// True if the sender is a device, since it has an access word, and its packets of this flow entered elsewhere before.
    #[inline(always)]
    pub const fn enters_elsewhere(&self, own: bool, access: u64) -> bool {
        let known = self.entry(own);
        access != 0 && known != 0 && known != access && Binding(known).is_none()
    }

    /// Its state without what a permission has put there.
    #[inline(always)]
    const fn untimed(&self) -> u64 {
        self.state & 0xffff_ffff & !(STATE_TIMED | STATE_WINDOW)
    }

    /// True until it has been silent for too long.
    #[inline(always)]
    pub const fn is_live_at(&self, now: u64) -> bool {
        self.deadline > now
    }

    /// True if what allows it may end or change by the clock alone.
    #[inline(always)]
    pub const fn is_timed(&self) -> bool {
        self.state & STATE_TIMED != 0
    }

    /// True if its rule holds without asking the policy: nothing about either end is newer than its stamp, the
    /// packet's generation is not older, and nothing in it ends by the clock alone. Without a rule nothing holds.
    #[inline(always)]
    pub const fn holds(&self, case: &Case) -> bool {
        let stamp = self.stamp();
        let known = stamp >= case.identity.latest.0 && stamp <= case.epoch.generation.0;
        known && !self.is_timed() && !self.rule().is_none()
    }
}

/// What a packet leaves in a flow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct FlowUpdate {
    /// As [`Flow::decision`].
    pub decision: u64,
    /// As [`Flow::deadline`].
    pub deadline: u64,
    /// Which of [`Flow::access`] this packet's sender has.
    pub side: usize,
    /// Its value, 0 to leave it.
    pub access: u64,
    /// What it is instead of.
    pub found: u64,
    /// As [`Flow::state`].
    pub state: u64,
    /// The frame's length.
    pub bytes: u32,
    /// How many packets it is.
    pub packets: u32,
}

/// What a new flow starts with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct FlowStart {
    /// The first packet's words; `side` 0 if it was sent by `local`.
    pub update: FlowUpdate,
    /// As [`Flow::initiator`].
    pub initiator: u32,
    /// As [`Flow::peer`].
    pub peer: DeviceId,
    /// As [`Flow::opened`].
    pub opened: u64,
    /// How many flows the device may have that were opened by the same side; 0 is any number.
    pub quota: u32,
}

/// The table of flows.
pub trait Flows {
    /// Where an entry is; may be stale the moment it is returned.
    type Handle: Copy;

    /// Finds an entry and takes its words; nothing if the entry was recycled meanwhile.
    fn flow(&self, key: &FlowKey) -> Option<(Self::Handle, FlowWords)>;
    /// True if an entry lived then, as far as it is remembered; one that was ended before its time did not.
    fn lived(&self, key: &FlowKey, then: u64) -> bool;
    /// Writes an update, unless the entry holds another key by now.
    fn update(&self, handle: Self::Handle, key: &FlowKey, update: &FlowUpdate);
    /// Makes a flow dead at once.
    fn end(&self, handle: Self::Handle, key: &FlowKey);
    /// As [`crate::limits::charge`].
    fn charge(&self, device: DeviceId, limits: &Limits, toll: Toll, now: u64) -> Result<(), DropReason>;
    /// As [`crate::limits::refund`].
    fn refund(&self, device: DeviceId, limits: &Limits, toll: Toll);
    /// Opens a flow, over a dead one of the same key too; or says why there is no room.
    fn open(&self, key: &FlowKey, start: &FlowStart) -> Result<(), DropReason>;

    /// True if a candidate looks on: it finds flows [undecided](FlowWords::undecided), and all else leaves no trace.
    #[inline(always)]
    fn rehearses(&self) -> bool {
        false
    }
}

/// Passes an identified packet of a device if a live flow of it holds; nothing if there is none.
#[inline(always)]
pub fn hold<T: Tables + Flows>(tables: &T, case: &mut Case) -> Step {
    let now = tables.now();
    let step = match decidable(case.packet.kind) {
        Ok(()) => Deciding { tables, case, now }.hold(),
        Err(reason) => Err(reason),
    };
    quarantine_told(case, step)
}

/// Decides on an identified packet of a device that is of no live flow.
#[inline(always)]
pub fn open<T: Tables + Flows>(tables: &T, case: &mut Case) -> Result<Pass, DropReason> {
    let now = tables.now();
    let mut deciding = Deciding { tables, case, now };
    let pass = if deciding.case.packet.piece.is_later() { deciding.open_late() } else { deciding.open() };
    quarantine_told(case, pass)
}

/// Notes whether a packet that opens no flow would go on one that is allowed, had that been opened before.
#[inline(always)]
pub fn follow<T: Tables + Flows>(tables: &T, case: &mut Case) {
    let now = tables.now();
    let follows = Deciding { tables, case, now }.follows();
    case.follows = follows as u32;
}

/// Of a device in quarantine everything is refused for that, whatever else speaks against it.
#[inline(always)]
fn quarantine_told<T>(case: &Case, judged: Result<T, DropReason>) -> Result<T, DropReason> {
    let confined = case.identity.device.is_confined() || case.identity.peer.is_confined();
    match judged {
        Err(DropReason::InternalTable | DropReason::FlowTableFull) | Ok(_) => judged,
        Err(_) if confined => Err(DropReason::Quarantined),
        Err(_) => judged,
    }
}

/// The rule that allows the flow of `case.key` under the packet's generation; nothing if none does and not only
/// observers refuse it.
///
/// `by_sender` says that the flow is charged to the device that the packet is about.
#[inline(always)]
pub fn rule_today<T: Tables + Flows>(
    tables: &T,
    case: &mut Case,
    by_sender: bool,
    initiator: u32,
) -> Option<RuleId> {
    let mut deciding = Deciding { tables, case, now: tables.now() };
    let entry = deciding.judge_again(&deciding.case.key, by_sender, initiator);
    let judged = entry.and_then(|entry| deciding.permission(entry));
    deciding.or_observed(judged).ok().map(|permission| permission.rule)
}

/// What is not a conversation cannot be decided; named here, one by one.
#[inline(always)]
pub(crate) const fn decidable(kind: Kind) -> Result<(), DropReason> {
    match kind {
        Kind::Ports | Kind::EchoRequest | Kind::EchoReply | Kind::Portless => Ok(()),
        Kind::Fragment => Err(DropReason::FragmentEarly),
        Kind::IcmpError => Err(DropReason::IcmpErrorUnrelated),
        Kind::IcmpOther => Err(DropReason::UnsupportedIcmp),
        Kind::OtherProtocol => Err(DropReason::UnsupportedProtocol),
        Kind::Arp | Kind::Neighbour | Kind::RouterSolicitation | Kind::RouterOnly | Kind::LinkControl => {
            Err(DropReason::UnsupportedProtocol)
        }
    }
}

/// What allows a conversation.
#[derive(Clone, Copy)]
pub(crate) struct Permission {
    pub(crate) rule: RuleId,
    /// Idle time of its flows in seconds; 0 is the protocol's default.
    idle: u32,
    /// Monotonic time in nanoseconds at which it ends by the clock; [`FOREVER`] if it does not.
    ends: u64,
    /// [`STATE_TIMED`], [`STATE_WINDOW`]: it may end or change by the clock alone.
    timed: u64,
}

/// No clock ends it.
const FOREVER: u64 = u64::MAX;

impl Permission {
    /// Of what everybody who refuses it only observes: no rule.
    const OBSERVED: Self = Self { rule: RuleId::NONE, idle: 0, ends: FOREVER, timed: 0 };

    /// Of an entry that neither a clock nor anything else closes, now or later; nothing of another one.
    #[inline(always)]
    pub(crate) const fn at_all_times(entry: &PortRange) -> Option<Self> {
        if entry.closed != PORT_OPEN || entry.windows.len != 0 {
            return None;
        }
        Some(Self { rule: entry.rule, idle: entry.idle, ends: FOREVER, timed: 0 })
    }

    /// Its part of [`Flow::state`].
    #[inline(always)]
    pub(crate) const fn state(self) -> u64 {
        (self.idle as u64) << 32 | self.timed
    }
}

/// What a packet was charged.
#[derive(Clone, Copy)]
struct Charge<'a> {
    /// None if its device has no limit.
    limits: Option<&'a Limits>,
    toll: Toll,
}

/// A packet of a device, while it is decided on.
struct Deciding<'a, T> {
    tables: &'a T,
    case: &'a mut Case,
    now: u64,
}

/// The responder's end of a conversation: what a rule names.
#[derive(Clone, Copy)]
pub(crate) struct Service {
    pub(crate) protocol: u8,
    pub(crate) port: u16,
}

impl Service {
    /// That of a flow.
    #[inline(always)]
    pub(crate) const fn of(key: &FlowKey, local_responds: bool) -> Self {
        Self { protocol: key.protocol, port: service_port(key, local_responds) }
    }

    /// The core's own protocols are no device's to speak, whatever a rule says: GTP-C (TS 29.274), GTP-U
    /// (TS 29.281), GTP' (TS 32.295) and PFCP (TS 29.244).
    #[inline(always)]
    pub(crate) const fn not_control(self) -> Result<(), DropReason> {
        not_control(self.protocol, self.port)
    }
}

/// What beats every rule, at either end.
#[inline(always)]
pub(crate) fn not_never<T: Tables>(tables: &T, never: Span, service: Service) -> Result<(), DropReason> {
    // Most have none; the search is a call in the kernel.
    if never.len == 0 {
        return Ok(());
    }
    match search::port(tables, never, service.protocol, service.port)? {
        Some(_) => Err(DropReason::Never),
        None => Ok(()),
    }
}

/// As [`Service::not_control`].
#[inline(always)]
pub(crate) const fn not_control(protocol: u8, port: u16) -> Result<(), DropReason> {
    match (protocol, port) {
        (ip_proto::UDP, 2123 | gtpu::PORT | 3386 | 8805) => Err(DropReason::ControlProtocol),
        _ => Ok(()),
    }
}

impl<'a, T: Tables + Flows> Deciding<'a, T> {
    #[inline(always)]
    fn hold(&mut self) -> Step {
        let outgoing = self.is_outgoing();
        self.case.key = self.key(self.case.identity.device, outgoing);
        if let Some(pass) = self.on_flow(outgoing)? {
            return Ok(Some(pass));
        }
        if self.case.identity.peer.device.is_none() {
            return Ok(None);
        }
        self.case.key = self.key(self.case.identity.peer, false);
        self.on_flow(false)
    }

    /// True if the device that the packet is about has sent it.
    #[inline(always)]
    const fn is_outgoing(&self) -> bool {
        !matches!(self.case.course, Course::Downlink)
    }

    /// The flow's key as `local` sees it; `outgoing` says that `local` sent the packet.
    #[inline(always)]
    const fn key(&self, local: Party, outgoing: bool) -> FlowKey {
        Ends::of(&self.case.packet).key(self.case.evidence.network, local.device, outgoing)
    }

    /// Passes the packet if a live flow holds; nothing if there is none.
    #[inline(always)]
    fn on_flow(&mut self, outgoing: bool) -> Result<Option<Pass>, DropReason> {
        let Some((handle, flow)) = self.tables.flow(&self.case.key) else { return Ok(None) };
        if !flow.is_live_at(self.now) {
            return Ok(None);
        }
        if flow.enters_elsewhere(outgoing, self.access()) {
            return Err(DropReason::SpoofedSource);
        }
        let from_initiator = outgoing == (flow.initiator == INITIATOR_LOCAL);
        if self.is_syn() && !from_initiator {
            return self.case.refuse(DropReason::Unsolicited).map(|()| Some(Pass::Established));
        }
        let (mut decision, mut state, mut ends) = (flow.decision, flow.state, FOREVER);
        if !flow.holds(self.case) {
            let entry = self.judge_again(&self.case.key, outgoing, flow.initiator);
            match entry.and_then(|entry| self.permission(entry)) {
                Ok(permission) => {
                    ends = permission.ends;
                    decision = Flow::decision_word(self.case.epoch.generation, permission.rule);
                    state = flow.untimed() | permission.state();
                }
                Err(reason) if self.case.observes(reason) => {
                    self.case.note(reason);
                    decision = Flow::decision_word(self.case.epoch.generation, RuleId::NONE);
                    state = flow.untimed();
                }
                Err(reason) => {
                    if self.tables.rehearses() {
                        // Who passed the packet on the short way did not say by which rule.
                        self.case.evidence.rule = flow.rule();
                    }
                    // A packet of an older generation must not end what a newer one allowed.
                    if flow.stamp() <= self.case.epoch.generation.0 {
                        self.tables.end(handle, &self.case.key);
                    }
                    return Err(reason);
                }
            }
        }
        self.case.evidence.rule.0 = decision as u32;
        if matches!(self.case.course, Course::Returning) {
            // Counted at the sender's access interface; what the core claims must not keep a flow alive or close it.
            return Ok(Some(Pass::Established));
        }
        self.pay(RuleId(decision as u32), false)?;
        let state = next_state(state, from_initiator, self.tcp_flags());
        let access = self.access();
        let deadline =
            if access == 0 { self.deadline_of_others(&flow, state) } else { self.now + self.timeout(state) };
        let found = flow.entry(outgoing);
        let update = FlowUpdate {
            decision,
            deadline: deadline.min(ends),
            side: usize::from(!outgoing),
            access: if found == access { 0 } else { access },
            found,
            state,
            bytes: self.case.packet.length,
            packets: self.case.arrival.packets,
        };
        self.tables.update(handle, &self.case.key, &update);
        Ok(Some(Pass::Established))
    }

    /// The deadline after a packet that is not the device's own: the time runs on from its last one, at the state's own
    /// pace.
    #[inline(always)]
    fn deadline_of_others(&self, flow: &FlowWords, state: u64) -> u64 {
        let (before, after) = (self.timeout(flow.state), self.timeout(state));
        if (flow.state | state) & STATE_WINDOW != 0 && after < before {
            // The deadline may be a window's end, and then it does not tell when the device spoke last.
            flow.deadline.min(self.now + after)
        } else {
            (flow.deadline + after).saturating_sub(before)
        }
    }

    /// Judges the flow's first packet again, under today's policy.
    #[inline(always)]
    fn judge_again(
        &self,
        key: &FlowKey,
        outgoing: bool,
        initiator: u32,
    ) -> Result<&'a PortRange, DropReason> {
        let lateral = !self.case.identity.peer.device.is_none();
        let (sender, receiver) = (self.case.identity.device, self.case.identity.peer);
        let (local, other) = if lateral && !outgoing { (receiver, sender) } else { (sender, receiver) };
        if initiator == INITIATOR_REMOTE {
            return self.inbound(local, key);
        }
        if lateral { self.between(local, other, key) } else { self.outbound(local, key) }
    }

    /// What is judged, or no rule at all if everybody who refuses it only observes.
    #[inline(always)]
    fn or_observed(&mut self, judged: Result<Permission, DropReason>) -> Result<Permission, DropReason> {
        match judged {
            Ok(permission) => Ok(permission),
            Err(reason) => self.case.refuse(reason).map(|()| Permission::OBSERVED),
        }
    }

    /// A later fragment says too little to begin the flow again that its first one had.
    #[inline(always)]
    fn open_late(&mut self) -> Result<Pass, DropReason> {
        if matches!(self.case.course, Course::Returning) {
            return Err(DropReason::FragmentEarly);
        }
        let outgoing = self.is_outgoing();
        self.case.key = self.key(self.case.identity.device, outgoing);
        match self.judge_first(outgoing).and_then(|entry| self.permission(entry)) {
            // Nor had the first one a flow: it was observed, and did not tell who began.
            Err(reason) if self.case.observes(reason) => self.case.refuse(reason).map(|()| Pass::Opened),
            Ok(_) | Err(_) => Err(DropReason::FragmentEarly),
        }
    }

    /// Judges a packet that may be a flow's first.
    #[inline(always)]
    fn open(&mut self) -> Result<Pass, DropReason> {
        if matches!(self.case.course, Course::Returning) {
            return Err(DropReason::SpoofedSource);
        }
        let outgoing = self.is_outgoing();
        self.case.key = self.key(self.case.identity.device, outgoing);
        let judged = self.judge_first(outgoing).and_then(|entry| self.permission(entry));
        let permission = self.or_observed(judged)?;
        if permission.rule.is_none() && !self.tells_who_began(outgoing) {
            return Ok(Pass::Opened);
        }
        self.case.evidence.rule = permission.rule;
        let charge = self.pay(permission.rule, true)?;
        let state = next_state(permission.state(), true, self.tcp_flags());
        let start = FlowStart {
            update: FlowUpdate {
                decision: Flow::decision_word(self.case.epoch.generation, permission.rule),
                deadline: (self.now + self.timeout(state)).min(permission.ends),
                side: usize::from(!outgoing),
                access: self.access(),
                found: 0,
                state,
                bytes: self.case.packet.length,
                packets: self.case.arrival.packets,
            },
            initiator: if outgoing { INITIATOR_LOCAL } else { INITIATOR_REMOTE },
            peer: self.case.identity.peer.device,
            opened: self.now,
            quota: charge.limits.map_or(0, |limits| limits.flows),
        };
        match self.tables.open(&self.case.key, &start) {
            Ok(()) => Ok(Pass::Opened),
            Err(reason) => {
                self.refund(charge);
                self.case.refuse(reason).map(|()| Pass::Opened)
            }
        }
    }

    /// Charges what a rule allows; what is only observed costs nothing, and what is beyond a limit may be only that.
    #[inline(always)]
    fn pay(&mut self, rule: RuleId, opens: bool) -> Result<Charge<'a>, DropReason> {
        if !rule.is_none() {
            match self.charge(opens) {
                Ok(charge) => return Ok(charge),
                Err(reason) => self.case.refuse(reason)?,
            }
        }
        Ok(Charge { limits: None, toll: self.toll(opens) })
    }

    #[inline(always)]
    fn toll(&self, opens: bool) -> Toll {
        Toll::new(self.case.arrival.packets, self.case.packet.length, !self.is_outgoing(), opens)
    }

    /// Charges the packet to the limits of the device that it is about, or refuses it.
    #[inline(always)]
    fn charge(&self, opens: bool) -> Result<Charge<'a>, DropReason> {
        let device = self.case.identity.device;
        let toll = self.toll(opens);
        let limits = match device.rule_set {
            0 => None,
            _ => Some(&self.rules(device, DropReason::InternalTable)?.limits)
                .filter(|limits| !limits.is_none()),
        };
        if let Some(limits) = limits {
            self.tables.charge(device.device, limits, toll, self.now)?;
        }
        Ok(Charge { limits, toll })
    }

    /// Undoes a charge for a packet that is refused after all.
    #[inline(always)]
    fn refund(&self, charge: Charge<'_>) {
        if let Some(limits) = charge.limits {
            self.tables.refund(self.case.identity.device.device, limits, charge.toll);
        }
    }

    /// Judges a packet as the first of a flow.
    #[inline(always)]
    fn judge_first(&self, outgoing: bool) -> Result<&'a PortRange, DropReason> {
        let Case { identity, key, packet, .. } = &*self.case;
        if matches!(packet.kind, Kind::EchoReply) {
            return Err(DropReason::Unsolicited);
        }
        if !outgoing {
            // A mid-stream packet from the core never creates state; one from a device does.
            if packet.protocol == ip_proto::TCP && !self.is_syn() {
                return Err(DropReason::Unsolicited);
            }
            return self.inbound(identity.device, key);
        }
        if identity.peer.device.is_none() {
            self.outbound(identity.device, key)
        } else {
            self.between(identity.device, identity.peer, key)
        }
    }

    /// True if the packet may be an answer, or from within a connection, and what came before it is allowed.
    #[inline(always)]
    fn follows(&self) -> bool {
        if self.is_syn() || matches!(self.case.packet.kind, Kind::EchoRequest) {
            return false;
        }
        let Identity { device, peer, .. } = self.case.identity;
        match self.case.course {
            Course::Uplink => self.allows(device, true, INITIATOR_REMOTE),
            Course::Downlink => {
                let within = self.case.packet.protocol == ip_proto::TCP;
                self.allows(device, false, INITIATOR_LOCAL)
                    || within && self.allows(device, false, INITIATOR_REMOTE)
            }
            Course::Lateral => self.allows(peer, false, INITIATOR_LOCAL),
            Course::Returning => false,
        }
    }

    /// True if the flow of the packet, as `local` sees it, is allowed to this initiator.
    #[inline(always)]
    fn allows(&self, local: Party, outgoing: bool, initiator: u32) -> bool {
        let key = self.key(local, outgoing);
        self.judge_again(&key, outgoing, initiator).and_then(|entry| self.permission(entry)).is_ok()
    }

    /// False for a packet that may as well be an answer.
    ///
    /// A flow that no rule allows is kept in the direction in which it began, and judged in no other: on a
    /// guess, what a device has begun before anybody watched would be its server's, and cut when it is enforced.
    #[inline(always)]
    fn tells_who_began(&self, outgoing: bool) -> bool {
        match self.case.packet.kind {
            Kind::EchoRequest => true,
            Kind::EchoReply => false,
            Kind::Ports
            | Kind::Portless
            | Kind::IcmpError
            | Kind::IcmpOther
            | Kind::Fragment
            | Kind::OtherProtocol
            | Kind::Arp
            | Kind::Neighbour
            | Kind::RouterSolicitation
            | Kind::RouterOnly
            | Kind::LinkControl => outgoing || self.is_syn(),
        }
    }

    /// Device to the outside.
    #[inline(always)]
    fn outbound(&self, device: Party, key: &FlowKey) -> Result<&'a PortRange, DropReason> {
        let service = Service::of(key, false);
        service.not_control()?;
        let rules = self.rules(device, DropReason::NoRule)?;
        not_never(self.tables, rules.never, service)?;
        let reach = match device.confined {
            Confined::No => rules.outbound,
            Confined::Whole => return Err(DropReason::Quarantined),
            Confined::Repair => rules.repair,
        };
        self.entry_at(reach, key.remote, service, DropReason::NoRule)
    }

    /// The outside to a device, which takes an explicit inbound rule; to its LAN, one that says `behind`.
    #[inline(always)]
    fn inbound(&self, device: Party, key: &FlowKey) -> Result<&'a PortRange, DropReason> {
        let service = Service::of(key, true);
        self.not_confined(device)?;
        let rules = self.rules(device, DropReason::Unsolicited)?;
        not_never(self.tables, rules.never, service)?;
        let callers = if device.behind == 0 {
            rules.inbound
        } else {
            search::range(self.tables, rules.behind, key.local)?.ok_or(DropReason::Unsolicited)?
        };
        self.entry_at(callers, key.remote, service, DropReason::Unsolicited)
    }

    /// Device to device, which takes a rule that names both ends; to the LAN of one, one that says `behind`.
    #[inline(always)]
    fn between(&self, device: Party, peer: Party, key: &FlowKey) -> Result<&'a PortRange, DropReason> {
        let service = Service::of(key, false);
        service.not_control()?;
        self.not_confined(device)?;
        self.not_confined(peer)?;
        let rules = self.rules(device, DropReason::SegmentDenied)?;
        not_never(self.tables, rules.never, service)?;
        if peer.rule_set != 0 {
            not_never(self.tables, self.rules(peer, DropReason::SegmentDenied)?.never, service)?;
        }
        let callable =
            search::peer(self.tables, rules.peers, peer.profile)?.ok_or(DropReason::SegmentDenied)?;
        if peer.behind == 0 {
            open_entry(self.port(callable.ports, service)?, DropReason::SegmentDenied)
        } else {
            self.entry_at(callable.behind, key.remote, service, DropReason::SegmentDenied)
        }
    }

    /// Nobody calls a device in quarantine, and it calls no other device.
    #[inline(always)]
    const fn not_confined(&self, party: Party) -> Result<(), DropReason> {
        if party.is_confined() { Err(DropReason::Quarantined) } else { Ok(()) }
    }

    /// What is said about a service at an address, at whatever time.
    #[inline(always)]
    fn entry_at(
        &self,
        reach: Span,
        address: Addr,
        service: Service,
        none: DropReason,
    ) -> Result<&'a PortRange, DropReason> {
        open_entry(search::port_at(self.tables, reach, address, service.protocol, service.port)?, none)
    }

    /// What an entry of the policy allows now.
    #[inline(always)]
    fn permission(&self, entry: &PortRange) -> Result<Permission, DropReason> {
        if entry.windows.len == 0 {
            let ends_soon = entry.closed == PORT_AGES || self.case.identity.device.is_confined();
            let timed = if ends_soon { STATE_TIMED } else { 0 };
            return Ok(Permission { rule: entry.rule, idle: entry.idle, ends: FOREVER, timed });
        }
        let window = search::window(self.tables, entry.windows)?.ok_or(DropReason::ConditionTime)?;
        Ok(Permission {
            rule: window.rule,
            idle: window.idle,
            ends: self.end_of(window),
            timed: STATE_TIMED | STATE_WINDOW,
        })
    }

    /// When the flows of a window end by the monotonic clock. Where nobody enforces that, they go on without a rule.
    #[inline(always)]
    fn end_of(&self, window: &Window) -> u64 {
        if self.case.observes(DropReason::ConditionTime) {
            return FOREVER;
        }
        self.now.saturating_add(window.until.saturating_sub(self.tables.boot_now()))
    }

    #[inline(always)]
    fn rules(&self, party: Party, none: DropReason) -> Result<&'a RuleSet, DropReason> {
        if party.rule_set == 0 {
            return Err(none);
        }
        self.tables.rule_set(party.rule_set).ok_or(DropReason::InternalTable)
    }

    #[inline(always)]
    fn port(&self, ports: Span, service: Service) -> Result<Option<&'a PortRange>, DropReason> {
        search::port(self.tables, ports, service.protocol, service.port)
    }

    #[inline(always)]
    fn access(&self) -> u64 {
        access(self.case)
    }

    /// How long the flow at hand lives in a state.
    #[inline(always)]
    fn timeout(&self, state: u64) -> u64 {
        timeout(&self.case.place.network.timeouts, self.case.key.protocol, state)
    }

    #[inline(always)]
    fn tcp_flags(&self) -> u8 {
        if self.case.packet.protocol == ip_proto::TCP { self.case.packet.detail } else { 0 }
    }

    /// True for the segment that opens a TCP connection.
    #[inline(always)]
    fn is_syn(&self) -> bool {
        self.tcp_flags() & (l4::TCP_SYN | l4::TCP_ACK | l4::TCP_RST | l4::TCP_FIN) == l4::TCP_SYN
    }
}

/// What was found, unless it is closed.
#[inline(always)]
fn open_entry(found: Option<&PortRange>, none: DropReason) -> Result<&PortRange, DropReason> {
    let entry = found.ok_or(none)?;
    match entry.closed_by() {
        Some(reason) => Err(reason),
        None => Ok(entry),
    }
}

/// Where the sender's packets enter, if the sender is a device; 0 if not.
#[inline(always)]
pub const fn access(case: &Case) -> u64 {
    match case.course {
        Course::Uplink | Course::Lateral => {
            let packet = &case.packet;
            Flow::access_word(case.arrival.ifindex, packet.outer_vlan, packet.inner_vlan)
        }
        Course::Downlink | Course::Returning => 0,
    }
}

/// The port that a rule names: the responder's, or the type of an echo request.
#[inline(always)]
const fn service_port(key: &FlowKey, local_responds: bool) -> u16 {
    match key.protocol {
        ip_proto::ICMP => icmp::ECHO_REQUEST_V4 as u16,
        ip_proto::ICMPV6 => icmp::ECHO_REQUEST_V6 as u16,
        _ if local_responds => key.local_port,
        _ => key.remote_port,
    }
}
