//! Two CPUs judge packets while flows and addresses come and go under their hands.
//!
//! One bucket and more flows than it has slots, so that a slot is given to another flow at once, and
//! long bursts, so that a packet is often in the middle of reading one. A third hand opens, ends and
//! sweeps flows by the same protocol.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bulkhead::datapath::{AddressRows, FlowRows, wait_for_packets};
use bulkhead::tables::{Image, Layout, Place, Tables};
use bulkhead_common::abi::event::Event;
use bulkhead_common::abi::value::{FLOWS_BY_DEVICE, INITIATOR_LOCAL, ROLE_ACCESS, ROLE_CORE};
use bulkhead_common::abi::{AddressKey, DeviceId, Flow, FlowKey, Generation, RuleId};
use bulkhead_common::decide::{FlowStart, FlowUpdate};
use bulkhead_common::flow_table::{self, BUCKET, Memory as _};
use bulkhead_common::verdict::DropReason;
use tests::cpu;
use tests::frame::eth;
use tests::generate::Random;
use tests::kernel::{Kernel, Runner, XDP_PASS, privilege};
use tests::small::{self, NETWORK, REMOTE, address};

/// Devices, each on a VLAN of its own and with a port of its own that only it may call.
const DEVICES: u8 = 3;
/// Source ports of each: more flows than there are slots.
const PORTS: u16 = 5;
/// Packets in one call, which spend most of their time in the program; and calls of one packet.
const BURST: u32 = 100_000;
const SINGLES: u32 = 2_000;
const INTERFACE: u32 = 31;
const NOW: u64 = 5_000_000_000;
const LENGTH: Duration = Duration::from_secs(5);

#[test]
fn no_packet_is_taken_for_another_device_s_while_elements_are_recycled() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let mut kernel = Kernel::load(BUCKET)?;
    kernel.count_on(INTERFACE)?;
    let image = Image::new(&tables());
    kernel.fill(image.layout())?;
    kernel.enter(INTERFACE, NOW, NOW)?;
    let seen = Seen::default();
    run_all(&kernel, image.layout(), &seen)?;
    eprintln!("{seen:?}");
    let counters = kernel.counters(INTERFACE)?;
    for reason in [DropReason::SpoofedSource, DropReason::InternalTable, DropReason::InternalInterface] {
        let count = counters.dropped[reason as usize].packets;
        ensure!(count == 0, "{count} packets were dropped as {}", reason.as_str());
    }
    ensure!(seen.forbidden.load(Ordering::Relaxed) == 0, "what no rule allows has passed");
    let events = kernel.events();
    let mixed = events.iter().filter(|event| is_mixed_up(event)).count();
    ensure!(mixed == 0, "{mixed} of {} events name another device or rule", events.len());
    let flows = kernel.flow_table().all();
    let foreign = flows.iter().filter(|flow| is_foreign(flow)).count();
    ensure!(foreign == 0, "{foreign} of {} flows carry another's rule or place", flows.len());
    agrees_with_itself(kernel.flow_table(), &flows)?;
    let changes = seen.changes.load(Ordering::Relaxed);
    let enough = seen.runs.load(Ordering::Relaxed) > 1_000_000 && changes > 20_000;
    ensure!(enough || super::is_emulated(), "too little happened: {seen:?}");
    Ok(())
}

/// What the threads have seen.
#[derive(Debug, Default)]
struct Seen {
    runs: AtomicU64,
    passed: AtomicU64,
    forbidden: AtomicU64,
    changes: AtomicU64,
    moves: AtomicU64,
}

fn run_all(kernel: &Kernel, layout: &Layout, seen: &Seen) -> Result<()> {
    let over = AtomicBool::new(false);
    let runner = kernel.runner()?;
    let table = kernel.flow_table();
    let mut addresses = kernel.addresses()?;
    thread::scope(|scope| {
        let judges = [0, 1].map(|cpu| {
            let over = &over;
            scope.spawn(move || judge(cpu, runner, over, seen))
        });
        let flows = scope.spawn(|| recycle_flows(table, &over, seen));
        let moves = scope.spawn(|| recycle_address(&mut addresses, layout, &over, seen));
        thread::sleep(LENGTH);
        over.store(true, Ordering::Relaxed);
        let [first, second] = judges.map(|judge| judge.join().expect("a judge panicked"));
        first.and(second)?;
        flows.join().expect("the flows' thread panicked")?;
        moves.join().expect("the addresses' thread panicked")
    })
}

/// Allowed packets, their answers, and packets to the port of the next device.
fn judge(cpu: usize, runner: Runner<'_>, over: &AtomicBool, seen: &Seen) -> Result<()> {
    // With one CPU only the test is weaker, not wrong.
    let _ = cpu::stay_on(cpu);
    let frames: Vec<[Vec<u8>; 3]> =
        (0..DEVICES).flat_map(|device| (0..PORTS).map(move |at| frames(device, at))).collect();
    let mut random = Random::new(cpu as u64);
    while !over.load(Ordering::Relaxed) {
        runner.repeat(&random.pick(&frames)[0], BURST)?;
        for _ in 0..SINGLES {
            let [call, answer, forbidden] = random.pick(&frames);
            let passed = [runner.run(call)?, runner.run(answer)?];
            let passed = passed.into_iter().filter(|answer| *answer == XDP_PASS).count();
            seen.passed.fetch_add(passed as u64, Ordering::Relaxed);
            if runner.run(forbidden)? == XDP_PASS {
                seen.forbidden.fetch_add(1, Ordering::Relaxed);
            }
        }
        seen.runs.fetch_add(u64::from(BURST + 3 * SINGLES), Ordering::Relaxed);
    }
    Ok(())
}

