//! The task that reads the kernel on a timer: its ring wakes nobody, which saves it microseconds a packet.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::{MissedTickBehavior, interval};

use super::clock::Clock;
use super::hub::Telemetry;
use super::source::Source;

/// How often the ring is read.
pub const POLL: Duration = Duration::from_millis(100);
/// Every how many polls it is told what is missing: 5 s.
const ACCOUNT_EVERY: u64 = 50;
/// Every how many polls dead flows are told: 1 s, before many of their places are taken again.
const ENDS_EVERY: u64 = 10;

/// What one poll does beside reading the ring.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Work {
    /// Tell what is missing.
    pub account: bool,
    /// Tell of flows that have ended.
    pub ends: bool,
}

impl Work {
    /// The work of poll number `poll`, counted from 0; the first starts the account.
    pub const fn of(poll: u64) -> Self {
        Self {
            account: poll.is_multiple_of(ACCOUNT_EVERY),
            ends: poll.is_multiple_of(ENDS_EVERY) && poll > 0,
        }
    }
}

impl Telemetry {
    /// Reads `source` until `shutdown`, and then once more.
    ///
    /// What cannot be read is logged and tried again: telemetry may fail, enforcing goes on.
    ///
    /// # Errors
    /// A poll panicked.
    pub async fn run<S: Source>(
        self: Arc<Self>,
        mut source: S,
        shutdown: impl Future<Output = ()>,
    ) -> Result<()> {
        let mut shutdown = pin!(shutdown);
        let mut ticks = interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut poll = 0;
        loop {
            let last = tokio::select! {
                biased;
                () = &mut shutdown => true,
                _ = ticks.tick() => false,
            };
            let work = if last { Work { account: true, ends: false } } else { Work::of(poll) };
            source = Arc::clone(&self).poll_aside(source, work).await?;
            if last {
                self.finish(Clock::read(source.now_ns()));
                return Ok(());
            }
            poll += 1;
        }
    }

    /// One poll on a thread that may block: a look at a full flow table takes a quarter of a second.
    async fn poll_aside<S: Source>(self: Arc<Self>, mut source: S, work: Work) -> Result<S> {
        let poll = move || {
            if let Err(error) = self.poll(&mut source, work) {
                tracing::warn!("telemetry is incomplete, enforcing goes on: {error:#}");
            }
            source
        };
        tokio::task::spawn_blocking(poll).await.context("read the datapath's events")
    }

