//! In a guest that has the drivers (`cargo xtask vm`): tunnels that the host terminates, listed as `core` and judged
//! inside; and VLAN tags as drivers keep them out of the frame.
//!
//! Where a driver is missing it prints `skipped: …`; few hosts have all of them.

#[path = "tunnels/host.rs"]
mod host;
#[path = "tunnels/ipsec.rs"]
mod ipsec;
#[path = "tunnels/ppp.rs"]
mod ppp;
#[path = "tunnels/tags.rs"]
mod tags;
#[path = "tunnels/wireguard.rs"]
mod wireguard;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Result, ensure};
use bulkhead::datapath::link_type;
use bulkhead_common::case::LinkType;
use bulkhead_common::verdict::{DropReason, Pass, Verdict};
use tests::command::run;
use tests::frame::{Frame, bare, eth};
use tests::small;

use host::{DEVICE, Guarded, LOCAL, LOCAL_V6, OPEN, PEER, PEER_V6};

const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 11));
const ESTABLISHED: Verdict = Verdict::Pass(Pass::Established);
const UNSOLICITED: Verdict = Verdict::Drop(DropReason::Unsolicited);
const SPOOFED: Verdict = Verdict::Drop(DropReason::SpoofedSource);
const NO_TRANSIT: Verdict = Verdict::Drop(DropReason::TransitDenied);

/// IP protocol numbers.
const IPIP: u8 = 4;
const SIT: u8 = 41;
const GRE: u8 = 47;

/// What comes from the data network inside of a tunnel, and what becomes of it: only the answer to what a device has said
/// passes.
fn inside(frame: impl Fn() -> Frame) -> [(Vec<u8>, Verdict); 4] {
    let udp = |from, to: IpAddr| frame().ip(from, to).udp(OPEN, 40_000).payload(b"answer").build();
    let device = small::address(DEVICE);
    [
        (udp(small::REMOTE, device), ESTABLISHED),
        (udp(OTHER, device), UNSOLICITED),
        (udp(small::address(DEVICE + 1), device), SPOOFED),
        (udp(OTHER, IpAddr::from([198, 51, 100, 1])), NO_TRANSIT),
    ]
}

/// The same of the device's IPv6 address.
fn sixth() -> Result<[(Vec<u8>, Verdict); 3]> {
    let [remote, other]: [IpAddr; 2] = [small::REMOTE_V6.into(), "2001:db8:cafe::11".parse()?];
    let udp = |from: IpAddr, to: IpAddr| bare().ip(from, to).udp(OPEN, 40_000).payload(b"answer").build();
    let device = small::address_v6(DEVICE).into();
    Ok([
        (udp(remote, device), ESTABLISHED),
        (udp(other, device), UNSOLICITED),
        (udp(small::address_v6(DEVICE + 1).into(), device), SPOOFED),
    ])
}

/// A tunnel of a kind, and how a packet comes by it: protocol and header in an IP packet from its other end.
struct Tunnel {
    kind: &'static str,
    ends: [IpAddr; 2],
    protocol: u8,
    header: &'static [u8],
}

/// IPv4 and IPv6 in GRE: no checksum, no key.
const GRE_V4: [u8; 4] = [0, 0, 8, 0];
const GRE_V6: [u8; 4] = [0, 0, 0x86, 0xdd];
/// Ethernet in GRE.
const GRE_ETHERNET: [u8; 4] = [0, 0, 0x65, 0x58];

impl Tunnel {
    const fn new(kind: &'static str, protocol: u8, header: &'static [u8]) -> Self {
        Self { kind, ends: [LOCAL, PEER], protocol, header }
    }

    fn made(&self) -> String {
        let [local, remote] = self.ends;
        // What may be inside, where it is not one protocol.
        let mode = if self.kind == "ip6tnl" { " mode any" } else { "" };
        format!("link add tunl7 type {} local {local} remote {remote}{mode}", self.kind)
    }

    fn outside(&self, host: &Guarded, packet: &[u8]) -> Vec<u8> {
        let [local, remote] = self.ends;
        let frame = eth().to_mac(host.mac).ip(remote, local).protocol(self.protocol);
        frame.payload(&[self.header, packet].concat()).build()
    }

    /// Listed as `core`, each packet that comes by it is judged and counted as what it is inside.
    fn is_judged_inside(&self, link: LinkType, packets: &[(Vec<u8>, Verdict)]) -> Result<()> {
        let Some(mut host) = Guarded::start(&self.made())? else { return Ok(()) };
        ensure!(link_type("tunl7")? == link, "{}", self.kind);
        host.guard("tunl7", link)?;
        self.judges(&host, packets)
    }

    fn judges(&self, host: &Guarded, packets: &[(Vec<u8>, Verdict)]) -> Result<()> {
        packets.iter().try_for_each(|(packet, verdict)| {
            host.expect("tunl7", &self.outside(host, packet), *verdict, packet.len())
        })
    }
}

#[test]
fn what_comes_by_ipip_is_judged_inside() -> Result<()> {
    Tunnel::new("ipip", IPIP, &[]).is_judged_inside(LinkType::RawIp, &inside(bare))
}

