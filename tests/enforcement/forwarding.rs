//! Forwarding by XDP does what the kernel's own forwarding does, byte by byte, and leaves to it what it must.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bulkhead::datapath::Legs;
use bulkhead::forwarding::Survey;
use bulkhead_common::abi::{Leg, SubinterfaceKey};
use bulkhead_common::verdict::{DropReason, Verdict, Way};
use tests::cpu;
use tests::frame::{Frame, eth};
use tests::netns::{Injector, SERVER};
use tests::small;

use crate::core::{Core, DEVICE, LINKS};
use crate::networks::apply_text;

const POLICY: &str = r#"
apiVersion: bulkhead/v1
kind: Network
metadata: {name: acme}
spec:
  seenOn: [{interface: acc0}, {interface: n6}, {interface: n6, vlan: 100}]
  pools: [10.45.0.0/16, "fd00:45::/32"]
  forwarding: xdp
---
kind: Device
metadata: {name: charger-1}
spec: {network: acme, addresses: [10.45.0.11, "fd00:45:0:11::/64"]}
---
kind: Policy
metadata: {name: out}
spec:
  subject: {device: charger-1}
  allow: [{name: near, to: {cidrs: [203.0.113.10, "2001:db8:cafe::10"]}, ports: [udp/5000, tcp/5001, icmp/echo]}]
"#;
const RULE: &str = "{name: near, to: {cidrs: [203.0.113.10";

/// Deadline of whatever is waited for; on a busy machine a frame takes its time.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one frame may take.
const ONCE: Duration = Duration::from_secs(2);
/// How long nothing must arrive for it to be believed that nothing does.
const SILENCE: Duration = Duration::from_millis(300);

/// The lab, with the fast way open.
struct Bench {
    core: Core,
    ran: Injector,
    dn: Injector,
}

/// One direction: where a frame enters, and where it arrives.
#[derive(Clone, Copy)]
enum Course {
    Up,
    Down,
}

impl Bench {
    fn start(policy: &str) -> Result<Option<Self>> {
        // One packet in each turn of a next hop goes through the stack, on each CPU: on one that is one in four seconds.
        cpu::stay()?;
        let Some(mut core) = Core::start()? else { return Ok(None) };
        core.lab.fit_for_xdp()?;
        apply_text(&mut core, policy)?;
        let ran = Injector::open(core.lab.namespace("ran")?, "acc0")?;
        let dn = Injector::open(core.lab.namespace("dn")?, "n6")?;
        let bench = Self { core, ran, dn };
        bench.hush()?;
        Ok(Some(bench))
    }

    /// Nobody answers, neither the server nor the device: a reset would end the flow, and an error would hold the mark.
    fn hush(&self) -> Result<()> {
        for server in SERVER.both() {
            self.ip("dn", &[&format!("addr del {server} dev lo"), &format!("route add blackhole {server}")])?;
        }
        for device in ["10.45.0.11/32", "fd00:45:0:11::/64"] {
            self.ip("ran", &[&format!("route del {device}"), &format!("route add blackhole {device}")])?;
        }
        Ok(())
    }

    /// Opens the fast way where the host allows it.
    fn open_fast_way(&mut self) -> Result<Survey> {
        let mut judged = BTreeSet::new();
        for (name, _) in LINKS {
            judged.insert(self.core.ifindex(name)?);
        }
        let survey = self.core.lab.namespace("core")?.run(|| Survey::take(&judged))??;
        ensure!(survey.obstacles.is_empty(), "{:?}", survey.obstacles);
        self.publish(&survey.legs)?;
        Ok(survey)
    }

    fn publish(&mut self, legs: &Legs) -> Result<bool> {
        let (datapath, _) = self.core.datapath.as_mut().context("no agent")?;
        datapath.forward_by(legs)
    }

