//! ICMP errors (RFC 792, RFC 4443): pass only as a report about a live flow, and change nothing.
//!
//! Any router on the way may send one, so its own source says nothing. What counts is the packet inside:
//! its sender must be the one that is told, and the flow that it belongs to must live. Path MTU discovery
//! (RFC 1191, RFC 8201) depends on that. A report neither creates, extends nor ends a flow.
//!
//! A device is no router: it tells about what was sent to itself or to what lies behind it. So no device
//! reaches another by a report about what that one says to others.

use crate::abi::{DeviceId, FlowKey};
use crate::case::{Case, Course, Party};
use crate::decide::{Flows, Tables, access, rule_today};
use crate::ends::Ends;
use crate::frame::{Frame, Window};
use crate::identify::party;
use crate::verdict::{DropReason, Pass};
use crate::wire::embedded::Embedded;
use crate::wire::{ether_type, icmp};

/// Errors that a device may get and send: ten a second, twenty at once.
const INTERVAL_NS: u64 = 100_000_000;
const BURST_NS: u64 = 20 * INTERVAL_NS;

/// How many errors a device has had of late.
pub trait ErrorBudgets {
    /// The theoretical arrival time of a device's next error (GCRA, ITU-T I.371), in nanoseconds.
    fn error_budget(&self, device: DeviceId) -> Option<u64>;
    /// Replaces it, unless another packet was first.
    fn spend_error(&self, device: DeviceId, seen: u64, next: u64) -> bool;
}

/// Reads the packet inside an ICMP error into `case.embedded`.
///
/// A stage of its own: the verifier adds up the stacks of a chain of calls.
#[inline(always)]
pub fn read<F: Frame + ?Sized>(frame: &F, case: &mut Case) -> Result<(), DropReason> {
    if case.packet.piece.is_fragment() {
        return Err(DropReason::IcmpErrorUnrelated);
    }
    let window = Window::new(frame, case.end).ok_or(DropReason::IcmpErrorUnrelated)?;
    let at = case.packet.transport + icmp::LEN as u32;
    let embedded = match case.packet.ether_type {
        ether_type::IPV4 => Embedded::load_v4(&window, at),
        _ => Embedded::load_v6(&window, at),
    };
    case.embedded = embedded.ok_or(DropReason::IcmpErrorUnrelated)?;
    // Who sent the packet is who must be told.
    let told = case.embedded.source == case.packet.destination;
    if told { Ok(()) } else { Err(DropReason::IcmpErrorUnrelated) }
}

/// Finds out who should have got the packet inside: a device that tells, or one that the outside tells about.
#[inline(always)]
pub fn meet<T: Tables>(tables: &T, case: &mut Case) -> Result<(), DropReason> {
    let found = party(tables, case, case.embedded.destination)?;
    let receiver = found.map_or(Party::NOBODY, |(party, ..)| party);
    if matches!(case.course, Course::Downlink) {
        case.identity.peer = receiver;
    } else if receiver.device.0 == case.identity.device.device.0 {
        // The same device, and perhaps an address behind it: what rules it is the receiver's.
        let observes = case.identity.device.observes & receiver.observes;
        case.identity.device = Party { observes, ..receiver };
    } else {
        return Err(DropReason::IcmpErrorUnrelated);
    }
    Ok(())
}

/// Judges an ICMP error from or to a device by the packet inside.
#[inline(always)]
pub fn judge<T>(tables: &T, case: &mut Case) -> Result<Pass, DropReason>
where
    T: Tables + Flows + ErrorBudgets,
{
    let sender_told = !matches!(case.course, Course::Downlink);
    let (device, peer) = (case.identity.device.device, case.identity.peer.device);
    // On the way down the device is told about what it sent; on the way up it tells about what it was sent.
    case.key = key(case, device, !sender_told);
    let mut related = is_live(tables, case, true)?;
    if !related && !peer.is_none() {
        case.key = key(case, peer, sender_told);
        related = is_live(tables, case, false)?;
    }
    if !related {
        refuse_unrelated(case)?;
    }
    if !matches!(case.course, Course::Returning) && !is_within_budget(tables, device) {
        return Err(DropReason::IcmpErrorRate);
    }
    Ok(Pass::IcmpError)
}

/// About no flow that is known. What comes back from the core was let through at an access interface, or never was.
#[inline(always)]
const fn refuse_unrelated(case: &mut Case) -> Result<(), DropReason> {
    if matches!(case.course, Course::Returning) {
        return Err(DropReason::IcmpErrorUnrelated);
    }
    case.refuse(DropReason::IcmpErrorUnrelated)
}

/// The key of the flow that the packet inside belongs to, as `local` sees it.
#[inline(always)]
const fn key(case: &Case, local: DeviceId, local_sent: bool) -> FlowKey {
    Ends::inside(&case.embedded).key(case.evidence.network, local, local_sent)
}

/// True if a flow of `case.key` lives, under today's policy too; `by_sender` says that it is charged to the device
/// that the packet is about. (A device may speak with itself, so the numbers do not tell.)
#[inline(always)]
fn is_live<T: Tables + Flows>(tables: &T, case: &mut Case, by_sender: bool) -> Result<bool, DropReason> {
    let Some((_, flow)) = tables.flow(&case.key) else { return Ok(false) };
    if !flow.is_live_at(tables.now()) {
        return Ok(false);
    }
    let rule = if flow.holds(case) {
        Some(flow.rule())
    } else {
        rule_today(tables, case, by_sender, flow.initiator)
    };
    let Some(rule) = rule else { return Ok(false) };
    // A device that tells enters where its packets do.
    if flow.enters_elsewhere(by_sender, access(case)) {
        return Err(DropReason::SpoofedSource);
    }
    case.evidence.rule = rule;
    Ok(true)
}

/// Spends one error; of two that see the same budget one is too many.
#[inline(always)]
fn is_within_budget<T: Tables + ErrorBudgets>(tables: &T, device: DeviceId) -> bool {
    let Some(seen) = tables.error_budget(device) else { return false };
    let now = tables.now();
    if seen > now + BURST_NS {
        return false;
    }
    let from = if seen > now { seen } else { now };
    tables.spend_error(device, seen, from + INTERVAL_NS)
}