/// Slots are given to other flows at once, as fast as possible.
fn recycle_flows(table: &FlowRows, over: &AtomicBool, seen: &Seen) -> Result<()> {
    let mut random = Random::new(77);
    let started = Instant::now();
    while !over.load(Ordering::Relaxed) && started.elapsed() < 4 * LENGTH {
        let mut any = || key(random.below(DEVICES.into()) as u8, random.below(PORTS.into()) as u16);
        if let Some((flow, _)) = flow_table::find(table, &any(), NOW) {
            flow_table::end(table, flow);
        }
        let swept = flow_table::sweep(table, random.below(BUCKET as usize) as u32, NOW);
        let mut any = || key(random.below(DEVICES.into()) as u8, random.below(PORTS.into()) as u16);
        let key = any();
        // There may be no room: a packet was faster.
        let added = flow_table::open(table, &key, &start(&key)).is_ok();
        seen.changes.fetch_add(u64::from(swept) + u64::from(added), Ordering::Relaxed);
    }
    Ok(())
}

/// No flow twice, and every device has as many flows as are counted.
fn agrees_with_itself(table: &FlowRows, flows: &[Flow]) -> Result<()> {
    let alive: Vec<FlowKey> = flows.iter().filter(|flow| flow.deadline > NOW).map(|flow| flow.key).collect();
    let keys: BTreeSet<FlowKey> = alive.iter().copied().collect();
    ensure!(keys.len() == alive.len(), "a flow is in the table twice: {alive:#?}");
    for device in (0..DEVICES).map(|device| DeviceId(number(device).into())) {
        let found = flows.iter().filter(|flow| flow.key.device == device).count() as u64;
        let row = table.device(device).context("find the device's row")?;
        let counted = table.load(row, FLOWS_BY_DEVICE);
        ensure!(found == counted, "device {} has {found} flows, counted are {counted}", device.0);
    }
    Ok(())
}

/// An address leaves and returns as `reconcile` does it: its row is used again only after a grace period.
fn recycle_address(
    addresses: &mut AddressRows,
    layout: &Layout,
    over: &AtomicBool,
    seen: &Seen,
) -> Result<()> {
    let key = AddressKey::host(NETWORK, address(number(0)).into());
    let slot = *layout.addresses.get(&key).context("find the address")?;
    let [identity, _] = layout.identities.get(slot as usize).context("find its identity")?.words();
    while !over.load(Ordering::Relaxed) {
        addresses.remove(&key).context("remove an address")?;
        wait_for_packets()?;
        addresses.insert(key, slot, identity).context("return an address")?;
        seen.moves.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Numbers begin at 1: 0 is nobody.
const fn number(device: u8) -> u8 {
    device + 1
}

const fn vlan(device: u8) -> u16 {
    100 + device as u16
}

const fn port(device: u8) -> u16 {
    5000 + device as u16
}

/// The same for all devices: only their addresses tell them apart.
const fn source_port(at: u16) -> u16 {
    40_000 + at
}

fn tables() -> Tables {
    let devices: Vec<(u8, u16)> = (0..DEVICES).map(|device| (number(device), port(device))).collect();
    let mut tables = small::tables(&[(INTERFACE, ROLE_ACCESS | ROLE_CORE)], &devices);
    let untagged = Place { ifindex: INTERFACE, ..Place::default() };
    let facts = tables.subinterfaces.remove(&untagged).unwrap_or_default();
    for device in 0..DEVICES {
        tables.subinterfaces.insert(Place { outer_vlan: vlan(device), ..untagged }, facts.clone());
    }
    tables
}

/// A call that is allowed, its answer, and a call that is not.
fn frames(device: u8, at: u16) -> [Vec<u8>; 3] {
    let here = address(number(device));
    let next = port((device + 1) % DEVICES);
    let frame = || eth().vlan(vlan(device));
    let (own, far) = (source_port(at), port(device));
    [
        frame().ip(here, REMOTE).udp(own, far).build(),
        frame().ip(REMOTE, here).udp(far, own).build(),
        frame().ip(here, REMOTE).udp(own, next).build(),
    ]
}

fn key(device: u8, at: u16) -> FlowKey {
    FlowKey {
        network: NETWORK,
        device: DeviceId(number(device).into()),
        local: address(number(device)).into(),
        remote: REMOTE.into(),
        local_port: source_port(at),
        remote_port: port(device),
        protocol: 17,
        _pad: [0; 3],
    }
}

fn start(key: &FlowKey) -> FlowStart {
    let number = key.device.0;
    let update = FlowUpdate {
        decision: Flow::decision_word(Generation(1), RuleId(number)),
        deadline: 2 * NOW,
        side: 0,
        access: Flow::access_word(INTERFACE, vlan((number - 1) as u8), 0),
        found: 0,
        state: 0,
        packets: 1,
        bytes: 60,
    };
    FlowStart { update, initiator: INITIATOR_LOCAL, peer: DeviceId::NONE, opened: NOW, quota: 0 }
}

/// True for an event whose device, rule and addresses are not of one device.
fn is_mixed_up(event: &Event) -> bool {
    let known = (1..=DEVICES).find(|number| {
        let here = address(*number).into();
        event.source == here || event.destination == here
    });
    let Some(known) = known else { return true };
    let is = |number: u32| number == 0 || number == u32::from(known);
    !is(event.device.0) || !is(event.rule.0) || event.outer_vlan != vlan(known - 1)
}

fn is_foreign(flow: &Flow) -> bool {
    let number = flow.key.device.0;
    let place = Flow::access_word(INTERFACE, vlan((number - 1) as u8), 0);
    flow.rule().0 != number || flow.access[0] != place || flow.access[1] != 0
}