    /// The header of a frame to the core, from the device or to it.
    fn start_of(&self, course: Course) -> Result<Frame> {
        let link = match course {
            Course::Up => "acc0",
            Course::Down => "n6",
        };
        Ok(eth().to_mac(self.core.lab.namespace("core")?.mac(link)?))
    }

    const fn ends(&self, course: Course) -> (&Injector, &Injector) {
        match course {
            Course::Up => (&self.ran, &self.dn),
            Course::Down => (&self.dn, &self.ran),
        }
    }

    fn ways(&self, link: &str, way: Way) -> Result<u64> {
        Ok(self.core.counters(link)?.way(way).packets)
    }

    /// Sends a frame, and returns what arrives of it: with the same payload, whatever is before it.
    fn through(&self, course: Course, frame: &[u8]) -> Result<Vec<u8>> {
        let (from, to) = self.ends(course);
        self.arriving(from, to, frame)
    }

    fn arriving(&self, from: &Injector, to: &Injector, frame: &[u8]) -> Result<Vec<u8>> {
        from.send(frame)?;
        let arrived = to.receive(PATIENCE, |seen| is_of(seen, MARK))?;
        arrived.with_context(|| {
            let drops = LINKS.map(|(link, _)| self.core.drops(link).unwrap_or_default());
            format!("nothing arrived; drops: {drops:?}")
        })
    }

    /// Sends a frame until it has gone the fast way; returns what arrived then. What goes through the stack, as one in a
    /// while does, may be lost there.
    fn fast(&self, course: Course, frame: &[u8]) -> Result<Vec<u8>> {
        let (from, to) = self.ends(course);
        let link = match course {
            Course::Up => "acc0",
            Course::Down => "n6",
        };
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let before = self.ways(link, Way::Fast)?;
            from.send(frame)?;
            let arrived = to.receive(ONCE, |seen| is_of(seen, MARK))?;
            if self.ways(link, Way::Fast)? > before {
                let arrived =
                    arrived.map_or_else(|| to.receive(PATIENCE, |seen| is_of(seen, MARK)), |a| Ok(Some(a)));
                return arrived?.context("forwarded by XDP, and it never arrived");
            }
        }
        anyhow::bail!("never forwarded by XDP: {}", self.told(link)?)
    }

    fn told(&self, link: &str) -> Result<String> {
        let counters = self.core.counters(link)?;
        let ways = Way::ALL.iter().map(|way| (way.as_str(), counters.way(*way).packets));
        Ok(format!("{:?}", ways.filter(|(_, packets)| *packets > 0).collect::<Vec<_>>()))
    }

    /// True if nothing with the mark arrives.
    fn nothing_arrives(&self, at: &Injector) -> Result<bool> {
        Ok(at.receive(SILENCE, |seen| is_of(seen, MARK))?.is_none())
    }

    fn ip(&self, role: &str, lines: &[&str]) -> Result<()> {
        for line in lines {
            let mut command = Command::new("ip");
            command.args(["-n", self.core.lab.namespace(role)?.name()]).args(line.split(' '));
            let output = command.output().context("run ip")?;
            ensure!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }
}

/// What payloads of the tests' own frames hold.
const MARK: &[u8] = b"\xb0\x1c\x4e\xad by bulkhead's tests";

fn is_of(frame: &[u8], mark: &[u8]) -> bool {
    frame.windows(mark.len()).any(|window| window == mark)
}

