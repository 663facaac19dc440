//! The program over maps of its own, filled by `reconcile`: it tells of every packet what the engine says.

use anyhow::{Context as _, Result, ensure};
use bulkhead::datapath::{Entry, Isolated};
use bulkhead::reconcile::Reconciler;
use bulkhead::tables::{Capacities, Image};
use bulkhead_common::case::LinkType;
use tests::compare::hex;
use tests::generate::{Random, Traffic, World, seed};
use tests::kernel::{SHORTEST, privilege};

use super::{Expected, is_emulated, record};

#[test]
fn every_packet_is_told_of_as_the_engine_judges_it() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let mut random = Random::new(seed(4));
    let worlds = if is_emulated() { 2 } else { 12 };
    for _ in 0..worlds {
        let world = World::draw(&mut random);
        tells_of_all(&world, random.next()).with_context(|| world.text.clone())?;
    }
    Ok(())
}

fn tells_of_all(world: &World, seed: u64) -> Result<()> {
    let mut isolated = Isolated::load(&small())?;
    Reconciler::observe(isolated.rows())?.apply(isolated.rows(), &world.compiled.tables)?;
    let image = Image::new(&world.compiled.tables);
    let traffic = Traffic::new(world, seed).filter(|shot| shot.bytes.len() >= SHORTEST && !shot.from_host);
    for shot in traffic.take(1000) {
        image.set_now(shot.now, shot.boot());
        image.sweep_flows();
        isolated.sweep_flows(shot.now);
        let (verdict, case) = image.judge(&shot.bytes, shot.ifindex);
        let wanted = record(&shot, &Expected { verdict, case });
        let length = u32::try_from(shot.bytes.len())?;
        let entry = Entry {
            ifindex: shot.ifindex,
            link: LinkType::Ethernet,
            length,
            now: shot.now,
            boot: shot.boot(),
        };
        let told = isolated.run(&shot.bytes, entry)?;
        ensure!(told == wanted, "{} is told as {told:?}\ninstead of {wanted:?}", hex(&shot.bytes));
    }
    Ok(())
}

fn small() -> Capacities {
    Capacities { devices: 1024, addresses: 1024, flows: 4096, ..Capacities::default() }
}
