//! A replay for people: a line for each packet, as `drops` has them, and all of them together.

use std::io::{self, IsTerminal, Write};

use comfy_table::presets::NOTHING;
use jiff::tz::TimeZone;

use crate::replay::{By, Summary, Tally, Told};
use crate::sink::{Text, grouped};
use crate::telemetry::Label;

/// Devices of the summary; a program gets all of them.
const DEVICES: usize = 50;

/// Writes lines.
pub(super) struct Lines(Text);

impl Lines {
    pub(super) fn new(wide: bool) -> Self {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self(Text { zone: TimeZone::system(), colour, wide })
    }

    /// One packet: its number, what `drops` would show, and what is special about it.
    pub(super) fn packet(&self, told: &Told, out: &mut dyn Write) -> io::Result<()> {
        match told.time {
            Some(time) => write!(out, "{} {}", told.number, self.0.time(time))?,
            None => write!(out, "{} -", told.number)?,
        }
        write!(out, " {}", self.0.untimed(&told.record))?;
        if let Some(captured) = told.captured {
            let [captured, all] = [captured as u64, told.record.bytes.unwrap_or_default()].map(grouped);
            write!(out, " (captured {captured} of {all} bytes)")?;
        }
        writeln!(out, "{}", remark(told.by))
    }

    /// What became of all.
    pub(super) fn summary(&self, summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
        let Tally { packets, passed, dropped, .. } = &summary.tally;
        if *packets > 0 {
            writeln!(out)?;
        }
        let [packets, passed, dropped] = [packets, passed, dropped].map(|count| grouped(*count));
        let span = self.span(summary);
        writeln!(out, "{packets} packets{span}: {passed} passed, {dropped} dropped{}", notes(summary))?;
        if !summary.tally.reasons.is_empty() {
            writeln!(out, "  {}", reasons(&summary.tally))?;
            write!(out, "{}", devices(summary))?;
        }
        Ok(())
    }

    /// When the packets were captured, with the date that lines leave out.
    fn span(&self, summary: &Summary) -> String {
        let (Some(first), Some(last)) = (summary.first, summary.last) else { return String::new() };
        let [first, last] = [first, last].map(|time| time.to_zoned(self.0.zone.clone()));
        let until = if first.date() == last.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
        format!(" from {} to {}", first.strftime("%Y-%m-%d %H:%M:%S"), last.strftime(until))
    }
}

fn remark(by: By) -> &'static str {
    match by {
        By::Program => "",
        By::Engine => " (judged by the engine on the host: too short for a test run)",
        By::NobodyLeaves => " (not judged: the host sent it)",
        By::NobodyCut => " (not judged: its headers are cut)",
    }
}

fn notes(summary: &Summary) -> String {
    let counted = [
        (summary.not_judged, "not judged"),
        (summary.shortened, "cut by the capture and judged by their real length"),
        (summary.late, "older than one before"),
    ];
    let counted = counted.into_iter().filter(|(count, _)| *count > 0);
    let mut notes: Vec<String> = counted.map(|(count, what)| format!("{} {what}", grouped(count))).collect();
    if !summary.complete {
        notes.push("NOT THE WHOLE CAPTURE".to_owned());
    }
    notes.into_iter().map(|note| format!(" · {note}")).collect()
}

/// `no_rule 14 · opened 2`, the most frequent first.
fn reasons(tally: &Tally) -> String {
    let mut reasons: Vec<(&Label, u64)> =
        tally.reasons.iter().map(|(reason, count)| (reason, *count)).collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let reasons = reasons.into_iter().map(|(reason, count)| format!("{reason} {}", grouped(count)));
    reasons.collect::<Vec<_>>().join(" · ")
}

/// A row for each device, those with the most drops first.
fn devices(summary: &Summary) -> String {
    let mut devices: Vec<(&Option<Label>, &Tally)> = summary.devices.iter().collect();
    devices.sort_by_key(|(_, tally)| std::cmp::Reverse(tally.dropped));
    let mut table = comfy_table::Table::new();
    table.load_style(NOTHING).set_header(["device", "packets", "passed", "dropped", "by reason"]);
    for (device, tally) in devices.iter().take(DEVICES) {
        let name = device.as_ref().map_or("-", Label::as_str).to_owned();
        let [packets, passed, dropped] = [tally.packets, tally.passed, tally.dropped].map(grouped);
        table.add_row([name, packets, passed, dropped, reasons(tally)]);
    }
    table.column_iter_mut().for_each(|column| {
        column.set_padding((0, 2));
    });
    let rest = devices.len().saturating_sub(DEVICES);
    let rest = if rest > 0 {
        format!("… and {} devices more: -o json\n", grouped(rest as u64))
    } else {
        String::new()
    };
    format!("{}\n{rest}", table.trim_fmt())
}
