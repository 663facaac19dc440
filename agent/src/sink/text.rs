//! One line of text for each record, made to be read at three in the morning.
//!
//! ```text
//! 03:12:04.1 DROP no_rule up n3 charger-0017 ev-chargers 10.45.0.17:51522 → 198.51.100.9:23 tcp SYN r412 #d7kq2
//! 03:12:05.0 ---- 18,204 events not shown (unknown_device 18,190 · spoofed_source 14); counters exact
//! ```

use std::fmt::{self, Display, Write};
use std::net::IpAddr;

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::words::{Safe, grouped, seconds};
use crate::telemetry::{EventKind, FlowEnd, Gap, Outcome, Record};

/// Writes records as lines.
#[derive(Clone, Debug)]
pub struct Text {
    /// The zone in which times are shown.
    pub zone: TimeZone,
    /// Marks the verdict with colour; for a terminal only.
    pub colour: bool,
    /// Adds network and MAC address.
    pub wide: bool,
}

impl Text {
    /// Plain lines in the given zone.
    pub fn plain(zone: TimeZone) -> Self {
        Self { zone, colour: false, wide: false }
    }

    /// The record's line, without its end.
    pub fn line(&self, record: &Record) -> String {
        format!("{} {}", self.time(record.time), self.untimed(record))
    }

    /// A moment as lines show it.
    pub fn time(&self, moment: Timestamp) -> impl Display + use<> {
        moment.to_zoned(self.zone.clone()).strftime("%H:%M:%S.%1f").to_string()
    }

    /// The record's line without its time.
    pub fn untimed(&self, record: &Record) -> String {
        let mut line = Line(String::with_capacity(160));
        line.put(self.verdict(record));
        match &record.gap {
            Some(gap) => line.put(Missing(gap)),
            None => self.told(&mut line, record),
        }
        line.0
    }

    fn told(&self, line: &mut Line, record: &Record) {
        line.field(reason(record));
        line.field(record.direction.as_deref());
        line.put(place(record));
        if self.wide {
            line.field(record.network.as_deref());
        }
        line.field(record.device.as_deref());
        line.field(record.segment.as_deref());
        line.put(ends(record));
        line.optional("", record.tcp_flags.as_deref());
        line.optional("", icmp_type(record));
        line.optional("", repeats(record));
        line.optional("", traffic(record));
        line.optional("teid ", tunnel(record));
        line.optional("peer ", record.peer.as_deref());
        line.optional("rule ", record.rule.as_deref());
        line.optional("r", record.revision);
        if self.wide {
            line.optional("mac ", record.source_mac.as_deref());
        }
        line.optional("nearest ", record.nearest.as_deref());
        line.optional("#", record.id);
    }

    fn verdict(&self, record: &Record) -> impl Display + use<> {
        let (word, colour) = match (record.event, record.verdict) {
            (EventKind::Gap, _) => ("----", AnsiColor::Yellow),
            (EventKind::Witness, _) => ("SEEN", AnsiColor::Yellow),
            (_, Some(Outcome::Drop)) => ("DROP", AnsiColor::Red),
            (EventKind::WouldDrop, _) => ("WOULD-DROP", AnsiColor::Yellow),
            (EventKind::FlowEnd, _) => ("END ", AnsiColor::Cyan),
            (EventKind::Flow, _) => ("LIVE", AnsiColor::Green),
            (EventKind::Drop | EventKind::FlowOpen, _) => ("PASS", AnsiColor::Green),
        };
        let style = if self.colour { colour.on_default() } else { Style::new() };
        format!("{style}{word}{style:#}")
    }
}

/// A line as it grows: words with a space between.
struct Line(String);

impl Line {
    /// Adds a word; what could steer a terminal is escaped.
    fn put(&mut self, word: impl Display) {
        if !self.0.is_empty() {
            self.0.push(' ');
        }
        // Writing to a string cannot fail.
        let _ = write!(self.0, "{word}");
    }

    /// Adds a column, `-` if it is absent.
    fn field(&mut self, text: Option<&str>) {
        self.put(Safe(text.unwrap_or("-")));
    }

    /// Adds a labelled word if there is one.
    fn optional(&mut self, label: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.put(format_args!("{label}{}", Safe(&value.to_string())));
        }
    }
}

