//! The one place where the stream's stages meet, shared by the task that feeds it and by the API.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bulkhead_common::abi::{Flow, RuleId};
use bulkhead_common::verdict::{Pass, Verdict};
use tokio::sync::broadcast;

use super::clock::Clock;
use super::compose::Composer;
use super::decode::{Judged, decode};
use super::filter::Filter;
use super::fold::Fold;
use super::follow::Follow;
use super::history::{self, History, Remembered};
use super::id::EventId;
use super::loss::Loss;
use super::names::Names;
use super::record::{EventKind, Record};
use super::source::Counts;

/// Records that a reader may lag behind before it loses some.
const STREAM_CAPACITY: usize = 8192;

/// Records of one poll that name the nearest rule: under a scan of many ports the policy is not read for each.
const NEAREST_PER_POLL: u32 = 64;

/// Drops, flows and gaps: the live stream, and what is remembered of it.
pub struct Telemetry {
    names: RwLock<Arc<dyn Names>>,
    stream: broadcast::Sender<Arc<Record>>,
    state: Mutex<State>,
    watched: Mutex<Watched>,
}

/// Flows that somebody wants to know of when they end.
#[derive(Default)]
struct Watched {
    rules: BTreeSet<RuleId>,
    ended: Vec<Flow>,
}

/// Most ends that are kept until somebody asks.
const ENDS_KEPT: usize = 65_536;

struct State {
    fold: Fold,
    history: History,
    loss: Loss,
}

impl Telemetry {
    /// Telemetry that has seen nothing yet. Ids start where `clock` says, so that an id of an earlier
    /// run most likely finds nothing instead of another drop.
    pub fn new(names: Arc<dyn Names>, clock: Clock) -> Arc<Self> {
        let start = EventId::of(clock.wall.as_millisecond() as u32);
        let state = State {
            fold: Fold::default(),
            history: History::new(history::CAPACITY, start),
            loss: Loss::default(),
        };
        Arc::new(Self {
            names: RwLock::new(names),
            stream: broadcast::channel(STREAM_CAPACITY).0,
            state: Mutex::new(state),
            watched: Mutex::default(),
        })
    }

    /// Takes a new catalogue; records made before keep their names.
    pub fn rename(&self, names: Arc<dyn Names>) {
        *self.names.write().unwrap_or_else(PoisonError::into_inner) = names;
    }

    /// Follows the stream from here on.
    pub fn follow(&self, filter: Filter) -> Follow {
        Follow::new(self.stream.subscribe(), filter)
    }

    /// The newest `limit` remembered drops that `filter` lets through, the oldest of them first.
    pub fn drops(&self, filter: &Filter, limit: usize) -> Vec<Record> {
        self.state().history.recent(filter, limit)
    }

    /// The remembered drop with this id, with the event that the kernel wrote.
    pub fn find(&self, id: EventId) -> Option<Remembered> {
        self.state().history.find(id)
    }

    /// Those of `flows` that live and that `filter` lets through, the oldest first.
    pub fn flows(&self, flows: &[Flow], clock: Clock, filter: &Filter) -> Vec<Record> {
        let names = self.names();
        let composer = Composer { names: &*names, clock, nearest: false };
        let mut live: Vec<&Flow> = flows.iter().filter(|flow| flow.deadline > clock.monotonic_ns).collect();
        live.sort_by_key(|flow| (flow.opened, flow.key));
        live.into_iter()
            .map(|flow| (composer.live(flow), composer.opened(flow)))
            .filter(|(record, opened)| filter.matches_at(record, *opened))
            .map(|(record, _)| record)
            .collect()
    }

    /// Records of the ring that were no event of this agent's program.
    pub fn undecodable(&self) -> u64 {
        self.state().loss.undecodable()
    }

    /// Takes what `drain` hands over, and closes folds that are over.
    pub fn take(&self, clock: Clock, drain: impl FnOnce(&mut dyn FnMut(&[u8]))) {
        let names = self.names();
        let mut state = self.state();
        let mut drops = 0;
        drain(&mut |bytes| {
            let composer = Composer { names: &*names, clock, nearest: drops < NEAREST_PER_POLL };
            for record in state.take(bytes, &composer) {
                let refused = [EventKind::Drop, EventKind::WouldDrop, EventKind::Witness];
                drops += u32::from(refused.contains(&record.event));
                self.send(record);
            }
        });
        for record in state.fold.close(clock.monotonic_ns) {
            self.send(Arc::new(record));
        }
    }

    /// Tells what is missing, given counts that were read before the ring was.
    pub fn account(&self, clock: Clock, counts: &Counts) {
        if let Some(gap) = self.state().loss.gap(counts) {
            self.send(Arc::new(Record::of_gap(clock.wall, gap)));
        }
    }

