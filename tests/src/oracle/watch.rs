//! Where nobody judges: on an interface that only looks on, and of what this host itself sends.
#![expect(clippy::wildcard_enum_match_arm, reason = "what is not named is the rest, whatever it is")]

use bulkhead::policy::{Device, Downlink, FromHost, Interface, Network, Role};
use bulkhead_common::abi::key::EGRESS;

use super::conversation::Talk;
use super::dissect::What;
use super::place::Place;
use super::{Flaw, Oracle, Subject};

/// What the settings say of the place that a frame comes by, before anybody looks into it.
#[derive(Clone, Copy)]
pub(super) struct Gate<'p> {
    /// The interface.
    pub(super) interface: &'p Interface,
    /// The frame leaves by it.
    pub(super) leaves: bool,
}

impl<'p> Oracle<'p> {
    /// The gate with a number: one that is configured, and for what leaves one where that is judged.
    pub(super) fn gate(&self, number: u32) -> Option<Gate<'p>> {
        let leaves = number & EGRESS != 0;
        let interface = self.intent.interface(number & !EGRESS)?;
        let judged = !leaves || interface.downlink != Downlink::Ingress;
        judged.then_some(Gate { interface, leaves: leaves && !self.has(Flaw::TakesLeavingForEntering) })
    }

    /// True if nothing is dropped there.
    pub(super) fn only_looks(&self, gate: Gate<'_>) -> bool {
        gate.interface.roles.contains(&Role::Witness) && !gate.leaves && !self.has(Flaw::JudgesAsWitness)
    }

    /// True if this host sent it and may send what it likes.
    pub(super) fn is_free(&self, gate: Gate<'_>, from_host: bool) -> bool {
        let own = from_host || self.has(Flaw::TakesForwardedForOwn);
        let passes = gate.interface.downlink == Downlink::Egress { from_host: FromHost::Pass };
        gate.leaves && own && !self.has(Flaw::ForgetsOwn) && (passes || self.has(Flaw::ForgetsFromHost))
    }

    /// Looks on. Rings the alarm of what comes from a pool and cannot have been let through where it was judged.
    pub(super) fn look_on(&mut self, place: &Place<'p>, subject: &mut Subject<'_>) -> &'static str {
        let from = subject.frame.from;
        let about_link = matches!(
            subject.frame.what,
            What::Arp
                | What::ArpOfAnother
                | What::NeighbourAsked
                | What::NeighbourTold
                | What::RouterAsked
                | What::LinkControl
        );
        match place.network {
            Some(network) if !about_link && self.intent.is_pool(network, from) => {
                let was_let_through = self.was_let_through(network, subject);
                if was_let_through || self.has(Flaw::NeverRings) { "witness" } else { "witness_alarm" }
            }
            _ => "witness",
        }
    }

    fn was_let_through(&mut self, network: &'p Network, subject: &mut Subject<'_>) -> bool {
        let Some(sender) = self.intent.device(network, subject.frame.from) else {
            return self.passes_nobody(network);
        };
        subject.device = Some(sender.name.to_string());
        match subject.frame.what {
            What::Fragment | What::IcmpError(_) => return !self.has(Flaw::RingsOfPieces),
            What::Ports { .. } | What::Ping(_) | What::Pong(_) | What::Portless(_) => {}
            _ => return false,
        }
        if self.speaks(Talk::seen(sender, true), subject) {
            return true;
        }
        // Answers to nobody pass where nothing is enforced, and nothing remembers them.
        let unbound = self.watches_freely(sender, subject);
        if unbound && matches!(subject.frame.what, What::Pong(_)) {
            return true;
        }
        // Too many conversations pass there too, and are not remembered either.
        if unbound && self.limits(sender).is_some_and(|limits| limits.flows.is_some()) {
            return true;
        }
        if !self.intent.is_pool(network, subject.frame.to) {
            return false;
        }
        let Some(receiver) = self.intent.device(network, subject.frame.to) else { return unbound };
        subject.peer = Some(receiver.name.to_string());
        !self.has(Flaw::AsksSendersOnly) && self.speaks(Talk::seen(receiver, false), subject)
    }

    /// Addresses of a pool that are no device's speak where their network only observes.
    fn passes_nobody(&self, network: &Network) -> bool {
        self.intent.watches_nobody(network) && !self.has(Flaw::RingsOfObserved)
    }

    fn watches_freely(&self, sender: &Device, subject: &Subject<'_>) -> bool {
        let shut = self.is_shut(sender, None, subject.now);
        self.intent.watches(sender) && !shut && !self.has(Flaw::RingsOfObserved)
    }

    /// True if a conversation lives that the packet belongs to, or did a moment ago.
    fn speaks(&mut self, talk: Talk<'p>, subject: &mut Subject<'_>) -> bool {
        if self.has(Flaw::ChargesTwice) {
            return matches!(self.continued(&talk, subject), Some(Ok(_)));
        }
        self.was_live(&talk, subject)
    }

    /// Networks whose devices a packet core may let speak with each other past this host, and the interface that it is
    /// behind: a device that has no Ethernet header is a core's, unless it was said what that core does.
    pub fn unseen(&self) -> Vec<(String, String)> {
        let mut unseen = Vec::new();
        for network in self.intent.policy.networks().values() {
            for seen in &network.seen_on {
                let Some(interface) = self.intent.agent.interface(&seen.value.interface) else { continue };
                if interface.roles.contains(&Role::Access) && self.may_switch(interface) {
                    unseen.push((network.name.to_string(), interface.name.value.clone()));
                }
            }
        }
        unseen
    }

    fn may_switch(&self, interface: &Interface) -> bool {
        let said = interface.hairpin.filter(|_| !self.has(Flaw::ForgetsHairpin));
        let found = self.intent.host.interfaces.get(&interface.name.value);
        match said {
            Some(said) => said == bulkhead::policy::Hairpin::Inside,
            None => found.is_some_and(|found| found.link == bulkhead_common::case::LinkType::RawIp),
        }
    }
}
