//! What the kernel tells of real traffic: every drop is in a record or in a gap, flows begin and end.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as Waking, Poll, Waker};

use anyhow::{Context, Result};
use bulkhead::datapath::Datapath;
use bulkhead::reconcile::Reconciler;
use bulkhead::telemetry::{
    Clock, DeviceName, EventKind, Filter, FlowEnd, Follow, Kernel, NameTable, Record, Source, Telemetry, Work,
};
use bulkhead_common::abi::{DeviceId, RuleId};
use tests::frame::eth;
use tests::netns::Injector;
use tests::small;

use super::core::{Core, DEVICE, LINKS, OPEN};

const ALL: Work = Work { account: true, ends: true };

#[test]
fn a_flow_begins_and_is_cut_and_a_drop_is_explained() -> Result<()> {
    let Some(core) = Core::start()? else { return Ok(()) };
    let _servers = core.servers()?;
    let mut told = Told::start(core)?;
    assert!(told.core.udp(OPEN)?);
    assert!(!told.core.udp(OPEN + 1)?);
    let records = told.poll()?;
    let opened = records.iter().find(|r| r.event == EventKind::FlowOpen).context("no flow was opened")?;
    assert_eq!((opened.device.as_deref(), opened.rule.as_deref()), (Some("charger-1"), Some("small/open")));
    assert_eq!((opened.destination_port, opened.interface.as_deref()), (Some(OPEN), Some("acc0")));
    let refused =
        records.iter().find(|r| r.destination_port == Some(OPEN + 1)).context("no drop was told")?;
    assert_eq!((refused.reason.as_deref(), refused.direction.as_deref()), (Some("no_rule"), Some("up")));
    let found =
        told.telemetry.find(refused.id.context("a drop has an id")?).context("the id is not known")?;
    assert_eq!(found.event.destination_port, OPEN + 1);

    let live = told.live();
    let flow = live.iter().find(|flow| flow.destination_port == Some(OPEN)).context("no flow lives")?;
    assert_eq!((flow.packets_up, flow.packets_down), (Some(1), Some(1)));
    let source_port = flow.source_port.context("a UDP flow has ports")?;
    told.close_port()?;
    // The next packet of that very flow ends it; the injected frame has its 5-tuple.
    let injector = Injector::open(told.core.lab.namespace("ran")?, "acc0")?;
    injector.send(&eth().ip(small::address(DEVICE), small::REMOTE).udp(source_port, OPEN).build())?;
    let ended = told.poll_until(|record| record.event == EventKind::FlowEnd)?;
    assert_eq!((ended.end, ended.source_port), (Some(FlowEnd::Cut), Some(source_port)));
    assert_eq!((ended.bytes_up, ended.bytes_down), (flow.bytes_up, flow.bytes_down));
    Ok(())
}

#[test]
fn every_drop_of_a_flood_is_in_one_record_or_in_a_gap() -> Result<()> {
    const FRAMES: u64 = 5_000;
    let Some(core) = Core::start()? else { return Ok(()) };
    let mut told = Told::start(core)?;
    let injector = Injector::open(told.core.lab.namespace("ran")?, "acc1")?;
    let frame = eth().ip(small::address(200), small::REMOTE).tcp(1, 2).build();
    let mut records = Vec::new();
    for _ in 0..FRAMES {
        injector.send(&frame)?;
    }
    for _ in 0..5 {
        std::thread::sleep(std::time::Duration::from_millis(100));
        records.extend(told.poll()?);
    }
    records.extend(told.finish());
    let shown: u64 = records.iter().filter(|r| is_unknown(r)).map(|r| r.count.unwrap_or(1)).sum();
    let gaps = records.iter().filter_map(|record| record.gap.as_ref());
    let missing: u64 = gaps.filter_map(|gap| gap.reasons.get("unknown_device")).sum();
    assert_eq!(shown + missing, FRAMES, "shown {shown}, missing {missing}");
    assert!(missing > FRAMES / 2, "the flood was held back in the kernel: {missing}");
    assert!(records.iter().filter(|r| is_unknown(r)).count() <= 4, "and folded here");
    Ok(())
}

fn is_unknown(record: &Record) -> bool {
    record.reason.as_deref() == Some("unknown_device")
}

/// Telemetry over the lab's datapath, and one reader.
struct Told {
    core: Core,
    datapath: Arc<Mutex<Datapath>>,
    reconciler: Reconciler,
    kernel: Kernel,
    telemetry: Arc<Telemetry>,
    follow: Follow,
}

impl Told {
    fn start(mut core: Core) -> Result<Self> {
        let names = names(&core)?;
        let (datapath, reconciler) = core.datapath.take().context("no agent")?;
        let ring = datapath.events()?;
        let datapath = Arc::new(Mutex::new(datapath));
        let mut kernel = Kernel::new(ring, Arc::clone(&datapath));
        let telemetry = Telemetry::new(Arc::new(names), Clock::read(kernel.now_ns()));
        telemetry.poll(&mut kernel, ALL)?;
        let follow = telemetry.follow(Filter::default());
        Ok(Self { core, datapath, reconciler, kernel, telemetry, follow })
    }

    /// What is told by one more poll.
    fn poll(&mut self) -> Result<Vec<Arc<Record>>> {
        self.telemetry.poll(&mut self.kernel, ALL)?;
        Ok(self.read())
    }

    fn poll_until(&mut self, wanted: impl Fn(&Record) -> bool) -> Result<Arc<Record>> {
        for _ in 0..40 {
            if let Some(record) = self.poll()?.into_iter().find(|record| wanted(record)) {
                return Ok(record);
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        anyhow::bail!("the record did not come")
    }

    fn finish(&mut self) -> Vec<Arc<Record>> {
        self.telemetry.finish(Clock::read(self.kernel.now_ns()));
        self.read()
    }

    fn read(&mut self) -> Vec<Arc<Record>> {
        let mut records = Vec::new();
        let mut waking = Waking::from_waker(Waker::noop());
        while let Poll::Ready(Some(record)) = pin!(self.follow.next()).poll(&mut waking) {
            records.push(record);
        }
        records
    }

    fn live(&self) -> Vec<Record> {
        let flows = self.datapath.lock().unwrap_or_else(PoisonError::into_inner).flows();
        self.telemetry.flows(&flows, Clock::read(self.kernel.now_ns()), &Filter::default())
    }

    /// Takes charger-1's port away.
    fn close_port(&mut self) -> Result<()> {
        let places: Result<Vec<(u32, u8)>> =
            LINKS.iter().map(|(name, roles)| Ok((self.core.ifindex(name)?, *roles))).collect();
        let tables = small::tables(&places?, &[(DEVICE, OPEN + 7)]);
        let mut datapath = self.datapath.lock().unwrap_or_else(PoisonError::into_inner);
        self.reconciler.apply(datapath.rows(), &tables)?;
        Ok(())
    }
}

fn names(core: &Core) -> Result<NameTable> {
    let number = u32::from(DEVICE);
    let charger = DeviceName { name: "charger-1".into(), segment: None };
    let interfaces: Result<_> =
        LINKS.iter().map(|(name, _)| Ok((core.ifindex(name)?, name.into()))).collect();
    Ok(NameTable {
        devices: [(DeviceId(number), charger)].into(),
        rules: [(RuleId(number), "small/open".into())].into(),
        interfaces: interfaces?,
        ..NameTable::default()
    })
}
