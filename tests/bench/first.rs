//! First packets, by the program alone: each opens a flow.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use bulkhead::datapath::FlowRows;
use bulkhead::tables::Image;
use bulkhead_common::flow_table::Memory as _;
use nix::sched::{sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use tests::cpu;
use tests::kernel::Kernel;

use super::alone::{Measured, Scenario, TIMES};
use super::bytecode::Shuffle;
use super::fleet::{self, FIRST, LOOPBACK, OPEN};
use super::options::Size;
use super::table::Table;

/// What its row is called.
pub(crate) const NAME: &str = "first packet";

/// What opens flows: each round begins with a table of flows that is empty and leaves it a quarter full, because in a full one
/// what is dead would be searched for.
pub(crate) struct First {
    kernel: Kernel,
    measured: Measured,
    devices: u32,
    /// Packets from one emptying to the next, as many as flows.
    times: u32,
    /// How often a round does that.
    laps: u32,
}

impl First {
    /// Nothing if nobody wants to see it.
    pub(crate) fn prepare(size: Size, tables: &Image, table: &Table) -> Result<Option<Self>> {
        if !table.wants(NAME) {
            return Ok(None);
        }
        let devices = size.devices();
        let mut kernel = match devices {
            // Of one device all is near: also its slots, in so small a table.
            1 => Kernel::load_attached_with(devices, ONE_SLOTS)?,
            _ => Kernel::load_attached(devices)?,
        };
        let times = TIMES.min(kernel.flow_table().capacity() / 4);
        let laps = if devices == 1 { ONE_LAPS } else { 1 };
        kernel.count_on(LOOPBACK)?;
        kernel.fill(tables.layout())?;
        let sample = fleet::v4(OPEN);
        // The next port each time that every device has been through.
        let lap = Some((sample.ports_at, 20_000));
        let shuffle = Shuffle { bits: size.bits, at: sample.source_at, base: FIRST, lap };
        let scenario = Scenario { name: NAME, sample, shuffle, warm: false };
        let measured = Measured::prepare(scenario, "", &kernel, devices)?;
        Ok(Some(Self { kernel, measured, devices, times, laps }))
    }

    /// Nanoseconds of a packet.
    pub(crate) fn sample(&self) -> Result<f64> {
        let Self { kernel, measured, devices, times, laps } = self;
        let rounds = || {
            let mut sum = 0.0;
            for _ in 0..*laps {
                kernel.forget_flows(*devices);
                sum += measured.sample(*times)?;
            }
            Ok(sum / f64::from(*laps))
        };
        if *devices == 1 { near(kernel.flow_table(), rounds) } else { rounds() }
    }
}

/// Acts on one CPU whose caches hold a table: each run waits for grace periods, and while a core sleeps they forget.
fn near<T>(table: &FlowRows, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = sched_getaffinity(Pid::from_raw(0)).context("ask for the CPUs")?;
    cpu::stay()?;
    let ends = AtomicBool::new(false);
    let measured = thread::scope(|scope| {
        let reading = scope.spawn(|| {
            cpu::give_way()?;
            while !ends.load(Ordering::Relaxed) {
                for row in (0..table.capacity()).filter_map(|slot| table.slot(slot)) {
                    for word in LINES {
                        black_box(table.load(row, word));
                    }
                }
            }
            Ok(())
        });
        let measured = act();
        ends.store(true, Ordering::Relaxed);
        let read = reading.join().map_err(|_| anyhow!("the reading thread panicked"))?;
        read.and(measured)
    });
    sched_setaffinity(Pid::from_raw(0), &before).context("go back to all CPUs")?;
    measured
}

/// A word of each line of a slot.
const LINES: [usize; 2] = [0, 8];

/// Slots for the flows of one device: half a MiB, which the second cache of a core holds.
const ONE_SLOTS: u32 = 1 << 12;
/// A quarter of it is soon full.
const ONE_LAPS: u32 = 16;
