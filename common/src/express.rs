//! The short way: a packet of a flow of which somebody has vouched, in this generation, that nothing can be held
//! against such packets.
//!
//! What becomes of a device's packet follows from the tables, which stay as they are for a generation, from its
//! addresses and ports, from where it enters, from clocks, and from what was before it. So a flow is vouched for, in
//! one generation, once a packet of the device has gone the whole way in it and
//!
//! - entered where the flow's packets have entered from the first;
//! - is of a device that no MAC address, limit or clock has a say in (a quarantine, attributes that get too old);
//! - found its flow to hold, by a rule that no clock ends or will end;
//! - is not for an address that would be refused where the answer comes from.
//!
//! A packet of the same generation then passes if it is a plain one ([`crate::plain`]), enters where it must, and
//! leaves the flow in the state in which it is. Whatever else comes takes the whole way, as if there were no short one:
//! it answers [`Pass::Established`] or nothing, and leaves in the flow what the whole way would.
//!
//! A plain packet inside a plain datagram for a GTP-U endpoint passes as well, if endpoint and peer are right and the device
//! is bound to its tunnel: the flow remembers where that is to be asked ([`crate::tunnel::Binding`]), and it is asked of
//! each packet, which keeps the binding as on the whole way. Whether packets come in tunnels is a matter of the place,
//! so one in none never meets a flow that is vouched for in one, nor the other way round.
//!
//! A plain packet of no flow may open one as shortly: [`Opening`].
//!
//! A plain packet from an address of a pool that nobody has is dropped as shortly, once so many were told of that this one
//! would not be: a flood of them costs the stages nothing.

use crate::abi::value::{INITIATOR_LOCAL, NETWORK_OBSERVES, ROLE_ACCESS, ROLE_CORE, SCOPE_POOL};
use crate::abi::{
    Addr, AddressKey, DeviceId, Epoch, Flow, FlowKey, Generation, Network, NetworkId, Subinterface,
    SubinterfaceKey,
};
use crate::case::{Arrival, Case, Course};
use crate::decide::{self, FlowStart, FlowUpdate, FlowWords, Flows, Tables};
use crate::engine::Step;
use crate::frame::{Frame, Window};
use crate::identify;
use crate::parse::Kind;
use crate::plain::{self, Plain};
use crate::search;
use crate::timeouts::{next_state, timeout};
use crate::tunnel::{Binding, Inside, Tunnels};
use crate::verdict::{DropReason, Pass, Verdict};

pub use datagram::Datagram;
pub use opening::Opening;

mod datagram;
mod opening;

/// A table of flows that knows who vouches for what.
pub trait Vouched: Flows {
    /// Looks for a live flow that is vouched for in a generation, whatever the device in its key.
    fn vouched(&self, key: &FlowKey, generation: Generation, now: u64) -> Sought<Self::Handle>;
    /// As [`crate::flow_table::begin`].
    fn begin(&self, key: &FlowKey, start: &FlowStart) -> bool;
    /// Vouches for a flow as it was found, unless it is another by now.
    fn vouch(&self, handle: Self::Handle, key: &FlowKey, flow: &FlowWords, voucher: Voucher);
}

/// What came of looking for a flow that is vouched for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sought<H> {
    /// It is there.
    Vouched(H, FlowWords),
    /// There is one, but of it the whole way must tell.
    Other,
    /// There is none where most lie.
    Nothing,
}

/// What a packet vouches for a flow with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Voucher {
    /// The generation that it was judged in.
    pub generation: Generation,
    /// What tells in which tunnels the flow's packets come, if it came in one.
    pub tunnel: Binding,
}

/// What is known of packets that no device has sent.
pub trait Strangers: Tables {
    /// True if nobody would be told of such a verdict on a packet of a device, or of no device: of too many were they already.
    fn is_silent(&self, device: DeviceId, verdict: Verdict, now: u64) -> bool;
    /// True if the last packet of this CPU was dropped for this reason: of a flood one follows the other.
    fn was_one_before(&self, reason: DropReason) -> bool;
    /// As [`is_of_nobody`]; the kernel side calls it as a subprogram.
    #[inline(always)]
    fn is_of_nobody(&self, epoch: Epoch, network: NetworkId, source: Addr) -> bool
    where
        Self: Sized,
    {
        is_of_nobody(self, epoch, network, source)
    }
    /// As [`owner`].
    #[inline(always)]
    fn owner(&self, key: &SubinterfaceKey, teid: u32, source: Addr) -> NetworkId
    where
        Self: Sized,
    {
        owner(self, self.subinterface(key), teid, source)
    }
}

