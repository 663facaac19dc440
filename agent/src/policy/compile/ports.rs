//! Port lists: what several rules open, as sorted and disjoint entries that each name one rule.

use bulkhead_common::abi::value::PORT_OPEN;
use bulkhead_common::abi::{PortRange, RuleId, Span};
use bulkhead_common::wire::icmp::{ECHO_REQUEST_V4, ECHO_REQUEST_V6};
use bulkhead_common::wire::ip_proto;

use super::calendar::{Calendar, Hours};
use super::profiles::State;
use crate::policy::ports::{Port, Portless, Protocol, TUNNEL_PORTS};
use crate::policy::timeline::Timeline;

/// One rule's ports, as far as one kind of remote is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opening<'a> {
    pub(super) rule: RuleId,
    pub(super) ports: &'a [Port],
    /// Idle time in seconds, 0 for the protocol's default.
    pub(super) idle: u32,
    /// Whether the rule is there; what no other rule opens is refused for what closes it.
    pub(super) state: State,
    /// When it is open.
    pub(super) hours: Hours,
}

/// Which addresses the remotes have; echo has another protocol number in each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    V4,
    V6,
    Both,
}

/// What openings allow together; a port that several open is the first one's that is open at the time, and one that is
/// closed is so only where none opens it.
pub(super) fn list<'a>(
    openings: impl IntoIterator<Item = &'a Opening<'a>>,
    family: Family,
    calendar: &Calendar<'_>,
) -> Vec<PortRange> {
    listed(openings, |port| opened(port, family), calendar)
}

/// What `never` lists forbid together: tunnels too, where they are not named.
pub(super) fn forbidden(ports: &[Port]) -> Vec<PortRange> {
    let opening = Opening { rule: RuleId::NONE, ports, idle: 0, state: State::Open, hours: None };
    listed([&opening], |port| entries(port, Family::Both), &Calendar::new(&Timeline::Unknown))
}

fn listed<'a>(
    openings: impl IntoIterator<Item = &'a Opening<'a>>,
    runs: impl Fn(Port) -> Vec<Run>,
    calendar: &Calendar<'_>,
) -> Vec<PortRange> {
    let mut shares: Vec<Share<'a>> = Vec::new();
    let mut openings: Vec<&Opening<'_>> = openings.into_iter().collect();
    openings.sort_by_key(|opening| opening.state.is_closed());
    for opening in openings {
        for wanted in opening.ports.iter().flat_map(|port| runs(*port)) {
            claim(&mut shares, wanted, opening);
        }
    }
    merge(shares.iter().map(|share| share.entry(calendar)).collect())
}

/// Ports that the same openings open.
#[derive(Clone)]
struct Share<'a> {
    protocol: u8,
    first: u16,
    last: u16,
    /// In their order; behind one that is always open nobody comes.
    by: Vec<&'a Opening<'a>>,
}

impl<'a> Share<'a> {
    /// The part of it in a run of ports.
    fn within(&self, first: u16, last: u16) -> Option<Self> {
        let (first, last) = (self.first.max(first), self.last.min(last));
        (first <= last).then(|| Self { first, last, by: self.by.clone(), ..*self })
    }

    fn and(mut self, opening: &'a Opening<'a>) -> Self {
        let is_taken = self.by.iter().any(|other| other.hours.is_none() || other.rule == opening.rule);
        if !is_taken && !opening.state.is_closed() {
            self.by.push(opening);
        }
        self
    }

    fn entry(&self, calendar: &Calendar<'_>) -> PortRange {
        let (rule, idle) = self.by.first().map_or((RuleId::NONE, 0), |first| (first.rule, first.idle));
        let state = self.by.first().map_or(State::Open, |first| first.state);
        let windows = if state.is_closed() { Span::EMPTY } else { calendar.run(&self.by) };
        // Every packet of a flow that a window lets in is judged anyway.
        let closed = if windows.len == 0 { state.number() } else { PORT_OPEN };
        PortRange {
            protocol: self.protocol,
            closed,
            _pad: [0; 2],
            first: self.first,
            last: self.last,
            rule,
            idle: if windows.len == 0 { idle } else { 0 },
            windows,
        }
    }
}

/// A run of one protocol.
type Run = (u8, u16, u16);

/// What an entry of a rule opens: a tunnel only if it names it.
fn opened(port: Port, family: Family) -> Vec<Run> {
    let all = entries(port, family);
    match port.is_tunnel() {
        true => all,
        false => all.into_iter().flat_map(without_tunnels).collect(),
    }
}

