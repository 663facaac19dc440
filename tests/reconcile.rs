//! No privilege: what packets see while tables change, with an apply stopped after every write.
//!
//! The tables lie in memory ([`bulkhead::reconcile::Memory`]) and the engine runs on them as it runs
//! on the kernel's maps.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::sync::Arc;

use bulkhead::reconcile::{Capacity, Memory, Op, Reconciler, Rows, plan};
use bulkhead::tables::{NetworkFacts, Owner, Scoped, Tables, Touched};
use bulkhead_common::abi::value::{ROLE_ACCESS, ROLE_CORE};
use bulkhead_common::abi::{AddressKey, DeviceId, PortRange, ProfileId};
use bulkhead_common::verdict::{DropReason, Pass, Verdict};
use tests::frame::eth;
use tests::small::{self, NETWORK, REMOTE, address};

const ACCESS: u32 = 3;
const CORE: u32 = 4;
/// Every port that any table here opens, and some that none does.
const PORTS: [u16; 9] = [53, 80, 442, 443, 444, 445, 502, 503, 504];
const CAPACITY: Capacity = Capacity {
    addresses: 16,
    device_rows: 20,
    profiles: 8,
    rule_sets: 8,
    ranges: 8,
    peers: 4,
    ports: 12,
    windows: 8,
};

#[test]
fn a_change_of_one_profile_leaves_every_other_as_it_was() {
    let mut kernel = Kernel::with(&tables(&[(1, 443), (2, 502)]));
    kernel.apply(&tables(&[(1, 444), (2, 502)]));
    kernel.apply(&tables(&[(1, 444), (2, 503)]));
    kernel.apply(&tables(&[(1, 444), (2, 504)]));
    assert_eq!(kernel.open_ports(1), [444], "P was changed before Q and must still be as P was left");
    assert_eq!(kernel.open_ports(2), [504]);
    kernel.apply(&tables(&[(1, 443), (2, 504)]));
    assert_eq!((kernel.open_ports(1), kernel.open_ports(2)), (vec![443], vec![504]));
}

#[test]
fn nothing_to_change_is_no_write_and_no_generation() {
    let mut kernel = Kernel::with(&tables(&[(1, 443)]));
    let generation = kernel.memory.generation();
    assert_eq!(kernel.apply(&tables(&[(1, 443)])), 0);
    assert_eq!(kernel.memory.generation(), generation);
}

#[test]
fn an_apply_that_dies_after_any_write_leaves_the_old_tables_or_the_new_ones() {
    let steps = [
        (tables(&[(1, 443), (2, 502)]), tables(&[(1, 444), (2, 502)])),
        (tables(&[(1, 443), (2, 502)]), tables(&[(1, 443), (3, 80)])),
        (tables(&[(1, 443)]), tables(&[(1, 443), (2, 502), (3, 80)])),
        (tables(&[(1, 443), (2, 502)]), narrower(tables(&[(1, 443)]))),
        (tables(&[(1, 443), (2, 502)]), prefixed(tables(&[(1, 443), (2, 502)]), 1)),
        (prefixed(tables(&[(1, 443), (2, 502)]), 1), prefixed(tables(&[(1, 443), (2, 502)]), 2)),
    ];
    let mut stops = 0;
    for (before, after) in &steps {
        stops += stop_everywhere(before, after);
    }
    assert!(stops > 40, "only {stops} stops were tried");
}

/// Stops the apply after every write, looks, restarts, looks again, and applies again.
fn stop_everywhere(before: &Tables, after: &Tables) -> usize {
    let base = Kernel::with(before);
    let (ops, _) = plan(base.reconciler.state(), after).unwrap();
    let old = base.everything();
    let new = Kernel::with(after).everything();
    assert_ne!(old, new);
    for stop in 0..=ops.len() {
        let mut memory = base.memory.clone();
        ops[..stop].iter().for_each(|op| memory.perform(op).unwrap());
        let flipped = ops[..stop].iter().any(|op| matches!(op, Op::Flip(_)));
        let expected = if flipped { &new } else { &old };
        let mut kernel = Kernel { reconciler: base.reconciler_of(&mut memory.clone()), memory };
        assert_eq!(&kernel.everything(), expected, "before the restart, after {stop} writes of {ops:#?}");
        kernel.restart();
        assert_eq!(&kernel.everything(), expected, "after the restart, after {stop} writes");
        kernel.apply(after);
        assert_eq!(kernel.everything(), new, "applied again after {stop} writes");
        kernel.apply(before);
        assert_eq!(kernel.everything(), old, "and back after {stop} writes");
    }
    ops.len() + 1
}

