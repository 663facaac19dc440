//! The short way: a packet of a flow of which somebody has vouched, in this generation, that nothing can be held
//! against such packets.
//!
//! What becomes of a device's packet follows from the tables, which stay as they are for a generation, from its
//! addresses and ports, from where it enters, from clocks, and from what was before it. So a flow is vouched for, in
//! one generation, once a packet of the device has gone the whole way in it and
//!
//! - entered where the flow's packets have entered from the first, in no tunnel;
//! - is of a device that no MAC address, limit or clock has a say in (a quarantine, attributes that get too old);
//! - found its flow to hold, by a rule that no clock ends or will end;
//! - is not for an address that would be refused where the answer comes from.
//!
//! A packet of the same generation then passes if it is a plain one ([`crate::plain`]), enters where it must, and
//! leaves the flow in the state in which it is. Whatever else comes takes the whole way, as if there were no short one:
//! it answers [`Pass::Established`] or nothing, and leaves in the flow what the whole way would.

use crate::abi::value::{INITIATOR_LOCAL, ROLE_ACCESS, ROLE_CORE};
use crate::abi::{DeviceId, Epoch, Flow, FlowKey, Generation, SubinterfaceKey};
use crate::case::{Arrival, Case, Course};
use crate::decide::{self, FlowUpdate, FlowWords, Flows, Tables};
use crate::frame::Frame;
use crate::identify;
use crate::parse::Kind;
use crate::plain::Plain;
use crate::timeouts::{next_state, timeout};
use crate::verdict::Pass;

/// A table of flows that knows who vouches for what.
pub trait Vouched: Flows {
    /// Finds a live flow that is vouched for in a generation, whatever the device in its key.
    fn vouched(&self, key: &FlowKey, generation: Generation, now: u64) -> Option<(Self::Handle, FlowWords)>;
    /// Vouches for a flow as it was found, unless it is another by now.
    fn vouch(&self, handle: Self::Handle, key: &FlowKey, flow: &FlowWords, generation: Generation);
}

/// Passes a frame that nothing can be held against; nothing if the whole way must tell.
#[inline(always)]
pub fn express<F, T>(frame: &F, tables: &T, epoch: Epoch, arrival: &Arrival) -> Option<Pass>
where
    F: Frame + ?Sized,
    T: Tables + Vouched,
{
    let plain = Plain::load(frame, arrival)?;
    let place = tables.subinterface(&SubinterfaceKey::new(epoch.bank, arrival.ifindex, plain.vlan, 0))?;
    if place.network.is_none() || place.endpoints.len != 0 {
        return None;
    }
    let outgoing = match place.roles {
        ROLE_ACCESS => true,
        ROLE_CORE => false,
        _ => return None,
    };
    let key = plain.ends().key(place.network, DeviceId::NONE, outgoing);
    let now = tables.now();
    let (handle, flow) = tables.vouched(&key, epoch.generation, now)?;
    if flow.is_timed() {
        return None;
    }
    if outgoing && flow.access[0] != Flow::access_word(arrival.ifindex, plain.vlan, 0) {
        return None;
    }
    if next_state(flow.state, outgoing == (flow.initiator == INITIATOR_LOCAL), 0) != flow.state {
        return None;
    }
    let deadline = if outgoing {
        let network = tables.network(identify::network_index(epoch, place.network))?;
        now + timeout(&network.timeouts, plain.protocol, flow.state)
    } else {
        // The time runs on from the device's last packet.
        flow.deadline
    };
    let update = FlowUpdate {
        decision: flow.decision,
        deadline,
        side: usize::from(!outgoing),
        access: 0,
        state: flow.state,
        bytes: arrival.length,
        packets: arrival.packets,
    };
    tables.update(handle, &key, &update);
    Some(Pass::Established)
}

/// True for a packet that has passed on the whole way and may have something to vouch for: asked of every packet of a
/// flow, so that few go on to [`vouch`].
#[inline(always)]
pub const fn may_vouch(case: &Case) -> bool {
    matches!(case.course, Course::Uplink)
        && matches!(case.packet.kind, Kind::Ports)
        && case.packet.teid == 0
        && case.would == 0
        && case.identity.device.steady != 0
}

/// Vouches for the flow of a packet that has passed on the whole way.
#[inline(always)]
pub fn vouch<T: Tables + Vouched>(tables: &T, case: &Case) {
    let generation = case.epoch.generation;
    let Some((handle, flow)) = tables.flow(&case.key) else { return };
    let vouched = flow.vouched && flow.stamp() == generation.0;
    let limited = tables.rule_set(case.identity.device.rule_set).is_none_or(|rules| !rules.limits.is_none());
    if vouched || limited || !flow.holds(case) || flow.access[0] != decide::access(case) {
        return;
    }
    if matches!(identify::may_answer(tables, case, case.key.remote), Ok(true)) {
        tables.vouch(handle, &case.key, &flow, generation);
    }
}
