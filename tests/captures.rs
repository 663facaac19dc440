//! No privilege: capture files of every form are read, and hostile ones refused.

use anyhow::Result;
use bulkhead::replay::{Capture, Captured, Interface};
use tests::capture::{Blocks, COOKED, Classic, ETHERNET, Item, Order, RAW, named};
use tests::generate::{Random, seed};

/// Everything that a capture holds, and why it ends if not with its last packet.
fn read(bytes: &[u8]) -> (Vec<Interface>, Vec<Captured>, Option<String>) {
    let mut packets = Vec::new();
    let mut capture = match Capture::open(bytes) {
        Ok(capture) => capture,
        Err(error) => return (Vec::new(), packets, Some(format!("{error:#}"))),
    };
    let ended = loop {
        match capture.advance() {
            Ok(true) => packets.push(capture.packet().clone()),
            Ok(false) => break None,
            Err(error) => break Some(format!("{error:#}")),
        }
    };
    (capture.interfaces().to_vec(), packets, ended)
}

fn whole(bytes: &[u8]) -> (Vec<Interface>, Vec<Captured>) {
    let (interfaces, packets, ended) = read(bytes);
    assert_eq!(ended, None);
    (interfaces, packets)
}

fn refusal(bytes: &[u8]) -> String {
    read(bytes).2.unwrap_or_else(|| panic!("it was read"))
}

const SECOND: u64 = 1_000_000_000;

#[test]
fn classic_captures_of_both_orders_and_units_are_read() {
    for order in Order::ALL {
        for (nanoseconds, unit) in [(false, 1000), (true, 1)] {
            let file =
                Classic::new(order, nanoseconds, RAW).packet(7, 12, 90, &[1, 2, 3]).whole(8, &[4]).bytes();
            let (interfaces, packets) = whole(&file);
            assert_eq!(interfaces, [Interface { name: None, number: 0, link_type: RAW }]);
            let first = Captured {
                time: Some(7 * SECOND + 12 * unit),
                length: 90,
                bytes: vec![1, 2, 3],
                ..packets[0].clone()
            };
            assert_eq!(packets[0], first);
            assert_eq!((packets[1].time, packets[1].length), (Some(8 * SECOND), 1));
            assert!(packets.iter().all(|packet| packet.interface == 0 && !packet.outgoing));
        }
    }
}

#[test]
fn every_kind_of_packet_block_is_read() {
    for order in Order::ALL {
        let file = Blocks::new(order)
            .interface(ETHERNET, 4, &[named("acc0")])
            .simple(100, &[9; 4])
            .packet(0, 5_000_000, 60, &[1, 2, 3])
            .obsolete(0, 6_000_000, 2, &[7, 8])
            .bytes();
        let (interfaces, packets) = whole(&file);
        assert_eq!(interfaces, [Interface { name: Some("acc0".into()), number: 0, link_type: ETHERNET }]);
        let of = |packet: &Captured| (packet.time, packet.length, packet.bytes.clone());
        assert_eq!(of(&packets[0]), (None, 100, vec![9; 4]));
        assert_eq!(of(&packets[1]), (Some(5 * SECOND), 60, vec![1, 2, 3]));
        assert_eq!(of(&packets[2]), (Some(6 * SECOND), 2, vec![7, 8]));
    }
}

#[test]
fn sections_have_interfaces_and_byte_orders_of_their_own() {
    let file = Blocks::new(Order::Little)
        .ethernet("acc0")
        .ethernet("n6")
        .whole(1, 10, &[1])
        .section(Order::Big)
        .interface(COOKED, 0, &[(9, &[3]), (14, &100i64.to_be_bytes())])
        .whole(0, 2500, &[2])
        .bytes();
    let (interfaces, packets) = whole(&file);
    let names: Vec<Option<&str>> = interfaces.iter().map(|interface| interface.name.as_deref()).collect();
    assert_eq!(names, [Some("acc0"), Some("n6"), None]);
    assert_eq!(interfaces[2], Interface { name: None, number: 0, link_type: COOKED });
    assert_eq!((packets[0].interface, packets[0].time), (1, Some(10)));
    assert_eq!((packets[1].interface, packets[1].time), (2, Some(102 * SECOND + SECOND / 2)));
}

