//! What is counted per interface, and what is counted about events.

use bytemuck::{Pod, Zeroable};

use super::{DeviceId, RuleId};
use crate::candidate::{Comparison, Decided};
use crate::verdict::{DropReason, Pass, Verdict, Way};

/// Packets and bytes (whole frames as XDP sees them).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Room for every reason to come; a power of two, because the program masks its index.
pub const REASON_CAPACITY: usize = 128;
/// Room for every way to pass; a power of two.
pub const PASS_CAPACITY: usize = 16;
/// Room for every way out; a power of two.
pub const WAY_CAPACITY: usize = 32;

/// One interface's counters, one copy per CPU.
///
/// `received` is counted at program entry, before anything can go wrong; at quiescence it equals
/// the sum of all others.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Counters {
    /// Everything that entered the program.
    pub received: Count,
    /// By [`Pass`] number.
    pub passed: [Count; PASS_CAPACITY],
    /// By [`DropReason`] number.
    pub dropped: [Count; REASON_CAPACITY],
    /// By the number of the [`DropReason`] for which policy refused what passed.
    pub observed: [Count; REASON_CAPACITY],
    /// Of what passed in networks with `forwarding: xdp`, by [`Way`] number: part of `passed`, in no sum.
    pub ways: [Count; WAY_CAPACITY],
}

impl Counters {
    /// The counter of a verdict.
    pub fn of(&self, verdict: Verdict) -> Count {
        match verdict {
            Verdict::Pass(pass) => self.passed[pass as usize],
            Verdict::Drop(reason) => self.dropped[reason as usize],
            Verdict::Observe(reason) => self.observed[reason as usize],
        }
    }

    /// The counter of a way out.
    pub const fn way(&self, way: Way) -> Count {
        self.ways[way as usize]
    }

    /// Passed packets and bytes over all kinds, those included that policy refused.
    pub fn passed_total(&self) -> Count {
        let mut sum = total(&self.passed);
        add(&mut sum, self.observed_total());
        sum
    }

    /// Packets and bytes that passed although policy refused them.
    pub fn observed_total(&self) -> Count {
        total(&self.observed)
    }

    /// Dropped packets and bytes over all reasons.
    pub fn dropped_total(&self) -> Count {
        total(&self.dropped)
    }

    /// Adds another CPU's copy.
    pub fn add(&mut self, other: &Self) {
        add(&mut self.received, other.received);
        let passed = self.passed.iter_mut().zip(&other.passed);
        for (into, from) in passed.chain(self.ways.iter_mut().zip(&other.ways)) {
            add(into, *from);
        }
        let refused = self.dropped.iter_mut().zip(&other.dropped);
        for (into, from) in refused.chain(self.observed.iter_mut().zip(&other.observed)) {
            add(into, *from);
        }
    }
}

fn total(counts: &[Count]) -> Count {
    counts.iter().fold(Count::default(), |mut sum, count| {
        add(&mut sum, *count);
        sum
    })
}

fn add(into: &mut Count, from: Count) {
    into.packets = into.packets.wrapping_add(from.packets);
    into.bytes = into.bytes.wrapping_add(from.bytes);
}

/// What became of event records, one copy per CPU.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct EventCounters {
    /// Written to the ring.
    pub sent: u64,
    /// Not written: over the budget of its device and reason, or of the CPU.
    pub suppressed: u64,
    /// Not written: the ring was full.
    pub lost: u64,
}

/// Packets that a candidate would treat otherwise, of one device or for one rule.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Would {
    /// Dropped ones that it would pass.
    pub pass: u64,
    /// Passed ones that it would drop.
    pub drop: u64,
}

