//! One packet after the other → what the program says of it, along the capture's own clock.

use std::cell::OnceCell;

use anyhow::{Context, Result};
use bulkhead_common::abi::event::Event;
use bulkhead_common::abi::map;
use bulkhead_common::case::Case;
use bulkhead_common::verdict::{Evidence, Pass, Verdict};

use super::clock::Clock;
use super::link::Frame;
use super::partial::Partial;
use crate::datapath::{Entry, Isolated, SHORTEST, SHOWN};
use crate::reconcile::Reconciler;
use crate::tables::{self, Capacities, Image, Tables};

/// Dead flows are given up about as often as the kernel's timer does it.
const SWEEP_EVERY_NS: u64 = map::SWEEP_ROUND_NS;
/// Flows opened, as a part of the table, after which it is swept.
const WORTH_A_SWEEP: u32 = 1024;

/// Who judged a packet.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum By {
    /// The XDP program.
    Program,
    /// The same decision code on the host: the packet is too short for the program to be run on.
    Engine,
    /// Nobody: the host sent it, and the program sees only what enters. It passes.
    NobodyLeaves,
    /// Nobody: the capture does not hold all of its headers. Nothing passes that was not judged.
    NobodyCut,
}

/// What is said of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Judgement {
    /// What the program tells of a packet; of one that nobody judged: what could be read of it.
    pub event: Event,
    /// Who said it.
    pub by: By,
    /// True if the packet is older than one before it; the clock stood still for it.
    pub late: bool,
}

/// The program, its tables, and where the capture's clock is.
pub struct Judge<'a> {
    isolated: Isolated,
    tables: &'a Tables,
    engine: OnceCell<Image>,
    clock: Clock,
    /// How far the boot clock of the tables is ahead of the capture's, in nanoseconds.
    ahead: u64,
    /// How many flows were opened since dead ones were swept away, and when that was.
    opened: u32,
    swept: u64,
    /// True if a dead flow that is not swept may count against a device.
    has_quotas: bool,
}

impl<'a> Judge<'a> {
    /// Loads the program and brings `tables` into force on its own maps.
    ///
    /// # Errors
    /// The kernel refuses, or the tables do not fit.
    pub fn load(tables: &'a Tables, sizes: &Capacities) -> Result<Self> {
        let mut isolated = Isolated::load(sizes)?;
        let mut reconciler = Reconciler::observe(isolated.rows())?;
        reconciler.apply(isolated.rows(), tables).context("bring the policy into force for the replay")?;
        let has_quotas = tables.profiles.values().any(|rules| rules.limits.flows != 0);
        Ok(Self {
            isolated,
            tables,
            engine: OnceCell::new(),
            clock: Clock::new(),
            ahead: 0,
            opened: 0,
            swept: 0,
            has_quotas,
        })
    }

    /// For tables whose windows are told by another clock than that of captures, nanoseconds since 1970.
    #[must_use]
    pub fn ahead(self, ahead: u64) -> Self {
        Self { ahead, ..self }
    }

    /// Judges a frame that enters by an interface; without a time, at that of the frame before.
    ///
    /// # Errors
    /// The kernel's.
    pub fn judge(&mut self, frame: &Frame<'_>, ifindex: u32, time: Option<u64>) -> Result<Judgement> {
        let late = self.clock.advance(time);
        let shown = &frame.bytes[..frame.bytes.len().min(SHOWN)];
        let (event, by) = if frame.outgoing {
            (self.unjudged(frame, shown, ifindex), By::NobodyLeaves)
        } else if self.is_cut(frame, shown, ifindex) {
            (self.unjudged(frame, shown, ifindex), By::NobodyCut)
        } else if shown.len() < SHORTEST {
            (self.by_engine(frame, shown, ifindex), By::Engine)
        } else {
            (self.by_program(frame, shown, ifindex)?, By::Program)
        };
        Ok(Judgement { event, by, late })
    }

    fn by_program(&mut self, frame: &Frame<'_>, shown: &[u8], ifindex: u32) -> Result<Event> {
        self.sweep();
        // Rules hold or not by the capture's time: windows were worked out for that.
        let boot = self.clock.wall().saturating_add(self.ahead);
        let entry = Entry { ifindex, link: frame.link, length: frame.length, now: self.clock.now(), boot };
        let event = self.isolated.run(shown, entry)?;
        self.opened += u32::from(event.verdict == Verdict::Pass(Pass::Opened).code());
        Ok(event)
    }

    /// Sweeps dead flows away; without quotas not for a few, because that looks at the whole table.
    fn sweep(&mut self) {
        let now = self.clock.now();
        let few = if self.has_quotas { 0 } else { self.isolated.flow_capacity() / WORTH_A_SWEEP };
        let is_worth_it = self.opened > few;
        if is_worth_it && now >= self.swept.saturating_add(SWEEP_EVERY_NS) {
            self.isolated.sweep_flows(now);
            (self.opened, self.swept) = (0, now);
        }
    }

    /// True if somebody who judges the frame would read what is not at hand.
    fn is_cut(&self, frame: &Frame<'_>, shown: &[u8], ifindex: u32) -> bool {
        let partial = Partial::new(shown, frame.length);
        if shown.len() as u64 >= u64::from(frame.length) {
            return false;
        }
        self.engine(&partial, frame, ifindex);
        partial.is_missed()
    }

    fn by_engine(&self, frame: &Frame<'_>, shown: &[u8], ifindex: u32) -> Event {
        let (verdict, case) = self.engine(&Partial::new(shown, frame.length), frame, ifindex);
        Event::of(&case, verdict, self.clock.now())
    }

    /// What can be read of a frame, and nothing that was decided.
    fn unjudged(&self, frame: &Frame<'_>, shown: &[u8], ifindex: u32) -> Event {
        let (verdict, case) = self.engine(&Partial::new(shown, frame.length), frame, ifindex);
        Event::of(&Case { evidence: Evidence::NONE, ..case }, verdict, self.clock.now())
    }

    /// Asks the engine on the host. It has no part in the program's flows, so only what parsing says can be used.
    fn engine(&self, partial: &Partial<'_>, frame: &Frame<'_>, ifindex: u32) -> (Verdict, Case) {
        let image = self.engine.get_or_init(|| Image::new(self.tables));
        tables::judge_frame(image, partial, ifindex, frame.link)
    }
}