    /// Reads everything that is there now.
    ///
    /// # Errors
    /// Counters or flows cannot be read; the ring was read all the same.
    pub fn poll(&self, source: &mut impl Source, work: Work) -> Result<()> {
        // Before the ring: what is counted and then not in the ring is missing.
        let counts = if work.account { source.counts() } else { Ok(None) };
        let clock = Clock::read(source.now_ns());
        self.take(clock, |each| source.drain(each));
        if let Some(counts) = counts.context("read the event counters")? {
            self.account(clock, &counts);
        }
        if work.ends {
            let flows = source.ended(clock.monotonic_ns).context("look for flows that have ended")?;
            self.ended(Clock::read(source.now_ns()), &flows);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use bulkhead_common::abi::counter::{Counters, EventCounters};
    use bulkhead_common::abi::event::Event;
    use bulkhead_common::abi::{DeviceId, Flow};
    use bulkhead_common::verdict::{DropReason, Pass, Verdict};
    use bytemuck::Zeroable;

    use super::*;
    use crate::telemetry::filter::Filter;
    use crate::telemetry::fixtures::{NOW_NS, clock, drop_event, live_flow, names};
    use crate::telemetry::record::{EventKind, Record};
    use crate::telemetry::source::Counts;

    /// A kernel whose ring holds what a test puts there.
    #[derive(Default)]
    struct Fake {
        ring: Vec<Vec<u8>>,
        suppressed: u64,
        dropped: u64,
        dead: Vec<Flow>,
        now_ns: u64,
        drains: Arc<AtomicU64>,
    }

    impl Fake {
        fn write(&mut self, event: &Event) {
            self.dropped += u64::from(event.verdict != Verdict::Pass(Pass::Opened).code());
            self.ring.push(bytemuck::bytes_of(event).to_vec());
        }
    }

    impl Source for Fake {
        fn now_ns(&self) -> u64 {
            self.now_ns
        }

        fn drain(&mut self, each: &mut dyn FnMut(&[u8])) {
            self.drains.fetch_add(1, Ordering::SeqCst);
            self.ring.drain(..).for_each(|bytes| each(&bytes));
        }

        fn counts(&mut self) -> Result<Option<Counts>> {
            let mut verdicts = Counters::zeroed();
            verdicts.dropped[DropReason::NoRule as usize].packets = self.dropped;
            let events = EventCounters { suppressed: self.suppressed, ..EventCounters::default() };
            Ok(Some(Counts { events, verdicts }))
        }

        fn ended(&mut self, _now_ns: u64) -> Result<Vec<Flow>> {
            Ok(std::mem::take(&mut self.dead))
        }
    }

    const ALL: Work = Work { account: true, ends: true };

    fn telemetry() -> (Arc<Telemetry>, Fake) {
        let telemetry = Telemetry::new(Arc::new(names()), clock());
        let mut source = Fake { now_ns: NOW_NS, ..Fake::default() };
        telemetry.poll(&mut source, ALL).unwrap();
        (telemetry, source)
    }

    fn told(follow: &mut crate::telemetry::Follow) -> Vec<Arc<Record>> {
        let mut records = Vec::new();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        while let std::task::Poll::Ready(Some(record)) = pin!(follow.next()).poll(&mut context) {
            records.push(record);
        }
        records
    }

    #[test]
    fn a_flood_becomes_two_lines_and_a_gap() {
        let (telemetry, mut source) = telemetry();
        let mut follow = telemetry.follow(Filter::default());
        (0..14).for_each(|_| source.write(&drop_event()));
        (source.suppressed, source.dropped) = (1000, source.dropped + 1000);
        telemetry.poll(&mut source, ALL).unwrap();
        source.now_ns += 10_000_000_000;
        telemetry.poll(&mut source, ALL).unwrap();
        let records = told(&mut follow);
        let kinds: Vec<EventKind> = records.iter().map(|record| record.event).collect();
        assert_eq!(kinds, [EventKind::Drop, EventKind::Gap, EventKind::Drop]);
        assert_eq!((records[0].count, records[2].count), (None, Some(13)));
        let gap = records[1].gap.clone().unwrap();
        assert_eq!((gap.not_shown, gap.reasons), (1000, [("no_rule".into(), 1000)].into()));
        let id = records[0].id.unwrap();
        assert_eq!(records[2].id, Some(id));
        let found = telemetry.find(id).unwrap();
        assert_eq!((found.record.count, found.event), (Some(14), drop_event()));
        assert_eq!(telemetry.drops(&Filter::default(), 10), [found.record]);
    }

    #[test]
    fn first_packets_are_never_folded() {
        let (telemetry, mut source) = telemetry();
        let mut follow = telemetry.follow(Filter::default());
        let opened = Event { verdict: Verdict::Pass(Pass::Opened).code(), ..drop_event() };
        (0..3).for_each(|_| source.write(&opened));
        telemetry.poll(&mut source, ALL).unwrap();
        let records = told(&mut follow);
        assert_eq!(records.len(), 3);
        assert!(records.iter().all(|record| record.event == EventKind::FlowOpen));
        assert!(telemetry.drops(&Filter::default(), 10).is_empty());
    }

    #[test]
    fn flows_that_died_are_told_and_live_ones_are_listed() {
        let (telemetry, mut source) = telemetry();
        let mut follow = telemetry.follow(Filter::default());
        let dead = Flow { deadline: NOW_NS, ..live_flow() };
        source.dead.push(dead);
        telemetry.poll(&mut source, ALL).unwrap();
        let records = told(&mut follow);
        assert_eq!(records.iter().map(|r| r.event).collect::<Vec<_>>(), [EventKind::FlowEnd]);
        let listed = telemetry.flows(&[dead, live_flow()], clock(), &Filter::default());
        assert_eq!(listed.iter().map(|r| r.event).collect::<Vec<_>>(), [EventKind::Flow]);
        let pump = Filter { device: Some("pump-0003".into()), ..Filter::default() };
        assert!(telemetry.flows(&[live_flow()], clock(), &pump).is_empty());
    }

    #[test]
    fn bytes_that_are_no_event_are_counted_and_shown() {
        let (telemetry, mut source) = telemetry();
        let mut follow = telemetry.follow(Filter::default());
        source.ring.push(vec![0; 95]);
        telemetry.poll(&mut source, ALL).unwrap();
        assert_eq!(telemetry.undecodable(), 1);
        assert_eq!(told(&mut follow)[0].gap.as_ref().unwrap().undecodable, 1);
    }

    #[test]
    fn a_slow_reader_is_told_what_it_lost() {
        let (telemetry, mut source) = telemetry();
        let mut follow = telemetry.follow(Filter::default());
        for port in 0..10_000u16 {
            source.write(&Event { destination_port: port, ..drop_event() });
        }
        telemetry.poll(&mut source, Work::default()).unwrap();
        let records = told(&mut follow);
        let skipped = records[0].gap.as_ref().unwrap().skipped;
        assert!(skipped > 0);
        assert_eq!(skipped + records.len() as u64 - 1, 10_000);
    }

    #[test]
    fn a_new_catalogue_names_only_what_comes_after() {
        let (telemetry, mut source) = telemetry();
        source.write(&drop_event());
        telemetry.poll(&mut source, ALL).unwrap();
        telemetry.rename(Arc::new(crate::telemetry::NameTable::default()));
        source.write(&Event { device: DeviceId(18), ..drop_event() });
        telemetry.poll(&mut source, ALL).unwrap();
        let drops = telemetry.drops(&Filter::default(), 10);
        let devices: Vec<&str> = drops.iter().filter_map(|record| record.device.as_deref()).collect();
        assert_eq!(devices, ["charger-0017", "#18"]);
    }

    #[tokio::test]
    async fn the_task_reads_once_more_when_it_is_stopped() {
        let (telemetry, mut source) = telemetry();
        let mut follow = telemetry.follow(Filter::default());
        let drains = Arc::clone(&source.drains);
        (0..3).for_each(|_| source.write(&drop_event()));
        let before = drains.load(Ordering::SeqCst);
        Arc::clone(&telemetry).run(source, std::future::ready(())).await.unwrap();
        assert_eq!(drains.load(Ordering::SeqCst) - before, 1);
        let counts: Vec<Option<u64>> = told(&mut follow).iter().map(|record| record.count).collect();
        assert_eq!(counts, [None, Some(2)]);
    }

    #[tokio::test]
    async fn the_task_polls_until_it_is_stopped() {
        let (telemetry, source) = telemetry();
        let drains = Arc::clone(&source.drains);
        let before = drains.load(Ordering::SeqCst);
        let three_polls = async {
            while drains.load(Ordering::SeqCst) < before + 3 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let run = Arc::clone(&telemetry).run(source, three_polls);
        tokio::time::timeout(Duration::from_secs(30), run).await.unwrap().unwrap();
    }

    #[test]
    fn the_account_starts_with_the_first_poll() {
        assert_eq!(Work::of(0), Work { account: true, ends: false });
        assert_eq!(Work::of(50), ALL);
        assert_eq!(Work::of(10), Work { account: false, ends: true });
        assert_eq!(Work::of(100), ALL);
        assert_eq!(Work::of(101), Work::default());
    }
}
