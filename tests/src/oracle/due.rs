//! What a device may do in a second, and at once. No more is owed than a second's worth; what is refused owes nothing.

use std::collections::BTreeMap;

use bulkhead::policy::{Device, Limits};

use super::conversation::Talk;
use super::{Flaw, Oracle, Refusal, Subject};

const SECOND: u64 = 1_000_000_000;

/// What a device can do too much of.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Matter {
    Packets,
    Bits,
    Flows,
}

/// Whose debt it is, whether it grew by what the device sent, and by what.
pub(super) type Debtor = (String, bool, Matter);

/// Nanoseconds that are owed, and since when.
pub(super) type Debts = BTreeMap<Debtor, (u64, u64)>;

/// What a packet would owe.
struct Due {
    debtor: Debtor,
    share: u64,
    refusal: Refusal,
}

impl<'p> Oracle<'p> {
    /// Puts a packet that the policy allows on its device's account, or refuses it.
    pub(super) fn pay(
        &mut self,
        talk: &Talk<'p>,
        begins: bool,
        subject: &Subject<'_>,
    ) -> Result<(), Refusal> {
        if self.unlimited {
            return Ok(());
        }
        let dues = self.dues(talk, begins, subject);
        let over = dues.iter().find(|due| !self.may_owe(due, subject.now)).map(|due| due.refusal);
        let full = (begins && self.is_full(talk, subject.now)).then_some("flow_quota");
        let refusal = over.or(full);
        if refusal.is_none() || self.has(Flaw::ChargesRefused) {
            for due in dues {
                let left = self.left(&due, subject.now);
                self.debts.insert(due.debtor, (left + due.share, subject.now));
            }
        }
        refusal.map_or(Ok(()), Err)
    }

    fn dues(&self, talk: &Talk<'p>, begins: bool, subject: &Subject<'_>) -> Vec<Due> {
        // From device to device the sender pays, whichever of the two has begun.
        let receiver_pays = talk.peer.is_none() || self.has(Flaw::ChargesNeighbours);
        let (device, sent) = match talk.peer {
            Some(peer) if !talk.sent && !receiver_pays => (peer, true),
            Some(peer) if talk.sent && receiver_pays => (peer, false),
            Some(_) | None => (talk.device, talk.sent),
        };
        let Some(limits) = self.limits(device) else { return Vec::new() };
        let due = |matter, limit: Option<u64>, amount: u64, refusal| {
            let debtor = (device.name.to_string(), sent || self.has(Flaw::ChargesBothWays), matter);
            limit.map(|limit| Due { debtor, share: amount * SECOND / limit, refusal })
        };
        let rates = !self.has(Flaw::ForgetsRates);
        let flows = limits.new_flows_per_second.filter(|_| begins && !self.has(Flaw::ForgetsFlowRates));
        let packets = limits.packets_per_second.filter(|_| rates);
        let bits = limits.bits_per_second.filter(|_| rates);
        let bits_of_a_byte = if self.has(Flaw::TakesBitsForBytes) { 1 } else { 8 };
        let length = bits_of_a_byte * subject.length as u64;
        [
            due(Matter::Flows, flows.map(u64::from), 1, "flow_rate_limited"),
            due(Matter::Packets, packets.map(u64::from), 1, "rate_limited"),
            due(Matter::Bits, bits, length, "rate_limited"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn may_owe(&self, due: &Due, now: u64) -> bool {
        let left = self.left(due, now);
        let more = if self.has(Flaw::LetsOneMore) { 0 } else { due.share };
        left == 0 || left + more <= SECOND
    }

    /// What is not paid off yet.
    fn left(&self, due: &Due, now: u64) -> u64 {
        self.debts.get(&due.debtor).map_or(0, |(owed, since)| owed.saturating_sub(now - since))
    }

    /// True if the device has as many conversations as it may have that were begun by the same side.
    fn is_full(&self, talk: &Talk<'p>, now: u64) -> bool {
        let most = self.limits(talk.device).and_then(|limits| limits.flows);
        let ended_too = self.has(Flaw::KeepsPlaces);
        let many = self.conversations.of(talk.device, talk.sent, now, ended_too);
        most.is_some_and(|most| many >= most as usize) && !self.has(Flaw::ForgetsQuotas)
    }

    pub(super) fn limits(&self, device: &Device) -> Option<&'p Limits> {
        let segment = device.segment.as_ref()?;
        self.intent.policy.segments().get(segment).map(|segment| &segment.limits)
    }
}
