//! Events and flows of the kernel → records with names.

use std::fmt::Write;

use bulkhead_common::abi::event::Event;
use bulkhead_common::abi::value::{INITIATOR_LOCAL, STATE_CLOSING, STATE_REPLIED};
use bulkhead_common::abi::{Addr, DeviceId, Flow, Generation, NetworkId, RuleId};
use bulkhead_common::parse::Kind;
use bulkhead_common::timeouts::timeout;
use bulkhead_common::verdict::{Direction, DropReason, Pass, Verdict};
use bulkhead_common::wire::{ether_type, icmp, ip_proto};
use jiff::Timestamp;

use super::clock::Clock;
use super::decode::Judged;
use super::id::EventId;
use super::label::Label;
use super::names::Names;
use super::record::{EventKind, FlowEnd, Outcome, Record};
use crate::policy::Portless;

/// The reason of a flow that no rule allows, and that passes because nobody enforces it.
pub const OBSERVED: &str = "observed";

/// Makes records: names things as one catalogue does, and times as one reading of the clocks does.
#[derive(Clone, Copy)]
pub struct Composer<'a> {
    /// The catalogue.
    pub names: &'a dyn Names,
    /// The clocks.
    pub clock: Clock,
    /// True to ask for the rule that came nearest, which reads the whole policy.
    pub nearest: bool,
}

impl Composer<'_> {
    /// A drop with its id, or the first packet of a flow.
    pub fn event(&self, judged: &Judged, id: Option<EventId>) -> Record {
        let Judged { event, verdict, direction, .. } = judged;
        let kind = match verdict {
            Verdict::Pass(Pass::WitnessAlarm) => EventKind::Witness,
            Verdict::Pass(_) => EventKind::FlowOpen,
            Verdict::Drop(_) => EventKind::Drop,
            Verdict::Observe(_) => EventKind::WouldDrop,
        };
        let mut record = Record {
            id,
            verdict: Some(if verdict.passes() { Outcome::Pass } else { Outcome::Drop }),
            reason: Some(verdict.as_str().into()),
            direction: Some(direction.as_str().into()),
            tunnel_peer: (event.teid != 0).then(|| event.tunnel_peer.to_ip()),
            teid: (event.teid != 0).then_some(event.teid),
            source_mac: Some(mac(event.source_mac).into()),
            packets: Some(1),
            bytes: Some(event.length.into()),
            nearest: self.nearest(event, *verdict),
            ..Record::new(self.clock.at(event.time), kind)
        };
        self.place(&mut record, event.ifindex, event.outer_vlan, event.inner_vlan);
        self.parties(&mut record, event.network, event.device, event.peer);
        self.decision(&mut record, event.rule, event.generation);
        addresses(&mut record, judged);
        protocol(&mut record, judged);
        record
    }

    /// A flow that lives.
    pub fn live(&self, flow: &Flow) -> Record {
        let duration = self.last_packet(flow).unwrap_or(self.clock.monotonic_ns).saturating_sub(flow.opened);
        self.flow(Record::new(self.clock.wall, EventKind::Flow), flow, duration)
    }

    /// A flow that is dead; its time is when it died.
    pub fn ended(&self, flow: &Flow) -> Record {
        let now = self.clock.monotonic_ns;
        let died = if flow.deadline == 0 { now } else { flow.deadline.min(now) };
        let duration = self.last_packet(flow).unwrap_or(now).saturating_sub(flow.opened);
        let record = Record { end: Some(end(flow)), ..Record::new(self.clock.at(died), EventKind::FlowEnd) };
        self.flow(record, flow, duration)
    }

    /// Monotonic time of the last packet of a flow's device; nothing if the flow was cut.
    fn last_packet(&self, flow: &Flow) -> Option<u64> {
        let timeouts = self.names.timeouts(flow.key.network);
        let alive = timeout(&timeouts, flow.key.protocol, flow.state);
        (flow.deadline != 0).then(|| flow.deadline.saturating_sub(alive))
    }

    /// When a flow was opened.
    pub fn opened(&self, flow: &Flow) -> Timestamp {
        self.clock.at(flow.opened)
    }

    fn flow(&self, record: Record, flow: &Flow, duration_ns: u64) -> Record {
        let local_opened = flow.initiator == INITIATOR_LOCAL;
        let direction = if local_opened { Direction::Uplink } else { Direction::Downlink };
        let mut record = Record {
            verdict: Some(Outcome::Pass),
            reason: Some(if flow.rule().is_none() { OBSERVED } else { Pass::Established.as_str() }.into()),
            direction: Some(direction.as_str().into()),
            packets_up: Some(flow.sent[0]),
            bytes_up: Some(flow.sent[1]),
            packets_down: Some(flow.received[0]),
            bytes_down: Some(flow.received[1]),
            duration_ms: Some(duration_ns / 1_000_000),
            ..record
        };
        let (ifindex, outer_vlan, inner_vlan) = Flow::place(flow.access[0]);
        self.place(&mut record, ifindex, outer_vlan, inner_vlan);
        self.parties(&mut record, flow.key.network, flow.key.device, flow.peer);
        self.decision(&mut record, flow.rule(), flow.stamp());
        ends(&mut record, flow, local_opened);
        record
    }

    fn place(&self, record: &mut Record, ifindex: u32, outer_vlan: u16, inner_vlan: u16) {
        record.interface = named(ifindex, self.names.interface(ifindex));
        record.vlan = (outer_vlan != 0).then_some(outer_vlan);
        record.inner_vlan = (inner_vlan != 0).then_some(inner_vlan);
    }

    fn parties(&self, record: &mut Record, network: NetworkId, device: DeviceId, peer: DeviceId) {
        record.network = named(network.0, self.names.network(network));
        let (name, segment) = self.names.device(device).map(|d| (d.name, d.segment)).unzip();
        record.device = named(device.0, name);
        record.segment = segment.flatten();
        record.peer = named(peer.0, self.names.device(peer).map(|peer| peer.name));
    }

    fn decision(&self, record: &mut Record, rule: RuleId, generation: Generation) {
        record.rule = named(rule.0, self.names.rule(rule));
        record.revision = self.names.revision(generation);
        record.generation = Some(generation.0);
    }

    fn nearest(&self, event: &Event, verdict: Verdict) -> Option<String> {
        // Of the other drops it is not a missing rule that is the reason.
        const UNRULED: [DropReason; 6] = [
            DropReason::ConditionTime,
            DropReason::ConditionPosture,
            DropReason::ConditionPlace,
            DropReason::NoRule,
            DropReason::SegmentDenied,
            DropReason::Unsolicited,
        ];
        let unruled = verdict.refusal().is_some_and(|reason| UNRULED.contains(&reason));
        if self.nearest && unruled { self.names.nearest(event) } else { None }
    }
}

