//! Port lists: what several rules open, as sorted and disjoint entries that each name one rule.

use bulkhead_common::abi::{PortRange, RuleId};
use bulkhead_common::wire::icmp::{ECHO_REQUEST_V4, ECHO_REQUEST_V6};
use bulkhead_common::wire::ip_proto;

use super::profiles::State;
use crate::policy::ports::{Port, Portless, Protocol, TUNNEL_PORTS};

/// One rule's ports, as far as one kind of remote is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opening<'a> {
    pub(super) rule: RuleId,
    pub(super) ports: &'a [Port],
    /// Idle time in seconds, 0 for the protocol's default.
    pub(super) idle: u32,
    /// Whether the rule is there; what no other rule opens is refused for what closes it.
    pub(super) state: State,
}

/// Which addresses the remotes have; echo has another protocol number in each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    V4,
    V6,
    Both,
}

/// What openings allow together; a port that several open is the first one's, and one that is closed is so only where
/// none opens it.
pub(super) fn list<'a>(
    openings: impl IntoIterator<Item = &'a Opening<'a>>,
    family: Family,
) -> Vec<PortRange> {
    listed(openings, |port| opened(port, family))
}

/// What `never` lists forbid together: tunnels too, where they are not named.
pub(super) fn forbidden(ports: &[Port]) -> Vec<PortRange> {
    listed([&Opening { rule: RuleId::NONE, ports, idle: 0, state: State::Open }], |port| {
        entries(port, Family::Both)
    })
}

fn listed<'a>(
    openings: impl IntoIterator<Item = &'a Opening<'a>>,
    runs: impl Fn(Port) -> Vec<Run>,
) -> Vec<PortRange> {
    let mut list: Vec<PortRange> = Vec::new();
    let mut openings: Vec<&Opening<'_>> = openings.into_iter().collect();
    openings.sort_by_key(|opening| opening.state.is_closed());
    for opening in openings {
        for wanted in opening.ports.iter().flat_map(|port| runs(*port)) {
            claim(&mut list, wanted, opening);
        }
    }
    merge(list)
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

/// Adds the parts of a run that nobody has yet; keeps the list sorted and disjoint.
fn claim(list: &mut Vec<PortRange>, (protocol, first, last): Run, opening: &Opening<'_>) {
    let entry = |first, last| PortRange {
        protocol,
        closed: opening.state.number(),
        _pad: [0; 2],
        first,
        last,
        rule: opening.rule,
        idle: opening.idle,
    };
    let mut next = u32::from(first);
    let mut added = Vec::new();
    for taken in
        list.iter().filter(|taken| taken.protocol == protocol && taken.last >= first && taken.first <= last)
    {
        let from = u32::from(taken.first);
        if from > next
            && let (Ok(start), Ok(end)) = (u16::try_from(next), u16::try_from(from - 1))
        {
            added.push(entry(start, end));
        }
        next = next.max(u32::from(taken.last) + 1);
    }
    if let Ok(start) = u16::try_from(next)
        && start <= last
    {
        added.push(entry(start, last));
    }
    list.extend(added);
    list.sort_by_key(|entry| (entry.protocol, entry.first));
}

/// Joins neighbours of one rule.
fn merge(list: Vec<PortRange>) -> Vec<PortRange> {
    let mut merged: Vec<PortRange> = Vec::with_capacity(list.len());
    for entry in list {
        match merged.last_mut() {
            Some(last)
                if (last.protocol, last.rule, last.idle, last.closed)
                    == (entry.protocol, entry.rule, entry.idle, entry.closed)
                    && last.last.checked_add(1) == Some(entry.first) =>
            {
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
            .map(|(ports, (_, rule))| Opening { rule: RuleId(*rule), ports, idle: 0, state: State::Open })
            .collect();
        list(&openings, family).into_iter().map(|p| (p.protocol, p.first, p.last, p.rule.0)).collect()
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
            .map(|(rule, (ports, state))| Opening { rule: RuleId(rule), ports, idle: 0, state })
            .collect();
        let listed = list(&openings, Family::V4);
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
}