/// Frames of one flow each, up and down, of both families: the first of a flow goes up.
fn frames(bench: &Bench) -> Result<Vec<(Course, Vec<u8>)>> {
    let device = ["10.45.0.11", "fd00:45:0:11::1"].map(|address| address.parse::<std::net::IpAddr>());
    let mut frames = Vec::new();
    for (device, server) in device.into_iter().zip(SERVER.both()) {
        let device = device?;
        let up = || Ok::<_, anyhow::Error>(bench.start_of(Course::Up)?.ip(device, server));
        let down = || Ok::<_, anyhow::Error>(bench.start_of(Course::Down)?.ip(server, device));
        frames.push((Course::Up, up()?.udp(40_000, 5000).payload(MARK).build()));
        frames.push((Course::Down, down()?.udp(5000, 40_000).payload(MARK).build()));
        frames.push((Course::Up, up()?.ttl(2).udp(40_000, 5000).payload(MARK).build()));
        frames.push((Course::Up, up()?.tcp(40_001, 5001).payload(MARK).build()));
        frames.push((Course::Down, down()?.tcp(5001, 40_001).payload(MARK).build()));
        frames.push((Course::Up, up()?.echo_request(77, 1).payload(MARK).build()));
        frames.push((Course::Down, down()?.echo_reply(77, 1).payload(MARK).build()));
        let long = [MARK, &[9; 1200]].concat();
        frames.push((Course::Up, up()?.udp(40_000, 5000).payload(&long).build()));
    }
    Ok(frames)
}

#[test]
fn what_xdp_forwards_is_byte_for_byte_what_the_kernel_forwards() -> Result<()> {
    let Some(mut bench) = Bench::start(POLICY)? else { return Ok(()) };
    let frames = frames(&bench)?;
    let mut by_kernel = Vec::new();
    for (course, frame) in &frames {
        by_kernel.push(bench.through(*course, frame)?);
    }
    ensure!(
        bench.ways("acc0", Way::Fast)? == 0 && bench.ways("acc0", Way::Entry)? > 0,
        "{}",
        bench.told("acc0")?
    );
    let survey = bench.open_fast_way()?;
    assert_eq!(survey.enters, ["acc0", "acc1", "n6"]);
    assert_eq!(survey.leaves, ["acc0", "acc1", "n6"]);
    for ((course, frame), expected) in frames.iter().zip(&by_kernel) {
        let arrived = bench.fast(*course, frame)?;
        assert_eq!(&arrived, expected, "of {frame:02x?}");
    }
    // And back: nothing of it is kept anywhere.
    bench.publish(&Legs::new())?;
    let before = bench.ways("acc0", Way::Fast)?;
    for ((course, frame), expected) in frames.iter().zip(&by_kernel) {
        assert_eq!(&bench.through(*course, frame)?, expected);
    }
    assert_eq!(bench.ways("acc0", Way::Fast)?, before);
    for (link, _) in LINKS {
        crate::core::assert_balanced(&bench.core.counters(link)?);
    }
    Ok(())
}

/// Not every kernel has VLAN interfaces: here the legs say what they would say with one on n6, and the frames of the
/// kernel's own forwarding without it tell what must be inside.
#[test]
fn tags_are_put_on_and_taken_off() -> Result<()> {
    const TAG: [u8; 4] = [0x81, 0, 0, 100];
    let Some(mut bench) = Bench::start(POLICY)? else { return Ok(()) };
    let frames = frames(&bench)?;
    let mut by_kernel = Vec::new();
    for (course, frame) in &frames {
        by_kernel.push(bench.through(*course, frame)?);
    }
    let n6 = bench.core.ifindex("n6")?;
    let mut legs = bench.open_fast_way()?.legs;
    let plain = legs.remove(&SubinterfaceKey::entry(n6, 0, 0)).context("n6 is no entry")?;
    let tagged = Leg { tags: [u32::from_be_bytes(TAG), 0], ..plain };
    legs.insert(SubinterfaceKey::entry(n6, 100, 0), tagged);
    legs.insert(SubinterfaceKey::exit(n6), tagged);
    bench.publish(&legs)?;
    let with_tag = |frame: &[u8]| [&frame[..12], &TAG, &frame[12..]].concat();
    for ((course, frame), expected) in frames.iter().zip(&by_kernel) {
        match course {
            Course::Up => assert_eq!(bench.fast(*course, frame)?, with_tag(expected)),
            Course::Down => assert_eq!(&bench.fast(*course, &with_tag(frame))?, expected),
        }
    }
    Ok(())
}

