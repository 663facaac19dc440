//! Interfaces and link types: the same packet is judged the same, however it was captured.

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::capture::{Blocks, COOKED, COOKED_V2, Classic, ETHERNET, Order, RAW, named};
use tests::frame::{ACK, SYN, bare};
use tests::kernel::privilege;

use super::run::{CHARGER, CHARGER_2, CLOUD, down, judged, reasons, up, up_bare};

const ACC0: &[&str] = &["--interface", "acc0"];
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x12];

/// `LINUX_SLL` of an Ethernet interface in front of an IPv4 packet.
fn cooked(kind: u16, packet: &[u8]) -> Vec<u8> {
    let head = [&kind.to_be_bytes()[..], &[0, 1, 0, 6], &MAC, &[0, 0, 8, 0]].concat();
    [head, packet.to_vec()].concat()
}

/// `LINUX_SLL2` of an Ethernet interface in front of an IPv4 packet.
fn cooked_v2(ifindex: u32, kind: u8, packet: &[u8]) -> Vec<u8> {
    let head = [&[8, 0, 0, 0][..], &ifindex.to_be_bytes(), &[0, 1, kind, 6], &MAC, &[0, 0]].concat();
    [head, packet.to_vec()].concat()
}

fn rule(packets: &[Value]) -> Vec<&Value> {
    packets.iter().map(|packet| &packet["rule"]).collect()
}

#[test]
fn a_packet_is_judged_the_same_under_every_link_type() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let bare = up_bare(CLOUD).tcp(40_000, 443).flags(SYN).build();
    let whole = up(CLOUD).tcp(40_000, 443).flags(SYN).build();
    let forms = [
        (ETHERNET, whole),
        (RAW, bare.clone()),
        (12, bare.clone()),
        (14, bare.clone()),
        (228, bare.clone()),
        (COOKED, cooked(0, &bare)),
        (COOKED_V2, cooked_v2(3, 0, &bare)),
    ];
    for (link, bytes) in forms {
        for order in Order::ALL {
            let (packets, _) = judged(&Classic::new(order, true, link).whole(1, &bytes).bytes(), ACC0)?;
            ensure!(
                reasons(&packets) == ["pass opened"] && rule(&packets) == ["ev/ocpp"],
                "{link}: {packets:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn a_cooked_packet_keeps_its_source_mac_address() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    // This device's frames must come from one MAC address.
    let bare = bare().ipv4(CHARGER_2, CLOUD).tcp(40_000, 443).flags(SYN).build();
    let file = Classic::new(Order::Little, false, COOKED).whole(1, &cooked(0, &bare)).bytes();
    let (packets, _) = judged(&file, ACC0)?;
    ensure!(
        reasons(&packets) == ["pass opened"] && packets[0]["source_mac"] == "02:00:00:00:00:12",
        "{packets:?}"
    );
    let (packets, _) = judged(&Classic::new(Order::Little, false, RAW).whole(1, &bare).bytes(), ACC0)?;
    ensure!(
        reasons(&packets) == ["drop spoofed_source"] && packets[0].get("source_mac").is_none(),
        "{packets:?}"
    );
    Ok(())
}

#[test]
fn what_the_host_sent_is_not_judged() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let call = up_bare(CLOUD).tcp(40_000, 443).flags(SYN).build();
    // As `tcpdump -i any` sees a routed packet: it enters by one interface and leaves by the other.
    let file = Classic::new(Order::Little, false, COOKED_V2)
        .whole(1, &cooked_v2(2, 0, &call))
        .whole(1, &cooked_v2(3, 4, &call))
        .whole(2, &cooked_v2(3, 0, &bare().ipv4(CLOUD, CHARGER).tcp(443, 40_000).flags(SYN | ACK).build()))
        .bytes();
    let (packets, summary) = judged(&file, &["--interface", "2=acc0", "--interface", "3=n6"])?;
    ensure!(reasons(&packets) == ["pass opened", "pass outgoing", "pass established"], "{packets:#?}");
    ensure!(packets[1]["judged_by"].is_null() && packets[1]["device"].is_null(), "{}", packets[1]);
    ensure!(packets[1]["source"] == "10.45.0.11" && packets[1]["interface"] == "n6", "{}", packets[1]);
    ensure!(summary["not_judged"] == 1, "{summary}");
    Ok(())
}

#[test]
fn interfaces_are_found_by_name_or_as_they_are_mapped() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let call = up(CLOUD).tcp(40_000, 443).flags(SYN).build();
    let answer = down(CLOUD).tcp(443, 40_000).flags(SYN | ACK).build();
    // The second section's first interface is another one.
    let file = |first: &str, second: &str| {
        Blocks::new(Order::Little)
            .ethernet(first)
            .ethernet(second)
            .whole(0, 1, &call)
            .section(Order::Big)
            .interface(ETHERNET, 0, &[named(second)])
            .whole(0, 2, &answer)
            .bytes()
    };
    for (names, options) in [
        (["acc0", "n6"], &[][..]),
        (["eth1", "n6"], &["--interface", "eth1=acc0"]),
        (["eth1", "eth2"], &["--interface", "eth1=acc0", "--interface", "n6"]),
        (["n6", "acc0"], &["--interface", "n6=acc0", "--interface", "acc0=n6"]),
    ] {
        let (packets, _) = judged(&file(names[0], names[1]), options)?;
        ensure!(reasons(&packets) == ["pass opened", "pass established"], "{names:?}: {packets:#?}");
        ensure!(packets[0]["interface"] == "acc0" && packets[1]["interface"] == "n6", "{packets:#?}");
    }
    Ok(())
}
