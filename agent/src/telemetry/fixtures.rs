//! Inputs of this module's tests.

use bulkhead_common::abi::event::Event;
use bulkhead_common::abi::{Addr, DeviceId, Flow, FlowKey, Generation, NetworkId, RuleId};
use bulkhead_common::parse::Kind;
use bulkhead_common::verdict::{Direction, DropReason, Verdict};

use super::clock::Clock;
use super::decode::Judged;
use super::names::{DeviceName, NameTable};

/// The monotonic time of [`clock`].
pub(crate) const NOW_NS: u64 = 1_000_000_000_000;

pub(crate) fn clock() -> Clock {
    Clock { wall: "2026-12-01T03:12:04.1Z".parse().unwrap(), monotonic_ns: NOW_NS }
}

pub(crate) fn names() -> NameTable {
    let device = |name: &str, segment: &str| DeviceName { name: name.into(), segment: Some(segment.into()) };
    NameTable {
        devices: [
            (DeviceId(17), device("charger-0017", "ev-chargers")),
            (DeviceId(3), device("pump-0003", "pumps")),
        ]
        .into(),
        networks: [(NetworkId(1), "acme".into())].into(),
        rules: [(RuleId(3), "ev/ocpp".into())].into(),
        interfaces: [(4, "n3".into())].into(),
        timeouts: std::collections::BTreeMap::new(),
        revisions: [(Generation(5), 411), (Generation(8), 412)].into(),
    }
}

fn addr(text: &str) -> Addr {
    text.parse::<std::net::IpAddr>().unwrap().into()
}

/// A charger's SYN to a telnet port.
pub(crate) fn drop_event() -> Event {
    Event {
        time: NOW_NS,
        generation: Generation(9),
        ifindex: 4,
        network: NetworkId(1),
        device: DeviceId(17),
        source: addr("10.45.0.17"),
        destination: addr("198.51.100.9"),
        source_port: 51_522,
        destination_port: 23,
        outer_vlan: 100,
        length: 74,
        ether_type: 0x0800,
        source_mac: [2, 0, 0, 0, 0, 0x11],
        verdict: Verdict::Drop(DropReason::NoRule).code(),
        protocol: 6,
        detail: 2,
        direction: Direction::Uplink as u8,
        kind: Kind::Ports as u8,
        ..Event::default()
    }
}

pub(crate) fn judged(event: Event) -> Judged {
    event.try_into().unwrap()
}

/// A charger's answered connection of three seconds, whose last packet came just before [`NOW_NS`].
pub(crate) fn live_flow() -> Flow {
    Flow {
        key: FlowKey {
            network: NetworkId(1),
            device: DeviceId(17),
            local: addr("10.45.0.17"),
            remote: addr("203.0.113.10"),
            local_port: 40_000,
            remote_port: 443,
            protocol: 6,
            _pad: [0; 3],
        },
        decision: Flow::decision_word(Generation(9), RuleId(3)),
        deadline: NOW_NS + 7440 * 1_000_000_000,
        access: [Flow::access_word(4, 100, 0), 0],
        state: 1,
        opened: NOW_NS - 3_000_000_000,
        sent: [12, 1200],
        received: [9, 3210],
        ..Flow::default()
    }
}
