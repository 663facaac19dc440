//! The kernel's side of the stream: the ring, the counters, the flow table.

use std::sync::{Arc, Mutex, TryLockError};

use anyhow::Result;
use bulkhead_common::abi::Flow;
use bulkhead_common::abi::counter::{Counters, EventCounters};
use bytemuck::Zeroable;

use crate::datapath::{Datapath, EventRing};

/// What was counted up to one moment.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// What became of events.
    pub events: EventCounters,
    /// Verdicts, over all interfaces.
    pub verdicts: Counters,
}

/// Where telemetry reads. Every call may block for a short time.
pub trait Source: Send + 'static {
    /// The clock of events and deadlines, in nanoseconds.
    fn now_ns(&self) -> u64;
    /// Hands over every record that lies in the ring.
    fn drain(&mut self, each: &mut dyn FnMut(&[u8]));
    /// What was counted so far; nothing while the tables are being changed.
    ///
    /// # Errors
    /// The counters cannot be read.
    fn counts(&mut self) -> Result<Option<Counts>>;
    /// Flows that have died since the last call; none while the tables are being changed.
    ///
    /// # Errors
    /// The flow table cannot be read.
    fn ended(&mut self, now_ns: u64) -> Result<Vec<Flow>>;
}

/// The datapath as a source.
pub struct Kernel {
    ring: EventRing,
    datapath: Arc<Mutex<Datapath>>,
}

impl Kernel {
    /// Reads `ring` freely, and `datapath` when nobody else holds it: events must not wait for an apply.
    pub fn new(ring: EventRing, datapath: Arc<Mutex<Datapath>>) -> Self {
        Self { ring, datapath }
    }

    fn datapath<T>(&self, read: impl FnOnce(&mut Datapath) -> Result<T>) -> Result<Option<T>> {
        match self.datapath.try_lock() {
            Ok(mut datapath) => read(&mut datapath).map(Some),
            Err(TryLockError::Poisoned(poisoned)) => read(&mut poisoned.into_inner()).map(Some),
            Err(TryLockError::WouldBlock) => Ok(None),
        }
    }
}

impl Source for Kernel {
    fn now_ns(&self) -> u64 {
        Datapath::now_ns()
    }

    fn drain(&mut self, each: &mut dyn FnMut(&[u8])) {
        self.ring.drain(each);
    }

    fn counts(&mut self) -> Result<Option<Counts>> {
        self.datapath(|datapath| {
            let mut verdicts = Counters::zeroed();
            datapath.counters()?.values().for_each(|counters| verdicts.add(counters));
            Ok(Counts { events: datapath.event_counters()?, verdicts })
        })
    }

    fn ended(&mut self, now_ns: u64) -> Result<Vec<Flow>> {
        self.datapath(|datapath| Ok(datapath.ended_flows(now_ns))).map(Option::unwrap_or_default)
    }
}
