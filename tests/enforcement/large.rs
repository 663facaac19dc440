//! Datagrams larger than a link, and paths that are narrower than both ends know.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use bulkhead_common::verdict::{DropReason, Pass, Verdict};
use tests::command::ip;
use tests::frame::{Frame, eth};
use tests::netns::{Client, Endpoint, Injector, Match, OUTSIDER, SERVER, Servers, Witness};

use crate::core::Core;
use crate::networks::apply_text;

const POLICY: &str = r#"
apiVersion: bulkhead/v1
kind: Network
metadata: {name: acme}
spec: {seenOn: [{interface: acc0}, {interface: n6}], pools: [10.45.0.0/16, "fd00:45::/32"]}
---
kind: Device
metadata: {name: charger-1}
spec: {network: acme, addresses: [10.45.0.11, "fd00:45:0:11::/64"]}
---
kind: Policy
metadata: {name: out}
spec:
  subject: {device: charger-1}
  allow:
    - {name: near, to: {cidrs: [203.0.113.10, "2001:db8:cafe::10"]}, ports: [udp/5000, icmp/echo]}
    - {name: far, to: {cidrs: [192.0.2.66, "2001:db8:66::66"]}, ports: [tcp/5001]}
"#;

/// Three fragments on a link of 1500 bytes.
const LARGE: usize = 4000;
/// Many segments more than fit into a first window.
const UPLOAD: usize = 400_000;
/// What the way to the far link carries; more than IPv6's least (RFC 8200 section 5).
const NARROW: &str = "1320";

#[test]
fn large_datagrams_pass_in_pieces_both_ways() -> Result<()> {
    let Some(mut core) = Core::start()? else { return Ok(()) };
    apply_text(&mut core, POLICY)?;
    let servers = Servers::new();
    servers.start(core.lab.namespace("dn")?, &SERVER.both().map(|server| Endpoint::udp(server, 5000)))?;
    let payload: Vec<u8> = (0u8..=255).cycle().take(LARGE).collect();
    for server in SERVER.both() {
        let client = Client::new(core.lab.namespace("charger-1")?).timeout(Duration::from_secs(2));
        let answer = client.udp(SocketAddr::new(server, 5000), &payload)?;
        ensure!(answer.echoed(&payload), "{server}: {}", dropped(&core)?);
        ensure!(client.ping(server, &payload)?.echoed(&payload), "ping {server}: {}", dropped(&core)?);
    }
    // Two datagrams of each family, three pieces each; the first piece of each opens its flow.
    let [up, down] = ["acc0", "n6"].map(|link| core.counters(link));
    let count =
        |counters: &bulkhead_common::abi::counter::Counters, pass| counters.of(Verdict::Pass(pass)).packets;
    let (up, down) = (up?, down?);
    assert_eq!((count(&up, Pass::Opened), count(&up, Pass::Established)), (4, 8));
    assert_eq!(count(&down, Pass::Established), 12);
    Ok(())
}

#[test]
fn where_fragments_are_to_be_dropped_none_arrives() -> Result<()> {
    let Some(mut core) = Core::start()? else { return Ok(()) };
    apply_text(&mut core, &POLICY.replace("spec: {seenOn", "spec: {fragments: drop, seenOn"))?;
    let wanted = Match { source: Some(IpAddr::from([10, 45, 0, 11])), destination: None };
    let arrived = Witness::open(core.lab.namespace("dn")?, "n6", wanted)?;
    let client = Client::new(core.lab.namespace("charger-1")?).timeout(Duration::from_millis(300));
    client.udp(SocketAddr::new(SERVER.v4.into(), 5000), &[7; LARGE])?;
    core.quiet()?;
    assert_eq!(arrived.seen()?, 0, "counted behind the host");
    assert_eq!(core.counters("acc0")?.of(Verdict::Drop(DropReason::FragmentDenied)).packets, 3);
    Ok(())
}