/// The name of a number; the number itself if the catalogue has none, nothing for 0.
fn named(number: u32, name: Option<Label>) -> Option<Label> {
    if number == 0 { None } else { name.or_else(|| Some(format!("#{number}").into())) }
}

fn addresses(record: &mut Record, judged: &Judged) {
    let Event { source, destination, .. } = judged.event;
    // The parser leaves both at `::` if it did not come that far; no real packet has both.
    if source != Addr::UNSPECIFIED_V6 || destination != Addr::UNSPECIFIED_V6 {
        record.source = Some(source.to_ip());
        record.destination = Some(destination.to_ip());
    }
    if judged.kind == Kind::Ports {
        record.source_port = Some(judged.event.source_port);
        record.destination_port = Some(judged.event.destination_port);
    }
}

fn protocol(record: &mut Record, judged: &Judged) {
    let Event { ether_type, protocol, detail, .. } = judged.event;
    match ether_type {
        ether_type::IPV4 | ether_type::IPV6 => record.protocol = Some(protocol_name(protocol)),
        ether_type::ARP => record.protocol = Some("arp".into()),
        other => record.ether_type = Some(format!("{other:#06x}").into()),
    }
    match judged.kind {
        Kind::Ports if protocol == ip_proto::TCP => record.tcp_flags = tcp_flags(detail),
        Kind::EchoRequest
        | Kind::EchoReply
        | Kind::IcmpError
        | Kind::IcmpOther
        | Kind::Neighbour
        | Kind::RouterSolicitation
        | Kind::RouterOnly => record.icmp_type = Some(detail),
        Kind::Ports
        | Kind::Portless
        | Kind::Fragment
        | Kind::OtherProtocol
        | Kind::Arp
        | Kind::LinkControl => {}
    }
}

