//! The nights in which Norway changes its clocks: hours of a schedule, as far as the verdict on a packet. Everything
//! expected is written out in UTC, and no calendar is asked for it.

use bulkhead::policy::{Anchor, Ids, Pair, Timeline, compile_at};
use bulkhead::tables::Image;
use bulkhead_common::verdict::{DropReason, Pass, Verdict};
use jiff::{SignedDuration, Timestamp};
use tests::frame::eth;
use tests::generate::World;

/// Boot time when the policy is compiled; the machine has slept for a tenth of it.
const BOOTED: u64 = 50_000_000_000_000;
const SLEPT: u64 = BOOTED / 10;
const ACC0: u32 = 11;
const DEVICE: [u8; 4] = [10, 45, 0, 17];
const SERVER: [u8; 4] = [203, 0, 113, 10];
/// Between two looks, besides those at every edge.
const STEP: SignedDuration = SignedDuration::from_mins(10);
const NANOSECOND: SignedDuration = SignedDuration::from_nanos(1);

/// From one moment in UTC to another, the first of which is in it.
type Stretch = (&'static str, &'static str);

/// What a schedule in Oslo says, and when that is.
type Hours = (&'static str, &'static [Stretch]);

/// A policy with these hours alone, in force from a moment on.
struct Night {
    image: Image,
    since: Timestamp,
    calls: u16,
}

impl Night {
    fn new(hours: &str, since: Timestamp) -> Self {
        let World { policy, agent, host, .. } = World::written(&format!(
            "
apiVersion: bulkhead/v1
kind: Network
metadata: {{name: acme}}
spec: {{seenOn: [{{interface: acc0}}, {{interface: core0}}], pools: [10.45.0.0/16]}}
---
kind: Device
metadata: {{name: charger}}
spec: {{network: acme, addresses: [10.45.0.17]}}
---
kind: Policy
metadata: {{name: ev}}
spec:
  subject: {{device: charger}}
  allow:
    - name: hours
      to: {{cidrs: [203.0.113.10]}}
      ports: [udp/443]
      when: {{schedule: {{{hours}, timezone: Europe/Oslo}}}}
"
        ));
        let timeline = Timeline::Known(Anchor::new(Pair { wall: since, boot: BOOTED }));
        let compiled = compile_at(&policy, &agent, &host, &mut Ids::default(), &timeline).expect("a policy");
        Self { image: Image::new(&compiled.tables), since, calls: 0 }
    }

    /// What becomes of the first packet of a new conversation.
    fn judge(&mut self, at: Timestamp) -> Verdict {
        let boot = BOOTED + u64::try_from(at.duration_since(self.since).as_nanos()).expect("it is later");
        self.image.set_now(boot - SLEPT, boot);
        self.image.sweep_flows();
        self.calls += 1;
        let frame = eth().ip(DEVICE, SERVER).udp(10_000 + self.calls, 443).payload(b"?");
        self.image.judge(&frame.build(), ACC0).0
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a moment")
}

/// Looks just before, at and behind every edge, and all the time between.
fn hold(since: &str, until: &str, all: &[Hours]) {
    let (since, until) = (at(since), at(until));
    for (hours, open) in all {
        let open: Vec<_> = open.iter().map(|(from, to)| (at(from), at(to))).collect();
        let edges = open.iter().flat_map(|(from, to)| [*from, *to]);
        let edges = edges.flat_map(|edge| [edge - NANOSECOND, edge, edge + NANOSECOND]);
        let steps = std::iter::successors(Some(since), |at| Some(*at + STEP)).take_while(|at| *at < until);
        let mut moments: Vec<_> = steps.chain(edges).filter(|at| *at >= since).collect();
        moments.sort_unstable();
        let mut night = Night::new(hours, since);
        for moment in moments {
            let expected = match open.iter().any(|(from, to)| (*from..*to).contains(&moment)) {
                true => Verdict::Pass(Pass::Opened),
                false => Verdict::Drop(DropReason::ConditionTime),
            };
            assert_eq!(night.judge(moment), expected, "{hours} at {moment}");
        }
    }
}

/// On 25 October 2026 at 01:00 UTC it is 02:00 in Oslo for the second time.
#[test]
fn in_the_night_in_which_an_hour_comes_twice_a_packet_passes_in_the_narrower_hours() {
    hold(
        "2026-10-24T12:00:00Z",
        "2026-10-26T12:00:00Z",
        &[
            // The hour that comes twice is open once: the second time.
            (
                r#"between: "02:00-03:00""#,
                &[
                    ("2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"),
                    ("2026-10-26T01:00:00Z", "2026-10-26T02:00:00Z"),
                ],
            ),
            // It would begin the second time and end the first time.
            (r#"between: "02:15-02:45""#, &[("2026-10-26T01:15:00Z", "2026-10-26T01:45:00Z")]),
            // Nine hours, then eight.
            (
                r#"between: "22:00-06:00""#,
                &[
                    ("2026-10-24T20:00:00Z", "2026-10-25T05:00:00Z"),
                    ("2026-10-25T21:00:00Z", "2026-10-26T05:00:00Z"),
                ],
            ),
            // It ends the first time.
            (
                r#"between: "23:30-02:30""#,
                &[
                    ("2026-10-24T21:30:00Z", "2026-10-25T00:30:00Z"),
                    ("2026-10-25T22:30:00Z", "2026-10-26T01:30:00Z"),
                ],
            ),
        ],
    );
}

/// On 29 March 2026 at 01:00 UTC it is 03:00 in Oslo, and 02:00 has not been.
#[test]
fn in_the_night_in_which_an_hour_is_left_out_a_packet_passes_in_what_is_left() {
    hold(
        "2026-03-28T12:00:00Z",
        "2026-03-30T12:00:00Z",
        &[
            // That night they are not, and the next night they are.
            (r#"between: "02:00-03:00""#, &[("2026-03-30T00:00:00Z", "2026-03-30T01:00:00Z")]),
            (r#"between: "02:15-02:45""#, &[("2026-03-30T00:15:00Z", "2026-03-30T00:45:00Z")]),
            // One hour, then two.
            (
                r#"between: "01:30-03:30""#,
                &[
                    ("2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"),
                    ("2026-03-29T23:30:00Z", "2026-03-30T01:30:00Z"),
                ],
            ),
            // Seven hours, then eight.
            (
                r#"between: "22:00-06:00""#,
                &[
                    ("2026-03-28T21:00:00Z", "2026-03-29T04:00:00Z"),
                    ("2026-03-29T20:00:00Z", "2026-03-30T04:00:00Z"),
                ],
            ),
        ],
    );
}

/// Fourteen days of 24 hours: over a change the horizon is at another time of day in Oslo.
#[test]
fn behind_the_horizon_a_packet_does_not_pass_at_any_hour() {
    hold(
        "2026-10-24T12:00:00Z",
        "2026-11-09T12:00:00Z",
        &[
            ("days: [mon-sun]", &[("2026-10-24T12:00:00Z", "2026-11-07T12:00:00Z")]),
            (
                r#"days: [sat], between: "12:00-15:00""#,
                &[
                    ("2026-10-24T12:00:00Z", "2026-10-24T13:00:00Z"),
                    ("2026-10-31T11:00:00Z", "2026-10-31T14:00:00Z"),
                    // It is to end at 15:00 in Oslo, and is cut off at 13:00.
                    ("2026-11-07T11:00:00Z", "2026-11-07T12:00:00Z"),
                ],
            ),
        ],
    );
}
