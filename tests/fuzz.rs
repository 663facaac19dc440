//! Replays the fuzzers' corpus, and every fixture of policies: what was once found stays found.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};

use bulkhead_common::abi::event::Event;
use bulkhead_common::parse::Kind;
use bulkhead_common::verdict::{Direction, DropReason, Pass, Verdict};
use tests::frame::eth;
use tests::fuzz::{TARGETS, Target, conversation};
use tests::generate::{Random, Traffic, World};

/// Inputs of a target, by name.
fn corpus(name: &str) -> Vec<PathBuf> {
    files(&Path::new("fuzz/corpus").join(name))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

fn replay((name, run): Target, inputs: &[PathBuf]) {
    assert!(inputs.len() >= 8, "{name} has a corpus of {}", inputs.len());
    for input in inputs {
        let bytes = fs::read(input).unwrap();
        let outcome = std::panic::catch_unwind(|| run(&bytes));
        assert!(outcome.is_ok(), "{name} fails on {}", input.display());
    }
}

#[test]
fn what_fuzzing_found_is_judged_rightly() {
    if std::env::var_os("BLESS").is_some() {
        seed();
    }
    for target in TARGETS {
        replay(target, &corpus(target.0));
    }
}

#[test]
fn every_policy_that_is_written_here_is_read_or_refused() {
    let policy = TARGETS.into_iter().find(|(name, _)| *name == "policy").unwrap();
    let folders = ["accepted", "compiled", "refused"].map(|name| Path::new("fixtures/policies").join(name));
    let written: Vec<PathBuf> = folders.iter().flat_map(|folder| files(folder)).collect();
    replay(policy, &written.into_iter().filter(|file| file.is_file()).collect::<Vec<_>>());
}

/// Writes what fuzzing starts from; what it found lies beside it under other names.
fn seed() {
    let write = |target: &str, number: usize, bytes: &[u8]| {
        let folder = Path::new("fuzz/corpus").join(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("seed-{number:02}")), bytes).unwrap();
    };
    for number in 0..16u8 {
        write("judge", number.into(), &conversation(number, number.into()));
    }
    let mut random = Random::new(1);
    let world = World::draw(&mut random);
    let small = Traffic::new(&world, 1).filter(|shot| shot.bytes.len() < 200);
    small.take(24).enumerate().for_each(|(number, shot)| write("parse", number, &shot.bytes));
    for number in 0..12 {
        write("policy", number, short_policy(&World::draw(&mut random).text).as_bytes());
    }
    events()
        .iter()
        .enumerate()
        .for_each(|(number, event)| write("decode", number, bytemuck::bytes_of(event)));
}

/// The first documents of a policy, which say most in the fewest bytes.
fn short_policy(text: &str) -> String {
    let documents: Vec<&str> = text.split("---\n").collect();
    documents.iter().step_by(3).copied().collect::<Vec<_>>().join("---\n")
}

fn events() -> Vec<Event> {
    let kinds =
        [Kind::Ports, Kind::EchoRequest, Kind::Arp, Kind::Portless, Kind::Fragment, Kind::LinkControl];
    let verdicts = [Verdict::Drop(DropReason::NoRule), Verdict::Pass(Pass::Opened)];
    let frame = eth().build();
    let event = |kind: Kind, verdict: Verdict, ether_type| Event {
        kind: kind as u8,
        verdict: verdict.code(),
        direction: Direction::Uplink as u8,
        ether_type,
        length: frame.len() as u32,
        protocol: 6,
        detail: 2,
        ..Event::default()
    };
    let all = kinds.into_iter().flat_map(|kind| verdicts.map(|verdict| (kind, verdict)));
    all.map(|(kind, verdict)| event(kind, verdict, if kind == Kind::Arp { 0x0806 } else { 0x0800 })).collect()
}
