//! A flow table on the host, with a clock that is set by hand.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use bulkhead_common::abi::{Flow, FlowKey};
use bulkhead_common::decide::{FlowStart, FlowUpdate, FlowWords, Flows};

/// Flows by key.
#[derive(Clone, Debug, Default)]
pub struct FlowTable {
    now: Cell<u64>,
    flows: RefCell<BTreeMap<FlowKey, Flow>>,
    capacity: Cell<Option<usize>>,
}

impl FlowTable {
    /// The monotonic clock, in nanoseconds.
    pub const fn now(&self) -> u64 {
        self.now.get()
    }

    /// Sets the monotonic clock, in nanoseconds.
    pub fn set_now(&self, now: u64) {
        self.now.set(now);
    }

    /// Forgets every flow.
    pub fn clear(&self) {
        self.flows.borrow_mut().clear();
    }

    /// Bounds the table.
    pub fn set_capacity(&self, flows: usize) {
        self.capacity.set(Some(flows));
    }

    /// Every flow, dead ones too.
    pub fn all(&self) -> Vec<Flow> {
        self.flows.borrow().values().copied().collect()
    }
}

impl Flows for FlowTable {
    type Handle = ();

    fn flow(&self, key: &FlowKey) -> Option<((), FlowWords)> {
        let flows = self.flows.borrow();
        let flow = flows.get(key)?;
        let words = FlowWords {
            decision: flow.decision,
            deadline: flow.deadline,
            access: flow.access,
            state: flow.state,
            initiator: flow.initiator,
        };
        Some(((), words))
    }

    fn update(&self, (): (), key: &FlowKey, update: &FlowUpdate) {
        if let Some(flow) = self.flows.borrow_mut().get_mut(key) {
            apply(flow, update);
        }
    }

    fn end(&self, (): (), key: &FlowKey) {
        if let Some(flow) = self.flows.borrow_mut().get_mut(key) {
            flow.deadline = 0;
        }
    }

    fn open(&self, key: &FlowKey, start: &FlowStart) -> bool {
        let mut flows = self.flows.borrow_mut();
        let full = self.capacity.get().is_some_and(|capacity| flows.len() >= capacity);
        if full && !flows.contains_key(key) {
            return false;
        }
        let mut flow = Flow {
            key: *key,
            initiator: start.initiator,
            peer: start.peer,
            opened: start.opened,
            ..Flow::default()
        };
        apply(&mut flow, &start.update);
        flows.insert(*key, flow);
        true
    }
}

fn apply(flow: &mut Flow, update: &FlowUpdate) {
    flow.decision = update.decision;
    flow.deadline = update.deadline;
    flow.state = update.state;
    let counts = if update.side == 0 { &mut flow.sent } else { &mut flow.received };
    counts[0] += 1;
    counts[1] += u64::from(update.bytes);
    if update.access != 0 {
        flow.access[update.side] = update.access;
    }
}