fn reason(record: &Record) -> Option<&str> {
    match record.end {
        Some(FlowEnd::Closed) => Some("closed"),
        Some(FlowEnd::Idle) => Some("idle"),
        Some(FlowEnd::Unanswered) => Some("unanswered"),
        Some(FlowEnd::Cut) => Some("cut"),
        None => record.reason.as_deref(),
    }
}

/// `n3`, `n3.100`, `n3.100.7`.
fn place(record: &Record) -> String {
    let interface = Safe(record.interface.as_deref().unwrap_or("-")).to_string();
    let vlans = record.vlan.into_iter().chain(record.inner_vlan);
    vlans.fold(interface, |place, vlan| format!("{place}.{vlan}"))
}

/// `10.45.0.17:51522 → 198.51.100.9:23 tcp`; the EtherType where there are no addresses.
fn ends(record: &Record) -> String {
    let protocol = record.protocol.as_deref().or(record.ether_type.as_deref()).unwrap_or("-");
    let protocol = Safe(protocol);
    match (record.source, record.destination) {
        (Some(source), Some(destination)) => {
            let (source, destination) =
                (end(source, record.source_port), end(destination, record.destination_port));
            format!("{source} → {destination} {protocol}")
        }
        _ => {
            let mac = Safe(record.source_mac.as_deref().unwrap_or("-"));
            format!("{mac} → - {protocol}")
        }
    }
}

fn end(address: IpAddr, port: Option<u16>) -> String {
    match (address, port) {
        (IpAddr::V6(address), Some(port)) => format!("[{address}]:{port}"),
        (IpAddr::V4(address), Some(port)) => format!("{address}:{port}"),
        (address, None) => address.to_string(),
    }
}

/// Only what a reader needs to tell messages apart; the rest keep their number.
fn icmp_type(record: &Record) -> Option<String> {
    let number = record.icmp_type?;
    Some(match number {
        0 | 129 => "echo-reply".into(),
        8 | 128 => "echo".into(),
        133 => "router-solicitation".into(),
        134 => "router-advertisement".into(),
        135 => "neighbour-solicitation".into(),
        136 => "neighbour-advertisement".into(),
        other => format!("type {other}"),
    })
}

/// `0x1a2b from 10.3.0.21`: the tunnel that it came through.
fn tunnel(record: &Record) -> Option<String> {
    let (teid, peer) = (record.teid?, record.tunnel_peer?);
    Some(format!("{teid:#x} from {peer}"))
}

/// `×14/10s`.
fn repeats(record: &Record) -> Option<String> {
    let count = grouped(record.count?);
    Some(match record.window_ms {
        Some(window) => format!("×{count}/{}", seconds(window)),
        None => format!("×{count}"),
    })
}

/// `up 12/1,200B down 9/3,210B 3.0s`: packets and bytes each way.
fn traffic(record: &Record) -> Option<String> {
    let up = format!("up {}/{}B", grouped(record.packets_up?), grouped(record.bytes_up?));
    let down = format!("down {}/{}B", grouped(record.packets_down?), grouped(record.bytes_down?));
    Some(format!("{up} {down} {}", seconds(record.duration_ms?)))
}

/// What a gap says.
struct Missing<'a>(&'a Gap);

