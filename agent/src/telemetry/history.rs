//! Recent drops, by the id that their line shows.

use std::collections::VecDeque;
use std::sync::Arc;

use bulkhead_common::abi::event::Event;
use jiff::Timestamp;

use super::filter::Filter;
use super::id::EventId;
use super::record::Record;

/// Drops that are remembered; each takes less than a kilobyte, 64 MB if the history is full.
pub const CAPACITY: usize = 65_536;

/// The newest drops; the oldest gives way.
#[derive(Debug)]
pub struct History {
    capacity: usize,
    next: EventId,
    entries: VecDeque<Entry>,
}

/// A remembered drop: what the program wrote, and what was made of it when it happened.
#[derive(Clone, Debug)]
pub struct Remembered {
    /// The first event.
    pub event: Event,
    /// The record, with the repeats that were folded into it.
    pub record: Record,
}

#[derive(Debug)]
struct Entry {
    event: Event,
    record: Arc<Record>,
    repeats: u64,
    repeated_bytes: u64,
    last: Timestamp,
}

impl History {
    /// An empty history whose first drop gets the id `start`.
    pub fn new(capacity: usize, start: EventId) -> Self {
        Self { capacity, next: start, entries: VecDeque::new() }
    }

    /// The id that the next drop gets.
    pub fn next_id(&self) -> EventId {
        self.next
    }

    /// Remembers a drop under [`Self::next_id`].
    pub fn push(&mut self, event: Event, record: Arc<Record>) {
        if self.entries.len() >= self.capacity {
            self.entries.pop_front();
        }
        let last = record.time;
        self.entries.push_back(Entry { event, record, repeats: 0, repeated_bytes: 0, last });
        self.next = self.next.next();
    }

    /// Counts a repeat of a drop, if it is still remembered.
    pub fn repeat(&mut self, id: EventId, event: &Event, time: Timestamp) {
        let index = self.index(id);
        if let Some(entry) = index.and_then(|index| self.entries.get_mut(index)) {
            entry.repeats += 1;
            entry.repeated_bytes += u64::from(event.length);
            entry.last = time;
        }
    }

    /// The drop with this id.
    pub fn find(&self, id: EventId) -> Option<Remembered> {
        let entry = self.entries.get(self.index(id)?)?;
        Some(Remembered { event: entry.event, record: entry.folded() })
    }

    /// The newest `limit` drops that `filter` lets through, the oldest of them first.
    pub fn recent(&self, filter: &Filter, limit: usize) -> Vec<Record> {
        let newest = self.entries.iter().rev();
        let mut records: Vec<Record> = newest
            .filter(|entry| filter.matches_at(&entry.record, entry.last))
            .take(limit)
            .map(Entry::folded)
            .collect();
        records.reverse();
        records
    }

    fn index(&self, id: EventId) -> Option<usize> {
        let len = self.entries.len();
        let back = self.next.since(id) as usize;
        (1..=len).contains(&back).then(|| len - back)
    }
}

impl Entry {
    fn folded(&self) -> Record {
        let mut record = Record::clone(&self.record);
        if self.repeats > 0 {
            let elapsed = self.last.duration_since(record.time).as_millis();
            record.count = Some(self.repeats + 1);
            record.window_ms = Some(u64::try_from(elapsed).unwrap_or_default());
            record.packets = Some(self.repeats + 1);
            record.bytes = Some(record.bytes.unwrap_or_default() + self.repeated_bytes);
            record.time = self.last;
        }
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::compose::Composer;
    use crate::telemetry::fixtures::{NOW_NS, clock, drop_event, judged, names};

    fn filled(drops: u64, capacity: usize) -> (History, Vec<EventId>) {
        let mut history = History::new(capacity, EventId::of(u32::MAX));
        let names = names();
        let composer = Composer { names: &names, clock: clock(), nearest: true };
        let ids = (0..drops).map(|number| {
            let event = Event { time: NOW_NS + number, source_port: number as u16, ..drop_event() };
            let id = history.next_id();
            history.push(event, Arc::new(composer.event(&judged(event), Some(id))));
            id
        });
        let ids = ids.collect();
        (history, ids)
    }

    #[test]
    fn each_id_finds_its_drop_until_it_gives_way() {
        let (history, ids) = filled(25, 10);
        for (number, id) in ids.iter().enumerate() {
            let found = history.find(*id);
            assert_eq!(found.is_some(), number >= 15, "{number}");
            if let Some(found) = found {
                assert_eq!((found.record.id, found.event.source_port), (Some(*id), number as u16));
            }
        }
        assert!(history.find(history.next_id()).is_none());
        assert!(History::new(10, EventId::of(0)).find(EventId::of(0)).is_none());
    }

    #[test]
    fn repeats_are_part_of_the_drop() {
        let (mut history, ids) = filled(3, 2);
        let later = clock().at(NOW_NS + 2_500_000_000);
        for _ in 0..4 {
            history.repeat(ids[1], &drop_event(), later);
        }
        history.repeat(ids[0], &drop_event(), later);
        let record = history.find(ids[1]).unwrap().record;
        assert_eq!((record.count, record.window_ms, record.time), (Some(5), Some(2499), later));
        assert_eq!((record.packets, record.bytes), (Some(5), Some(5 * 74)));
        assert_eq!(history.find(ids[2]).unwrap().record.count, None);
    }

    #[test]
    fn a_full_history_stays_below_64_megabytes() {
        // Names are shared; a drop's own texts are its reason, MAC address and the like.
        let own_texts = 8 * 32;
        let each = size_of::<Entry>() + size_of::<Record>() + own_texts;
        assert!(each * CAPACITY < 64 << 20, "{each} bytes each");
    }

    #[test]
    fn the_newest_come_oldest_first() {
        let (history, ids) = filled(5, 10);
        let recent = history.recent(&Filter::default(), 2);
        assert_eq!(recent.iter().map(|record| record.id.unwrap()).collect::<Vec<_>>(), ids[3..]);
        let other = Filter { device: Some("pump-0003".into()), ..Filter::default() };
        assert!(history.recent(&other, 2).is_empty());
    }
}
