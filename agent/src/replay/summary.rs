//! All packets of a replay together: by reason and by device.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::judge::By;
use super::told::Told;
use crate::telemetry::{EventKind, Label, Outcome};

/// What became of packets.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Tally {
    /// All.
    pub packets: u64,
    /// Those that went on.
    pub passed: u64,
    /// Of these, those that policy refuses, and nobody enforces it.
    #[serde(skip_serializing_if = "is_none")]
    pub would_drop: u64,
    /// The others.
    pub dropped: u64,
    /// By reason, of both.
    pub reasons: BTreeMap<Label, u64>,
}

impl Tally {
    fn add(&mut self, told: &Told) {
        self.packets += 1;
        match told.record.verdict {
            Some(Outcome::Pass) => self.passed += 1,
            Some(Outcome::Drop) | None => self.dropped += 1,
        }
        self.would_drop += u64::from(told.record.event == EventKind::WouldDrop);
        if let Some(reason) = &told.record.reason {
            *self.reasons.entry(reason.clone()).or_default() += 1;
        }
    }
}

fn is_none(count: &u64) -> bool {
    *count == 0
}

/// What became of one device's packets; without a device, of those that are about none.
#[derive(Serialize)]
struct OfDevice<'a> {
    device: Option<&'a Label>,
    #[serde(flatten)]
    tally: &'a Tally,
}

/// A whole replay.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Summary {
    /// False if the capture ended early or the replay was interrupted.
    pub complete: bool,
    /// Every packet.
    #[serde(flatten)]
    pub tally: Tally,
    /// Packets that nobody judged: what the host sent, and what the capture has cut within the headers.
    pub not_judged: u64,
    /// Packets that the capture has cut behind the headers; they were judged by their real length.
    pub shortened: u64,
    /// Packets that are older than one before them.
    pub late: u64,
    /// Time of the oldest packet.
    pub first: Option<Timestamp>,
    /// Time of the newest.
    pub last: Option<Timestamp>,
    /// By device, by name; packets that are about none come first.
    #[serde(serialize_with = "as_list")]
    pub devices: BTreeMap<Option<Label>, Tally>,
}

impl Summary {
    /// Counts a packet.
    pub fn add(&mut self, told: &Told) {
        self.tally.add(told);
        self.devices.entry(told.record.device.clone()).or_default().add(told);
        let is_judged = match told.by {
            By::Program | By::Engine => true,
            By::NobodyLeaves | By::NobodyCut => false,
        };
        self.not_judged += u64::from(!is_judged);
        self.shortened += u64::from(is_judged && told.captured.is_some());
        self.late += u64::from(told.late);
        self.first = told.time.into_iter().chain(self.first).min();
        self.last = told.time.into_iter().chain(self.last).max();
    }
}

fn as_list<S: serde::Serializer>(
    devices: &BTreeMap<Option<Label>, Tally>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(devices.iter().map(|(device, tally)| OfDevice { device: device.as_ref(), tally }))
}