    /// Watches the flows of these rules; returns those of the watched ones that ended since the last time.
    pub fn watch(&self, rules: BTreeSet<RuleId>) -> Vec<Flow> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.rules = rules;
        std::mem::take(&mut watched.ended)
    }

    /// Tells of flows that ended.
    pub fn ended(&self, clock: Clock, flows: &[Flow]) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let room = ENDS_KEPT.saturating_sub(watched.ended.len());
        let ended: Vec<Flow> =
            flows.iter().filter(|flow| watched.rules.contains(&flow.rule())).take(room).copied().collect();
        watched.ended.extend(ended);
        drop(watched);
        // A burst of ends is large, and nothing remembers them.
        if self.stream.receiver_count() == 0 {
            return;
        }
        let names = self.names();
        let composer = Composer { names: &*names, clock, nearest: false };
        flows.iter().for_each(|flow| self.send(Arc::new(composer.ended(flow))));
    }

    /// Tells what the open folds have gathered, at the end.
    pub fn finish(&self, clock: Clock) {
        for record in self.state().fold.finish(clock.monotonic_ns) {
            self.send(Arc::new(record));
        }
    }

    fn send(&self, record: Arc<Record>) {
        // An error only says that nobody follows.
        let _ = self.stream.send(record);
    }

    fn names(&self) -> Arc<dyn Names> {
        Arc::clone(&self.names.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The state is whole between any two statements that may panic, so a poisoned lock is no harm.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What is to be told at once of one record of the ring.
    fn take(&mut self, bytes: &[u8], composer: &Composer<'_>) -> Vec<Arc<Record>> {
        match decode(bytes) {
            Ok(judged) => {
                self.loss.saw(judged.verdict);
                self.tell(&judged, composer)
            }
            Err(error) => {
                self.loss.garbled();
                // The rest is counted and shown as a gap.
                if self.loss.undecodable() == 1 {
                    tracing::warn!(%error, "an event of the datapath was not understood");
                }
                Vec::new()
            }
        }
    }

    fn tell(&mut self, judged: &Judged, composer: &Composer<'_>) -> Vec<Arc<Record>> {
        if judged.verdict.refusal().is_none() && judged.verdict != Verdict::Pass(Pass::WitnessAlarm) {
            return vec![Arc::new(composer.event(judged, None))];
        }
        let event = &judged.event;
        let time = composer.clock.at(event.time);
        if let Some(first) = self.fold.repeat(event, time) {
            if let Some(id) = first.id {
                self.history.repeat(id, event, time);
            }
            return Vec::new();
        }
        let record = Arc::new(composer.event(judged, Some(self.history.next_id())));
        self.history.push(*event, Arc::clone(&record));
        let early = self.fold.open(event, Arc::clone(&record)).map(Arc::new);
        early.into_iter().chain([record]).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use bulkhead_common::abi::event::Event;
    use bulkhead_common::abi::{DeviceId, Generation, NetworkId, RuleId, Timeouts};

    use super::super::label::Label;
    use super::super::names::DeviceName;
    use super::*;
    use crate::telemetry::fixtures::{clock, drop_event};

    /// Knows no name, and counts how often the policy was read.
    #[derive(Default)]
    struct Counting(AtomicU32);

    impl Names for Counting {
        fn device(&self, _: DeviceId) -> Option<DeviceName> {
            None
        }
        fn network(&self, _: NetworkId) -> Option<Label> {
            None
        }
        fn timeouts(&self, _: NetworkId) -> Timeouts {
            Timeouts::DEFAULT
        }
        fn rule(&self, _: RuleId) -> Option<Label> {
            None
        }
        fn interface(&self, _: u32) -> Option<Label> {
            None
        }
        fn revision(&self, _: Generation) -> Option<u64> {
            None
        }
        fn nearest(&self, _: &Event) -> Option<String> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Some("ev/ocpp (port)".to_owned())
        }
    }

    #[test]
    fn a_scan_does_not_make_the_agent_read_the_policy_for_each_port() {
        let names = Arc::new(Counting::default());
        let telemetry = Telemetry::new(Arc::clone(&names) as Arc<dyn Names>, clock());
        let opened = Event { verdict: Verdict::Pass(Pass::Opened).code(), ..drop_event() };
        telemetry.take(clock(), |each| {
            (0..1000).for_each(|_| each(bytemuck::bytes_of(&opened)));
            for port in 0..1000 {
                let event = Event { destination_port: port, ..drop_event() };
                (0..3).for_each(|_| each(bytemuck::bytes_of(&event)));
            }
        });
        assert_eq!(names.0.load(Ordering::SeqCst), NEAREST_PER_POLL);
        let drops = telemetry.drops(&Filter::default(), 2000);
        let told: Vec<bool> = drops.iter().map(|record| record.nearest.is_some()).collect();
        assert_eq!(
            (told.len(), told.iter().filter(|told| **told).count()),
            (1000, NEAREST_PER_POLL as usize)
        );
    }
}
