//! Flows that have ended, as the agent tells them. Their places are given up by the kernel's own sweep, which leaves the
//! words until another flow takes the slot.

use bulkhead_common::abi::Flow;
use bulkhead_common::flow_table::{self, Tag};

use super::flows::FlowRows;

/// Slots that one call looks at, so that a large table costs no more time at once than a small one.
const PART: u32 = 1 << 20;

/// What was told already.
#[derive(Debug)]
pub(super) struct Ended {
    /// Of every slot, the sequence of the flow whose end was told last, or will be told.
    told: Vec<u64>,
    /// Where the next call goes on.
    next: u32,
}

impl Ended {
    /// What has ended and was given up before now is not told.
    pub(super) fn from_now_on(flows: &FlowRows) -> Self {
        let tags = (0..flows.capacity()).map(|slot| flow_table::tag(flows, slot).unwrap_or(Tag(0)));
        let told = tags.map(|tag| if tag.is_live() { before(tag) } else { tag.sequence() });
        Self { told: told.collect(), next: 0 }
    }

    /// Last words of flows that have died since the last call. A flow whose place was taken meanwhile is not told.
    pub(super) fn since(&mut self, flows: &FlowRows, now: u64) -> Vec<Flow> {
        let capacity = flows.capacity();
        let part = capacity.min(PART);
        let first = self.next;
        self.next = (first + part) % capacity;
        (first..first + part).filter_map(|slot| self.last_words(flows, slot % capacity, now)).collect()
    }

    fn last_words(&mut self, flows: &FlowRows, slot: u32, now: u64) -> Option<Flow> {
        let tag = flow_table::tag(flows, slot).filter(|tag| !tag.is_unused() && !tag.is_busy())?;
        let told = self.told.get_mut(slot as usize)?;
        if tag.is_live_at(now) {
            *told = before(tag);
            return None;
        }
        if std::mem::replace(told, tag.sequence()) == tag.sequence() {
            return None;
        }
        let (read, flow) = flow_table::snapshot(flows, slot)?;
        (read.sequence() == tag.sequence()).then_some(flow)
    }
}

/// A sequence that is not the tag's: its end is still to be told.
const fn before(tag: Tag) -> u64 {
    tag.sequence().wrapping_sub(1)
}