#[test]
fn the_stack_answers_what_it_must_answer() -> Result<()> {
    let Some(mut bench) = Bench::start(POLICY)? else { return Ok(()) };
    bench.open_fast_way()?;
    let up = || Ok::<_, anyhow::Error>(bench.start_of(Course::Up)?.ip(small::address(DEVICE), SERVER.v4));
    let datagram = |packet: Frame| packet.udp(40_000, 5000).payload(MARK).build();
    bench.fast(Course::Up, &datagram(up()?))?;

    // Its hops are used up: the host says so to the sender (RFC 792), and nothing goes on.
    bench.ran.send(&datagram(up()?.ttl(1)))?;
    let exceeded = bench.ran.receive(PATIENCE, |seen| is_icmp(seen, 11, 0))?;
    ensure!(exceeded.is_some(), "no time exceeded: {}", bench.told("acc0")?);
    ensure!(bench.nothing_arrives(&bench.dn)?, "and it arrived all the same");
    ensure!(bench.ways("acc0", Way::HopLimit)? == 1, "{}", bench.told("acc0")?);

    // Longer than the route's MTU: told, too, if it must not be cut (RFC 1191), and cut if it may.
    bench.ip("core", &["route replace 203.0.113.10 via 10.99.3.2 dev n6 mtu lock 1280"])?;
    let long =
        || Ok::<_, anyhow::Error>(up()?.udp(40_000, 5000).payload(&[MARK, &[7; 1300]].concat()).build());
    bench.ran.send(&whole_or_nothing(long()?))?;
    let needed =
        bench.ran.receive(PATIENCE, |seen| is_icmp(seen, 3, 4))?.context("no fragmentation needed")?;
    assert_eq!(needed[14 + 20 + 6..14 + 20 + 8], 1280u16.to_be_bytes(), "the MTU of the next hop");
    ensure!(bench.nothing_arrives(&bench.dn)?, "and it arrived all the same");
    bench.ran.send(&may_be_cut(long()?))?;
    let piece = bench.dn.receive(PATIENCE, |seen| is_of(seen, MARK))?.context("it was not cut")?;
    ensure!(piece.len() <= 14 + 1280, "{} bytes", piece.len());
    assert_eq!(bench.ways("acc0", Way::TooLong)?, 2, "{}", bench.told("acc0")?);

    // For somebody else on the link: the host does not take it, and neither does XDP.
    let before = bench.ways("acc0", Way::Receiver)?;
    bench.ran.send(&datagram(eth().to_mac([2, 0, 0, 9, 9, 9]).ip(small::address(DEVICE), SERVER.v4)))?;
    ensure!(bench.nothing_arrives(&bench.dn)?, "a frame to somebody else was forwarded");
    assert_eq!(bench.ways("acc0", Way::Receiver)?, before + 1);
    Ok(())
}

#[test]
fn routes_neighbours_and_links_are_followed_at_once() -> Result<()> {
    let Some(mut bench) = Bench::start(POLICY)? else { return Ok(()) };
    bench.open_fast_way()?;
    let other = Injector::open(bench.core.lab.namespace("ran")?, "acc1")?;
    let frame = bench.start_of(Course::Up)?.ip(small::address(DEVICE), SERVER.v4);
    let frame = frame.udp(40_000, 5000).payload(MARK).build();
    bench.fast(Course::Up, &frame)?;

    // Nobody knows the next hop's address: the stack asks, and then it is fast again.
    let before = bench.ways("acc0", Way::NoNeighbour)?;
    bench.ip("core", &["neigh flush dev n6"])?;
    bench.through(Course::Up, &frame)?;
    ensure!(bench.ways("acc0", Way::NoNeighbour)? > before, "{}", bench.told("acc0")?);
    bench.fast(Course::Up, &frame)?;

    // Another way, by another interface, for the very next packet.
    bench.ip(
        "core",
        &[
            "neigh replace 10.99.2.2 lladdr 02:00:00:00:00:77 dev acc1 nud permanent",
            "route replace 203.0.113.10 via 10.99.2.2 dev acc1",
        ],
    )?;
    let there = bench.arriving(&bench.ran, &other, &frame)?;
    assert_eq!(there[..6], [2, 0, 0, 0, 0, 0x77]);
    ensure!(bench.nothing_arrives(&bench.dn)?, "and by the old way, too");
    // That interface goes down, and its route with it: the default route is next.
    bench.ip("core", &["link set acc1 down"])?;
    bench.fast(Course::Up, &frame)?;
    bench.ip("core", &["route add blackhole 203.0.113.10"])?;
    let before = bench.ways("acc0", Way::Blackhole)?;
    bench.ran.send(&frame)?;
    ensure!(bench.nothing_arrives(&bench.dn)?, "past a blackhole");
    assert_eq!(bench.ways("acc0", Way::Blackhole)?, before + 1, "{}", bench.told("acc0")?);
    Ok(())
}

