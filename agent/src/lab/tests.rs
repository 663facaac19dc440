//! Without a filter everything in the lab reaches everything; each test builds a lab of its own.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use super::client::{Client, Outcome};
use super::inject::Injector;
use super::load::Load;
use super::server::{Endpoint, Received, Servers};
use super::topology::{DNS, FORBIDDEN, OUTSIDER, SCADA, SERVER};
use super::witness::{Match, Witness};
use super::{Lab, Namespace, Topology, privilege};

type Result = anyhow::Result<()>;

const PAYLOAD: &[u8] = b"the quick brown fox";

fn lab() -> anyhow::Result<Lab> {
    Lab::new(&Topology::demo())
}

fn address(lab: &Lab, device: &str, family: usize) -> IpAddr {
    lab.topology().device(device).expect("a device of the demo").address.both()[family]
}

/// A client for what comes for certain: on a busy machine it takes longer than anybody else waits.
fn patient(namespace: &Namespace) -> Client<'_> {
    Client::new(namespace).timeout(Duration::from_secs(10))
}

/// On a busy machine what takes no time takes some; what never comes is told by the assertion behind.
fn wait_until(mut done: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let began = Instant::now();
    while !done()? && began.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

#[test]
fn devices_reach_servers_and_each_other_over_both_families() -> Result {
    if !privilege::granted() {
        return Ok(());
    }
    let began = Instant::now();
    let lab = lab()?;
    eprintln!("created in {:?}", began.elapsed());
    let servers = Servers::new();
    let dn = lab.namespace("dn")?;
    let charger = patient(lab.namespace("charger-1")?);
    for family in [0, 1] {
        let camera = address(&lab, "camera-1", family);
        let (tcp, udp) =
            (SocketAddr::new(SERVER.both()[family], 443), SocketAddr::new(DNS.both()[family], 53));
        servers.start(dn, &[Endpoint::Tcp(tcp), Endpoint::Udp(udp)])?;
        servers.start(lab.namespace("camera-1")?, &[Endpoint::tcp(camera, 554)])?;
        assert!(charger.tcp(tcp, PAYLOAD)?.echoed(PAYLOAD), "{tcp}");
        assert!(charger.udp(udp, PAYLOAD)?.echoed(PAYLOAD), "{udp}");
        assert!(charger.ping(SERVER.both()[family], PAYLOAD)?.echoed(PAYLOAD));
        assert!(charger.tcp(SocketAddr::new(camera, 554), PAYLOAD)?.echoed(PAYLOAD), "{camera}");
        assert_eq!(charger.tcp(SocketAddr::new(SERVER.both()[family], 444), PAYLOAD)?, Outcome::Refused);
        assert_eq!(
            servers.received(tcp),
            Received { connections: 1, datagrams: 0, bytes: PAYLOAD.len() as u64 }
        );
        assert_eq!(
            servers.received(udp),
            Received { connections: 0, datagrams: 1, bytes: PAYLOAD.len() as u64 }
        );
    }
    Ok(())
}

#[test]
fn the_outside_reaches_devices_and_a_large_payload_survives() -> Result {
    if !privilege::granted() {
        return Ok(());
    }
    let lab = lab()?;
    let servers = Servers::new();
    let any: IpAddr = std::net::Ipv6Addr::UNSPECIFIED.into();
    servers.start(lab.namespace("pump-1")?, &[Endpoint::tcp(any, 502)])?;
    let large: Vec<u8> = (0..200_000u32).map(|i| i.to_le_bytes()[0]).collect();
    for family in [0, 1] {
        let pump = SocketAddr::new(address(&lab, "pump-1", family), 502);
        let outside = patient(lab.namespace("outside")?);
        assert!(outside.tcp(pump, &large)?.echoed(&large), "{pump}");
        let scada = patient(lab.namespace("dn")?).from(SCADA.both()[family]);
        assert!(scada.tcp(pump, PAYLOAD)?.echoed(PAYLOAD), "{pump}");
        assert!(outside.ping(pump.ip(), PAYLOAD)?.echoed(PAYLOAD), "{pump}");
        assert_eq!(servers.received(pump).connections, 2);
    }
    Ok(())
}

#[test]
fn a_packet_to_a_neighbour_crosses_the_core_and_comes_back() -> Result {
    if !privilege::granted() {
        return Ok(());
    }
    let lab = lab()?;
    for family in [0, 1] {
        let (from, to) = (address(&lab, "charger-1", family), address(&lab, "charger-2", family));
        let wanted = Match { source: Some(from), destination: Some(to) };
        let entered = Witness::open(lab.namespace("core")?, "acc0", wanted)?;
        let returned = Witness::open(lab.namespace("ran")?, "acc0", wanted)?;
        let arrived = Witness::open(lab.namespace("charger-2")?, "radio", wanted)?;
        let beside = Witness::open(lab.namespace("core")?, "acc1", wanted)?;
        assert!(patient(lab.namespace("charger-1")?).ping(to, PAYLOAD)?.echoed(PAYLOAD));
        let seen = [entered.seen()?, returned.seen()?, arrived.seen()?, beside.seen()?];
        assert_eq!(seen, [1, 1, 1, 0], "{from} to {to}");
    }
    Ok(())
}

#[test]
fn a_spoofed_source_is_forwarded_and_counted_in_full() -> Result {
    if !privilege::granted() {
        return Ok(());
    }
    let lab = lab()?;
    for family in [0, 1] {
        let source = address(&lab, "charger-1", family);
        let to = SocketAddr::new(FORBIDDEN.both()[family], 9);
        let wanted = Match { source: Some(source), destination: Some(to.ip()) };
        let witness = Witness::open(lab.namespace("dn")?, "n6", wanted)?;
        let entered = Witness::open(lab.namespace("core")?, "acc1", wanted)?;
        let camera = Client::new(lab.namespace("camera-1")?).spoofing(source);
        let load = Load::start(&camera, to, Duration::from_micros(100))?;
        wait_until(|| Ok(load.sent() > 100))?;
        let sent = load.stop();
        assert!(sent > 0, "no datagram was sent");
        // The last ones may still be on their way.
        wait_until(|| Ok(entered.seen()? >= sent && witness.seen()? >= sent))?;
        assert_eq!((entered.seen()?, witness.seen()?), (sent, sent));
    }
    Ok(())
}

#[test]
fn a_live_connection_exchanges_until_its_server_ends() -> Result {
    if !privilege::granted() {
        return Ok(());
    }
    let lab = lab()?;
    let servers = Servers::new();
    let to = SocketAddr::new(SERVER.v4.into(), 8883);
    servers.start(lab.namespace("dn")?, &[Endpoint::Tcp(to)])?;
    let mut live = patient(lab.namespace("pump-1")?).connect(to)?.expect("an open way");
    assert!(live.is_alive()?);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (count, ended) = std::thread::scope(|scope| {
        let exchange = scope.spawn(|| live.exchange_until(&stop));
        std::thread::sleep(Duration::from_secs(1));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        exchange.join().expect("no panic")
    })?;
    assert!(count > 1 && ended.is_none(), "{count} exchanges, then {ended:?}");
    assert!(live.is_open(Duration::from_millis(50))?);
    drop(servers);
    // Over as soon as the other side has closed.
    assert!(!live.is_open(Duration::from_secs(10))?);
    Ok(())
}

#[test]
fn injected_frames_arrive_unchanged_with_their_tags() -> Result {
    if !privilege::granted() {
        return Ok(());
    }
    let lab = lab()?;
    let from = Injector::open(lab.namespace("ran")?, "acc0")?;
    let to = Injector::open(lab.namespace("core")?, "acc0")?;
    assert_eq!(to.mac(), lab.namespace("core")?.mac("acc0")?);
    let body = [0x45; 60];
    let tags: [&[u8]; 4] =
        [&[], &[0x81, 0, 0, 100], &[0x81, 0, 0xe0, 7], &[0x88, 0xa8, 0, 100, 0x81, 0, 0, 7]];
    for tags in tags {
        // 0x88b5 is the EtherType for local experiments (IEEE 802).
        let frame = [&to.mac()[..], &from.mac(), tags, &[0x88, 0xb5], &body].concat();
        from.send(&frame)?;
        let received = to.receive(Duration::from_secs(1), |seen| seen.ends_with(&body))?;
        assert_eq!(received.as_deref(), Some(&frame[..]));
    }
    assert_eq!(to.receive(Duration::from_millis(50), |seen| seen.ends_with(&body))?, None);
    Ok(())
}

#[test]
fn a_dropped_lab_leaves_nothing_behind() -> Result {
    if !privilege::granted() {
        return Ok(());
    }
    let lab = lab()?;
    let (prefix, directory) = (lab.prefix().to_owned(), lab.directory());
    let mut child = lab.namespace("outside")?.spawn(Command::new("sleep").arg("600"))?;
    assert!(directory.exists());
    drop(lab);
    assert!(child.wait()?.code().is_none(), "the process was not ended by a signal");
    assert!(!directory.exists());
    let left = std::fs::read_dir("/run/netns")?.flatten();
    let left: Vec<_> =
        left.filter(|entry| entry.file_name().to_string_lossy().starts_with(&format!("{prefix}-"))).collect();
    assert!(left.is_empty(), "{left:?}");
    Ok(())
}

#[test]
fn an_unknown_address_is_answered_by_nobody() -> Result {
    if !privilege::granted() {
        return Ok(());
    }
    let lab = lab()?;
    let nobody = SocketAddr::new(std::net::Ipv4Addr::new(203, 0, 113, 77).into(), 443);
    let outcome =
        Client::new(lab.namespace("charger-1")?).timeout(Duration::from_millis(200)).udp(nobody, PAYLOAD)?;
    assert!(matches!(outcome, Outcome::TimedOut | Outcome::Unreachable), "{outcome:?}");
    assert_eq!(OUTSIDER.v4.octets()[3], 66);
    Ok(())
}
