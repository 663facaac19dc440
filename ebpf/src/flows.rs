//! The flow table behind the engine's trait: slots are rows of an array, words are single
//! instructions, and the protocol is `bulkhead_common::flow_table`.

use bulkhead_common::abi::{
    Addr, DeviceId, Epoch, FlowGeometry, FlowKey, Generation, Limits, NetworkId, SubinterfaceKey,
};
use bulkhead_common::decide::{FlowStart, FlowUpdate, FlowWords, Flows, Tables};
use bulkhead_common::express::{Sought, Strangers, Vouched, Voucher};
use bulkhead_common::flow_table::{self, Attempt, Found, Handle, Kinds, Memory};
use bulkhead_common::limits::Toll;
use bulkhead_common::verdict::{DropReason, Verdict};

use crate::maps::{DEVICE_STATES, FLOW_GEOMETRY, FLOWS, Maps, is_candidate};
use crate::{account, atomic, candidate, subprogram};

impl Memory for Maps {
    type Row = *mut u64;

    #[inline(always)]
    fn geometry(&self) -> Option<&FlowGeometry> {
        FLOW_GEOMETRY.get(0)
    }

    #[inline(always)]
    fn slot(&self, index: u32) -> Option<Self::Row> {
        FLOWS.get_ptr_mut(index).map(<*mut _>::cast)
    }

    #[inline(always)]
    fn device(&self, device: DeviceId) -> Option<Self::Row> {
        DEVICE_STATES.get_ptr_mut(device.0).map(<*mut _>::cast)
    }

    #[inline(always)]
    fn load(&self, row: Self::Row, word: usize) -> u64 {
        atomic::load(row.wrapping_add(word))
    }

    #[inline(always)]
    fn store(&self, row: Self::Row, word: usize, value: u64) {
        atomic::store(row.wrapping_add(word), value);
    }

    #[inline(always)]
    fn exchange(&self, row: Self::Row, word: usize, from: u64, to: u64) -> bool {
        atomic::exchange(row.wrapping_add(word), from, to)
    }

    #[inline(always)]
    fn add(&self, row: Self::Row, word: usize, value: u64) {
        atomic::add(row.wrapping_add(word), value);
    }

    #[inline(always)]
    fn locate(&self, key: &FlowKey, then: u64, kinds: Kinds) -> Found {
        subprogram::locate_flow(key, then, kinds.0)
    }

    #[inline(always)]
    fn attempt(&self, key: &FlowKey, start: &FlowStart, joins: bool) -> Attempt {
        Attempt::from_number(subprogram::attempt_flow(key, start, joins as u32))
    }

    #[inline(always)]
    fn reclaim(&self, key: &FlowKey, now: u64) {
        subprogram::reclaim_flows(key, now);
    }
}

impl Vouched for Maps {
    #[inline(always)]
    fn vouched(&self, key: &FlowKey, generation: Generation, now: u64) -> Sought<Self::Handle> {
        flow_table::seek_vouched(self, key, generation, now)
    }

    #[inline(always)]
    fn begin(&self, key: &FlowKey, start: &FlowStart) -> bool {
        flow_table::begin(self, key, start)
    }

    #[inline(always)]
    fn vouch(&self, flow: Self::Handle, _key: &FlowKey, words: &FlowWords, voucher: Voucher) {
        flow_table::vouch(self, flow, words, voucher);
    }
}

impl Strangers for Maps {
    #[inline(always)]
    fn is_silent(&self, device: DeviceId, verdict: Verdict, now: u64) -> bool {
        account::is_spent(device, verdict, now)
    }

    #[inline(always)]
    fn was_one_before(&self, reason: DropReason) -> bool {
        candidate::was_told_of(Verdict::Drop(reason))
    }

    #[inline(always)]
    fn is_of_nobody(&self, epoch: Epoch, network: NetworkId, source: Addr) -> bool {
        subprogram::is_of_nobody(epoch, network, source)
    }

    #[inline(always)]
    fn owner(&self, key: &SubinterfaceKey, teid: u32, source: Addr) -> NetworkId {
        subprogram::owner(key, teid, source)
    }
}

impl Flows for Maps {
    type Handle = Handle<*mut u64>;

    #[inline(always)]
    fn flow(&self, key: &FlowKey) -> Option<(Self::Handle, FlowWords)> {
        let found = flow_table::find(self, key, self.now());
        if is_candidate() { found.map(|(flow, words)| (flow, words.undecided())) } else { found }
    }

    #[inline(always)]
    fn lived(&self, key: &FlowKey, then: u64) -> bool {
        Memory::lived(self, key, then)
    }

    #[inline(always)]
    fn update(&self, flow: Self::Handle, _key: &FlowKey, update: &FlowUpdate) {
        if !is_candidate() {
            flow_table::update(self, flow, update);
        }
    }

    #[inline(always)]
    fn end(&self, flow: Self::Handle, _key: &FlowKey) {
        if !is_candidate() {
            flow_table::end(self, flow);
        }
    }

    #[inline(always)]
    fn charge(&self, device: DeviceId, limits: &Limits, toll: Toll, now: u64) -> Result<(), DropReason> {
        if is_candidate() { Ok(()) } else { subprogram::charge(device, limits, toll, now) }
    }

    #[inline(always)]
    fn refund(&self, device: DeviceId, limits: &Limits, toll: Toll) {
        if !is_candidate() {
            subprogram::refund(device, limits, toll);
        }
    }

    #[inline(always)]
    fn open(&self, key: &FlowKey, start: &FlowStart) -> Result<(), DropReason> {
        if is_candidate() { Ok(()) } else { flow_table::open(self, key, start) }
    }

    #[inline(always)]
    fn rehearses(&self) -> bool {
        is_candidate()
    }
}