/// Why what nobody can have sent is dropped.
const STRANGER: DropReason = DropReason::UnknownDevice;

/// A plain packet where devices' packets enter, or those of the data network.
struct Entry {
    plain: Plain,
    network: NetworkId,
    outgoing: bool,
    /// The tunnel that it came through, 0 for none.
    teid: u32,
    now: u64,
}

/// What is said of a frame before anything inside a datagram is looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sight {
    /// Nothing: the whole way must tell.
    Nothing,
    /// It passes; with the flags of its network.
    Passes(u32),
    /// It passes if it opens a flow.
    Opens(Opening),
    /// What [`inside`] says.
    Inside(Datagram),
}

/// Passes a frame that nothing can be held against, or drops one that nobody can have sent; nothing if the whole way
/// must tell.
#[inline(always)]
pub fn express<F, T>(frame: &F, tables: &T, epoch: Epoch, arrival: &Arrival) -> Step
where
    F: Frame + ?Sized,
    T: Vouched + Strangers + Tunnels,
{
    match outside(frame, tables, epoch, arrival)? {
        Sight::Nothing => Ok(None),
        Sight::Passes(_) => Ok(Some(Pass::Established)),
        Sight::Opens(mut opening) => Ok(opening.open(tables).then_some(Pass::Opened)),
        Sight::Inside(datagram) => {
            let told = inside(frame, tables, epoch, arrival, datagram)?;
            Ok(told.map(|_| Pass::Established))
        }
    }
}

/// The first half of [`express`].
#[inline(always)]
pub fn outside<F, T>(frame: &F, tables: &T, epoch: Epoch, arrival: &Arrival) -> Result<Sight, DropReason>
where
    F: Frame + ?Sized,
    T: Vouched + Strangers + Tunnels,
{
    let Some((plain, place)) = place(frame, tables, epoch, arrival) else { return Ok(Sight::Nothing) };
    if place.endpoints.len != 0 {
        return Ok(Datagram::of(tables, &plain, place).map_or(Sight::Nothing, Sight::Inside));
    }
    let Some(entry) = Entry::of(tables, plain, place) else { return Ok(Sight::Nothing) };
    // Here, where there is the least to read, a flood takes no call.
    entry.judge::<_, false>(tables, epoch, arrival)
}

/// The second half: of the packet in a datagram. What passes is told by the flags of its network.
#[inline(always)]
pub fn inside<F, T>(
    frame: &F,
    tables: &T,
    epoch: Epoch,
    arrival: &Arrival,
    datagram: Datagram,
) -> Result<Option<u32>, DropReason>
where
    F: Frame + ?Sized,
    T: Vouched + Strangers + Tunnels,
{
    let Some(entry) = Entry::inside(frame, tables, epoch, arrival, datagram) else { return Ok(None) };
    match entry.judge::<_, true>(tables, epoch, arrival)? {
        Sight::Passes(flags) => Ok(Some(flags)),
        Sight::Nothing | Sight::Opens(_) | Sight::Inside(_) => Ok(None),
    }
}

