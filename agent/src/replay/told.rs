//! What is told of a packet, in the policy's words.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use bulkhead_common::abi::event::Event;
use bulkhead_common::abi::{Addr, DeviceId, Generation, NetworkId, RuleId, Timeouts};
use bulkhead_common::case::LinkType;
use jiff::Timestamp;

use super::judge::{By, Judgement};
use super::link::Frame;
use crate::telemetry::decode::Judged;
use crate::telemetry::{Clock, Composer, DeviceName, Label, Names, Outcome, Record, View};

/// The reason of a packet that the host sent.
pub const OUTGOING: &str = "outgoing";
/// The reason of a packet whose headers the capture does not hold.
pub const HEADERS_CUT: &str = "headers_cut";

/// One packet with its verdict and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Its number in the capture, from 1.
    pub number: u64,
    /// When it was captured, if the capture says.
    pub time: Option<Timestamp>,
    /// As `drops` and `flows` tell of packets.
    pub record: Record,
    /// Who judged it.
    pub by: By,
    /// How many bytes of the frame the capture holds, if not all.
    pub captured: Option<usize>,
    /// True if it is older than a packet before it; the clock stood still for it.
    pub late: bool,
}

/// Tells of packets.
pub struct Teller {
    names: Remembering,
    packets: u64,
}

impl Teller {
    /// Tells by the names of a policy.
    pub fn new(view: View) -> Self {
        Self { names: Remembering { view, nearest: Mutex::default() }, packets: 0 }
    }

    /// Tells of the next packet.
    ///
    /// # Errors
    /// The program is of another release than this reader.
    pub fn tell(&mut self, frame: &Frame<'_>, time: Option<u64>, judgement: &Judgement) -> Result<Told> {
        self.packets += 1;
        let judged = Judged::try_from(judgement.event)?;
        let composer = Composer { names: &self.names, clock: CAPTURED, nearest: true };
        let mut record = composer.event(&judged, None);
        let time = time.map(|time| CAPTURED.at(time));
        record.time = time.unwrap_or(record.time);
        // Nothing of one set of tables is ever compared with another's.
        record.generation = None;
        if frame.link == LinkType::RawIp {
            record.source_mac = None;
        }
        unjudged(&mut record, judgement.by);
        let captured = ((frame.bytes.len() as u64) < u64::from(frame.length)).then_some(frame.bytes.len());
        Ok(Told { number: self.packets, time, record, by: judgement.by, captured, late: judgement.late })
    }
}

/// The capture's clock is the program's.
const CAPTURED: Clock = Clock { wall: Timestamp::UNIX_EPOCH, monotonic_ns: 0 };

/// What nobody judged has a reason of its own.
fn unjudged(record: &mut Record, by: By) {
    let (verdict, reason) = match by {
        By::Program | By::Engine => return,
        By::NobodyLeaves => (Outcome::Pass, OUTGOING),
        By::NobodyCut => (Outcome::Drop, HEADERS_CUT),
    };
    record.verdict = Some(verdict);
    record.reason = Some(reason.into());
    record.direction = None;
    record.nearest = None;
}

/// How many answers are kept.
const REMEMBERED: usize = 1 << 16;

/// Names that look for the nearest rule once for packets that differ in nothing a rule can name.
struct Remembering {
    view: View,
    nearest: Mutex<BTreeMap<Asked, Option<String>>>,
}

/// All of a packet that matters to rules.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Asked {
    device: DeviceId,
    peer: DeviceId,
    ends: [Addr; 2],
    port: u16,
    what: [u8; 4],
}

impl Asked {
    const fn of(event: &Event) -> Self {
        let Event { device, peer, source, destination, destination_port: port, .. } = *event;
        let what = [event.direction, event.kind, event.protocol, event.detail];
        Self { device, peer, ends: [source, destination], port, what }
    }
}

impl Names for Remembering {
    fn device(&self, id: DeviceId) -> Option<DeviceName> {
        self.view.device(id)
    }

    fn network(&self, id: NetworkId) -> Option<Label> {
        self.view.network(id)
    }

    fn timeouts(&self, id: NetworkId) -> Timeouts {
        self.view.timeouts(id)
    }

    fn rule(&self, id: RuleId) -> Option<Label> {
        self.view.rule(id)
    }

    fn interface(&self, ifindex: u32) -> Option<Label> {
        self.view.interface(ifindex)
    }

    fn revision(&self, generation: Generation) -> Option<u64> {
        self.view.revision(generation)
    }

    fn nearest(&self, event: &Event) -> Option<String> {
        let mut nearest = self.nearest.lock().unwrap_or_else(PoisonError::into_inner);
        if nearest.len() >= REMEMBERED {
            nearest.clear();
        }
        nearest.entry(Asked::of(event)).or_insert_with(|| self.view.nearest(event)).clone()
    }
}