/// What a candidate has judged, one copy per CPU.
///
/// At quiescence `judged` equals the sum of all others.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct CandidateCounters {
    /// Everything that was handed to it.
    pub judged: u64,
    /// It says what is enforced.
    pub same: u64,
    /// Nobody can say what it would have done.
    pub unknowable: u64,
    /// Dropped packets that it would pass, by the number of the [`DropReason`] for which they are dropped.
    pub would_pass: [u64; REASON_CAPACITY],
    /// Passed packets that it would drop, by the number of the [`DropReason`] for which it would.
    pub would_drop: [u64; REASON_CAPACITY],
}

impl CandidateCounters {
    /// The counter of a comparison.
    pub fn of(&self, comparison: Comparison) -> u64 {
        match comparison {
            Comparison::Same => self.same,
            Comparison::Unknowable => self.unknowable,
            Comparison::WouldPass(reason) => self.would_pass[reason as usize],
            Comparison::WouldDrop(reason) => self.would_drop[reason as usize],
        }
    }

    /// What it would pass and drop otherwise.
    pub fn would(&self) -> Would {
        Would { pass: self.would_pass.iter().sum(), drop: self.would_drop.iter().sum() }
    }

    /// Adds another CPU's copy.
    pub fn add(&mut self, other: &Self) {
        for (into, from) in [
            (&mut self.judged, other.judged),
            (&mut self.same, other.same),
            (&mut self.unknowable, other.unknowable),
        ] {
            *into = into.wrapping_add(from);
        }
        let pass = self.would_pass.iter_mut().zip(&other.would_pass);
        for (into, from) in pass.chain(self.would_drop.iter_mut().zip(&other.would_drop)) {
            *into = into.wrapping_add(*from);
        }
    }
}

/// What the enforced policy decided on the packet at hand, for the candidate; one copy per CPU.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct DecidedWords {
    /// [`Verdict::code`].
    pub verdict: u32,
    /// The device that the packet is about, or none.
    pub device: DeviceId,
    /// The deciding rule, or none.
    pub rule: RuleId,
}

impl From<Decided> for DecidedWords {
    #[inline(always)]
    fn from(decided: Decided) -> Self {
        let Decided { verdict, device, rule } = decided;
        Self { verdict: verdict.code() as u32, device, rule }
    }
}

impl DecidedWords {
    /// What the words say; nothing if the verdict's number means nothing.
    #[inline(always)]
    pub const fn decided(&self) -> Option<Decided> {
        match Verdict::from_code(self.verdict as u16) {
            Some(verdict) => Some(Decided { verdict, device: self.device, rule: self.rule }),
            None => None,
        }
    }
}

/// One bucket of the event budget, one copy per CPU.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct EventBudget {
    /// Number of the window that `used` belongs to.
    pub window: u64,
    /// Events written in it.
    pub used: u64,
}

/// Length of a budget window in nanoseconds (about one second; a power of two, so a shift suffices).
pub const EVENT_WINDOW_SHIFT: u32 = 30;
/// Events per window, CPU and bucket; a bucket is a hash of device and reason.
pub const EVENTS_PER_BUCKET: u64 = 8;
/// Events per window and CPU.
pub const EVENTS_PER_CPU: u64 = 2048;
/// Buckets per CPU; the last entry of the map is the CPU's own.
pub const EVENT_BUCKETS: u32 = 1024;

const _: () = {
    assert!(size_of::<Counters>() == 16 * (1 + PASS_CAPACITY + 2 * REASON_CAPACITY + WAY_CAPACITY));
    assert!(size_of::<Would>() == 16 && size_of::<DecidedWords>() == 12);
    assert!(size_of::<CandidateCounters>() == 8 * (3 + 2 * REASON_CAPACITY));
    assert!(REASON_CAPACITY.is_power_of_two() && PASS_CAPACITY.is_power_of_two());
    assert!(WAY_CAPACITY.is_power_of_two() && Way::ALL.len() <= WAY_CAPACITY);
    assert!(DropReason::ALL.len() < REASON_CAPACITY);
    assert!(Pass::ALL.len() <= PASS_CAPACITY);
};