#[test]
fn rows_of_devices_alone_are_written_only_over_the_generation_that_they_differ_from() {
    let (before, between) = (tables(&[(1, 443), (2, 502)]), tables(&[(1, 444), (2, 503)]));
    let mut after = before.clone();
    after.devices.get_mut(&DeviceId(1)).unwrap().profile = ProfileId(2);
    let keys = vec![AddressKey::host(NETWORK, address(1).into())];
    let touched = Touched([(DeviceId(1), keys.into_iter().collect())].into());
    for interrupted in [false, true] {
        let mut kernel = Kernel::with(&before);
        let since = kernel.reconciler.state().epoch.generation;
        if interrupted {
            kernel.apply(&between);
        }
        let applied = kernel.reconciler.apply_touched(&mut kernel.memory, &after, &touched, since);
        assert_eq!(
            applied.unwrap().changed > 4,
            interrupted,
            "a row, a word, a flip and a wait, or everything"
        );
        assert_eq!((kernel.open_ports(1), kernel.open_ports(2)), (vec![502], vec![502]));
    }
}

#[test]
fn a_changed_rule_cuts_its_live_flow_at_the_next_packet_and_no_other() {
    let mut kernel = Kernel::with(&tables(&[(1, 443), (2, 502)]));
    assert_eq!(kernel.uplink(1, 443), Verdict::Pass(Pass::Opened));
    assert_eq!(kernel.uplink(2, 502), Verdict::Pass(Pass::Opened));
    kernel.apply(&tables(&[(1, 444), (2, 502)]));
    assert_eq!(
        kernel.downlink(1, 443),
        Verdict::Drop(DropReason::NoRule),
        "the flow's rule is gone, whichever way"
    );
    assert_eq!(kernel.uplink(1, 443), Verdict::Drop(DropReason::NoRule));
    assert_eq!(
        kernel.downlink(1, 443),
        Verdict::Drop(DropReason::Unsolicited),
        "and now the flow is gone too"
    );
    assert_eq!(kernel.uplink(2, 502), Verdict::Pass(Pass::Established));
    assert_eq!(kernel.downlink(2, 502), Verdict::Pass(Pass::Established));
}

#[test]
fn a_flow_that_is_still_allowed_survives_a_change_of_its_own_profile() {
    let mut kernel = Kernel::with(&tables(&[(1, 443)]));
    assert_eq!(kernel.uplink(1, 443), Verdict::Pass(Pass::Opened));
    let mut wider = tables(&[(1, 443)]);
    let rules = Arc::make_mut(wider.profiles.get_mut(&ProfileId(1)).unwrap());
    rules.outbound[0]
        .ports
        .insert(0, PortRange { protocol: 17, first: 53, last: 53, ..PortRange::default() });
    kernel.apply(&wider);
    assert_eq!(kernel.downlink(1, 443), Verdict::Pass(Pass::Established));
}

#[test]
fn a_flow_of_a_removed_and_returned_device_is_judged_again() {
    let mut kernel = Kernel::with(&tables(&[(1, 443), (2, 502)]));
    assert_eq!(kernel.uplink(1, 443), Verdict::Pass(Pass::Opened));
    kernel.apply(&tables(&[(2, 502)]));
    assert_eq!(kernel.uplink(1, 443), Verdict::Drop(DropReason::UnknownDevice));
    assert_eq!(kernel.downlink(1, 443), Verdict::Drop(DropReason::UnknownDevice));
    kernel.apply(&tables(&[(1, 444), (2, 502)]));
    assert_eq!(kernel.downlink(1, 443), Verdict::Drop(DropReason::NoRule));
}

#[test]
fn what_does_not_fit_is_refused_with_numbers_and_without_a_write() {
    let mut kernel = Kernel::with(&tables(&[(1, 443)]));
    let many: Vec<(u8, u16)> = (1..=9).map(|device| (device, 443)).collect();
    let before = kernel.everything();
    let error = kernel.reconciler.apply(&mut kernel.memory, &tables(&many)).unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("profiles") && text.contains('8') && text.contains("detach"), "{text}");
    assert_eq!(kernel.everything(), before);
    kernel.apply(&tables(&[(1, 444)]));
    assert_eq!(kernel.open_ports(1), [444], "a refused apply must not get in the way of the next");
}

