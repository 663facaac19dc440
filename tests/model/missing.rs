//! Tables with rows missing, which must never be: nothing passes that does not pass with them.

use bulkhead::tables::Image;
use bulkhead_common::verdict::{DropReason, Verdict};
use tests::generate::{Random, SLEPT, Traffic, World, seed};
use tests::lies::{EngineLie, LyingEngine, Row};

const WORLDS: u32 = 12;
const FRAMES: usize = 200;
/// From frame to frame, so that nothing is left of the one before: neither flows nor pieces nor tunnels.
const APART: u64 = 100_000_000_000_000;

#[test]
fn what_a_missing_row_would_say_is_never_guessed() {
    for row in Row::ALL {
        let mut random = Random::new(seed(31));
        let told: u32 = (0..WORLDS).map(|_| without(row, &World::draw(&mut random), random.next())).sum();
        eprintln!("{row:?}: {told} times");
        assert!(told > 0, "never missed: {row:?}");
    }
}

/// How often a missing row made a difference; it is never that something passes.
fn without(row: Row, world: &World, seed: u64) -> u32 {
    let [whole, torn] = [0; 2].map(|_| Image::new(&world.compiled.tables));
    let engine = LyingEngine::new(&torn, EngineLie::Missing(row));
    let mut told = 0;
    for (number, shot) in (1..).zip(Traffic::new(world, seed).take(FRAMES)) {
        for image in [&whole, &torn] {
            image.set_now(number * APART, number * APART + SLEPT);
            image.sweep_flows();
        }
        let (wanted, _) = shot.judged(&whole);
        let (verdict, _) = engine.judge(&shot);
        // A profile that nothing was staged for has no rules: that is an answer, and one that allows nothing.
        let unruled = row == Row::Staged && !matches!(verdict, Verdict::Pass(_));
        let refused = verdict == Verdict::Drop(DropReason::InternalTable);
        // Where nothing is dropped, nothing is told of what cannot be found out.
        let watched = shot.is_watched() && wanted.passes();
        assert!(verdict == wanted || refused || unruled || watched, "{row:?}: {wanted:?} became {verdict:?}");
        told += u32::from(verdict != wanted);
    }
    told
}