#[test]
fn a_changed_policy_cuts_a_flow_on_the_fast_way_at_its_next_packet() -> Result<()> {
    let Some(mut bench) = Bench::start(POLICY)? else { return Ok(()) };
    bench.open_fast_way()?;
    let up = bench.start_of(Course::Up)?.ip(small::address(DEVICE), SERVER.v4);
    let up = up.udp(40_000, 5000).payload(MARK).build();
    let down = bench.start_of(Course::Down)?.ip(SERVER.v4, small::address(DEVICE));
    let down = down.udp(5000, 40_000).payload(MARK).build();
    bench.fast(Course::Up, &up)?;
    bench.fast(Course::Down, &down)?;
    ensure!(POLICY.contains(RULE), "the rule to be changed is not there");
    let changed = POLICY.replace(RULE, "{name: near, to: {cidrs: [203.0.113.11");
    apply_text(&mut bench.core, &changed)?;
    bench.dn.send(&down)?;
    bench.ran.send(&up)?;
    ensure!(bench.nothing_arrives(&bench.dn)? && bench.nothing_arrives(&bench.ran)?, "it goes on");
    let refused = bench.core.counters("acc0")?.of(Verdict::Drop(DropReason::NoRule)).packets;
    assert_eq!(refused, 1, "{:?}", bench.core.drops("acc0")?);
    apply_text(&mut bench.core, POLICY)?;
    bench.fast(Course::Up, &up)?;
    Ok(())
}

#[test]
fn without_being_asked_for_nothing_is_forwarded_by_xdp() -> Result<()> {
    let Some(mut bench) = Bench::start(&POLICY.replace("  forwarding: xdp\n", ""))? else { return Ok(()) };
    bench.open_fast_way()?;
    let frame = bench.start_of(Course::Up)?.ip(small::address(DEVICE), SERVER.v4);
    let frame = frame.udp(40_000, 5000).payload(MARK).build();
    for _ in 0..5 {
        bench.through(Course::Up, &frame)?;
    }
    let counters = bench.core.counters("acc0")?;
    ensure!(Way::ALL.iter().all(|way| counters.way(*way).packets == 0), "{}", bench.told("acc0")?);
    Ok(())
}

fn is_icmp(frame: &[u8], kind: u8, code: u8) -> bool {
    frame.get(12..14) == Some(&[8, 0])
        && frame.get(23) == Some(&1)
        && frame.get(34..36) == Some(&[kind, code])
}

/// The frame with "don't fragment" in its IPv4 header, or without.
fn whole_or_nothing(frame: Vec<u8>) -> Vec<u8> {
    flagged(frame, 0x40)
}

fn may_be_cut(frame: Vec<u8>) -> Vec<u8> {
    flagged(frame, 0)
}

fn flagged(mut frame: Vec<u8>, flags: u8) -> Vec<u8> {
    (frame[20], frame[24], frame[25]) = (flags, 0, 0);
    let words = frame[14..34].chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame
}
