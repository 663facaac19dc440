//! How many packets flows carried lately: two looks at the flow table, five minutes apart.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use bulkhead_common::abi::{Flow, FlowKey};

/// How far the looks lie apart, so that the older one is five to ten minutes old.
const APART_NS: u64 = 300 * 1_000_000_000;

/// Packets of every flow at two earlier moments.
///
/// Sixteen bytes a flow and look: keys are kept as keyed hashes, and a flow that ended is not in the numbers.
#[derive(Debug, Default)]
pub struct Activity {
    hasher: RandomState,
    older: Option<Look>,
    newer: Option<Look>,
}

#[derive(Debug)]
struct Look {
    at_ns: u64,
    packets: HashMap<u64, u64>,
}

impl Activity {
    /// True if it is time to look again.
    pub fn is_due(&self, now_ns: u64) -> bool {
        self.newer.as_ref().is_none_or(|look| now_ns.saturating_sub(look.at_ns) >= APART_NS)
    }

    /// Takes a look.
    pub fn look(&mut self, now_ns: u64, flows: &[Flow]) {
        let packets = flows.iter().map(|flow| (self.hash(&flow.key), packets(flow))).collect();
        self.older = self.newer.replace(Look { at_ns: now_ns, packets });
    }

    /// Packets per second that these flows carried since the older look, and how many seconds ago that was; 0 if
    /// there was none.
    pub fn per_second(&self, now_ns: u64, flows: &[Flow]) -> (f64, u64) {
        let Some(look) = self.older.as_ref().or(self.newer.as_ref()) else { return (0.0, 0) };
        let seconds = now_ns.saturating_sub(look.at_ns) as f64 / 1e9;
        if seconds < 1.0 {
            return (0.0, 0);
        }
        let carried: u64 = flows.iter().map(|flow| packets(flow) - self.before(look, flow)).sum();
        (carried as f64 / seconds, seconds as u64)
    }

    /// What a flow had carried at a look; one that is younger, nothing.
    fn before(&self, look: &Look, flow: &Flow) -> u64 {
        let had = look.packets.get(&self.hash(&flow.key)).copied().filter(|_| flow.opened <= look.at_ns);
        had.unwrap_or_default().min(packets(flow))
    }

    fn hash(&self, key: &FlowKey) -> u64 {
        self.hasher.hash_one(key)
    }
}

fn packets(flow: &Flow) -> u64 {
    flow.sent[0] + flow.received[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn flow(port: u16, opened: u64, packets: u64) -> Flow {
        let key = FlowKey { local_port: port, ..FlowKey::default() };
        Flow { key, opened, sent: [packets, 0], ..Flow::default() }
    }

    #[test]
    fn packets_since_the_older_look_count() {
        let mut activity = Activity::default();
        assert_eq!(activity.per_second(SECOND, &[flow(1, 0, 10)]), (0.0, 0), "nothing was measured");
        activity.look(10 * SECOND, &[flow(1, 0, 100)]);
        assert!(!activity.is_due(20 * SECOND) && activity.is_due(310 * SECOND));
        activity.look(310 * SECOND, &[flow(1, 0, 5_000)]);
        // 600 packets of the old one and 300 of one that came later, in 600 s.
        let now = 610 * SECOND;
        let flows = [flow(1, 0, 700), flow(2, 400 * SECOND, 300)];
        assert_eq!(activity.per_second(now, &flows), (1.5, 600));
        activity.look(now, &flows);
        assert_eq!(
            activity.per_second(now + 30 * SECOND, &flows),
            (300.0 / 330.0, 330),
            "the older look moves on"
        );
    }

    #[test]
    fn a_port_that_is_used_again_does_not_count_backwards() {
        let mut activity = Activity::default();
        activity.look(10 * SECOND, &[flow(1, 0, 100)]);
        assert_eq!(activity.per_second(20 * SECOND, &[flow(1, 15 * SECOND, 50)]), (5.0, 10));
        assert_eq!(activity.per_second(20 * SECOND, &[flow(1, 0, 50)]), (0.0, 10));
    }
}
