//! A candidate on the host: its own rows, beside the flows of the image that is enforced.

use bulkhead_common::abi::{
    AddressKey, Device, DeviceId, Epoch, FlowKey, Generation, Limits, Network, Peer, PortRange, Range,
    RuleSet, ScopeRange, Subinterface, SubinterfaceKey, Versioned, Window,
};
use bulkhead_common::candidate::{self, Decided, Outcome};
use bulkhead_common::case::{Arrival, Case};
use bulkhead_common::decide::{FlowStart, FlowUpdate, FlowWords, Flows, Tables};
use bulkhead_common::engine::Plain;
use bulkhead_common::express::{Sought, Vouched, Voucher};
use bulkhead_common::fragment::{Datagram, Fragments};
use bulkhead_common::frame::Frame;
use bulkhead_common::icmp_error::ErrorBudgets;
use bulkhead_common::limits::Toll;
use bulkhead_common::tunnel::Tunnels;
use bulkhead_common::verdict::DropReason;

use super::Image;

/// The candidate's view.
#[derive(Clone, Copy, Debug)]
pub struct Beside<'a> {
    /// What would be enforced.
    pub candidate: &'a Image,
    /// What is.
    pub enforced: &'a Image,
}

impl Beside<'_> {
    /// Judges a frame that was decided on, as the candidate's program does.
    pub fn judge<F: Frame + ?Sized>(
        &self,
        frame: &F,
        arrival: Arrival,
        decided: &Decided,
    ) -> (Outcome, Case) {
        let mut case = Case::new(self.epoch(), arrival);
        (candidate::judge(&Plain::new(frame, self), &mut case, decided), case)
    }
}

impl Tables for Beside<'_> {
    fn epoch(&self) -> Epoch {
        self.candidate.epoch()
    }

    fn now(&self) -> u64 {
        self.enforced.now()
    }

    fn boot_now(&self) -> u64 {
        self.enforced.boot_now()
    }

    fn subinterface(&self, key: &SubinterfaceKey) -> Option<&Subinterface> {
        self.candidate.subinterface(key)
    }

    fn network(&self, index: u32) -> Option<&Network> {
        self.candidate.network(index)
    }

    fn scope(&self, index: u32) -> Option<&ScopeRange> {
        self.candidate.scope(index)
    }

    fn address(&self, key: &AddressKey) -> Option<u32> {
        self.candidate.address(key)
    }

    fn identity(&self, slot: u32) -> Option<Versioned> {
        self.candidate.identity(slot)
    }

    fn device(&self, index: u32) -> Option<&Device> {
        self.candidate.device(index)
    }

    fn profile(&self, index: u32) -> Option<Versioned> {
        self.candidate.profile(index)
    }

    fn rule_set(&self, index: u32) -> Option<&RuleSet> {
        self.candidate.rule_set(index)
    }

    fn range(&self, index: u32) -> Option<&Range> {
        self.candidate.range(index)
    }

    fn peer(&self, index: u32) -> Option<&Peer> {
        self.candidate.peer(index)
    }

    fn port(&self, index: u32) -> Option<&PortRange> {
        self.candidate.port(index)
    }

    fn window(&self, index: u32) -> Option<&Window> {
        self.candidate.window(index)
    }
}

impl Flows for Beside<'_> {
    type Handle = <Image as Flows>::Handle;

    fn flow(&self, key: &FlowKey) -> Option<(Self::Handle, FlowWords)> {
        self.enforced.flow(key).map(|(flow, words)| (flow, words.undecided()))
    }

    fn lived(&self, key: &FlowKey, then: u64) -> bool {
        self.enforced.lived(key, then)
    }

    fn update(&self, _flow: Self::Handle, _key: &FlowKey, _update: &FlowUpdate) {}

    fn end(&self, _flow: Self::Handle, _key: &FlowKey) {}

    fn charge(&self, _: DeviceId, _: &Limits, _: Toll, _now: u64) -> Result<(), DropReason> {
        Ok(())
    }

    fn refund(&self, _: DeviceId, _: &Limits, _: Toll) {}

    fn open(&self, _key: &FlowKey, _start: &FlowStart) -> Result<(), DropReason> {
        Ok(())
    }

    fn rehearses(&self) -> bool {
        true
    }
}

impl Vouched for Beside<'_> {
    fn vouched(&self, _: &FlowKey, _: Generation, _now: u64) -> Sought<Self::Handle> {
        Sought::Other
    }

    fn begin(&self, _: &FlowKey, _: &FlowStart) -> bool {
        false
    }

    fn vouch(&self, _: Self::Handle, _: &FlowKey, _: &FlowWords, _: Voucher) {}
}

impl Tunnels for Beside<'_> {
    fn tunnel(&self, slot: u32) -> Option<u64> {
        self.candidate.tunnel(slot)
    }

    fn bind(&self, slot: u32, seen: u64, word: u64) -> bool {
        self.candidate.bind(slot, seen, word)
    }
}

impl Fragments for Beside<'_> {
    type Place = <Image as Fragments>::Place;

    fn place(&self, index: u32) -> Option<Self::Place> {
        self.candidate.place(index)
    }

    fn progress(&self, place: Self::Place) -> u64 {
        self.candidate.progress(place)
    }

    fn advance(&self, place: Self::Place, seen: u64, next: u64) -> bool {
        self.candidate.advance(place, seen, next)
    }

    fn datagram(&self, place: Self::Place) -> Datagram {
        self.candidate.datagram(place)
    }

    fn describe(&self, place: Self::Place, datagram: &Datagram) {
        self.candidate.describe(place, datagram);
    }
}

impl ErrorBudgets for Beside<'_> {
    fn error_budget(&self, device: DeviceId) -> Option<u64> {
        self.candidate.error_budget(device)
    }

    fn spend_error(&self, device: DeviceId, seen: u64, next: u64) -> bool {
        self.candidate.spend_error(device, seen, next)
    }
}
