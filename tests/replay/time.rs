//! Flow state evolves along the capture's own timestamps.

use anyhow::{Result, ensure};
use tests::capture::{Blocks, Classic, ETHERNET, Order};
use tests::frame::SYN;
use tests::kernel::privilege;

use super::run::{CLOUD, SECOND, START, down, judged, reasons, up};

#[test]
fn a_flow_expires_by_the_capture_s_clock() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let (ask, answer) = (up(CLOUD).udp(40_000, 5000).build(), down(CLOUD).udp(5000, 40_000).build());
    let file = Blocks::new(Order::Big)
        .ethernet("acc0")
        .ethernet("n6")
        .whole(0, START, &ask)
        .whole(1, START + 5 * SECOND, &answer)
        .whole(1, START + 3600 * SECOND, &answer)
        .whole(0, START + 3601 * SECOND, &ask)
        .bytes();
    let (packets, _) = judged(&file, &[])?;
    let wanted = ["pass opened", "pass established", "drop unsolicited", "pass opened"];
    ensure!(reasons(&packets) == wanted, "{packets:#?}");
    Ok(())
}

#[test]
fn the_clock_does_not_go_back_and_stands_still_without_a_time() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let (ask, answer) = (up(CLOUD).udp(40_000, 5000).build(), down(CLOUD).udp(5000, 40_000).build());
    let file = Blocks::new(Order::Little)
        .ethernet("n6")
        .ethernet("acc0")
        .whole(1, START + 3600 * SECOND, &ask)
        .whole(0, START, &answer)
        .simple(answer.len(), &answer)
        .bytes();
    let (packets, summary) = judged(&file, &[])?;
    ensure!(reasons(&packets) == ["pass opened", "pass established", "pass established"], "{packets:#?}");
    ensure!(packets[1]["time"] == "2026-12-01T03:12:04.000000Z" && packets[2]["time"].is_null());
    ensure!(summary["late"] == 1 && summary["last"] == "2026-12-01T04:12:04Z", "{summary}");
    Ok(())
}

#[test]
fn dead_flows_make_room_as_they_do_under_an_agent() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    // The fixtures' host has room for 64 flows; a hash table of the kernel may have some more.
    let call = |port: u16| up(CLOUD).tcp(port, 443).flags(SYN).build();
    let burst = |file: Classic, second: u32| {
        (0..300).fold(file, |file, port| file.whole(second, &call(10_000 + port)))
    };
    let file = burst(burst(Classic::new(Order::Little, false, ETHERNET), 1000), 9000).bytes();
    let (packets, _) = judged(&file, &["--interface", "acc0"])?;
    let count = |half: &[serde_json::Value], reason: &str| {
        half.iter().filter(|packet| packet["reason"] == reason).count()
    };
    let (first, second) = packets.split_at(300);
    ensure!(count(first, "opened") >= 64 && count(first, "flow_table_full") > 0, "{first:#?}");
    ensure!(count(second, "opened") >= 64, "dead flows are in the way: {second:#?}");
    Ok(())
}
