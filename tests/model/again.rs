//! What is known anew of a few devices: taken up without compiling again, it leads to what compiling again leads to,
//! bit for bit, in the tables and in the kernel's rows.

use bulkhead::policy::Compiled;
use bulkhead::reconcile::{Memory, Reconciler, State};
use bulkhead::tables::Touched;
use tests::generate::{Random, World, seed};

use super::CAPACITY;

/// Worlds, and changes of each one after the other.
const WORLDS: u32 = 40;
const CHANGES: u32 = 10;

/// A kernel in memory, and who writes it.
struct Kernel {
    memory: Memory,
    reconciler: Reconciler,
}

impl Kernel {
    fn holding(compiled: &Compiled) -> Self {
        let mut memory = Memory::new(CAPACITY);
        let reconciler = Reconciler::observe(&mut memory).expect("memory can be read");
        let mut kernel = Self { memory, reconciler };
        kernel.apply(compiled);
        kernel
    }

    fn apply(&mut self, compiled: &Compiled) {
        self.reconciler.apply(&mut self.memory, &compiled.tables).expect("it fits");
    }

    fn apply_touched(&mut self, compiled: &Compiled, touched: &Touched) {
        let since = self.reconciler.state().epoch.generation;
        self.reconciler.apply_touched(&mut self.memory, &compiled.tables, touched, since).expect("it fits");
    }

    /// What the agent believes, and what somebody reads in the rows.
    fn states(&self) -> [State; 2] {
        let read = Reconciler::observe(&mut self.memory.clone()).expect("memory can be read");
        [self.reconciler.state().clone(), read.state().clone()]
    }
}

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
    let (mut whole, mut part) = (Kernel::holding(&world.compiled), Kernel::holding(&ours));
    for _ in 0..CHANGES {
        let (after, changed) = world.known_anew(random);
        let before = ours.tables.clone();
        match ours.observe(&after.policy, world.ids(), &changed) {
            Some(touched) => {
                let count = if touched.0.is_empty() { &mut tally.unchanged } else { &mut tally.taken_up };
                *count += 1;
                part.apply_touched(&ours, &touched);
            }
            None => {
                tally.again += 1;
                assert_eq!(ours.tables, before, "what is given up has changed nothing");
                ours = after.compiled.clone();
                part.apply(&ours);
            }
        }
        whole.apply(&after.compiled);
        let text = &after.text;
        assert_eq!(ours.tables, after.compiled.tables, "{changed:?}\n{text}");
        assert_eq!(format!("{:?}", ours.catalogue), format!("{:?}", after.compiled.catalogue), "{text}");
        assert!(part.states() == whole.states(), "{changed:?}\n{text}");
        world = after;
    }
}
