//! A replayed capture: every packet is told of as the engine on the host judges it, cut or not.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use bulkhead::replay::{By, Capture, Interfaces, Judge, Mapping, Replay, Teller, Told};
use bulkhead::tables::{Capacities, Image};
use bulkhead::telemetry::{Label, NameTable, Outcome, View};
use tests::capture::{Blocks, Order};
use tests::compare::{hex, in_words};
use tests::generate::{Random, SLEPT, Shot, Traffic, World, seed};
use tests::kernel::privilege;
use tests::oracle::Opinion;

use super::is_emulated;

const PACKETS: usize = 1000;

#[test]
fn a_replayed_capture_is_judged_as_the_engine_judges_it() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let mut random = Random::new(seed(7));
    let mut by = BTreeMap::new();
    let worlds = if is_emulated() { 2 } else { 15 };
    for _ in 0..worlds {
        let world = World::draw(&mut random).released().ageless().without_quotas();
        agree(&world, &mut random, &mut by).with_context(|| world.text.clone())?;
    }
    eprintln!("{by:?}");
    ensure!(by.contains_key(&By::Engine), "no packet was too short for a test run");
    ensure!(by.contains_key(&By::NobodyCut) || is_emulated(), "no packet was cut in its headers");
    ensure!(by[&By::Program] * 2 > worlds * PACKETS, "most packets were not judged by the program");
    Ok(())
}

fn agree(world: &World, random: &mut Random, by: &mut BTreeMap<By, usize>) -> Result<()> {
    let shots: Vec<Shot> = Traffic::new(world, random.next()).filter(Shot::enters).take(PACKETS).collect();
    let file = written(world, &shots, random);
    let mut capture = Capture::open(&file[..])?;
    let mut replay = replay(world)?;
    let image = Image::new(&world.compiled.tables);
    for shot in &shots {
        ensure!(capture.advance()?, "the capture is too short");
        let told = replay.judge(&capture)?;
        *by.entry(told.by).or_default() += 1;
        // Nobody decided on it, so neither may the engine: it would open a flow.
        if told.by == By::NobodyCut {
            ensure!(told.captured.is_some() && told.record.verdict == Some(Outcome::Drop), "{told:?}");
            continue;
        }
        image.set_now(shot.now, shot.boot());
        let (verdict, case) = image.judge(&shot.bytes, shot.ifindex);
        let wanted = wanted(in_words(verdict, &case.evidence, &world.compiled.catalogue));
        ensure!(said(&told) == wanted, "{} is told as {told:?}\ninstead of {wanted:?}", hex(&shot.bytes));
        ensure!(told.record.bytes == Some(shot.bytes.len() as u64), "{told:?}");
    }
    ensure!(!capture.advance()?, "the capture is too long");
    Ok(())
}

/// The shots as a capture on all interfaces; some packets are cut, at any byte.
fn written(world: &World, shots: &[Shot], random: &mut Random) -> Vec<u8> {
    let numbers: Vec<u32> = world.host.interfaces.values().map(|interface| interface.ifindex).collect();
    let names = world.host.interfaces.keys();
    let head = names.fold(Blocks::new(Order::Little), |file, name| file.ethernet(name));
    let file = shots.iter().fold(head, |file, Shot { now, ifindex, bytes, .. }| {
        let interface = numbers.iter().position(|number| number == ifindex).unwrap_or_default();
        let kept = if random.chance(20) { random.below(bytes.len() + 1) } else { bytes.len() };
        file.packet(interface as u32, *now, bytes.len(), &bytes[..kept])
    });
    file.bytes()
}

fn replay(world: &World) -> Result<Replay<'_>> {
    let World { policy, agent, host, compiled, .. } = world;
    let known = host.interfaces.iter().map(|(name, interface)| (name.clone(), interface.ifindex)).collect();
    let view =
        View::new(NameTable::of(compiled, host), Arc::new(policy.clone()), agent.clone(), host.clone());
    let sizes = Capacities { devices: 1024, addresses: 1024, flows: 4096, ..Capacities::default() };
    let judge = Judge::load(&compiled.tables, &sizes)?.ahead(SLEPT);
    Ok(Replay::new(Interfaces::new(known, Mapping::default())?, judge, Teller::new(view)))
}

/// Whether it passes, why, the device, its peer, the rule.
type Said = (bool, String, Option<String>, Option<String>, Option<String>);

fn said(told: &Told) -> Said {
    let record = &told.record;
    let text = |label: &Option<Label>| label.as_ref().map(ToString::to_string);
    let reason = text(&record.reason).unwrap_or_default();
    let passes = record.verdict == Some(Outcome::Pass);
    (passes, reason, text(&record.device), text(&record.peer), text(&record.rule))
}

fn wanted(opinion: Opinion) -> Said {
    let Opinion { passes, reason, device, peer, rule } = opinion;
    (passes, reason.to_owned(), device, peer, rule)
}