/// A plain packet, and the place where it entered.
#[inline(always)]
fn place<'t, F, T>(
    frame: &F,
    tables: &'t T,
    epoch: Epoch,
    arrival: &Arrival,
) -> Option<(Plain, &'t Subinterface)>
where
    F: Frame + ?Sized,
    T: Tables,
{
    let (window, link) = plain::link(frame, arrival)?;
    // First, while there are few ways to have come here: the verifier follows each through all rows that are tried.
    let place = tables.subinterface(&SubinterfaceKey::new(epoch.bank, arrival.ifindex, link.vlan, 0))?;
    Some((Plain::behind(&window, link)?, place))
}

impl Entry {
    #[inline(always)]
    fn of<T: Tables>(tables: &T, plain: Plain, place: &Subinterface) -> Option<Self> {
        if place.network.is_none() {
            return None;
        }
        let outgoing = match place.roles {
            ROLE_ACCESS => true,
            ROLE_CORE => false,
            _ => return None,
        };
        Some(Self { plain, network: place.network, outgoing, teid: 0, now: tables.now() })
    }

    /// The packet in a datagram: where tunnels end, only those bring devices.
    #[inline(always)]
    fn inside<F, T>(
        frame: &F,
        tables: &T,
        epoch: Epoch,
        arrival: &Arrival,
        datagram: Datagram,
    ) -> Option<Self>
    where
        F: Frame + ?Sized,
        T: Strangers,
    {
        let window = Window::new(frame, arrival.length)?;
        let Inside { teid, at, end } = Inside::load(&window, datagram.at).ok()??;
        let plain = Plain::inside(&window.up_to(end)?, at, datagram.vlan)?;
        let network = match datagram.network {
            NetworkId::NONE => {
                let key = SubinterfaceKey::new(epoch.bank, arrival.ifindex, datagram.vlan, 0);
                tables.owner(&key, teid, plain.source())
            }
            network => network,
        };
        let refused = network.is_none() || plain.is_gtpu();
        (!refused).then(|| Self { plain, network, outgoing: true, teid, now: tables.now() })
    }

    /// Passes it or refuses it, or says that it may begin a flow.
    #[inline(always)]
    fn judge<T, const CALLS: bool>(
        &self,
        tables: &T,
        epoch: Epoch,
        arrival: &Arrival,
    ) -> Result<Sight, DropReason>
    where
        T: Vouched + Strangers + Tunnels,
    {
        self.of_no_flood::<_, CALLS>(tables, epoch)?;
        let Self { plain, network, outgoing, now, .. } = self;
        let key = plain.ends().key(*network, DeviceId::NONE, *outgoing);
        // What turns a flow is never passed, so it is not looked for.
        let sought =
            if plain.turns() { Sought::Nothing } else { tables.vouched(&key, epoch.generation, *now) };
        if let Sought::Vouched(handle, flow) = &sought
            && let Some(flags) = self.of_vouched(tables, epoch, arrival, &key, *handle, flow)
        {
            return Ok(Sight::Passes(flags));
        }
        self.of_somebody(tables, epoch)?;
        let opens = matches!(sought, Sought::Nothing) && self.may_open();
        let opening = || Opening { key, epoch, arrival: *arrival, vlan: plain.vlan, flags: plain.flags };
        Ok(if opens { Sight::Opens(opening()) } else { Sight::Nothing })
    }

    /// Refuses it in a flood from nobody; whether whoever has sent it is asked for by a call. (A function as an argument may
    /// become one.)
    #[inline(always)]
    fn of_no_flood<T: Strangers, const CALLS: bool>(
        &self,
        tables: &T,
        epoch: Epoch,
    ) -> Result<(), DropReason> {
        // Nobody's packet is of no flow that is vouched for, so either may be asked first: the other one costs a cache
        // line from far away.
        if !tables.was_one_before(STRANGER) || !self.is_silent(tables) {
            return Ok(());
        }
        let source = self.plain.source();
        let refused = if CALLS {
            tables.is_of_nobody(epoch, self.network, source)
        } else {
            is_of_nobody(tables, epoch, self.network, source)
        };
        if refused { Err(STRANGER) } else { Ok(()) }
    }

    /// True if nothing in it speaks against its being the first packet of a device's flow.
    #[inline(always)]
    const fn may_open(&self) -> bool {
        self.outgoing && self.teid == 0 && self.plain.may_begin()
    }

    /// Passes a packet of a flow that is vouched for; the flags of its network.
    #[inline(always)]
    fn of_vouched<T>(
        &self,
        tables: &T,
        epoch: Epoch,
        arrival: &Arrival,
        key: &FlowKey,
        handle: T::Handle,
        flow: &FlowWords,
    ) -> Option<u32>
    where
        T: Vouched + Tables + Tunnels,
    {
        let Self { plain, network, outgoing, teid, now } = self;
        if flow.is_timed() {
            return None;
        }
        if *outgoing && flow.access[0] != Flow::access_word(arrival.ifindex, plain.vlan, 0) {
            return None;
        }
        if *teid != 0 && !flow.tunnel().holds(tables, epoch.generation, *teid, *now) {
            return None;
        }
        if next_state(flow.state, *outgoing == (flow.initiator == INITIATOR_LOCAL), 0) != flow.state {
            return None;
        }
        let network = tables.network(identify::network_index(epoch, *network))?;
        let deadline = if *outgoing {
            now + timeout(&network.timeouts, plain.protocol, flow.state)
        } else {
            // The time runs on from the device's last packet.
            flow.deadline
        };
        let update = FlowUpdate {
            decision: flow.decision,
            deadline,
            side: usize::from(!*outgoing),
            access: 0,
            found: 0,
            state: flow.state,
            bytes: arrival.length,
            packets: arrival.packets,
        };
        tables.update(handle, key, &update);
        Some(network.flags)
    }

    /// Refuses what nobody can have sent, where nobody would be told: elsewhere the packet pays for no look at all.
    #[inline(always)]
    fn of_somebody<T: Strangers>(&self, tables: &T, epoch: Epoch) -> Result<(), DropReason> {
        let refused = self.is_silent(tables) && tables.is_of_nobody(epoch, self.network, self.plain.source());
        if refused { Err(STRANGER) } else { Ok(()) }
    }

    /// True if nobody would be told of it, were it of nobody.
    #[inline(always)]
    fn is_silent<T: Strangers>(&self, tables: &T) -> bool {
        self.outgoing && tables.is_silent(DeviceId::NONE, Verdict::Drop(STRANGER), self.now)
    }
}

/// The network of a device's packet in a tunnel, where several are seen; none if nothing tells.
#[inline(always)]
pub fn owner<T: Tables>(tables: &T, place: Option<&Subinterface>, teid: u32, source: Addr) -> NetworkId {
    let Some(place) = place else { return NetworkId::NONE };
    identify::owner_by_tunnel(tables, place, teid, source).unwrap_or(NetworkId::NONE)
}

/// True for an address of a network's pools that no device has, where that is not only observed.
#[inline(always)]
pub fn is_of_nobody<T: Tables>(tables: &T, epoch: Epoch, network: NetworkId, source: Addr) -> bool {
    let Some(row) = tables.network(identify::network_index(epoch, network)) else { return false };
    row.flags & NETWORK_OBSERVES == 0
        && search::scope_of_few(tables, row.scopes, source) == Ok(SCOPE_POOL)
        && !is_known(tables, row, network, source)
}

/// True if a device has the address, or had it. Few networks have prefixes to search.
#[inline(always)]
fn is_known<T: Tables>(tables: &T, row: &Network, network: NetworkId, address: Addr) -> bool {
    row.prefixes.len != 0 && search::scope(tables, row.prefixes, address) != Ok(0)
        || leads_anywhere(tables, &AddressKey::host(network, address))
        || !address.is_v4() && leads_anywhere(tables, &AddressKey::prefix64(network, address))
}

#[inline(always)]
fn leads_anywhere<T: Tables>(tables: &T, key: &AddressKey) -> bool {
    !tables.is_absent(key) && tables.address(key).is_some()
}

/// True for a packet that has passed on the whole way and may have something to vouch for: asked of every packet of a
/// flow, so that few go on to [`vouch`].
#[inline(always)]
pub const fn may_vouch(case: &Case) -> bool {
    matches!(case.course, Course::Uplink)
        && matches!(case.packet.kind, Kind::Ports)
        && case.would == 0
        && case.identity.device.steady != 0
}

/// Vouches for the flow of a packet that has passed on the whole way.
#[inline(always)]
pub fn vouch<T: Tables + Vouched>(tables: &T, case: &Case) {
    let generation = case.epoch.generation;
    let tunnel = if case.packet.teid == 0 { Binding::NONE } else { case.tunnel };
    let Some((handle, flow)) = tables.flow(&case.key) else { return };
    let bound = tunnel.is_none() || tunnel == flow.tunnel();
    let vouched = flow.vouched && flow.stamp() == generation.0 && bound;
    let limited = tables.rule_set(case.identity.device.rule_set).is_none_or(|rules| !rules.limits.is_none());
    if vouched || limited || !flow.holds(case) || flow.access[0] != decide::access(case) {
        return;
    }
    if matches!(identify::may_answer(tables, case, case.key.remote), Ok(true)) {
        tables.vouch(handle, &case.key, &flow, Voucher { generation, tunnel });
    }
}
