//! Frames that pass, cut and flipped: what is left of them must not be taken for what they were.

use bulkhead::tables::Image;
use tests::compare::{difference, hex, in_words};
use tests::generate::{Random, Shot, Traffic, World, seed, volume};
use tests::kernel::geometry;
use tests::oracle::Oracle;

/// Mutated frames to judge, and frames of one world among which those that pass are mutated.
const VOLUME: usize = 60_000;
const FRAMES: usize = 200;
/// Room for the flows that a flipped bit opens: the oracle never runs out of it.
const ROOM: u32 = 1 << 17;
/// Bits behind this byte are content.
const HEADERS: usize = 110;

/// Walks through worlds until enough mutated frames were judged; `mutate` says how many it has judged.
fn mutated(seed: u64, mutate: impl Fn(&mut Judges<'_>, &Shot) -> usize) {
    let mut random = Random::new(seed);
    let (mut judged, mut worlds) = (0, 0);
    while judged < volume(VOLUME) {
        let world = World::draw(&mut random);
        let mut judges = Judges::of(&world);
        for shot in Traffic::new(&world, random.next()).take(FRAMES) {
            // One in four, so that there are many worlds.
            if judges.pass(&shot) && random.chance(25) {
                judged += mutate(&mut judges, &shot);
            }
        }
        worlds += 1;
    }
    eprintln!("{judged} mutated frames, {worlds} policies");
}

/// Engine and oracle, which have heard the same.
struct Judges<'w> {
    world: &'w World,
    image: Image,
    oracle: Oracle<'w>,
    swept: u64,
}

impl<'w> Judges<'w> {
    fn of(world: &'w World) -> Self {
        let oracle = Oracle::new(&world.policy, &world.agent, &world.host).with_quarantine(&world.shut);
        let image = Image::new(&world.compiled.tables).with_flows(geometry(ROOM));
        Self { world, image, oracle, swept: 0 }
    }

    /// True if a frame passes; fails if the two do not agree.
    fn pass(&mut self, shot: &Shot) -> bool {
        self.image.set_now(shot.now, shot.boot());
        if shot.now > self.swept {
            // Flows end here by time alone.
            self.image.sweep_flows();
            self.swept = shot.now;
        }
        let (verdict, case) = shot.judged(&self.image);
        let ours = in_words(verdict, &case.evidence, &self.world.compiled.catalogue);
        let theirs = self.oracle.judge(shot);
        assert!(ours == theirs, "they differ {}\n{}", difference(shot, &ours, &theirs), self.world.text);
        // Where nothing is dropped, what is left of a frame passes too.
        ours.passes && !shot.is_watched()
    }
}

#[test]
fn a_passing_frame_cut_anywhere_never_passes() {
    mutated(seed(21), |judges, shot| {
        let whole = needed(&shot.bytes);
        for length in 0..whole {
            let cut = Shot { bytes: shot.bytes[..length].to_vec(), ..shot.clone() };
            assert!(!judges.pass(&cut), "{length} of {whole} bytes pass of {}", hex(&shot.bytes));
        }
        whole
    });
}

#[test]
fn engine_and_oracle_agree_on_every_flipped_bit() {
    mutated(seed(22), |judges, shot| {
        let bits = 8 * shot.bytes.len().min(HEADERS);
        for bit in 0..bits {
            let mut flipped = shot.clone();
            flipped.bytes[bit / 8] ^= 1 << (bit % 8);
            judges.pass(&flipped);
        }
        bits
    });
}

/// Bytes of a frame without the padding of its link: what its own lengths say.
fn needed(frame: &[u8]) -> usize {
    let number = |at: usize| usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
    let mut type_at = 12;
    while matches!(number(type_at), 0x8100 | 0x88a8) {
        type_at += 4;
    }
    let content = type_at + 2;
    content
        + match number(type_at) {
            0x0800 => number(content + 2),
            0x86dd => 40 + number(content + 4),
            0x0806 => 28,
            // LACP and LLDP pass by their EtherType alone.
            _ => 0,
        }
}
