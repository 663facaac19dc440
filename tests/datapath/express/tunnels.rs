//! Packets in GTP-U tunnels: what is plain inside and outside takes the short way, all else the whole one.

use anyhow::{Result, ensure};
use bulkhead_common::abi::counter::{EVENT_WINDOW_SHIFT, EVENTS_PER_BUCKET};
use bulkhead_common::verdict::{DropReason, Way as Onward};
use tests::frame::{ACK, FIN, Frame, SYN, eth};
use tests::kernel::privilege;

use super::{CORE0, DEVICE, Host, SECOND, SERVER, STRANGER, Way};

const N3: u32 = 51;
const STATION: [u8; 4] = [10, 3, 0, 21];
const NEXT_STATION: [u8; 4] = [10, 3, 0, 22];
const NO_STATION: [u8; 4] = [10, 3, 0, 77];
const ENDPOINT: [u8; 4] = [10, 3, 0, 10];
const NO_ENDPOINT: [u8; 4] = [10, 3, 0, 11];
const OWN: u32 = 0x1001;
const OTHER: u32 = 0x1002;
/// What the settings say of `n3`, by default.
const IDLE: u64 = 30 * SECOND;
/// A PDU session container behind sequence and N-PDU number (TS 38.415).
const CONTAINER: [u8; 8] = [0, 0, 0, 0x85, 1, 0x10, 9, 0];

/// `more` is said of the network, `own` of its device.
fn policy(more: &str, own: &str) -> String {
    format!(
        r"
apiVersion: bulkhead/v1
kind: Network
metadata: {{name: acme}}
spec: {{seenOn: [{{interface: n3}}, {{interface: n3, vlan: 7}}, {{interface: core0}}], pools: [10.45.0.0/16]{more}}}
---
kind: Device
metadata: {{name: charger}}
spec: {{network: acme, addresses: [10.45.0.17]{own}}}
---
kind: Policy
metadata: {{name: ev}}
spec:
  subject: {{device: charger}}
  allow:
    - {{name: always, to: {{cidrs: [203.0.113.10]}}, ports: [udp/514, tcp/443, udp/2152]}}
"
    )
}

/// What lies around a tunnel's header.
fn station() -> Frame {
    eth().ip(STATION, ENDPOINT).udp(2152, 2152)
}

fn in_tunnel(outer: Frame, teid: u32) -> Frame {
    outer.gtpu(0x34, 255, teid, &CONTAINER)
}

fn question(outer: Frame, teid: u32) -> Frame {
    in_tunnel(outer, teid).ip(DEVICE, SERVER).udp(50_000, 514)
}

impl Host {
    fn asked(&mut self, frame: Frame) -> Result<Way> {
        self.way(N3, frame)
    }

    fn expect(&mut self, wanted: Way, frame: Frame, why: &str) -> Result<()> {
        let way = self.asked(frame)?;
        ensure!(way == wanted, "{why}: {way:?}, not {wanted:?}");
        Ok(())
    }

    /// Lets a flow come to the short way.
    fn establish(&mut self) -> Result<()> {
        for wanted in [Way::Whole, Way::Whole, Way::Short, Way::Short] {
            self.expect(wanted, question(station(), OWN), "a flow in a tunnel")?;
        }
        Ok(())
    }
}

#[test]
fn a_flow_in_a_tunnel_comes_to_the_short_way() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let mut host = Host::with(&policy("", ""))?;
    host.establish()?;
    let answer = || eth().ip(SERVER, DEVICE).udp(514, 50_000);
    for wanted in [Way::Whole, Way::Short] {
        ensure!(host.way(CORE0, answer())? == wanted, "an answer is not {wanted:?}");
    }
    host.now += 100 * SECOND;
    host.expect(Way::Short, question(station(), OWN), "after a while")?;
    let next = || eth().ip(NEXT_STATION, ENDPOINT).udp(40_000, 2152);
    host.expect(Way::Short, question(next(), OWN), "handed over to another base station")?;
    let plain = station().gtpu(0x30, 255, OWN, &[]).ip(DEVICE, SERVER).udp(50_000, 514);
    host.expect(Way::Short, plain, "without optional fields")?;
    let tcp = |flags| in_tunnel(station(), OWN).ip(DEVICE, SERVER).tcp(50_001, 443).flags(flags);
    for flags in [SYN, SYN] {
        host.expect(Way::Whole, tcp(flags), "a SYN may change its flow")?;
    }
    ensure!(host.way(CORE0, eth().ip(SERVER, DEVICE).tcp(443, 50_001).flags(SYN | ACK))? == Way::Whole);
    host.expect(Way::Short, tcp(ACK), "an acknowledgement decides nothing")?;
    host.expect(Way::Whole, tcp(FIN | ACK), "a FIN changes its flow")?;
    host.leaves_the_same()
}

#[test]
fn a_tagged_flow_in_a_tunnel_over_ipv6_does_so_too() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let mut host = Host::with(&policy("", ", teid: 0x1001"))?;
    let outer = || {
        let (peer, own): (std::net::Ipv6Addr, std::net::Ipv6Addr) =
            ("fd03::21".parse().expect("an address"), "fd03::10".parse().expect("an address"));
        eth().vlan(7).ip(std::net::IpAddr::from(peer), std::net::IpAddr::from(own)).udp(2152, 2152)
    };
    for wanted in [Way::Whole, Way::Whole, Way::Short, Way::Short] {
        host.expect(wanted, question(outer(), OWN), "over IPv6")?;
    }
    host.expect(Way::Dropped, question(outer(), OTHER), "policy names the tunnel")?;
    host.expect(Way::Dropped, question(station(), OWN), "untagged")?;
    host.expect(Way::Short, question(outer(), OWN), "as before")?;
    host.leaves_the_same()
}