fn without_tunnels((protocol, first, last): Run) -> Vec<Run> {
    if Portless::from_number(protocol).is_some() {
        return Vec::new();
    }
    let mut runs = Vec::new();
    let mut from = first;
    for port in TUNNEL_PORTS.into_iter().filter(|_| protocol == ip_proto::UDP) {
        if (from..=last).contains(&port) {
            runs.extend((from < port).then(|| (protocol, from, port - 1)));
            from = port + 1;
        }
    }
    runs.extend((from <= last).then_some((protocol, from, last)));
    runs
}

/// `any` means what the engine understands: other protocols have no rules, so they stay closed.
fn entries(port: Port, family: Family) -> Vec<Run> {
    let echo = [
        (ip_proto::ICMP, u16::from(ECHO_REQUEST_V4), u16::from(ECHO_REQUEST_V4)),
        (ip_proto::ICMPV6, u16::from(ECHO_REQUEST_V6), u16::from(ECHO_REQUEST_V6)),
    ];
    let echo = match family {
        Family::V4 => &echo[..1],
        Family::V6 => &echo[1..],
        Family::Both => &echo[..],
    };
    match port {
        Port::Echo => echo.to_vec(),
        Port::Range { protocol, first, last } => vec![(protocol.number(), first, last)],
        Port::Portless(protocol) => vec![(protocol.number(), 0, 0)],
        Port::Any => {
            let all = Protocol::ALL.map(|protocol| (protocol.number(), 0, u16::MAX));
            let portless = Portless::ALL.map(|protocol| (protocol.number(), 0, 0));
            all.into_iter().chain(portless).chain(echo.iter().copied()).collect()
        }
    }
}

/// Adds a run: where others have it already, behind them. Keeps the list sorted and disjoint.
fn claim<'a>(list: &mut Vec<Share<'a>>, (protocol, first, last): Run, opening: &'a Opening<'a>) {
    let touched =
        |share: &Share<'_>| share.protocol == protocol && share.last >= first && share.first <= last;
    let (met, mut kept): (Vec<Share<'a>>, Vec<Share<'a>>) = list.drain(..).partition(touched);
    let mut next = Some(first);
    for share in met {
        if let Some(from) = next.filter(|from| *from < share.first) {
            kept.push(Share { protocol, first: from, last: share.first - 1, by: vec![opening] });
        }
        kept.extend(first.checked_sub(1).and_then(|before| share.within(0, before)));
        kept.extend(share.within(first, last).map(|both| both.and(opening)));
        kept.extend(last.checked_add(1).and_then(|behind| share.within(behind, u16::MAX)));
        next = share.last.checked_add(1);
    }
    if let Some(from) = next.filter(|from| *from <= last) {
        kept.push(Share { protocol, first: from, last, by: vec![opening] });
    }
    kept.sort_by_key(|share| (share.protocol, share.first));
    *list = kept;
}