/// Addresses and ports in the order in which the flow was opened.
fn ends(record: &mut Record, flow: &Flow, local_opened: bool) {
    let key = &flow.key;
    record.protocol = Some(protocol_name(key.protocol));
    let local = (key.local.to_ip(), key.local_port);
    let remote = (key.remote.to_ip(), key.remote_port);
    let (from, to) = if local_opened { (local, remote) } else { (remote, local) };
    record.source = Some(from.0);
    record.destination = Some(to.0);
    match key.protocol {
        ip_proto::ICMP => record.icmp_type = Some(icmp::ECHO_REQUEST_V4),
        ip_proto::ICMPV6 => record.icmp_type = Some(icmp::ECHO_REQUEST_V6),
        portless if ip_proto::is_portless(portless) => {}
        _ => {
            record.source_port = Some(from.1);
            record.destination_port = Some(to.1);
        }
    }
}

fn end(flow: &Flow) -> FlowEnd {
    if flow.deadline == 0 {
        FlowEnd::Cut
    } else if flow.state & STATE_CLOSING != 0 {
        FlowEnd::Closed
    } else if flow.state & STATE_REPLIED == 0 {
        FlowEnd::Unanswered
    } else {
        FlowEnd::Idle
    }
}

fn protocol_name(protocol: u8) -> Label {
    match protocol {
        ip_proto::ICMP => "icmp".into(),
        ip_proto::TCP => "tcp".into(),
        ip_proto::UDP => "udp".into(),
        ip_proto::ICMPV6 => "icmpv6".into(),
        ip_proto::SCTP => "sctp".into(),
        other => match Portless::from_number(other) {
            Some(portless) => portless.as_str().into(),
            None => other.to_string().into(),
        },
    }
}

/// Flags in the order of RFC 9293 section 3.1, lowest bit first.
const TCP_FLAGS: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];

fn tcp_flags(flags: u8) -> Option<Label> {
    let set = TCP_FLAGS.iter().enumerate().filter(|(bit, _)| flags & (1 << bit) != 0);
    let names: Vec<&str> = set.map(|(_, name)| *name).collect();
    (!names.is_empty()).then(|| names.join("+").into())
}

