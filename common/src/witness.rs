//! A packet on an interface where devices' packets pass that another interface of this host has judged.
//!
//! Nothing is dropped, and no flow, limit or counter of a device is charged. What no judging point
//! can have let through is told: from a pool, and no live flow of it is known. Fragments and ICMP
//! errors have no flow of their own, and are not looked at; neither is what a network that only
//! observes lets pass without one. A packet may wait on its way from there to here, so what lived a moment ago
//! counts: its window may have ended in between.

use crate::abi::value::{NETWORK_OBSERVES, SCOPE_POOL};
use crate::case::{Case, Party};
use crate::decide::{Flows, Tables};
use crate::ends::Ends;
use crate::identify::party;
use crate::parse::Kind;
use crate::search;
use crate::verdict::{Direction, DropReason, Pass};

/// How long a packet may take from where it was judged: a packet core that is busy holds it for milliseconds.
pub const ON_THE_WAY_NS: u64 = 1_000_000_000;

/// Says whether somebody let the packet through; an error is a table that is not as it must be.
#[inline(always)]
pub fn look<T: Tables + Flows>(tables: &T, case: &mut Case) -> Result<Pass, DropReason> {
    let scopes = case.place.network.scopes;
    let about_link = matches!(
        case.packet.kind,
        Kind::Arp | Kind::Neighbour | Kind::RouterSolicitation | Kind::LinkControl
    );
    let known = !case.place.subinterface.network.is_none();
    if !known || about_link || search::scope(tables, scopes, case.packet.source)? != SCOPE_POOL {
        return Ok(Pass::Witness);
    }
    case.evidence.direction = Direction::Uplink;
    let Some((sender, ..)) = party(tables, case, case.packet.source)? else {
        return Ok(told_unless(case.place.network.flags & NETWORK_OBSERVES != 0));
    };
    case.evidence.device = sender.device;
    was_judged(tables, case, sender).map(told_unless)
}

#[inline(always)]
const fn told_unless(judged: bool) -> Pass {
    if judged { Pass::Witness } else { Pass::WitnessAlarm }
}

#[inline(always)]
fn was_judged<T: Tables + Flows>(tables: &T, case: &mut Case, sender: Party) -> Result<bool, DropReason> {
    match case.packet.kind {
        Kind::Ports | Kind::EchoRequest | Kind::EchoReply | Kind::Portless => {}
        Kind::Fragment | Kind::IcmpError => return Ok(true),
        Kind::IcmpOther
        | Kind::OtherProtocol
        | Kind::Arp
        | Kind::Neighbour
        | Kind::RouterSolicitation
        | Kind::RouterOnly
        | Kind::LinkControl => return Ok(false),
    }
    // Answers to nobody, and words to nobody, leave no flow where they are only observed.
    let unbound = sender.only_observes();
    if lived(tables, case, sender, true) || unbound && matches!(case.packet.kind, Kind::EchoReply) {
        return Ok(true);
    }
    // Nor does what is over a quota that is only observed.
    if unbound && has_quota(tables, sender)? {
        return Ok(true);
    }
    let scopes = case.place.network.scopes;
    if search::scope(tables, scopes, case.packet.destination)? != SCOPE_POOL {
        return Ok(false);
    }
    let Some((peer, ..)) = party(tables, case, case.packet.destination)? else { return Ok(unbound) };
    case.evidence.peer = peer.device;
    Ok(lived(tables, case, peer, false))
}

#[inline(always)]
fn has_quota<T: Tables>(tables: &T, sender: Party) -> Result<bool, DropReason> {
    match sender.rule_set {
        0 => Ok(false),
        row => tables.rule_set(row).map(|rules| rules.limits.flows != 0).ok_or(DropReason::InternalTable),
    }
}

/// True if a flow of `local` lives that the packet belongs to, or did when it was on its way.
#[inline(always)]
fn lived<T: Tables + Flows>(tables: &T, case: &mut Case, local: Party, outgoing: bool) -> bool {
    case.key = Ends::of(&case.packet).key(case.evidence.network, local.device, outgoing);
    tables.lived(&case.key, tables.now().saturating_sub(ON_THE_WAY_NS))
}
