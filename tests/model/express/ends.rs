//! What ends a permission ends it for the short way too: with the clock, with the next packet after a change, and
//! with what is owed.

use bulkhead::policy::Confinement;
use bulkhead_common::verdict::{DropReason, Pass, Verdict};
use tests::frame::{Frame, eth};
use tests::generate::{Shot, World};

use super::{Judged, Side};

const SECOND: u64 = 1_000_000_000;
const ACC0: u32 = 11;
const CORE0: u32 = 21;
const DEVICE: [u8; 4] = [10, 45, 0, 17];
const SERVER: [u8; 4] = [203, 0, 113, 10];
/// Clocks begin at 22:30 UTC, half an hour before midnight in Oslo.
const UNTIL_22_40: &str = r#", notAfter: "2026-11-27T22:40:00Z""#;
const END: u64 = 600 * SECOND;

/// One device that may speak with one server; `more` is said of the rule, `limits` of the device's segment.
fn world(more: &str, limits: &str) -> World {
    World::written(&format!(
        r"
apiVersion: bulkhead/v1
kind: Network
metadata: {{name: acme}}
spec: {{seenOn: [{{interface: acc0}}, {{interface: core0}}], pools: [10.45.0.0/16]}}
---
kind: Segment
metadata: {{name: chargers}}
spec: {{members: {{matchLabels: {{class: charger}}}}{limits}}}
---
kind: Device
metadata: {{name: charger, labels: {{class: charger}}}}
spec: {{network: acme, addresses: [10.45.0.17]}}
---
kind: Policy
metadata: {{name: ev}}
spec:
  subject: {{device: charger}}
  allow:
    - {{name: log, to: {{cidrs: [203.0.113.10]}}, ports: [udp/514], idle: 2h{more}}}
"
    ))
}

fn question(now: u64) -> Shot {
    shot(now, ACC0, eth().ip(DEVICE, SERVER).udp(50_000, 514))
}

fn answer(now: u64) -> Shot {
    shot(now, CORE0, eth().ip(SERVER, DEVICE).udp(514, 50_000))
}

fn shot(now: u64, ifindex: u32, frame: Frame) -> Shot {
    Shot { now, ifindex, from_host: false, bytes: frame.payload(b"?").build() }
}

/// As the attached program judges.
pub(super) fn judged(side: &Side, shot: &Shot) -> (Verdict, bool) {
    let (_, case) = shot.judged(&Side::new().expect("empty tables").memory);
    let Judged { verdict, short } = side.judge_shortly(shot, &case, None);
    (verdict, short)
}

pub(super) const OPENED: (Verdict, bool) = (Verdict::Pass(Pass::Opened), false);
pub(super) const BEGUN: (Verdict, bool) = (Verdict::Pass(Pass::Opened), true);
pub(super) const WHOLE: (Verdict, bool) = (Verdict::Pass(Pass::Established), false);
pub(super) const SHORT: (Verdict, bool) = (Verdict::Pass(Pass::Established), true);

pub(super) const fn dropped(reason: DropReason) -> (Verdict, bool) {
    (Verdict::Drop(reason), false)
}

/// A side where a conversation under a policy has come to the short way, both ways.
fn talking(world: &World) -> Side {
    let mut side = Side::new().expect("empty tables");
    side.apply(world).expect("it fits");
    let shots = [question, question, question, answer, question, answer];
    let said = shots.map(|shot| judged(&side, &shot(SECOND)));
    assert_eq!(said, [BEGUN, WHOLE, SHORT, WHOLE, SHORT, SHORT]);
    side
}

#[test]
fn a_flow_of_a_timed_rule_ends_with_its_window() {
    let mut side = Side::new().expect("empty tables");
    side.apply(&world(UNTIL_22_40, "")).expect("it fits");
    assert_eq!(judged(&side, &question(SECOND)), OPENED);
    for now in [SECOND, 2 * SECOND, END - SECOND] {
        let said = [question(now), question(now), answer(now)].map(|shot| judged(&side, &shot));
        assert_eq!(said, [WHOLE; 3], "at {now}");
    }
    assert_eq!(judged(&side, &answer(END)), dropped(DropReason::Unsolicited));
    assert_eq!(judged(&side, &question(END)), dropped(DropReason::ConditionTime));
}

#[test]
fn a_rule_that_gets_an_end_takes_its_flows_from_the_short_way() {
    let mut side = talking(&world("", ""));
    side.apply(&world(UNTIL_22_40, "")).expect("it fits");
    let said = [question, answer, question, answer].map(|shot| judged(&side, &shot(2 * SECOND)));
    assert_eq!(said, [WHOLE; 4]);
    assert_eq!(judged(&side, &answer(END)), dropped(DropReason::Unsolicited));
    assert_eq!(judged(&side, &question(END)), dropped(DropReason::ConditionTime));
}

#[test]
fn a_flow_of_before_goes_on_when_its_rule_s_end_is_taken_away() {
    let mut side = Side::new().expect("empty tables");
    side.apply(&world(UNTIL_22_40, "")).expect("it fits");
    assert_eq!(judged(&side, &question(SECOND)), OPENED);
    side.apply(&world("", "")).expect("it fits");
    let said = [question, question, answer, answer].map(|shot| judged(&side, &shot(2 * SECOND)));
    assert_eq!(said, [WHOLE, SHORT, WHOLE, SHORT]);
    assert_eq!(judged(&side, &question(2 * END)), SHORT);
}

#[test]
fn quarantine_and_a_rule_that_is_gone_are_seen_at_the_next_packet() {
    let mut shut = world("", "");
    let device = shut.policy.devices().keys().next().cloned().expect("a device");
    shut.compiled.confine([(device, Confinement { until: None, repair: false })]);
    for after in [shut, world(", when: {labels: {class: {is: pump}}}", "")] {
        for first in [question, answer] {
            let mut side = talking(&world("", ""));
            side.apply(&after).expect("it fits");
            let (verdict, short) = judged(&side, &first(2 * SECOND));
            assert!(!verdict.passes() && !short, "{verdict:?}");
        }
    }
}

#[test]
fn who_has_a_limit_pays_for_every_packet() {
    const RATE: usize = 20;
    let mut side = Side::new().expect("empty tables");
    side.apply(&world("", ", limits: {packetsPerSecond: 20}")).expect("it fits");
    let said: Vec<_> = (0..2 * RATE).map(|_| judged(&side, &question(SECOND))).collect();
    let passed = said.iter().filter(|(verdict, _)| verdict.passes()).count();
    assert!(said.iter().all(|(_, short)| !short) && passed == RATE, "{said:?}");
}

#[test]
fn a_limit_that_is_new_is_charged_from_the_next_packet_on() {
    let mut side = talking(&world("", ""));
    side.apply(&world("", ", limits: {packetsPerSecond: 1}")).expect("it fits");
    let said = [question(2 * SECOND), question(2 * SECOND)].map(|shot| judged(&side, &shot));
    assert_eq!(said, [WHOLE, dropped(DropReason::RateLimited)]);
}
