//! The protocol in every order in which CPUs may run it (loom, up to two preemptions).
//!
//! Words are acquired and released, and an exchange is a full barrier: what x86-64 does by itself.

use std::sync::Arc;
use std::vec::Vec;

use loom::sync::atomic::{AtomicU64, Ordering, fence};
use loom::thread;

use super::*;
use crate::abi::value::{FLOWS_BY_DEVICE, INITIATOR_LOCAL};
use crate::abi::{Addr, Device, Generation, NetworkId, ProfileId, RuleId};
use crate::tunnel::Binding;

const SECOND: u64 = 1_000_000_000;
/// Both flows are opened for this long.
const LIFE: u64 = 10 * SECOND;
const SLOT_WORDS: usize = 16;
const DEVICE_WORDS: usize = 8;
const DEVICES: usize = 3;

/// One bucket and three devices.
struct Table {
    geometry: FlowGeometry,
    slots: Vec<AtomicU64>,
    devices: Vec<AtomicU64>,
}

#[derive(Clone, Copy)]
enum Row {
    Slot(usize),
    Device(usize),
}

impl Table {
    /// All slots but the first few belong to others, for ever.
    fn with_free(free: usize) -> Self {
        let taken = Tag(0).taken(0).published(1 << 55).0;
        let tag =
            |at: usize| if at.is_multiple_of(SLOT_WORDS) && at / SLOT_WORDS >= free { taken } else { 0 };
        Self {
            geometry: FlowGeometry { secret: [0; 13], buckets: 1, _pad: 0 },
            slots: (0..SLOTS * SLOT_WORDS).map(|at| AtomicU64::new(tag(at))).collect(),
            devices: (0..DEVICES * DEVICE_WORDS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn word(&self, row: Row, word: usize) -> &AtomicU64 {
        match row {
            Row::Slot(index) => &self.slots[index * SLOT_WORDS + word],
            Row::Device(device) => &self.devices[device * DEVICE_WORDS + word],
        }
    }

    fn opened(&self, key: &FlowKey, now: u64) -> bool {
        open(self, key, &start(key, now)).is_ok()
    }

    fn live(&self, now: u64) -> Vec<Flow> {
        let found = (0..SLOTS as u32).filter_map(|slot| snapshot(self, slot));
        found
            .filter(|(tag, flow)| tag.is_live_at(now) && flow.key.device.0 != 0)
            .map(|(_, flow)| flow)
            .collect()
    }

    fn counted(&self, device: usize) -> u64 {
        self.load(Row::Device(device), FLOWS_BY_DEVICE)
    }
}

/// One bucket.
const SLOTS: usize = BUCKET as usize;

impl Memory for Table {
    type Row = Row;

    fn geometry(&self) -> Option<&FlowGeometry> {
        Some(&self.geometry)
    }

    fn slot(&self, index: u32) -> Option<Row> {
        Some(Row::Slot(index as usize))
    }

    fn device(&self, device: DeviceId) -> Option<Row> {
        Some(Row::Device(device.0 as usize))
    }

    fn load(&self, row: Row, word: usize) -> u64 {
        self.word(row, word).load(Ordering::Acquire)
    }

    fn store(&self, row: Row, word: usize, value: u64) {
        // As a swap: loom orders a plain store and an exchange of one word in ways that no machine does.
        self.word(row, word).swap(value, Ordering::AcqRel);
    }

    fn exchange(&self, row: Row, word: usize, from: u64, to: u64) -> bool {
        fence(Ordering::SeqCst);
        let done = self.word(row, word).compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        fence(Ordering::SeqCst);
        done.is_ok()
    }

    fn add(&self, row: Row, word: usize, value: u64) {
        self.word(row, word).fetch_add(value, Ordering::AcqRel);
    }
}

fn key(device: u32) -> FlowKey {
    FlowKey {
        network: NetworkId(1),
        device: DeviceId(device),
        local: Addr::from_halves(0, u64::from(device)),
        remote: Addr::from_halves(0, 9),
        local_port: 1,
        remote_port: 2,
        protocol: 17,
        _pad: [0; 3],
    }
}

fn start(key: &FlowKey, now: u64) -> FlowStart {
    FlowStart {
        update: change(key, now),
        initiator: INITIATOR_LOCAL,
        peer: DeviceId::NONE,
        opened: now,
        quota: 0,
    }
}

/// Opens a flow of a device that may have so many.
fn opened_within(table: &Table, quota: u32, key: &FlowKey, now: u64) -> bool {
    open(table, key, &FlowStart { quota, ..start(key, now) }).is_ok()
}

/// Another flow of the same device.
fn other(device: u32) -> FlowKey {
    FlowKey { remote_port: 3, ..key(device) }
}

/// A packet that leaves the device's number in every word.
fn change(key: &FlowKey, now: u64) -> FlowUpdate {
    let number = key.device.0;
    FlowUpdate {
        decision: Flow::decision_word(Generation(number), RuleId(number)),
        deadline: now + LIFE,
        side: 0,
        access: u64::from(number),
        found: 0,
        state: u64::from(number) << 32,
        packets: 1,
        bytes: 1,
    }
}

/// True if every word is the same device's.
fn is_whole(flow: &Flow) -> bool {
    let number = flow.key.device.0;
    let expected = change(&flow.key, 0);
    flow.decision == expected.decision && flow.access[0] == u64::from(number) && flow.state == expected.state
}

fn explore(scenario: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.max_branches = 20_000;
    model.check(scenario);
}

/// Runs two CPUs to their ends.
fn both(table: &Arc<Table>, one: impl FnOnce(&Table) + Send + 'static, two: impl FnOnce(&Table)) {
    let shared = Arc::clone(table);
    let other = thread::spawn(move || one(&shared));
    two(table);
    other.join().unwrap();
}

#[test]
fn two_cpus_that_open_one_flow_leave_one() {
    explore(|| {
        let table = Arc::new(Table::with_free(2));
        both(
            &table,
            |table| assert!(table.opened(&key(1), SECOND)),
            |table| {
                assert!(table.opened(&key(1), SECOND));
            },
        );
        let live = table.live(SECOND);
        assert_eq!(live.len(), 1);
        assert!(is_whole(&live[0]));
        assert_eq!((live[0].sent, table.counted(1)), ([2, 2], 1));
    });
}

#[test]
fn two_cpus_that_begin_one_flow_leave_one() {
    explore(|| {
        let table = Arc::new(Table::with_free(2));
        let begun = |table: &Table| begin(table, &key(1), &start(&key(1), SECOND));
        // Who is too late takes the whole way.
        both(
            &table,
            move |table| assert!(begun(table) || table.opened(&key(1), SECOND)),
            move |table| assert!(begun(table) || table.opened(&key(1), SECOND)),
        );
        let live = table.live(SECOND);
        assert_eq!((live.len(), table.counted(1)), (1, 1));
        assert!(is_whole(&live[0]));
        assert!(!begun(&table));
        assert_eq!((table.live(SECOND), table.counted(1)), (live, 1));
    });
}

#[test]
fn a_late_packet_changes_nothing_of_the_next_owner() {
    explore(|| {
        let table = Arc::new(Table::with_free(1));
        assert!(table.opened(&key(1), SECOND));
        let dead = SECOND + LIFE + SECOND;
        both(
            &table,
            |table| {
                if let Some((flow, words)) = find(table, &key(1), 2 * SECOND) {
                    assert_eq!(words.decision, change(&key(1), 0).decision);
                    let late = FlowUpdate { deadline: 1 << 50, ..change(&key(1), 0) };
                    update(table, flow, &FlowUpdate { decision: late.decision + 1, state: 1, ..late });
                }
            },
            // By its clock the first flow is dead; the packet above has not looked at it for so long.
            move |table| {
                table.opened(&key(2), dead);
            },
        );
        for flow in table.live(dead).iter().filter(|flow| flow.key.device.0 == 2) {
            assert!(is_whole(flow), "{flow:?}");
            assert_eq!(flow.deadline >> 20, (dead + LIFE) >> 20);
        }
        assert!(table.counted(1) + table.counted(2) <= 2);
    });
}

#[test]
fn what_is_read_is_of_one_flow() {
    explore(|| {
        let table = Arc::new(Table::with_free(1));
        assert!(table.opened(&key(1), SECOND));
        both(
            &table,
            |table| {
                if let Some((flow, _)) = find(table, &key(1), 2 * SECOND) {
                    end(table, flow);
                }
                table.opened(&key(2), 2 * SECOND);
            },
            |table| {
                for device in [1, 2] {
                    if let Some((_, words)) = find(table, &key(device), 2 * SECOND) {
                        let expected = change(&key(device), 0);
                        assert_eq!(words.decision, expected.decision);
                        assert_eq!(words.access[0], expected.access);
                    }
                }
            },
        );
    });
}

/// A packet that went the whole way in a generation, and vouches for its flow.
fn vouched(table: &Table, key: &FlowKey, generation: u32) {
    if let Some((flow, words)) = find(table, key, 2 * SECOND)
        && words.stamp() <= generation
    {
        let generation = Generation(generation);
        vouch(table, flow, &words, Voucher { generation, tunnel: binding(key, generation) });
    }
}

/// The words of a flow that is vouched for, whoever's it is.
fn found_vouched(table: &Table, key: &FlowKey, generation: Generation) -> Option<FlowWords> {
    match seek_vouched(table, key, generation, 2 * SECOND) {
        Sought::Vouched(_, words) => Some(words),
        Sought::Other | Sought::Nothing => None,
    }
}

/// That of a device's address in a generation: the slot has both numbers in it.
fn binding(key: &FlowKey, generation: Generation) -> Binding {
    Binding::of(
        &Device::unbound(key.device, key.network, ProfileId(1)),
        key.device.0 << 8 | generation.0,
        generation,
    )
}

/// Fails unless what a flow that is vouched for in a generation says of its tunnel was found in it, or is for another one.
fn is_of_its_tunnel(table: &Table, key: &FlowKey, generation: u32) {
    let asked = FlowKey { device: DeviceId::NONE, ..*key };
    let generation = Generation(generation);
    if let Some(words) = found_vouched(table, &asked, generation) {
        let tunnel = words.tunnel();
        assert!(tunnel == binding(key, generation) || !tunnel.is_of(generation), "{tunnel:?}");
    }
}

#[test]
fn who_vouches_does_so_for_one_generation() {
    explore(|| {
        let table = Arc::new(Table::with_free(1));
        assert!(table.opened(&key(1), SECOND));
        both(
            &table,
            |table| vouched(table, &key(1), 1),
            // Judged again under the next policy, by a packet that may not vouch.
            |table| {
                if let Some((flow, _)) = find(table, &key(1), 2 * SECOND) {
                    let decision = Flow::decision_word(Generation(2), RuleId(1));
                    update(table, flow, &FlowUpdate { decision, ..change(&key(1), SECOND) });
                }
            },
        );
        assert!(found_vouched(&table, &key(1), Generation(2)).is_none());
    });
}

#[test]
fn a_flow_that_is_vouched_for_knows_the_tunnel_of_that_generation() {
    explore(|| {
        let table = Arc::new(Table::with_free(1));
        assert!(table.opened(&key(1), SECOND));
        both(
            &table,
            |table| vouched(table, &key(1), 1),
            |table| {
                vouched(table, &key(1), 2);
                is_of_its_tunnel(table, &key(1), 2);
            },
        );
        is_of_its_tunnel(&table, &key(1), 1);
        is_of_its_tunnel(&table, &key(1), 2);
    });
}

#[test]
fn where_a_device_at_the_other_end_enters_is_kept() {
    explore(|| {
        let table = Arc::new(Table::with_free(1));
        assert!(table.opened(&key(1), SECOND));
        let answered = |table: &Table| {
            if let Some((flow, words)) = find(table, &key(1), 2 * SECOND) {
                let found = words.access[1];
                update(table, flow, &FlowUpdate { side: 1, access: 7, found, ..change(&key(1), SECOND) });
            }
        };
        both(&table, |table| vouched(table, &key(1), 1), answered);
        // Of the two that came at once one may have been too late.
        answered(&table);
        vouched(&table, &key(1), 2);
        let words = find(&*table, &key(1), 2 * SECOND).map(|(_, words)| words);
        assert_eq!(words.map(|words| words.access), Some([1, 7]));
        assert!(found_vouched(&table, &key(1), Generation(2)).is_none());
    });
}

#[test]
fn nobody_vouches_for_the_next_owner() {
    explore(|| {
        let table = Arc::new(Table::with_free(1));
        assert!(table.opened(&key(1), SECOND));
        both(
            &table,
            |table| vouched(table, &key(1), 2),
            |table| {
                if let Some((flow, _)) = find(table, &key(1), 2 * SECOND) {
                    end(table, flow);
                }
                table.opened(&key(2), 2 * SECOND);
            },
        );
        assert!(found_vouched(&table, &key(2), Generation(2)).is_none());
    });
}

#[test]
fn what_is_vouched_for_is_read_of_one_flow() {
    explore(|| {
        let table = Arc::new(Table::with_free(1));
        assert!(table.opened(&key(1), SECOND));
        vouched(&table, &key(1), 2);
        both(
            &table,
            |table| {
                if let Some((flow, _)) = find(table, &key(1), 2 * SECOND) {
                    end(table, flow);
                }
                table.opened(&key(2), 2 * SECOND);
                vouched(table, &key(2), 2);
            },
            |table| {
                for device in [1, 2] {
                    // The short way does not know the device.
                    let asked = FlowKey { device: DeviceId::NONE, ..key(device) };
                    if let Some(words) = found_vouched(table, &asked, Generation(2)) {
                        assert_eq!((words.rule(), words.access[0]), (RuleId(device), u64::from(device)));
                    }
                }
            },
        );
    });
}

#[test]
fn a_place_is_given_back_once() {
    explore(|| {
        let table = Arc::new(Table::with_free(1));
        assert!(table.opened(&key(1), SECOND));
        let dead = SECOND + LIFE + SECOND;
        both(
            &table,
            move |table| {
                sweep(table, 0, dead);
                sweep(table, 1, dead);
            },
            move |table| {
                table.opened(&key(1), dead);
                table.opened(&key(2), dead);
            },
        );
        sweep(&*table, 0, dead);
        sweep(&*table, 1, dead);
        for device in [1, 2] {
            let live = table.live(dead).iter().filter(|flow| flow.key.device.0 == device).count();
            assert_eq!(table.counted(device as usize), live as u64);
        }
    });
}

#[test]
fn no_device_has_more_flows_than_it_may_have() {
    explore(|| {
        let table = Arc::new(Table::with_free(2));
        both(
            &table,
            |table| {
                opened_within(table, 1, &key(1), SECOND);
            },
            |table| {
                opened_within(table, 1, &other(1), SECOND);
            },
        );
        assert_eq!((table.live(SECOND).len(), table.counted(1)), (1, 1));
    });
}

#[test]
fn what_a_dead_flow_leaves_is_there_for_one_of_its_device() {
    explore(|| {
        let table = Arc::new(Table::with_free(2));
        assert!(opened_within(&table, 1, &key(1), SECOND));
        let dead = SECOND + LIFE + SECOND;
        // The sweep, and two flows that want the one place.
        both(
            &table,
            move |table| {
                sweep(table, 0, dead);
                opened_within(table, 1, &other(1), dead);
            },
            move |table| {
                opened_within(table, 1, &key(1), dead);
            },
        );
        assert_eq!((table.live(dead).len() as u64, table.counted(1)), (1, 1));
    });
}

#[test]
fn a_flow_that_finds_no_slot_gives_its_place_back() {
    explore(|| {
        let table = Arc::new(Table::with_free(1));
        both(
            &table,
            |table| {
                opened_within(table, 2, &key(1), SECOND);
            },
            |table| {
                opened_within(table, 2, &other(1), SECOND);
            },
        );
        assert_eq!((table.live(SECOND).len(), table.counted(1)), (1, 1));
    });
}
