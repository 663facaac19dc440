//! What the fuzz targets do with an input. `tests/fuzz` runs them under libFuzzer, and `cargo test` replays the
//! corpus through the same functions.
//!
//! A target panics where something is wrong; that is how libFuzzer hears of it.

use bulkhead::policy::{self, SourceFile};
use bulkhead::sink::{Text, json};
use bulkhead::tables::Image;
use bulkhead::telemetry::decode;
use bulkhead::telemetry::{Clock, Composer, NameTable};
use bulkhead_common::abi::Epoch;
use bulkhead_common::abi::key::EGRESS;
use bulkhead_common::case::{Arrival, Case, LinkType};
use bulkhead_common::parse;
use bulkhead_common::verdict::DropReason;

use crate::compare::{difference, in_words};
use crate::generate::{Random, Shot, Traffic, World};
use crate::oracle::{Oracle, dissect};

/// A target: what it is called, and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 4] =
    [("decode", decode_event), ("judge", judge), ("parse", parse_frame), ("policy", policy)];

/// Worlds that an input of [`judge`] can choose from.
const WORLDS: u8 = 24;
/// Bits of an interface's byte in an input: the frame leaves by it; this host itself has sent it.
const LEAVES: u8 = 0x80;
const FROM_HOST: u8 = 0x40;
/// More frames than this in one input teach nothing new.
const MOST_FRAMES: usize = 32;

/// A frame: engine and oracle read the same of it, or refuse it for the same reason.
///
/// # Panics
/// If they do not.
pub fn parse_frame(frame: &[u8]) {
    match (dissect(frame, None), parsed(frame, LinkType::Ethernet)) {
        (Err(theirs), Err(ours)) => assert_eq!(ours.as_str(), theirs),
        (Ok(theirs), Ok(ours)) => {
            let addresses = (ours.packet.source.to_ip(), ours.packet.destination.to_ip());
            assert_eq!(addresses, (theirs.from, theirs.to));
            assert_eq!((ours.packet.outer_vlan, ours.packet.inner_vlan), theirs.vlans);
        }
        (theirs, ours) => panic!("oracle {theirs:?}\nengine {ours:?}"),
    }
    // A TUN device hands the same packet over without the link's header.
    let _ = parsed(frame, LinkType::RawIp);
}

fn parsed(frame: &[u8], link: LinkType) -> Result<Case, DropReason> {
    let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    let mut case = Case::new(Epoch::default(), Arrival::of(1, link, length));
    parse::link(frame, &mut case)?;
    if parse::is_ip(&case.packet) {
        parse::network(frame, &mut case)?;
    }
    Ok(case)
}

/// A conversation under one of a few policies: engine and oracle say the same of every frame.
///
/// The first byte chooses the policy; then for each frame follow its interface, the seconds since
/// the last one, its length in two bytes, and itself.
///
/// # Panics
/// If they do not.
pub fn judge(input: &[u8]) {
    let Some((world, input)) = input.split_first() else { return };
    WORLD.with(|worlds| {
        let world = &worlds[usize::from(world % WORLDS)];
        let image = Image::new(&world.compiled.tables);
        let mut oracle = Oracle::new(&world.policy, &world.agent, &world.host).with_quarantine(&world.shut);
        for shot in shots(input).take(MOST_FRAMES) {
            image.set_now(shot.now, shot.boot());
            let (verdict, case) = shot.judged(&image);
            let ours = in_words(verdict, &case.evidence, &world.compiled.catalogue);
            let theirs = oracle.judge(&shot);
            assert!(ours == theirs, "they differ {}\n{}", difference(&shot, &ours, &theirs), world.text);
        }
    });
}

thread_local! {
    static WORLD: Vec<World> = {
        let mut random = Random::new(3);
        (0..WORLDS).map(|_| World::draw(&mut random)).collect()
    };
}

thread_local! {
    static NAMES: NameTable = WORLD.with(|worlds| NameTable::of(&worlds[0].compiled, &worlds[0].host));
}

/// The frames of an input, until it is cut off.
fn shots(mut input: &[u8]) -> impl Iterator<Item = Shot> {
    let mut now = 1_000_000_000;
    std::iter::from_fn(move || {
        let ([ifindex, seconds, low, high], rest) = input.split_first_chunk()?;
        let (bytes, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([*low, *high])))?;
        input = rest;
        now += u64::from(*seconds) * 1_000_000_000;
        let leaves = if ifindex & LEAVES == 0 { 0 } else { EGRESS };
        let number = u32::from(ifindex & !(LEAVES | FROM_HOST)) | leaves;
        let from_host = leaves != 0 && ifindex & FROM_HOST != 0;
        Some(Shot { now, ifindex: number, from_host, bytes: bytes.to_vec() })
    })
}

/// An input of [`judge`]: some random traffic of a world.
pub fn conversation(world: u8, seed: u64) -> Vec<u8> {
    let mut input = vec![world % WORLDS];
    let shots: Vec<Shot> =
        WORLD.with(|worlds| Traffic::new(&worlds[usize::from(world % WORLDS)], seed).take(12).collect());
    let mut before = 1_000_000_000;
    for shot in shots {
        let seconds = u8::try_from((shot.now - before) / 1_000_000_000).unwrap_or(u8::MAX);
        before = shot.now;
        let length = u16::try_from(shot.bytes.len()).unwrap_or(0).to_le_bytes();
        let leaves = if shot.enters() { 0 } else { LEAVES };
        let from_host = if shot.from_host { FROM_HOST } else { 0 };
        let number = u8::try_from(shot.ifindex & !EGRESS).unwrap_or(0);
        input.extend([number | leaves | from_host, seconds, length[0], length[1]]);
        input.extend(shot.bytes);
    }
    input
}

/// A policy file: it is refused with a message that can be shown, or it compiles and can be judged by. As a table of
/// devices it belongs to no network, so it is refused, and each of its rows can be told from the others.
///
/// # Panics
/// If a table of nobody's devices is accepted.
pub fn policy(text: &[u8]) {
    table(&String::from_utf8_lossy(text));
    match World::read(&String::from_utf8_lossy(text)) {
        Err(problems) => drop(problems.render(false)),
        Ok(compiled) => drop(Image::new(&compiled.tables)),
    }
}

fn table(text: &str) {
    const NAME: &str = "fuzz.csv";
    let refused = policy::parse(vec![SourceFile::new(NAME, text)], None).err();
    refused.expect("no network was named").render(false);
    let rows = policy::inventory_rows(NAME, text, |row| policy::as_document(NAME, &row.text));
    rows.expect("it is a table");
}

/// A record of the ring: it is refused, or becomes a record that both sinks can write.
///
/// # Panics
/// If a record has no line.
pub fn decode_event(bytes: &[u8]) {
    let Ok(judged) = decode::decode(bytes) else { return };
    let record = NAMES.with(|names| {
        let composer = Composer { names, clock: Clock::read(0), nearest: false };
        composer.event(&judged, None)
    });
    let line = Text::plain(jiff::tz::TimeZone::UTC).line(&record);
    assert!(!line.trim_end().contains('\n'), "{line:?}");
    assert!(json::line(&record).is_ok());
}
