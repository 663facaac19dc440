//! What no record tells of, by comparing what was counted with what was seen.

use std::collections::BTreeMap;

use bulkhead_common::verdict::{DropReason, Pass, Verdict};

use super::label::Label;
use super::record::Gap;
use super::source::Counts;

/// Everything seen and told so far.
///
/// Sums only ever grow, so that an event which was counted in one period and read in the next is
/// not reported missing twice.
#[derive(Debug, Default)]
pub struct Loss {
    start: Option<Counts>,
    suppressed: u64,
    lost: u64,
    undecodable: u64,
    undecodable_told: u64,
    /// By [`Verdict::code`]: seen in the ring, or told as missing.
    accounted: BTreeMap<u16, u64>,
}

impl Loss {
    /// Notes an event that came out of the ring.
    pub fn saw(&mut self, verdict: Verdict) {
        self.account(verdict, 1);
    }

    /// Notes bytes that were no event.
    pub fn garbled(&mut self) {
        self.undecodable += 1;
    }

    /// How many records of the ring were no event.
    pub fn undecodable(&self) -> u64 {
        self.undecodable
    }

    /// What is missing since the last call; nothing if nothing is. The first call starts the count.
    ///
    /// `counts` must have been read before the ring was: then what was counted and not seen is missing.
    pub fn gap(&mut self, counts: &Counts) -> Option<Gap> {
        let Some(start) = self.start else {
            self.begin(counts);
            return None;
        };
        let suppressed = growth(&mut self.suppressed, counts.events.suppressed);
        let lost = growth(&mut self.lost, counts.events.lost);
        let undecodable = growth(&mut self.undecodable_told, self.undecodable);
        let not_shown = suppressed + lost + undecodable;
        if not_shown == 0 {
            return None;
        }
        let reasons = self.missing(&start, counts, suppressed + lost);
        let reasons = by_reason(&reasons);
        Some(Gap { not_shown, suppressed, lost, undecodable, skipped: 0, reasons })
    }

    fn begin(&mut self, counts: &Counts) {
        self.start = Some(*counts);
        self.suppressed = counts.events.suppressed;
        self.lost = counts.events.lost;
        // What lay in the ring was counted before the start.
        self.accounted.clear();
    }

    /// At most `total` events by verdict, the most frequent first; they count as told.
    fn missing(&mut self, start: &Counts, counts: &Counts, total: u64) -> Vec<(Verdict, u64)> {
        let mut missing: Vec<(Verdict, u64)> = reported()
            .map(|verdict| {
                let counted = packets(counts, verdict).saturating_sub(packets(start, verdict));
                (verdict, counted.saturating_sub(self.accounted_for(verdict)))
            })
            .filter(|(_, count)| *count > 0)
            .collect();
        missing.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let mut rest = total;
        for (verdict, count) in &mut missing {
            *count = (*count).min(rest);
            rest -= *count;
            self.account(*verdict, *count);
        }
        missing.retain(|(_, count)| *count > 0);
        missing
    }

    fn account(&mut self, verdict: Verdict, count: u64) {
        *self.accounted.entry(verdict.code()).or_default() += count;
    }

    fn accounted_for(&self, verdict: Verdict) -> u64 {
        self.accounted.get(&verdict.code()).copied().unwrap_or_default()
    }
}

/// Every verdict that the program reports an event of.
fn reported() -> impl Iterator<Item = Verdict> {
    let drops = DropReason::ALL.iter().copied().map(Verdict::Drop);
    let observed = DropReason::ALL.iter().copied().map(Verdict::Observe);
    drops.chain(observed).chain([Pass::Opened, Pass::WitnessAlarm].map(Verdict::Pass))
}

/// Dropped and observed for the same reason count together.
fn by_reason(missing: &[(Verdict, u64)]) -> BTreeMap<Label, u64> {
    let mut reasons = BTreeMap::new();
    for (verdict, count) in missing {
        *reasons.entry(verdict.as_str().into()).or_default() += count;
    }
    reasons
}

fn packets(counts: &Counts, verdict: Verdict) -> u64 {
    counts.verdicts.of(verdict).packets
}

/// How much a sum has grown since it was last looked at.
fn growth(known: &mut u64, sum: u64) -> u64 {
    let grown = sum.saturating_sub(*known);
    *known = sum;
    grown
}

#[cfg(test)]
mod tests {
    use bulkhead_common::abi::counter::{Counters, EventCounters};
    use bytemuck::Zeroable;

    use super::*;

    const UNKNOWN: Verdict = Verdict::Drop(DropReason::UnknownDevice);
    const SPOOFED: Verdict = Verdict::Drop(DropReason::SpoofedSource);

    fn counts(suppressed: u64, lost: u64, unknown: u64, spoofed: u64) -> Counts {
        let mut verdicts = Counters::zeroed();
        verdicts.dropped[DropReason::UnknownDevice as usize].packets = unknown;
        verdicts.dropped[DropReason::SpoofedSource as usize].packets = spoofed;
        Counts { events: EventCounters { sent: 0, suppressed, lost }, verdicts }
    }

    fn started() -> Loss {
        let mut loss = Loss::default();
        loss.saw(UNKNOWN);
        assert_eq!(loss.gap(&counts(1000, 10, 5000, 5000)), None, "what was before is not ours");
        loss
    }

    #[test]
    fn what_is_missing_is_told_once_and_by_reason() {
        let mut loss = started();
        (0..8).for_each(|_| loss.saw(UNKNOWN));
        let gap = loss.gap(&counts(1092, 20, 5098, 5012)).unwrap();
        assert_eq!((gap.not_shown, gap.suppressed, gap.lost), (102, 92, 10));
        assert_eq!(gap.reasons, [("unknown_device".into(), 90), ("spoofed_source".into(), 12)].into());
        assert_eq!(loss.gap(&counts(1092, 20, 5098, 5012)), None);
    }

    #[test]
    fn what_was_dropped_and_what_was_observed_count_together() {
        let mut loss = started();
        let mut counts = counts(1005, 10, 5002, 5000);
        counts.verdicts.observed[DropReason::UnknownDevice as usize].packets = 3;
        assert_eq!(loss.gap(&counts).unwrap().reasons, [("unknown_device".into(), 5)].into());
    }

    #[test]
    fn an_event_on_its_way_is_not_missing_twice() {
        let mut loss = started();
        // Counted, not suppressed, and not yet read: nothing is missing.
        assert_eq!(loss.gap(&counts(1000, 10, 5003, 5000)), None);
        (0..3).for_each(|_| loss.saw(UNKNOWN));
        let gap = loss.gap(&counts(1002, 10, 5003, 5002)).unwrap();
        assert_eq!(gap.reasons, [("spoofed_source".into(), 2)].into());
    }

    #[test]
    fn reasons_never_exceed_what_is_missing() {
        let mut loss = started();
        let gap = loss.gap(&counts(1005, 10, 5007, 5001)).unwrap();
        assert_eq!((gap.not_shown, gap.reasons), (5, [("unknown_device".into(), 5)].into()));
    }

    #[test]
    fn garbled_events_are_missing_too() {
        let mut loss = started();
        loss.garbled();
        let gap = loss.gap(&counts(1000, 10, 5000, 5000)).unwrap();
        assert_eq!((gap.not_shown, gap.undecodable, gap.reasons.len()), (1, 1, 0));
        assert_eq!(loss.gap(&counts(1000, 10, 5000, 5000)), None);
        assert_eq!((loss.undecodable(), loss.accounted_for(SPOOFED)), (1, 0));
    }
}