#[test]
fn blocks_and_options_that_are_not_understood_are_passed_over() {
    let comment: Item<'_> = (1, b"not \xff UTF-8");
    let file = Blocks::new(Order::Little)
        .block(5, vec![0; 8])
        .interface(ETHERNET, 0, &[comment, named("acc0\0"), (4711, &[1, 2, 3])])
        .block(0x0bad, vec![1; 400])
        .flagged(0, 1, 1, &[5], &[comment, (2, &2u32.to_le_bytes())])
        .flagged(0, 2, 1, &[6], &[(2, &1u32.to_le_bytes())])
        .block(0x8000_0001, vec![])
        .bytes();
    let (interfaces, packets) = whole(&file);
    assert_eq!(interfaces[0].name.as_deref(), Some("acc0"));
    assert_eq!(packets.iter().map(|packet| packet.outgoing).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn what_is_no_capture_says_what_it_is() {
    for (bytes, part) in [
        (&b""[..], "the file is empty"),
        (b"abc", "ends early"),
        (b"#!/bin/sh\n", "not a pcap or pcapng capture"),
        (b"\x1f\x8b\x08\0\0", "gunzip"),
        (b"\x28\xb5\x2f\xfd\0", "unzstd"),
        (b"\x34\xcd\xb2\xa1\0\0\0\0", "editcap"),
        (b"\xa1\xb2\xc3\xd4", "ends early"),
    ] {
        let why = refusal(bytes);
        assert!(why.contains(part), "{part:?} is not in {why}");
    }
}

#[test]
fn what_contradicts_itself_is_refused_with_packet_and_byte() {
    let blocks = || Blocks::new(Order::Little).ethernet("acc0").whole(0, 1, &[1, 2, 3, 4]);
    let longer =
        |body: &[u32]| blocks().block(6, body.iter().flat_map(|word| word.to_le_bytes()).collect()).bytes();
    let raw = |words: &[u32]| {
        let mut bytes = blocks().bytes();
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        bytes
    };
    for (file, part) in [
        (longer(&[0, 0, 0, 400, 400, 0]), "shorter than what it says"),
        (longer(&[0, 0]), "shorter than what it says"),
        (longer(&[1, 0, 0, 0, 0]), "interface 1 is not described"),
        (longer(&[0, u32::MAX, 0, 0, 0]), "before 1970 or after 2262"),
        (longer(&[0, 0, 0, u32::MAX, u32::MAX]), "shorter than what it says"),
        (raw(&[6, 11]), "no multiple of four"),
        (raw(&[6, 8]), "less than its own frame"),
        (raw(&[6, u32::MAX - 3]), "claims to have"),
        (raw(&[6, 12, 16]), "two lengths differ"),
        (raw(&[0x0a0d_0d0a, 28, 7, 0, 0, 0, 28]), "without a byte order"),
        (raw(&[0x0a0d_0d0a, 16, 0x1a2b_3c4d, 1, 0, 0, 16]), "too short"),
        (raw(&[0x0a0d_0d0a, 28, 0x1a2b_3c4d, 2, 0, 0, 28]), "version 2"),
        (Blocks::new(Order::Little).simple(1, &[1]).bytes(), "interface 0 is not described"),
        (Blocks::new(Order::Little).interface(1, 0, &[(9, &[1, 2])]).bytes(), "if_tsresol"),
        (Classic::new(Order::Little, false, 1).packet(0, 0, 0, &[]).bytes()[..39].to_vec(), "ends early"),
    ] {
        let why = refusal(&file);
        assert!(why.contains(part), "{part:?} is not in {why}");
        assert!(why.starts_with("packet "), "{why}");
    }
}

/// A file of each form, with everything in it that is read.
fn files() -> [Vec<u8>; 3] {
    let blocks = |order| {
        Blocks::new(order)
            .interface(ETHERNET, 64, &[named("acc0"), (9, &[9]), (14, &[0; 8])])
            .flagged(0, 1, 40, &[1; 33], &[(2, &[1, 0, 0, 0])])
            .simple(9, &[2; 9])
            .obsolete(0, 3, 5, &[3; 5])
            .block(4, vec![0; 4])
            .section(order)
            .ethernet("n6")
            .whole(0, 4, &[4; 10])
            .bytes()
    };
    let classic =
        Classic::new(Order::Big, true, ETHERNET).whole(1, &[1; 20]).packet(2, 0, 90, &[2; 7]).bytes();
    [blocks(Order::Little), blocks(Order::Big), classic]
}

#[test]
fn every_truncation_gives_the_packets_before_it_and_an_error() {
    for file in files() {
        let (_, all) = whole(&file);
        let mut ends = 0;
        for length in 0..file.len() {
            let (_, packets, ended) = read(&file[..length]);
            assert!(all.starts_with(&packets), "{length} bytes");
            ends += usize::from(ended.is_none());
        }
        // Between two blocks or records a file may end.
        assert!(ends < 12, "{ends} truncations were not noticed");
    }
}

#[test]
fn whatever_byte_changes_nothing_panics() {
    for file in files() {
        for at in 0..file.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff, file[at] ^ 1] {
                let mut changed = file.clone();
                changed[at] = value;
                let _ = read(&changed);
            }
        }
    }
}

#[test]
fn random_bytes_behind_a_good_head_never_panic() -> Result<()> {
    let mut random = Random::new(seed(6));
    for _ in 0..20_000 {
        for file in files() {
            let keep = random.next() as usize % file.len();
            let mut file = file[..keep].to_vec();
            file.extend((0..random.next() % 64).map(|_| random.next() as u8));
            let _ = read(&file);
        }
    }
    Ok(())
}
