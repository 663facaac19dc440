//! What is printed: a line for each packet, and all of them together.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::capture::{Blocks, COOKED, Order, named};
use tests::frame::{ACK, SYN, eth};
use tests::kernel::privilege;

use super::run::{CHARGER, CHARGER_2, CLOUD, File, SECOND, START, STRANGER, down, fixture, judged, up};

/// Two interfaces, and everything that lines can say.
fn capture() -> Vec<u8> {
    let at = |tenths: u64| START + tenths * SECOND / 10;
    let long = up(CLOUD).tcp(40_000, 443).flags(ACK).payload(&[0; 1400]).build();
    let giant = up(CLOUD).tcp(40_000, 443).flags(ACK).payload(&[0; 20_000]).build();
    let forged = eth().ipv4(CHARGER_2, CLOUD).tcp(40_000, 443).flags(SYN).build();
    Blocks::new(Order::Little)
        .ethernet("acc0")
        .ethernet("n6")
        .whole(0, at(0), &up(CLOUD).tcp(40_000, 443).flags(SYN).build())
        .whole(1, at(1), &down(CLOUD).tcp(443, 40_000).flags(SYN | ACK).build())
        .whole(0, at(2), &up(STRANGER).tcp(40_001, 443).flags(SYN).build())
        .whole(0, at(3), &up(CLOUD).udp(40_000, 5001).build())
        .whole(0, at(4), &eth().ipv4([10, 45, 0, 99].into(), CLOUD).udp(1, 2).build())
        .whole(1, at(5), &down(STRANGER).tcp(50_000, 22).flags(SYN).build())
        .whole(0, at(6), &forged)
        .whole(1, at(7), &eth().vlan(7).ipv4(CLOUD, CHARGER).udp(1, 2).build())
        .whole(0, at(8), &eth().arp(1, CHARGER, [10, 45, 0, 1].into()).build())
        .packet(0, at(9), long.len(), &long[..96])
        .packet(0, at(10), long.len(), &long[..40])
        .whole(0, at(11), &giant)
        .whole(0, at(12), &[2, 0, 0])
        .flagged(1, at(13), long.len(), &long, &[(2, &2u32.to_le_bytes())])
        .whole(1, at(12), &eth().ipv4(CLOUD, STRANGER).udp(1, 2).build())
        .bytes()
}

#[test]
fn a_capture_of_two_interfaces_is_told_line_by_line() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let done = File::write(&capture())?.replay(&[])?;
    ensure!(done.code == Some(0) && done.err.is_empty(), "{done:?}");
    golden("two-interfaces.txt", &done.out)
}

fn golden(name: &str, got: &str) -> Result<()> {
    let path = fixture(name);
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, got)?;
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    ensure!(wanted == got, "{}\n--- expected\n{wanted}--- got\n{got}", path.display());
    Ok(())
}

#[test]
fn programs_get_the_same_fields_of_every_packet_and_the_summary_last() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let (packets, summary) = judged(&capture(), &[])?;
    const ALWAYS: [&str; 17] = [
        "n",
        "time",
        "interface",
        "verdict",
        "reason",
        "device",
        "rule",
        "direction",
        "network",
        "segment",
        "peer",
        "source",
        "source_port",
        "destination",
        "destination_port",
        "protocol",
        "bytes",
    ];
    for (packet, n) in packets.iter().zip(1u64..) {
        let packet = packet.as_object().context("a packet is an object")?;
        ALWAYS.into_iter().try_for_each(|key| {
            ensure!(packet.contains_key(key), "{key} is not in {packet:?}");
            Ok(())
        })?;
        ensure!(packet["n"] == n && !packet.contains_key("summary"), "{packet:?}");
        ensure!(packet["verdict"] == "pass" || packet["verdict"] == "drop", "{packet:?}");
        ensure!(packet["reason"].is_string() && packet["interface"].is_string(), "{packet:?}");
    }
    let first = &packets[0];
    for (key, value) in [
        ("time", "2026-12-01T03:12:04.000000Z"),
        ("interface", "acc0"),
        ("verdict", "pass"),
        ("reason", "opened"),
        ("device", "charger-1"),
        ("rule", "ev/ocpp"),
        ("direction", "up"),
        ("network", "acme"),
        ("segment", "chargers"),
        ("source", "10.45.0.11"),
        ("destination", "203.0.113.10"),
        ("protocol", "tcp"),
        ("judged_by", "program"),
    ] {
        ensure!(first[key] == value, "{key} of {first}");
    }
    ensure!(first["source_port"] == 40_000 && first["destination_port"] == 443, "{first}");
    adds_up(&packets, &summary)
}

/// The summary says what its packets say.
fn adds_up(packets: &[Value], summary: &Value) -> Result<()> {
    let count = |of: &dyn Fn(&Value) -> bool| packets.iter().filter(|packet| of(packet)).count();
    ensure!(summary["complete"] == true && summary["packets"] == packets.len(), "{summary}");
    ensure!(summary["passed"] == count(&|packet| packet["verdict"] == "pass"), "{summary}");
    ensure!(summary["dropped"] == count(&|packet| packet["verdict"] == "drop"), "{summary}");
    ensure!(summary["not_judged"] == count(&|packet| packet["judged_by"].is_null()), "{summary}");
    for (reason, told) in summary["reasons"].as_object().context("reasons")? {
        ensure!(*told == count(&|packet| packet["reason"] == *reason), "{reason} of {summary}");
    }
    let devices = summary["devices"].as_array().context("devices")?;
    ensure!(devices.len() == 3, "two devices, and what is about none: {summary}");
    for device in devices {
        let own = |packet: &Value| packet["device"] == device["device"];
        ensure!(device["packets"] == count(&own), "{device}");
        ensure!(device["dropped"] == count(&|packet| own(packet) && packet["verdict"] == "drop"), "{device}");
    }
    Ok(())
}

#[test]
fn a_capture_without_packets_has_a_summary() -> Result<()> {
    let file = File::write(&Blocks::new(Order::Big).interface(COOKED, 0, &[named("eth7")]).bytes())?;
    let (packets, summary) = file.judged(&[])?;
    ensure!(packets.is_empty() && summary["packets"] == 0 && summary["complete"] == true, "{summary}");
    ensure!(file.replay(&[])?.out == "0 packets: 0 passed, 0 dropped\n");
    Ok(())
}
