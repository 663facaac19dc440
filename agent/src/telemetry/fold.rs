//! Floods are folded: the first drop of a kind is told at once, the rest of its window as one record.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bulkhead_common::abi::event::Event;
use bulkhead_common::abi::{Addr, DeviceId, NetworkId};
use jiff::Timestamp;

use super::record::Record;

/// How long repeats are gathered, in nanoseconds.
pub const WINDOW_NS: u64 = 10_000_000_000;
/// Windows open at a time; past it the oldest closes early, so memory stays bounded.
pub const CAPACITY: usize = 4096;

/// What makes two drops the same to a reader; the source port is not part of it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Key {
    ifindex: u32,
    vlans: (u16, u16),
    network: NetworkId,
    device: DeviceId,
    verdict: u16,
    source: Addr,
    destination: Addr,
    protocol: u8,
    port: u16,
}

impl From<&Event> for Key {
    fn from(event: &Event) -> Self {
        Self {
            ifindex: event.ifindex,
            vlans: (event.outer_vlan, event.inner_vlan),
            network: event.network,
            device: event.device,
            verdict: event.verdict,
            source: event.source,
            destination: event.destination,
            protocol: event.protocol,
            port: event.destination_port,
        }
    }
}

/// The open windows. Time comes in with the events; there is no clock inside.
#[derive(Debug)]
pub struct Fold {
    capacity: usize,
    windows: BTreeMap<Key, Window>,
    /// Keys by the time their window opened: all windows are of one length, so the front closes first.
    order: VecDeque<(u64, Key)>,
}

#[derive(Debug)]
struct Window {
    first: Arc<Record>,
    repeats: u64,
    bytes: u64,
    last: Timestamp,
}

impl Default for Fold {
    fn default() -> Self {
        Self::with_capacity(CAPACITY)
    }
}

impl Fold {
    /// A fold that keeps at most so many windows open.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { capacity, windows: BTreeMap::new(), order: VecDeque::new() }
    }

    /// Counts a drop at `time` into its open window and returns the window's first record; nothing if it is the first.
    pub fn repeat(&mut self, event: &Event, time: Timestamp) -> Option<Arc<Record>> {
        let window = self.windows.get_mut(&Key::from(event))?;
        window.repeats += 1;
        window.bytes += u64::from(event.length);
        window.last = time;
        Some(Arc::clone(&window.first))
    }

    /// Opens the window of a first drop; returns what an early closed window had gathered.
    pub fn open(&mut self, event: &Event, first: Arc<Record>) -> Option<Record> {
        let early = if self.windows.len() >= self.capacity { self.close_front(event.time) } else { None };
        let key = Key::from(event);
        let window = Window { last: first.time, first, repeats: 0, bytes: 0 };
        if self.windows.insert(key, window).is_none() {
            self.order.push_back((event.time, key));
        }
        early
    }

    /// Closes the windows that are over at `now_ns`; one record for each that saw repeats.
    pub fn close(&mut self, now_ns: u64) -> Vec<Record> {
        let mut closed = Vec::new();
        while self.order.front().is_some_and(|(opened, _)| opened.saturating_add(WINDOW_NS) <= now_ns) {
            closed.extend(self.close_front(now_ns));
        }
        closed
    }

    /// Closes every window, at the end of the stream.
    pub fn finish(&mut self, now_ns: u64) -> Vec<Record> {
        let mut closed = Vec::new();
        while !self.order.is_empty() {
            closed.extend(self.close_front(now_ns));
        }
        closed
    }

    fn close_front(&mut self, now_ns: u64) -> Option<Record> {
        let (opened, key) = self.order.pop_front()?;
        let window = self.windows.remove(&key)?;
        let elapsed = now_ns.saturating_sub(opened).min(WINDOW_NS);
        (window.repeats > 0).then(|| window.folded(elapsed))
    }
}

impl Window {
    fn folded(self, elapsed_ns: u64) -> Record {
        Record {
            time: self.last,
            count: Some(self.repeats),
            window_ms: Some(elapsed_ns / 1_000_000),
            packets: Some(self.repeats),
            bytes: Some(self.bytes),
            ..Record::clone(&self.first)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::compose::Composer;
    use crate::telemetry::fixtures::{NOW_NS, clock, drop_event, judged, names};

    fn at(ms: u64) -> Event {
        Event { time: NOW_NS + ms * 1_000_000, ..drop_event() }
    }

    /// What a reader would see of this event.
    fn feed(fold: &mut Fold, event: Event) -> Vec<Record> {
        let mut shown = fold.close(event.time);
        let time = clock().at(event.time);
        if fold.repeat(&event, time).is_none() {
            let record = Arc::new(
                Composer { names: &names(), clock: clock(), nearest: true }.event(&judged(event), None),
            );
            shown.extend(fold.open(&event, Arc::clone(&record)));
            shown.push(Record::clone(&record));
        }
        shown
    }

    #[test]
    fn the_first_is_told_at_once_and_repeats_at_the_end() {
        let mut fold = Fold::default();
        let first = feed(&mut fold, at(0));
        assert_eq!((first.len(), first[0].count), (1, None));
        for ms in 1..=14 {
            let event = Event { source_port: ms as u16, ..at(ms * 100) };
            assert_eq!(feed(&mut fold, event), []);
        }
        assert_eq!(fold.close(NOW_NS + WINDOW_NS - 1), []);
        let folded = fold.close(NOW_NS + WINDOW_NS);
        assert_eq!(folded.len(), 1);
        assert_eq!((folded[0].count, folded[0].window_ms), (Some(14), Some(10_000)));
        assert_eq!((folded[0].packets, folded[0].bytes), (Some(14), Some(14 * 74)));
        assert_eq!(folded[0].time, clock().at(at(1400).time));
        assert_eq!(fold.close(u64::MAX), []);
        assert_eq!(feed(&mut fold, at(10_001)).len(), 1, "a new window tells its first at once");
    }

    #[test]
    fn a_lone_drop_is_told_once() {
        let mut fold = Fold::default();
        assert_eq!(feed(&mut fold, at(0)).len(), 1);
        assert_eq!(fold.close(u64::MAX), []);
    }

    #[test]
    fn what_differs_for_a_reader_is_not_folded() {
        let mut fold = Fold::default();
        feed(&mut fold, at(0));
        for other in [
            Event { destination_port: 24, ..at(1) },
            Event { destination: Addr::UNSPECIFIED_V4, ..at(1) },
            Event { source: Addr::UNSPECIFIED_V4, ..at(1) },
            Event { device: DeviceId(3), ..at(1) },
            Event { verdict: 0x101, ..at(1) },
            Event { protocol: 17, ..at(1) },
            Event { network: NetworkId(2), ..at(1) },
            Event { ifindex: 5, ..at(1) },
            Event { inner_vlan: 5, ..at(1) },
        ] {
            assert_eq!(feed(&mut fold, other).len(), 1, "{other:?}");
        }
    }

    #[test]
    fn each_event_is_in_exactly_one_record() {
        let mut fold = Fold::with_capacity(3);
        let mut shown = Vec::new();
        for step in 0..1000u64 {
            // Seven kinds in bursts of five, over 100 seconds, in room for three.
            let port = (step / 5 % 7) as u16;
            shown.extend(feed(&mut fold, Event { destination_port: port, ..at(step * 100) }));
            assert!(fold.windows.len() <= 3 && fold.order.len() == fold.windows.len());
        }
        shown.extend(fold.finish(u64::MAX));
        assert_eq!(shown.iter().map(|record| record.count.unwrap_or(1)).sum::<u64>(), 1000);
        assert!(shown.len() < 1000);
    }
}