#[test]
fn what_comes_by_6in4_is_judged_inside() -> Result<()> {
    Tunnel::new("sit", SIT, &[]).is_judged_inside(LinkType::RawIp, &sixth()?)
}

#[test]
fn what_comes_by_gre_is_judged_inside() -> Result<()> {
    Tunnel::new("gre", GRE, &GRE_V4).is_judged_inside(LinkType::RawIp, &inside(bare))?;
    Tunnel::new("gre", GRE, &GRE_V6).is_judged_inside(LinkType::RawIp, &sixth()?)
}

/// The ends of tunnels over IPv6.
const ENDS_V6: [IpAddr; 2] = [IpAddr::V6(LOCAL_V6), IpAddr::V6(PEER_V6)];

#[test]
fn what_comes_by_a_tunnel_over_ipv6_is_judged_inside() -> Result<()> {
    let tunnel = |protocol| Tunnel { ends: ENDS_V6, ..Tunnel::new("ip6tnl", protocol, &[]) };
    tunnel(IPIP).is_judged_inside(LinkType::RawIp, &inside(bare))?;
    tunnel(SIT).is_judged_inside(LinkType::RawIp, &sixth()?)
}

#[test]
fn what_comes_by_vxlan_is_judged_inside() -> Result<()> {
    const PORT: u16 = 4789;
    /// RFC 7348: the number of the network is there, and is 7.
    const HEADER: [u8; 8] = [8, 0, 0, 0, 0, 0, 7, 0];
    let made = format!("link add tunl7 type vxlan id 7 local {LOCAL} remote {PEER} dstport {PORT}");
    let Some(mut host) = Guarded::start(&made)? else { return Ok(()) };
    ensure!(link_type("tunl7")? == LinkType::Ethernet);
    host.guard("tunl7", LinkType::Ethernet)?;
    for (frame, verdict) in inside(eth) {
        let outside = eth().to_mac(host.mac).ip(PEER, LOCAL).udp(50_000, PORT);
        host.expect("tunl7", &outside.payload(&[&HEADER, &*frame].concat()).build(), verdict, frame.len())?;
    }
    Ok(())
}

/// Unlike those over IPv4 they may have any other end, and be given one later.
#[test]
fn what_comes_by_gre_over_ipv6_is_judged_inside_whichever_its_remote() -> Result<()> {
    let tunnel = Tunnel { ends: ENDS_V6, ..Tunnel::new("ip6gre", GRE, &GRE_V4) };
    tunnel.is_judged_inside(LinkType::RawIp, &inside(bare))?;
    let Some(mut host) = Guarded::start(&format!("link add tunl7 type ip6gre local {LOCAL_V6}"))? else {
        return Ok(());
    };
    ensure!(link_type("tunl7")? == LinkType::RawIp);
    host.guard("tunl7", LinkType::RawIp)?;
    tunnel.judges(&host, &inside(bare))?;
    for remote in [PEER_V6, Ipv6Addr::UNSPECIFIED] {
        run(&format!("ip link change tunl7 type ip6gre local {LOCAL_V6} remote {remote}"))?;
        tunnel.judges(&host, &inside(bare))?;
    }
    Ok(())
}

#[test]
fn what_comes_by_gretap_is_judged_inside() -> Result<()> {
    Tunnel::new("gretap", GRE, &GRE_ETHERNET).is_judged_inside(LinkType::Ethernet, &inside(eth))
}

/// So what was found out when it was attached holds for as long as there is that interface.
#[test]
fn no_gre_tunnel_gets_or_loses_its_remote_later() -> Result<()> {
    let none = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    for (remote, later, is_read) in [(none, PEER, false), (PEER, none, true)] {
        let made = format!("link add tunl7 type gre local {LOCAL} remote {remote}");
        let Some(_host) = Guarded::start(&made)? else { return Ok(()) };
        ensure!(link_type("tunl7").is_ok() == is_read, "{made}");
        let changed = run(&format!("ip link change tunl7 type gre local {LOCAL} remote {later}"));
        let refusal = changed.expect_err("the kernel has let it have another kind of remote").to_string();
        ensure!(refusal.contains("Invalid argument"), "{refusal}");
        ensure!(link_type("tunl7").is_ok() == is_read, "{made}");
    }
    Ok(())
}

/// The reason for refusing it: a program there is shown the outer packet, so what is inside passes it by.
#[test]
fn gre_without_a_remote_shows_a_program_the_outer_packet_and_is_refused() -> Result<()> {
    let made = format!("link add tunl7 type gre local {LOCAL}");
    let Some(mut host) = Guarded::start(&made)? else { return Ok(()) };
    let refusal = link_type("tunl7").expect_err("it has no remote").to_string();
    ensure!(refusal.contains("outer packet") && refusal.contains("tunl7"), "{refusal}");
    host.guard("tunl7", LinkType::RawIp)?;
    let [(answer, _), ..] = inside(bare);
    let frame = Tunnel::new("gre", GRE, &GRE_V4).outside(&host, &answer);
    // The outer one, which is no device's; the answer inside would be established.
    host.expect("tunl7", &frame, NO_TRANSIT, frame.len() - 14)
}