#[test]
fn what_is_wrong_with_a_tunnel_is_said_on_the_whole_way() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let mut host = Host::with(&policy("", ""))?;
    host.establish()?;
    let outer = |from, to| eth().ip(from, to).udp(2152, 2152);
    let message =
        |flags, kind, rest: &[u8]| station().gtpu(flags, kind, OWN, rest).ip(DEVICE, SERVER).udp(50_000, 514);
    let inside = |inner: fn(Frame) -> Frame| inner(in_tunnel(station(), OWN));
    let wrong = [
        ("another tunnel", question(station(), OTHER)),
        ("no tunnel", question(station(), 0)),
        ("a foreign peer", question(outer([198, 51, 100, 7], ENDPOINT), OWN)),
        ("no endpoint", question(outer(STATION, NO_ENDPOINT), OWN)),
        ("another port", question(eth().ip(STATION, ENDPOINT).udp(2152, 2153), OWN)),
        ("another version", message(0x54, 255, &CONTAINER)),
        ("charging", message(0x24, 255, &CONTAINER)),
        ("an unknown message", message(0x34, 77, &CONTAINER)),
        ("an unknown extension", message(0x34, 255, &[0, 0, 0, 0x77, 1, 0, 0, 0])),
        ("an extension of no length", message(0x34, 255, &[0, 0, 0, 0x85, 0, 0, 0, 0])),
        (
            "a length beyond the datagram",
            in_tunnel(station(), OWN).set(2, &[0x7f, 0]).ip(DEVICE, SERVER).udp(50_000, 514),
        ),
        (
            "a length within the packet",
            in_tunnel(station(), OWN).set(2, &[0, 20]).ip(DEVICE, SERVER).udp(50_000, 514),
        ),
        ("a piece outside", question(eth().ip(STATION, ENDPOINT).fragment(0, true).udp(2152, 2152), OWN)),
        ("a packet that is none", inside(|frame| frame.payload(&[0x55; 40]))),
        ("a device within a device", inside(|frame| frame.ip(DEVICE, SERVER).udp(50_000, 2152))),
        ("another device's address", inside(|frame| frame.ip(STRANGER, SERVER).udp(50_000, 514))),
        ("a closed port", inside(|frame| frame.ip(DEVICE, SERVER).udp(50_000, 515))),
        ("no tunnel at all", eth().ip(DEVICE, SERVER).udp(50_000, 514)),
    ];
    for (why, frame) in wrong {
        host.expect(Way::Dropped, frame, why)?;
        host.expect(Way::Short, question(station(), OWN), "in between")?;
    }
    let odd = [
        ("a piece inside", inside(|frame| frame.ip(DEVICE, SERVER).fragment(0, true).udp(50_000, 514))),
        ("an echo between endpoints", station().gtpu(0x32, 1, 0, &[0, 1, 0, 0])),
        (
            "an option outside",
            question(eth().ip(STATION, ENDPOINT).ip_options(&[148, 4, 0, 0]).udp(2152, 2152), OWN),
        ),
        ("a listed peer that nobody knows", question(outer(NO_STATION, ENDPOINT), OTHER)),
    ];
    for (why, frame) in odd {
        let way = host.asked(frame)?;
        ensure!(way == Way::Whole || way == Way::Dropped, "{why}: {way:?}");
    }
    ensure!(host.dropped.len() > 10, "hardly any reasons: {:?}", host.dropped);
    host.leaves_the_same()
}

#[test]
fn a_tunnel_that_is_busy_is_kept_and_one_that_is_silent_taken_over() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let mut host = Host::with(&policy("", ""))?;
    host.establish()?;
    for _ in 0..50 {
        host.now += SECOND;
        host.expect(Way::Short, question(station(), OWN), "busy")?;
        host.expect(Way::Dropped, question(station(), OTHER), "a tunnel that is in use is taken over")?;
    }
    host.now += IDLE - SECOND;
    host.expect(Way::Dropped, question(station(), OTHER), "too early")?;
    host.now += SECOND;
    host.expect(Way::Whole, question(station(), OTHER), "taken over")?;
    host.expect(Way::Short, question(station(), OTHER), "the flow goes on")?;
    host.expect(Way::Dropped, question(station(), OWN), "back at once")?;
    host.leaves_the_same()
}

#[test]
fn a_flood_inside_tunnels_is_dropped_shortly_once_nobody_is_told_of_it() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let mut host = Host::with(&policy("", ""))?;
    host.now = 1 << EVENT_WINDOW_SHIFT;
    let strange = |outer| in_tunnel(outer, OWN).ip(STRANGER, SERVER).tcp(50_000, 443).flags(SYN);
    for told in 0..2 * EVENTS_PER_BUCKET {
        let wanted = if told < EVENTS_PER_BUCKET { Way::Dropped } else { Way::DroppedShortly };
        host.expect(wanted, strange(station()), "a stranger")?;
    }
    host.expect(
        Way::Dropped,
        strange(eth().ip([198, 51, 100, 7], ENDPOINT).udp(2152, 2152)),
        "a foreign peer's",
    )?;
    ensure!(host.dropped.get(&DropReason::GtpuPeer) == Some(&1), "{:?}", host.dropped);
    host.leaves_the_same()
}

#[test]
fn what_comes_in_a_tunnel_is_never_sent_on_past_the_stack() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let mut host = Host::with(&policy(", forwarding: xdp", ""))?;
    host.establish()?;
    let ways = host.kernel.counters(0)?.ways;
    // The first packet opens its flow, and is nobody's to send on.
    ensure!(ways[Onward::Tunnel as usize].packets == 3, "{ways:?}");
    ensure!(ways.iter().map(|way| way.packets).sum::<u64>() == 3, "{ways:?}");
    host.leaves_the_same()
}
