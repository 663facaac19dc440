//! First packets, by the program alone: each opens a flow.

use anyhow::Result;
use bulkhead::tables::Image;
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
    pub(crate) fn sample(&mut self) -> Result<f64> {
        let mut sum = 0.0;
        for _ in 0..self.laps {
            self.kernel.forget_flows(self.devices);
            sum += self.measured.sample(self.times)?;
        }
        Ok(sum / f64::from(self.laps))
    }
}

/// Slots for the flows of one device: half a MiB, which the second cache of a core holds.
const ONE_SLOTS: u32 = 1 << 12;
/// A quarter of it is soon full.
const ONE_LAPS: u32 = 16;
