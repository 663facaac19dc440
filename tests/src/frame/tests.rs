use std::net::SocketAddr;
use std::time::Duration;

use super::checksum::{crc32c, internet};
use super::*;
use crate::netns::{Injector, Lab, Match, SERVER, Servers, Topology, Witness, granted};

const A: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 1);
const B: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 199);

#[test]
fn an_ipv4_header_has_the_published_checksum() {
    // The worked example that most texts on RFC 1071 use: a UDP packet of 115 bytes, checksum b861.
    let frame = eth().ipv4(A, B).udp(1, 2).payload(&[0; 87]).build();
    let expected =
        [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xb8, 0x61, 192, 168, 0, 1, 192, 168, 0, 199];
    assert_eq!(frame[14..34], expected);
}

#[test]
fn crc32c_has_the_published_check_value() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}

#[test]
fn tags_announce_each_other() {
    let frame = eth().service_vlan(100).vlan(7).ipv4(A, B).build();
    assert_eq!(frame[12..22], [0x88, 0xa8, 0, 100, 0x81, 0, 0, 7, 8, 0]);
}

#[test]
fn an_extension_chain_names_its_parts() {
    let frame =
        bare().ipv6(SERVER.v6, SERVER.v6).extension(HOP_BY_HOP, &[1, 4]).fragment_header(8, true).udp(1, 2);
    let bytes = frame.build();
    assert_eq!((bytes[6], bytes[40], bytes[41], bytes[48]), (HOP_BY_HOP, FRAGMENT, 0, 17));
    assert_eq!(bytes[4..6], 24u16.to_be_bytes());
    assert_eq!(bytes[50..52], [0, 9]);
}

#[test]
fn set_overwrites_after_the_checksum() {
    let right = eth().ipv4(A, B).udp(1, 2).build();
    let wrong = eth().ipv4(A, B).set(2, &[0xff, 0xff]).udp(1, 2).build();
    assert_eq!((&wrong[16..18], &wrong[18..]), (&[0xff, 0xff][..], &right[18..]));
}

#[test]
fn options_are_counted() {
    let frame = bare().ipv4(A, B).ip_options(&[7, 4, 5]).udp(1, 2).build();
    assert_eq!((frame[0], frame.len(), internet(&[&frame[..24]])), (0x46, 32, 0));
}

/// The kernel's own parser is the judge: only frames with right lengths and checksums are answered.
#[test]
fn a_real_kernel_accepts_the_frames() -> anyhow::Result<()> {
    if !granted() {
        return Ok(());
    }
    let lab = Lab::new(&Topology::demo())?;
    let servers = Servers::new();
    let dn = lab.namespace("dn")?;
    let charger = lab.topology().device("charger-1").expect("a device of the demo").address;
    let link = Injector::open(lab.namespace("charger-1")?, "radio")?;
    let to_mac = lab.namespace("ran")?.mac("ue0")?;
    for (source, server) in charger.both().into_iter().zip(SERVER.both()) {
        let to = SocketAddr::new(server, 4000);
        servers.start(dn, &[crate::netns::Endpoint::Udp(to), crate::netns::Endpoint::Tcp(to)])?;
        let witness = Witness::open(
            lab.namespace("charger-1")?,
            "radio",
            Match { source: Some(server), destination: None },
        )?;
        let start = || eth().from_mac(link.mac()).to_mac(to_mac).ip(source, server);
        let frames = [
            start().udp(4001, 4000).payload(b"odd"),
            start().tcp(4002, 4000).flags(SYN),
            start().echo_request(1, 1).payload(b"ping"),
        ];
        for (count, frame) in (1..).zip(&frames) {
            link.send(&frame.build())?;
            let answered = link.receive(Duration::from_secs(20), |seen| from(seen, source, server))?;
            assert!(answered.is_some(), "{server}: no answer to frame {count}");
            assert!(witness.seen()? >= count);
        }
        assert_eq!(servers.received(to).bytes, 3);
        link.send(&start().udp(4003, 4000).set(6, &[0x12, 0x34]).payload(b"bad sum").build())?;
        assert_eq!(link.receive(Duration::from_millis(100), |seen| from(seen, source, server))?, None);
    }
    Ok(())
}

/// Says whether the frame is IP from `server` to `source`, neighbour discovery left out.
fn from(seen: &[u8], source: IpAddr, server: IpAddr) -> bool {
    let addresses = match (server, source) {
        (IpAddr::V4(server), IpAddr::V4(source)) => [&server.octets()[..], &source.octets()].concat(),
        (IpAddr::V6(server), IpAddr::V6(source)) => [&server.octets()[..], &source.octets()].concat(),
        _ => return false,
    };
    seen.windows(addresses.len()).any(|window| window == addresses)
}