fn mac(octets: [u8; 6]) -> String {
    octets.iter().enumerate().fold(String::with_capacity(17), |mut text, (index, octet)| {
        let separator = if index == 0 { "" } else { ":" };
        // Writing to a string cannot fail.
        let _ = write!(text, "{separator}{octet:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use bulkhead_common::abi::key::ECHO_BY_LOCAL;

    use super::*;
    use crate::telemetry::fixtures::{NOW_NS, clock, drop_event, judged, live_flow, names};

    fn composer(names: &dyn Names) -> Composer<'_> {
        Composer { names, clock: clock(), nearest: true }
    }

    fn json(record: &Record) -> String {
        serde_json::to_string(record).unwrap()
    }

    #[test]
    fn a_drop_is_one_stable_object() {
        let names = names();
        let record = composer(&names).event(&judged(drop_event()), Some(EventId::of(7)));
        assert_eq!(
            json(&record),
            concat!(
                r#"{"time":"2026-12-01T03:12:04.100000Z","id":"zf22b","event":"drop","verdict":"drop","#,
                r#""reason":"no_rule","direction":"up","network":"acme","interface":"n3","vlan":100,"#,
                r#""device":"charger-0017","segment":"ev-chargers","revision":412,"generation":9,"#,
                r#""source":"10.45.0.17","source_port":51522,"destination":"198.51.100.9","#,
                r#""destination_port":23,"protocol":"tcp","tcp_flags":"SYN","#,
                r#""source_mac":"02:00:00:00:00:11","packets":1,"bytes":74}"#
            )
        );
        assert_eq!(serde_json::from_str::<Record>(&json(&record)).unwrap(), record);
    }

    #[test]
    fn a_first_packet_names_its_rule() {
        let names = names();
        let event = Event { verdict: Verdict::Pass(Pass::Opened).code(), rule: RuleId(3), ..drop_event() };
        let record = composer(&names).event(&judged(event), None);
        assert_eq!((record.event, record.verdict), (EventKind::FlowOpen, Some(Outcome::Pass)));
        assert_eq!((record.reason, record.rule), (Some("opened".into()), Some("ev/ocpp".into())));
        assert_eq!((record.id, record.nearest), (None, None));
    }

    #[test]
    fn what_is_only_observed_would_be_a_drop_and_has_passed() {
        let names = names();
        let event = Event { verdict: Verdict::Observe(DropReason::NoRule).code(), ..drop_event() };
        let record = composer(&names).event(&judged(event), Some(EventId::of(7)));
        assert_eq!((record.event, record.verdict), (EventKind::WouldDrop, Some(Outcome::Pass)));
        assert_eq!((record.reason, record.id), (Some("no_rule".into()), Some(EventId::of(7))));
        let mut flow = live_flow();
        flow.decision = Flow::decision_word(flow.stamp(), RuleId::NONE);
        let record = composer(&names).live(&flow);
        assert_eq!((record.reason, record.rule), (Some("observed".into()), None));
    }

    #[test]
    fn what_has_no_name_shows_its_number() {
        let names = names();
        let event = Event { device: DeviceId(999), peer: DeviceId(998), ifindex: 77, ..drop_event() };
        let record = composer(&names).event(&judged(event), None);
        assert_eq!(record.device, Some("#999".into()));
        assert_eq!((record.peer, record.segment), (Some("#998".into()), None));
        assert_eq!(record.interface, Some("#77".into()));
    }

    #[test]
    fn what_was_not_parsed_is_absent() {
        let names = names();
        let event = Event {
            source: Addr::UNSPECIFIED_V6,
            destination: Addr::UNSPECIFIED_V6,
            kind: Kind::OtherProtocol as u8,
            ether_type: 0x1234,
            protocol: 0,
            ..drop_event()
        };
        let record = composer(&names).event(&judged(event), None);
        assert_eq!((record.source, record.destination_port, record.protocol), (None, None, None));
        assert_eq!((record.ether_type, record.tcp_flags), (Some("0x1234".into()), None));
    }

    #[test]
    fn a_flow_is_told_from_its_initiator() {
        let names = names();
        let mut flow = live_flow();
        let record = composer(&names).live(&flow);
        assert_eq!((record.direction.as_deref(), record.destination_port), (Some("up"), Some(443)));
        assert_eq!((record.bytes_up, record.packets_down), (Some(1200), Some(9)));
        assert_eq!(record.duration_ms, Some(3000));
        assert_eq!((record.interface.as_deref(), record.vlan), (Some("n3"), Some(100)));
        flow.initiator = 1;
        let record = composer(&names).live(&flow);
        assert_eq!((record.direction.as_deref(), record.destination_port), (Some("down"), Some(40_000)));
        assert_eq!(record.bytes_up, Some(1200));
    }

    #[test]
    fn a_flow_ends_for_a_reason() {
        let names = names();
        let flow = live_flow();
        let dead = Flow { deadline: NOW_NS - 1_000_000_000, ..flow };
        let ended = |flow: &Flow| composer(&names).ended(flow);
        assert_eq!(ended(&dead).end, Some(FlowEnd::Idle));
        assert_eq!(ended(&dead).time, clock().at(NOW_NS - 1_000_000_000));
        let state = |state| Flow { state, ..dead };
        assert_eq!(ended(&state(STATE_REPLIED | STATE_CLOSING)).end, Some(FlowEnd::Closed));
        assert_eq!(ended(&state(0)).end, Some(FlowEnd::Unanswered));
        let cut = ended(&Flow { deadline: 0, ..flow });
        assert_eq!((cut.end, cut.time), (Some(FlowEnd::Cut), clock().wall));
    }

    #[test]
    fn echo_has_a_type_and_no_ports() {
        let names = names();
        let mut flow = live_flow();
        (flow.key.protocol, flow.key.remote_port) = (ip_proto::ICMP, ECHO_BY_LOCAL);
        let record = composer(&names).live(&flow);
        assert_eq!((record.icmp_type, record.source_port, record.destination_port), (Some(8), None, None));
    }

    #[test]
    fn flags_are_spelt() {
        assert_eq!(tcp_flags(0), None);
        assert_eq!(tcp_flags(0x12), Some("SYN+ACK".into()));
        assert_eq!(tcp_flags(0xff), Some("FIN+SYN+RST+PSH+ACK+URG+ECE+CWR".into()));
    }
}