impl Display for Missing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gap = self.0;
        write!(f, "{} events not shown", grouped(gap.not_shown))?;
        let mut parts: Vec<(&str, u64)> =
            gap.reasons.iter().map(|(reason, count)| (&**reason, *count)).collect();
        parts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let causes = [("reader too slow", gap.skipped), ("not understood", gap.undecodable)];
        parts.extend(causes.into_iter().filter(|(_, count)| *count > 0));
        let parts: Vec<String> =
            parts.iter().map(|(what, count)| format!("{} {}", Safe(what), grouped(*count))).collect();
        if !parts.is_empty() {
            write!(f, " ({})", parts.join(" · "))?;
        }
        f.write_str("; counters exact")
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_common::abi::event::Event;
    use bulkhead_common::abi::{DeviceId, Flow, RuleId};
    use bulkhead_common::verdict::{Pass, Verdict};

    use super::super::words::steers;
    use super::*;
    use crate::telemetry::fixtures::{NOW_NS, clock, drop_event, judged, live_flow, names};
    use crate::telemetry::{Composer, EventId, Record};

    fn line(record: &Record) -> String {
        Text::plain(TimeZone::UTC).line(record)
    }

    fn dropped(event: Event) -> Record {
        Composer { names: &names(), clock: clock(), nearest: true }
            .event(&judged(event), Some(EventId::of(7)))
    }

    #[test]
    fn a_drop_line_says_it_all() {
        let mut record = dropped(drop_event());
        record.nearest = Some("ev/ocpp (address, port)".into());
        (record.count, record.window_ms) = (Some(1014), Some(10_000));
        assert_eq!(
            line(&record),
            "03:12:04.1 DROP no_rule up n3.100 charger-0017 ev-chargers 10.45.0.17:51522 → 198.51.100.9:23 tcp \
             SYN ×1,014/10s r412 nearest ev/ocpp (address, port) #zf22b"
        );
    }

    #[test]
    fn a_flow_has_three_lines() {
        let names = names();
        let composer = Composer { names: &names, clock: clock(), nearest: true };
        let event = Event { verdict: Verdict::Pass(Pass::Opened).code(), rule: RuleId(3), ..drop_event() };
        assert_eq!(
            line(&composer.event(&judged(event), None)),
            "03:12:04.1 PASS opened up n3.100 charger-0017 ev-chargers 10.45.0.17:51522 → 198.51.100.9:23 tcp \
             SYN rule ev/ocpp r412"
        );
        let flow = Flow { peer: DeviceId(3), ..live_flow() };
        assert_eq!(
            line(&composer.live(&flow)),
            "03:12:04.1 LIVE established up n3.100 charger-0017 ev-chargers 10.45.0.17:40000 → \
             203.0.113.10:443 tcp up 12/1,200B down 9/3,210B 3s peer pump-0003 rule ev/ocpp r412"
        );
        let dead = Flow { deadline: NOW_NS, ..flow };
        assert!(line(&composer.ended(&dead)).starts_with("03:12:04.1 END  idle up n3.100 charger-0017"));
    }

    #[test]
    fn absent_columns_keep_their_place() {
        let time = clock().wall;
        let record = Record {
            verdict: Some(Outcome::Drop),
            reason: Some("malformed_ethernet".into()),
            ..Record::new(time, EventKind::Drop)
        };
        assert_eq!(line(&record), "03:12:04.1 DROP malformed_ethernet - - - - - → - -");
    }

    #[test]
    fn ipv6_and_icmp_are_readable() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap().into();
        let event = Event {
            source: address("2001:db8::17"),
            destination: address("2001:db8:1::9"),
            ether_type: 0x86dd,
            ..drop_event()
        };
        assert!(line(&dropped(event)).contains(" [2001:db8::17]:51522 → [2001:db8:1::9]:23 tcp SYN "));
        let echo = Event { kind: 1, protocol: 58, detail: 128, ..event };
        assert!(line(&dropped(echo)).contains(" 2001:db8::17 → 2001:db8:1::9 icmpv6 echo r412"));
    }

    #[test]
    fn a_gap_counts_what_is_missing() {
        let gap = Gap {
            not_shown: 18_204,
            suppressed: 18_204,
            reasons: [("spoofed_source".into(), 14), ("unknown_device".into(), 18_190)].into(),
            ..Gap::default()
        };
        assert_eq!(
            line(&Record::of_gap(clock().wall, gap)),
            "03:12:04.1 ---- 18,204 events not shown (unknown_device 18,190 · spoofed_source 14); counters exact"
        );
        let skipped = Gap { not_shown: 512, skipped: 512, ..Gap::default() };
        assert!(
            line(&Record::of_gap(clock().wall, skipped))
                .contains("512 events not shown (reader too slow 512)")
        );
    }

    #[test]
    fn nothing_in_a_line_steers_the_terminal() {
        let evil = "a\u{1b}[2J\n\u{9b}31m\u{202e}b";
        let record = Record {
            device: Some(evil.into()),
            interface: Some(evil.into()),
            rule: Some(evil.into()),
            protocol: Some(evil.into()),
            nearest: Some(evil.into()),
            ..dropped(drop_event())
        };
        let line = line(&record);
        assert!(!line.chars().any(steers), "{line:?}");
        assert_eq!(line.matches(r"a\u{1b}[2J\u{a}\u{9b}31m\u{202e}b").count(), 5);
    }

    #[test]
    fn colour_marks_only_the_verdict() {
        let text = Text { colour: true, ..Text::plain(TimeZone::UTC) };
        let coloured = text.line(&dropped(drop_event()));
        assert!(coloured.contains(" \u{1b}[31mDROP\u{1b}[0m no_rule "), "{coloured:?}");
        assert_eq!(coloured.matches('\u{1b}').count(), 2);
    }
}
