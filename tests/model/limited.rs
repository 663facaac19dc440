//! A limit is its device's own: between two devices, whoever is at the other end neither bears it nor has a say in it.

use std::net::Ipv4Addr;

use bulkhead::tables::Image;
use bulkhead_common::verdict::{DropReason, Pass, Verdict};
use tests::compare::{difference, in_words};
use tests::frame::eth;
use tests::generate::{Shot, World};
use tests::oracle::Oracle;

const ACC0: u32 = 11;
const MILLISECOND: u64 = 1_000_000;
const OBSERVED: Ipv4Addr = Ipv4Addr::new(10, 45, 0, 17);
const ENFORCED: Ipv4Addr = Ipv4Addr::new(10, 45, 0, 18);
/// The second packet of a second is over each of these.
const LIMITS: [(&str, DropReason); 4] = [
    ("packetsPerSecond: 1", DropReason::RateLimited),
    ("rate: 1kbit", DropReason::RateLimited),
    ("newFlowsPerSecond: 1", DropReason::FlowRateLimited),
    ("flows: 1", DropReason::FlowQuota),
];

/// One device is observed and one is not; both may call the other. `limited` is which of the two has limits.
fn world(limits: &str, limited: &str) -> World {
    let of = |name: &str| if name == limited { format!(", limits: {{{limits}}}") } else { String::new() };
    World::written(&format!(
        "
apiVersion: bulkhead/v1
kind: Network
metadata: {{name: acme}}
spec: {{seenOn: [{{interface: acc0}}, {{interface: core0}}], pools: [10.45.0.0/16], mode: observe}}
---
kind: Segment
metadata: {{name: observed}}
spec: {{members: {{matchLabels: {{class: observed}}}}{}}}
---
kind: Segment
metadata: {{name: enforced}}
spec: {{members: {{matchLabels: {{class: enforced}}}}, mode: enforce{}}}
---
kind: Device
metadata: {{name: a, labels: {{class: observed}}}}
spec: {{network: acme, addresses: [{OBSERVED}]}}
---
kind: Device
metadata: {{name: b, labels: {{class: enforced}}}}
spec: {{network: acme, addresses: [{ENFORCED}]}}
---
kind: Policy
metadata: {{name: there}}
spec: {{between: {{initiator: {{device: a}}, responder: {{device: b}}}}, allow: [{{name: coap, ports: [udp/5683]}}]}}
---
kind: Policy
metadata: {{name: back}}
spec: {{between: {{initiator: {{device: b}}, responder: {{device: a}}}}, allow: [{{name: coap, ports: [udp/5683]}}]}}
",
        of("observed"),
        of("enforced")
    ))
}

/// What becomes of calls from new ports within one second; engine and oracle agree on each.
fn judged(world: &World, from: Ipv4Addr, to: Ipv4Addr, calls: u16) -> Vec<Verdict> {
    let image = Image::new(&world.compiled.tables);
    let mut oracle = Oracle::new(&world.policy, &world.agent, &world.host);
    let judge = |call: u16| {
        let bytes = eth().ipv4(from, to).udp(50_000 + call, 5683).payload(&[0; 64]).build();
        let shot = Shot { now: (1 + u64::from(call)) * MILLISECOND, ifindex: ACC0, bytes, from_host: false };
        image.set_now(shot.now, shot.boot());
        let (verdict, case) = image.judge(&shot.bytes, shot.ifindex);
        let ours = in_words(verdict, &case.evidence, &world.compiled.catalogue);
        let theirs = oracle.judge(&shot);
        assert!(ours == theirs, "{}", difference(&shot, &ours, &theirs));
        verdict
    };
    (0..calls).map(judge).collect()
}

const OPENED: Verdict = Verdict::Pass(Pass::Opened);

#[test]
fn beyond_its_limit_an_observed_device_still_passes_to_one_that_is_enforced() {
    for (limits, reason) in LIMITS {
        let over = Verdict::Observe(reason);
        let verdicts = judged(&world(limits, "observed"), OBSERVED, ENFORCED, 3);
        assert_eq!(verdicts, [OPENED, over, over], "{limits}");
    }
}

#[test]
fn beyond_its_limit_an_enforced_device_does_not_pass_to_one_that_is_observed() {
    for (limits, reason) in LIMITS {
        let over = Verdict::Drop(reason);
        let verdicts = judged(&world(limits, "enforced"), ENFORCED, OBSERVED, 3);
        assert_eq!(verdicts, [OPENED, over, over], "{limits}");
    }
}

#[test]
fn no_device_bears_the_limit_of_the_one_that_it_calls() {
    for (limits, _) in LIMITS {
        for (limited, from, to) in [("observed", ENFORCED, OBSERVED), ("enforced", OBSERVED, ENFORCED)] {
            let verdicts = judged(&world(limits, limited), from, to, 3);
            assert_eq!(verdicts, [OPENED; 3], "{limits} of the device that is {limited}");
        }
    }
}