/// Joins neighbours of one rule.
fn merge(list: Vec<PortRange>) -> Vec<PortRange> {
    let same = |entry: &PortRange| (entry.protocol, entry.rule, entry.idle, entry.closed, entry.windows);
    let mut merged: Vec<PortRange> = Vec::with_capacity(list.len());
    for entry in list {
        match merged.last_mut() {
            Some(last) if same(last) == same(&entry) && last.last.checked_add(1) == Some(entry.first) => {
                last.last = entry.last;
            }
            _ => merged.push(entry),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use bulkhead_common::abi::value::{PORT_CLOSED_BY_PLACE, PORT_CLOSED_BY_POSTURE, PORT_OPEN};

    use super::*;
    use crate::policy::condition::About;

    fn lists(openings: &[(&str, u32)], family: Family) -> Vec<(u8, u16, u16, u32)> {
        let ports: Vec<Vec<Port>> = openings
            .iter()
            .map(|(ports, _)| ports.split(' ').map(|p| p.parse().unwrap()).collect())
            .collect();
        let openings: Vec<Opening<'_>> = ports
            .iter()
            .zip(openings)
            .map(|(ports, (_, rule))| Opening {
                rule: RuleId(*rule),
                ports,
                idle: 0,
                state: State::Open,
                hours: None,
            })
            .collect();
        list(&openings, family, &Calendar::new(&Timeline::Unknown))
            .into_iter()
            .map(|p| (p.protocol, p.first, p.last, p.rule.0))
            .collect()
    }

    #[test]
    fn the_first_opening_keeps_its_ports() {
        assert_eq!(
            lists(&[("tcp/443 tcp/8080-8090", 1), ("tcp/1-9000", 2)], Family::V4),
            [(6, 1, 442, 2), (6, 443, 443, 1), (6, 444, 8079, 2), (6, 8080, 8090, 1), (6, 8091, 9000, 2),]
        );
    }

    #[test]
    fn what_is_closed_is_so_only_where_nothing_opens_it() {
        let ports = ["tcp/1-9", "tcp/5-20", "tcp/8-30"].map(|port| vec![port.parse().unwrap()]);
        let states = [State::Closed(About::Place), State::Open, State::Closed(About::Posture)];
        let openings: Vec<Opening<'_>> = (1..)
            .zip(ports.iter().zip(states))
            .map(|(rule, (ports, state))| Opening { rule: RuleId(rule), ports, idle: 0, state, hours: None })
            .collect();
        let listed = list(&openings, Family::V4, &Calendar::new(&Timeline::Unknown));
        let listed: Vec<_> = listed.iter().map(|p| (p.first, p.last, p.rule.0, p.closed)).collect();
        assert_eq!(
            listed,
            [(1, 4, 1, PORT_CLOSED_BY_PLACE), (5, 20, 2, PORT_OPEN), (21, 30, 3, PORT_CLOSED_BY_POSTURE)]
        );
    }

    #[test]
    fn any_covers_what_the_engine_understands_and_edges_hold() {
        assert_eq!(
            lists(&[("tcp/65535", 1), ("any", 2)], Family::V6),
            [
                (6, 0, 65534, 2),
                (6, 65535, 65535, 1),
                (17, 0, 1700, 2),
                (17, 1702, 3543, 2),
                (17, 3545, 4788, 2),
                (17, 4790, 6080, 2),
                (17, 6082, 8471, 2),
                (17, 8473, 65535, 2),
                (58, 128, 128, 2),
                (132, 0, 65535, 2),
            ]
        );
    }

    #[test]
    fn tunnels_are_cut_from_what_spans_them_and_opened_by_name() {
        assert_eq!(
            lists(&[("udp/4780-4789", 1), ("udp/4789", 2), ("gre", 3), ("any", 4)], Family::V4)
                .into_iter()
                .filter(|(protocol, first, ..)| matches!((*protocol, *first), (17, 4780..4791) | (47, _)))
                .collect::<Vec<_>>(),
            [(17, 4780, 4788, 1), (17, 4789, 4789, 2), (17, 4790, 6080, 4), (47, 0, 0, 3)]
        );
        assert_eq!(lists(&[("udp/1701-1702", 1)], Family::V4), [(17, 1702, 1702, 1)]);
    }

    #[test]
    fn what_is_never_includes_the_tunnels_that_it_spans() {
        let forbidden = forbidden(&["any".parse().unwrap()]);
        let covers = |protocol, port| {
            forbidden.iter().any(|p| p.protocol == protocol && (p.first..=p.last).contains(&port))
        };
        assert!(covers(47, 0) && covers(50, 0) && covers(17, 4789) && !covers(89, 0));
    }

    #[test]
    fn echo_has_its_family_s_number() {
        assert_eq!(lists(&[("icmp/echo", 1)], Family::V4), [(1, 8, 8, 1)]);
        assert_eq!(lists(&[("icmp/echo", 1)], Family::Both), [(1, 8, 8, 1), (58, 128, 128, 1)]);
    }

    #[test]
    fn neighbours_of_one_rule_are_joined() {
        assert_eq!(lists(&[("tcp/1-5 tcp/6-9 tcp/3-7", 1)], Family::V4), [(6, 1, 9, 1)]);
    }

    #[test]
    fn behind_a_rule_that_is_not_always_open_others_come() {
        let all: Vec<Port> = ["tcp/1-9".parse().unwrap()].to_vec();
        let some: Vec<Port> = ["tcp/5".parse().unwrap()].to_vec();
        let timed = |rule, ports| Opening {
            rule: RuleId(rule),
            ports,
            idle: 0,
            state: State::Open,
            hours: Some([(5, 9)].into()),
        };
        let always = Opening { rule: RuleId(3), ports: &all, idle: 7, state: State::Open, hours: None };
        let openings = [timed(1, &some), timed(2, &some), always];
        let found = list(&openings, Family::V4, &Calendar::new(&Timeline::Unknown));
        let found: Vec<_> =
            found.iter().map(|p| (p.first, p.last, p.rule.0, p.idle, p.windows.len)).collect();
        // Before, during and after: the untimed rule, the first, the untimed one again.
        assert_eq!(found, [(1, 4, 3, 7, 0), (5, 5, 1, 0, 3), (6, 9, 3, 7, 0)]);
    }
}
