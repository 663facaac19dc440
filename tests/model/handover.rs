//! Two rules open one port, one after the other: a live flow goes over to the second when the first one is over. In
//! random worlds that seldom happens while a flow lives.

use bulkhead::tables::{Image, Tables};
use bulkhead_common::verdict::{DropReason, Pass, Verdict};
use tests::frame::{Frame, eth};
use tests::generate::{SLEPT, World};
use tests::lies::TableLie;

/// Clocks begin at 22:30 UTC, half an hour before midnight in Oslo.
const POLICY: &str = r#"
apiVersion: bulkhead/v1
kind: Network
metadata: {name: acme}
spec: {seenOn: [{interface: acc0}, {interface: core0}], pools: [10.45.0.0/16]}
---
kind: Device
metadata: {name: charger}
spec: {network: acme, addresses: [10.45.0.17]}
---
kind: Policy
metadata: {name: ev}
spec:
  subject: {device: charger}
  allow:
    - {name: early, to: {cidrs: [203.0.113.10]}, ports: [udp/443], notAfter: "2026-11-27T22:40:00Z"}
    - name: late
      to: {cidrs: [203.0.113.10]}
      ports: [udp/443]
      when: {schedule: {between: "23:35-23:50", timezone: Europe/Oslo}}
"#;

const SECOND: u64 = 1_000_000_000;
/// When the first rule is over, and when the second one is.
const EARLY_ENDS: u64 = 600 * SECOND;
const LATE_ENDS: u64 = 1_200 * SECOND;
const ACC0: u32 = 11;
const CORE0: u32 = 21;
const DEVICE: [u8; 4] = [10, 45, 0, 17];
const SERVER: [u8; 4] = [203, 0, 113, 10];

/// What becomes of a frame, and the rule that says so.
fn at(world: &World, image: &Image, now: u64, (frame, ifindex): (Frame, u32)) -> (Verdict, Option<String>) {
    image.set_now(now, SLEPT + now);
    let (verdict, case) = image.judge(&frame.payload(b"?").build(), ifindex);
    (verdict, world.compiled.catalogue.rules.get(&case.evidence.rule).map(ToString::to_string))
}

fn question() -> (Frame, u32) {
    (eth().ip(DEVICE, SERVER).udp(50_000, 443), ACC0)
}

fn answer() -> (Frame, u32) {
    (eth().ip(SERVER, DEVICE).udp(443, 50_000), CORE0)
}

/// The verdict on an answer at the first rule's end, of a flow that was begun a second before.
fn over_the_end(world: &World, tables: &Tables) -> (Image, (Verdict, Option<String>)) {
    let image = Image::new(tables);
    let opened = at(world, &image, EARLY_ENDS - SECOND, question());
    assert_eq!(opened, (Verdict::Pass(Pass::Opened), Some("ev/early".to_owned())));
    let answered = at(world, &image, EARLY_ENDS, answer());
    (image, answered)
}

#[test]
fn a_live_flow_goes_over_to_the_rule_that_is_open_then_and_ends_with_the_last() {
    let world = World::written(POLICY);
    let (image, answered) = over_the_end(&world, &world.compiled.tables);
    let late = Some("ev/late".to_owned());
    assert_eq!(answered, (Verdict::Pass(Pass::Established), late.clone()));
    let last = at(&world, &image, LATE_ENDS - SECOND, question());
    assert_eq!(last, (Verdict::Pass(Pass::Opened), late), "five minutes of silence ended the flow before");
    assert_eq!(at(&world, &image, LATE_ENDS, answer()).0, Verdict::Drop(DropReason::Unsolicited));
    assert_eq!(at(&world, &image, LATE_ENDS, question()).0, Verdict::Drop(DropReason::ConditionTime));
}

#[test]
fn a_flow_that_ends_with_the_first_of_two_rules_would_be_noticed() {
    let world = World::written(POLICY);
    let lie = TableLie::NoHandover.told(&world.compiled.tables);
    assert_eq!(over_the_end(&world, &lie).1.0, Verdict::Drop(DropReason::Unsolicited));
}