#[test]
fn pieces_that_do_not_fit_together_never_arrive() -> Result<()> {
    let Some(mut core) = Core::start()? else { return Ok(()) };
    apply_text(&mut core, POLICY)?;
    let access = Injector::open(core.lab.namespace("ran")?, "acc0")?;
    let device = IpAddr::from([10, 45, 0, 11]);
    let piece = |id, offset, more, content: fn(Frame) -> Frame| {
        content(eth().ip(device, SERVER.v4).fragment(offset, more).identified(id).protocol(17)).build()
    };
    let first = |frame: Frame| frame.udp(40_000, 5000).payload(&[0; 56]);
    let later = |frame: Frame| frame.payload(&[0; 64]);
    let expect = |frame: &[u8], verdict| core.expect("acc0", &access, frame, verdict);

    expect(&piece(1, 64, true, later), Verdict::Drop(DropReason::FragmentEarly))?;
    expect(&piece(1, 0, true, first), Verdict::Pass(Pass::Opened))?;
    expect(&piece(1, 64, true, later), Verdict::Pass(Pass::Established))?;
    expect(&piece(1, 256, true, later), Verdict::Drop(DropReason::FragmentEarly))?;
    // A gap ended the datagram: what would have fitted comes too late.
    expect(&piece(1, 128, true, later), Verdict::Drop(DropReason::FragmentEarly))?;

    expect(&piece(2, 0, true, first), Verdict::Pass(Pass::Established))?;
    expect(&piece(2, 8, true, later), Verdict::Drop(DropReason::FragmentOverlap))?;
    expect(&piece(3, 0, true, first), Verdict::Pass(Pass::Established))?;
    expect(&piece(3, 0, true, first), Verdict::Drop(DropReason::FragmentRewrite))?;
    expect(&piece(4, 0, true, |frame| frame.payload(&[0; 4])), Verdict::Drop(DropReason::MalformedFragment))?;
    expect(&piece(5, 65_528, false, later), Verdict::Drop(DropReason::MalformedFragment))
}

#[test]
fn a_transfer_finds_the_path_s_width_and_completes() -> Result<()> {
    let Some(mut core) = Core::start()? else { return Ok(()) };
    apply_text(&mut core, POLICY)?;
    // Only the way there: the server believes in 1500 bytes and says so in its handshake, and what it sends is not
    // held against a narrower link, which would lose it without a word.
    for server in OUTSIDER.both() {
        let dn = core.lab.namespace("dn")?.name();
        ip(&format!("-n {dn} route replace {server} dev out mtu lock {NARROW}"))?;
    }
    let servers = Servers::new();
    servers
        .start(core.lab.namespace("outside")?, &OUTSIDER.both().map(|server| Endpoint::tcp(server, 5001)))?;
    for server in OUTSIDER.both() {
        let before = core.counters("n6")?.of(Verdict::Pass(Pass::IcmpError)).packets;
        let to = SocketAddr::new(server, 5001);
        let client = Client::new(core.lab.namespace("charger-1")?).timeout(Duration::from_secs(10));
        let upload = vec![7; UPLOAD];
        ensure!(client.tcp(to, &upload)?.echoed(&upload), "{server}: {}", dropped(&core)?);
        assert_eq!(servers.received(to).bytes, UPLOAD as u64, "counted by the server");
        let told = core.counters("n6")?.of(Verdict::Pass(Pass::IcmpError)).packets - before;
        ensure!(told > 0, "{server}: nobody said that the path is narrow, so this shows nothing");
    }
    Ok(())
}

#[test]
fn a_report_about_a_flow_that_is_not_reaches_no_device() -> Result<()> {
    let Some(mut core) = Core::start()? else { return Ok(()) };
    apply_text(&mut core, POLICY)?;
    let device = IpAddr::from([10, 45, 0, 11]);
    let router = IpAddr::from([198, 51, 100, 1]);
    let wanted = Match { source: Some(router), destination: None };
    let arrived = Witness::open(core.lab.namespace("charger-1")?, "radio", wanted)?;
    let access = Injector::open(core.lab.namespace("ran")?, "acc0")?;
    let outside = Injector::open(core.lab.namespace("dn")?, "n6")?;
    let packet = |port| tests::frame::bare().ip(device, SERVER.v4).udp(port, 5000).payload(&[0; 8]).build();
    let to = core.lab.namespace("core")?.mac("n6")?;
    let report =
        |port| eth().to_mac(to).ip(router, device).icmp(3, 4, [0, 0, 5, 20]).payload(&packet(port)).build();
    core.expect(
        "acc0",
        &access,
        &eth().ip(device, SERVER.v4).udp(40_000, 5000).build(),
        Verdict::Pass(Pass::Opened),
    )?;
    core.expect("n6", &outside, &report(40_001), Verdict::Drop(DropReason::IcmpErrorUnrelated))?;
    core.quiet()?;
    assert_eq!(arrived.seen()?, 0, "counted by the device");
    core.expect("n6", &outside, &report(40_000), Verdict::Pass(Pass::IcmpError))?;
    core.quiet()?;
    assert_eq!(arrived.seen()?, 1, "one about a live flow arrives");
    Ok(())
}

fn dropped(core: &Core) -> Result<String> {
    Ok(format!("acc0 dropped {:?}, n6 {:?}", core.drops("acc0")?, core.drops("n6")?))
}