#[test]
fn rows_are_used_again_for_ever() {
    let mut kernel = Kernel::with(&tables(&[(1, 443)]));
    for round in 0..200u16 {
        kernel.apply(&tables(&[(1, 443), (2, 1_000 + round)]));
        assert!(kernel.uplink(2, 1_000 + round).passes());
        assert!(!kernel.uplink(2, 999 + round).passes());
        kernel.apply(&tables(&[(1, 443), (3, 1_000 + round)]));
        assert_eq!(kernel.uplink(2, 1_000 + round), Verdict::Drop(DropReason::UnknownDevice));
    }
    assert_eq!(kernel.open_ports(1), [443]);
}

/// Tables in memory with the agent's side of them.
struct Kernel {
    memory: Memory,
    reconciler: Reconciler,
}

impl Kernel {
    fn with(tables: &Tables) -> Self {
        let mut memory = Memory::new(CAPACITY);
        let reconciler = Reconciler::observe(&mut memory).unwrap();
        let mut kernel = Self { memory, reconciler };
        kernel.apply(tables);
        kernel
    }

    fn reconciler_of(&self, memory: &mut Memory) -> Reconciler {
        Reconciler::observe(memory).unwrap()
    }

    /// Returns how many writes it took.
    fn apply(&mut self, tables: &Tables) -> usize {
        self.reconciler.apply(&mut self.memory, tables).unwrap().changed
    }

    /// A new agent over the same tables.
    fn restart(&mut self) {
        self.reconciler = Reconciler::observe(&mut self.memory).unwrap();
    }

    fn uplink(&self, device: u8, port: u16) -> Verdict {
        let frame = eth().ip(address(device), REMOTE).udp(40_000, port).build();
        self.memory.judge(&frame, ACCESS).0
    }

    fn downlink(&self, device: u8, port: u16) -> Verdict {
        let frame = eth().ip(REMOTE, address(device)).udp(port, 40_000).build();
        self.memory.judge(&frame, CORE).0
    }

    /// Which of [`PORTS`] a device reaches, tried without leaving flows behind.
    fn open_ports(&self, device: u8) -> Vec<u16> {
        let fresh =
            Self { memory: self.memory.clone(), reconciler: self.reconciler_of(&mut self.memory.clone()) };
        PORTS.into_iter().filter(|port| fresh.uplink(device, *port).passes()).collect()
    }

    /// What every device reaches, and what becomes of its packets.
    fn everything(&self) -> Vec<(u8, Vec<u16>, Verdict, Verdict)> {
        let probe = |device| {
            let fresh = self.memory.clone();
            let up = eth().ip(address(device), REMOTE).udp(1, 1).build();
            let down = eth().ip(REMOTE, address(device)).udp(1, 1).build();
            (fresh.judge(&up, ACCESS).0, fresh.judge(&down, CORE).0)
        };
        (1..5).map(|device| (device, self.open_ports(device), probe(device).0, probe(device).1)).collect()
    }
}

trait Generation {
    fn generation(&self) -> u32;
}

impl Generation for Memory {
    fn generation(&self) -> u32 {
        Rows::epoch(self).generation.0
    }
}

fn tables(devices: &[(u8, u16)]) -> Tables {
    small::tables(&[(ACCESS, ROLE_ACCESS), (CORE, ROLE_CORE)], devices)
}

/// The same with the addresses 4 and 5 as a prefix of a device.
fn prefixed(mut tables: Tables, device: u32) -> Tables {
    let owner = Owner { device: DeviceId(device), behind: false, nested: false };
    tables.addresses.insert(AddressKey::prefix(NETWORK, address(4).into(), 127), owner);
    let range = Scoped { scope: 127, ..small::pool("10.45.0.4", "10.45.0.5") };
    tables.networks.entry(NETWORK).or_default().prefixes = vec![range];
    tables
}

/// The same with a smaller pool: a change of the small tables.
fn narrower(mut tables: Tables) -> Tables {
    let scopes = vec![small::pool("10.45.0.0", "10.45.0.3")];
    tables.networks.insert(NETWORK, NetworkFacts { scopes, ..NetworkFacts::default() });
    tables
}
