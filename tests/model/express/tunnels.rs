//! Who is bound to a tunnel stays so while a flow is busy on the short way, and for no other tunnel there is one.

use bulkhead_common::verdict::{DropReason, Verdict};
use tests::frame::eth;
use tests::generate::{Shot, World};

use super::Side;
use super::ends::{OPENED, SHORT, WHOLE, dropped, judged};

const SECOND: u64 = 1_000_000_000;
const CORE0: u32 = 21;
const N3: u32 = 51;
const STATION: [u8; 4] = [10, 3, 0, 21];
const ENDPOINT: [u8; 4] = [10, 3, 0, 10];
const DEVICE: [u8; 4] = [10, 45, 0, 17];
const SERVER: [u8; 4] = [203, 0, 113, 10];
/// What the settings say of `n3`, by default.
const IDLE: u64 = 30 * SECOND;
const OWN: u32 = 0x1001;
const OTHER: u32 = 0x1002;
const FOREIGN: u32 = 0x2001;

/// One device that may speak with one server; `more` is said of it, `teids` of where it enters. Another network has the
/// same interface if tunnels tell them apart.
fn world(more: &str, teids: &str) -> World {
    let beside = match teids {
        "" => "",
        _ => {
            "---\napiVersion: bulkhead/v1\nkind: Network\nmetadata: {name: blue}\n\
              spec: {seenOn: [{interface: n3, teids: [0x2000-0x2fff]}], pools: [10.46.0.0/16]}\n"
        }
    };
    World::written(&format!(
        r"
apiVersion: bulkhead/v1
kind: Network
metadata: {{name: acme}}
spec: {{seenOn: [{{interface: n3{teids}}}, {{interface: core0}}], pools: [10.45.0.0/16]}}
---
kind: Device
metadata: {{name: charger}}
spec: {{network: acme, addresses: [10.45.0.17]{more}}}
---
kind: Policy
metadata: {{name: ev}}
spec:
  subject: {{device: charger}}
  allow:
    - {{name: log, to: {{cidrs: [203.0.113.10]}}, ports: [udp/514], idle: 2h}}
{beside}"
    ))
}

fn side(world: &World) -> Side {
    let mut side = Side::new().expect("empty tables");
    side.apply(world).expect("it fits");
    side
}

fn question(teid: u32, now: u64) -> Shot {
    let outer =
        eth().ip(STATION, ENDPOINT).udp(2152, 2152).gtpu(0x34, 255, teid, &[0, 0, 0, 0x85, 1, 0x10, 9, 0]);
    let bytes = outer.ip(DEVICE, SERVER).udp(50_000, 514).payload(b"?").build();
    Shot { now, ifindex: N3, from_host: false, bytes }
}

fn answer(now: u64) -> Shot {
    let bytes = eth().ip(SERVER, DEVICE).udp(514, 50_000).payload(b"!").build();
    Shot { now, ifindex: CORE0, from_host: false, bytes }
}

const SPOOFED: (Verdict, bool) = dropped(DropReason::SpoofedTunnel);

#[test]
fn a_tunnel_that_is_busy_on_the_short_way_is_not_taken_over() {
    let side = side(&world("", ""));
    let said = [SECOND; 3].map(|now| judged(&side, &question(OWN, now)));
    assert_eq!(said, [OPENED, WHOLE, SHORT]);
    for now in (2..200).map(|second| second * SECOND) {
        let said =
            [question(OWN, now), question(OTHER, now), question(OWN, now)].map(|shot| judged(&side, &shot));
        assert_eq!(said, [SHORT, SPOOFED, SHORT], "at {now}");
    }
}

#[test]
fn a_tunnel_that_was_silent_is_taken_over_and_has_no_short_way_back() {
    let side = side(&world("", ""));
    let said = [SECOND; 3].map(|now| judged(&side, &question(OWN, now)));
    assert_eq!(said, [OPENED, WHOLE, SHORT]);
    let silent = SECOND + IDLE;
    assert_eq!(judged(&side, &question(OTHER, silent - SECOND)), SPOOFED);
    // The whole way says who takes it over; which tunnel it is, the flow does not remember.
    let said = [OTHER, OTHER, OWN, OTHER].map(|teid| judged(&side, &question(teid, silent)));
    assert_eq!(said, [WHOLE, SHORT, SPOOFED, SHORT]);
    // More seconds than the bits that any part of a word has.
    for now in [silent + 4096 * SECOND, silent + 4097 * SECOND] {
        assert_eq!(judged(&side, &question(OTHER, now)), SHORT);
        assert_eq!(judged(&side, &question(OWN, now)), SPOOFED);
    }
}

#[test]
fn a_named_tunnel_is_the_only_one_until_policy_says_otherwise() {
    let mut side = side(&world(", teid: 0x1001", ""));
    let said = [OWN, OWN, OWN, OTHER].map(|teid| judged(&side, &question(teid, SECOND)));
    assert_eq!(said, [OPENED, WHOLE, SHORT, SPOOFED]);
    assert_eq!(judged(&side, &question(OTHER, SECOND + 2 * IDLE)), SPOOFED);
    side.apply(&world(", teid: 0x1002", "")).expect("it fits");
    let said = [OWN, OTHER, OTHER, OWN].map(|teid| judged(&side, &question(teid, 2 * SECOND)));
    assert_eq!(said, [SPOOFED, WHOLE, SHORT, SPOOFED]);
}

#[test]
fn answers_to_what_came_in_a_tunnel_have_a_short_way() {
    let side = side(&world("", ""));
    let shots = [question(OWN, SECOND), question(OWN, SECOND), answer(SECOND), question(OWN, SECOND)];
    assert_eq!(shots.map(|shot| judged(&side, &shot)), [OPENED, WHOLE, WHOLE, SHORT]);
    let later = 100 * SECOND;
    let said = [answer(later), question(OWN, later), answer(later)].map(|shot| judged(&side, &shot));
    assert_eq!(said, [SHORT; 3]);
}

#[test]
fn a_network_that_its_tunnels_tell_has_a_short_way() {
    let side = side(&world("", ", teids: [0x1000-0x1fff]"));
    let said = [OWN, OWN, OWN, OTHER].map(|teid| judged(&side, &question(teid, SECOND)));
    assert_eq!(said, [OPENED, WHOLE, SHORT, SPOOFED]);
    let (verdict, short) = judged(&side, &question(FOREIGN, SECOND));
    assert!(!verdict.passes() && !short, "{verdict:?}");
}
