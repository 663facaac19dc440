//! What is known anew of a few devices: taken up without compiling again, it leads to what compiling again leads to,
//! bit for bit, in the tables and in the kernel's rows.

use tests::generate::{Random, World, seed};
use tests::memory::Kernel;

use super::CAPACITY;

/// Worlds, and changes of each one after the other.
const WORLDS: u32 = 40;
const CHANGES: u32 = 10;

#[derive(Default)]
struct Tally {
    taken_up: u32,
    unchanged: u32,
    again: u32,
}

#[test]
fn taking_up_is_compiling_again_bit_for_bit() {
    let seed = seed(47);
    let mut random = Random::new(seed);
    let mut tally = Tally::default();
    for _ in 0..WORLDS {
        let world = World::draw(&mut random).crowded(&mut random);
        follow(world, &mut random, &mut tally);
    }
    let Tally { taken_up, unchanged, again } = tally;
    // Every way must be common, or the comparison says nothing.
    assert!(taken_up > 10 && unchanged > 40 && again > 40, "seed {seed}: {taken_up} {unchanged} {again}");
}

/// Makes changes one after the other, by both ways.
fn follow(mut world: World, random: &mut Random, tally: &mut Tally) {
    let mut ours = world.compiled.clone();
    let holding = || Kernel::holding(&world.compiled.tables, CAPACITY);
    let (mut whole, mut part) = (holding(), holding());
    for _ in 0..CHANGES {
        let (after, changed) = world.known_anew(random);
        let before = ours.tables.clone();
        match ours.observe(&after.policy, world.ids(), &changed) {
            Some(touched) => {
                let count = if touched.0.is_empty() { &mut tally.unchanged } else { &mut tally.taken_up };
                *count += 1;
                part.apply_touched(&ours.tables, &touched);
            }
            None => {
                tally.again += 1;
                assert_eq!(ours.tables, before, "what is given up has changed nothing");
                ours = after.compiled.clone();
                part.apply(&ours.tables);
            }
        }
        whole.apply(&after.compiled.tables);
        let text = &after.text;
        assert_eq!(ours.tables, after.compiled.tables, "{changed:?}\n{text}");
        assert_eq!(format!("{:?}", ours.catalogue), format!("{:?}", after.compiled.catalogue), "{text}");
        assert!(part.states() == whole.states(), "{changed:?}\n{text}");
        world = after;
    }
}
