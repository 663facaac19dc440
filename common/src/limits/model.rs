//! The words in every order in which CPUs may charge them (loom, up to two preemptions).
//!
//! As in the flow table's model, words are acquired and released, and an exchange is a full barrier.

use std::sync::Arc;

use loom::sync::atomic::{AtomicU64, Ordering, fence};
use loom::thread;

use super::*;
use crate::abi::FlowGeometry;

const NOW: u64 = 1_000_000_000;
const SECOND: u64 = 1_000_000_000;
const WORDS: usize = 8;
const DEVICE: DeviceId = DeviceId(1);

/// One device's words.
struct Words([AtomicU64; WORDS]);

impl Words {
    fn new() -> Arc<Self> {
        Arc::new(Self(std::array::from_fn(|_| AtomicU64::new(0))))
    }

    /// What is owed of a limit, in nanoseconds.
    fn owed(&self, word: usize) -> u64 {
        self.load((), word).saturating_sub(NOW)
    }
}

impl Memory for Words {
    type Row = ();

    fn geometry(&self) -> Option<&FlowGeometry> {
        None
    }

    fn slot(&self, _index: u32) -> Option<()> {
        None
    }

    fn device(&self, _device: DeviceId) -> Option<()> {
        Some(())
    }

    fn load(&self, (): (), word: usize) -> u64 {
        self.0[word].load(Ordering::Acquire)
    }

    fn store(&self, (): (), word: usize, value: u64) {
        self.0[word].swap(value, Ordering::AcqRel);
    }

    fn exchange(&self, (): (), word: usize, from: u64, to: u64) -> bool {
        fence(Ordering::SeqCst);
        let done = self.0[word].compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        fence(Ordering::SeqCst);
        done.is_ok()
    }

    fn add(&self, (): (), word: usize, value: u64) {
        self.0[word].fetch_add(value, Ordering::AcqRel);
    }
}

/// So many packets and new flows in a second; 0 is any number.
fn limits(packets: u64, flows: u64) -> Limits {
    let cost = |count| u32::try_from(SECOND.checked_div(count).unwrap_or_default()).unwrap();
    Limits { packet_ns: cost(packets), flow_ns: cost(flows), ..Limits::default() }
}

const SENT: Toll = Toll::new(1, 100, false, false);
const OPENS: Toll = Toll::new(1, 100, false, true);

fn passes(words: &Words, limits: &Limits, toll: Toll) -> bool {
    charge(words, DEVICE, limits, toll, NOW).is_ok()
}

/// A packet that would pass, and is refused after all.
fn comes_to_nothing(words: &Words, limits: &Limits, toll: Toll) -> bool {
    let charged = passes(words, limits, toll);
    if charged {
        refund(words, DEVICE, limits, toll);
    }
    charged
}

/// Runs two CPUs in every order to their ends; what both said, and the words they leave.
fn explore<T: Send + 'static>(
    one: fn(&Words) -> T,
    two: fn(&Words) -> T,
    judge: impl Fn(T, T, &Words) + Send + Sync + 'static,
) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.max_branches = 20_000;
    model.check(move || {
        let words = Words::new();
        let shared = Arc::clone(&words);
        let other = thread::spawn(move || one(&shared));
        let second = two(&words);
        judge(other.join().unwrap(), second, &words);
    });
}

#[test]
fn of_two_cpus_one_gets_the_last_packet_of_a_second() {
    fn last(words: &Words) -> bool {
        passes(words, &limits(1, 0), SENT)
    }
    explore(last, last, |one, two, words| {
        assert!(one != two, "exactly one passes: {one} {two}");
        assert_eq!(words.owed(PACKETS_OWED), SECOND);
    });
}

#[test]
fn no_charge_is_lost() {
    fn both(words: &Words) -> u64 {
        (0..2).map(|_| u64::from(passes(words, &limits(3, 0), SENT))).sum()
    }
    explore(both, both, |one, two, words| {
        assert_eq!(one + two, 3, "three of four pass");
        assert_eq!(words.owed(PACKETS_OWED), 3 * u64::from(limits(3, 0).packet_ns));
    });
}

#[test]
fn what_is_refused_on_one_cpu_costs_nothing_of_what_passes_on_another() {
    fn passing(words: &Words) -> bool {
        passes(words, &limits(2, 2), OPENS)
    }
    fn refused(words: &Words) -> bool {
        comes_to_nothing(words, &limits(2, 2), OPENS)
    }
    explore(passing, refused, |passed, charged, words| {
        assert!(passed && charged, "there is room for both");
        let cost = SECOND / 2;
        assert_eq!((words.owed(PACKETS_OWED), words.owed(FLOWS_OWED)), (cost, cost));
    });
}

#[test]
fn a_packet_over_one_limit_gives_back_what_it_took_of_another() {
    // One flow a second, and one packet: whoever gets the flow may lose the packet to the other's.
    fn opens(words: &Words) -> bool {
        passes(words, &limits(1, 1), OPENS)
    }
    fn sends(words: &Words) -> bool {
        passes(words, &limits(1, 1), SENT)
    }
    explore(opens, sends, |opened, sent, words| {
        assert!(opened != sent, "exactly one has the packet: {opened} {sent}");
        let owed = (words.owed(FLOWS_OWED), words.owed(PACKETS_OWED));
        assert_eq!(owed, (u64::from(opened) * SECOND, SECOND));
    });
}

#[test]
fn the_two_ways_share_no_word() {
    fn sent(words: &Words) -> bool {
        passes(words, &limits(1, 1), OPENS)
    }
    fn received(words: &Words) -> bool {
        passes(words, &limits(1, 1), Toll::new(1, 100, true, true))
    }
    explore(sent, received, |sent, received, _| assert!(sent && received));
}
