//! The program alone: `BPF_PROG_TEST_RUN` over many devices, without a driver or the kernel around it.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result};
use bulkhead::tables::Image;
use tests::kernel::Kernel;

use super::bytecode::{Shuffle, Then};
use super::fleet::{self, CLOSED, FIRST, LOOPBACK, OPEN, STRANGER, Sample};
use super::options::{Options, Size};
use super::program::{Program, Run, XDP_DROP, XDP_PASS};
use super::table::Table;

/// Runs of a call at least: each call waits for two grace periods.
const TIMES: u32 = 400_000;

/// One row: how its frames look and vary.
struct Scenario {
    name: &'static str,
    sample: Sample,
    shuffle: Shuffle,
    /// Opens every flow before it is measured.
    warm: bool,
}

/// Measures every scenario at every size, in interleaved rounds.
pub(crate) fn measure(options: &Options, table: &mut Table) -> Result<()> {
    for size in options.alone {
        bare(*size, options.rounds, table)?;
        scenarios(*size, options.rounds, table).with_context(|| format!("{} devices", size.name))?;
    }
    Ok(())
}

/// What the loop of `BPF_PROG_TEST_RUN` costs by itself, whatever the number of devices.
fn bare(size: Size, rounds: u32, table: &mut Table) -> Result<()> {
    let frame = &fleet::v4(OPEN).frame;
    for (name, answer) in [("bare XDP_DROP", XDP_DROP), ("bare XDP_PASS", XDP_PASS)] {
        let program = Program::answering(answer)?;
        for _ in 0..rounds {
            table.sample(name, size, || program.run(Run { frame, times: TIMES, live: None }))?;
        }
    }
    Ok(())
}

fn scenarios(size: Size, rounds: u32, table: &mut Table) -> Result<()> {
    let devices = size.devices();
    let mut kernel = Kernel::load_attached(devices)?;
    kernel.count_on(LOOPBACK)?;
    kernel.fill(Image::new(&fleet::tables(devices, LOOPBACK)).layout())?;
    let fd = kernel.program_fd()?;
    let mut measured = Vec::new();
    for scenario in all(size.bits).into_iter().filter(|scenario| table.wants(scenario.name)) {
        let judged = Program::shuffling(scenario.shuffle, Then::Program(fd.as_fd()))?;
        let written = Program::shuffling(scenario.shuffle, Then::Answer(XDP_DROP))?;
        if scenario.warm {
            judged.run(Run { frame: &scenario.sample.frame, times: devices, live: None })?;
        }
        measured.push((scenario, judged, written));
    }
    let empty = Program::answering(XDP_DROP)?;
    for _ in 0..rounds {
        let floor = empty.run(Run { frame: &fleet::v4(OPEN).frame, times: TIMES, live: None })?;
        for (scenario, judged, written) in &measured {
            // A first packet is one once: each round has its share of the devices' next ports.
            let times = if scenario.warm { TIMES.max(devices) } else { TIMES };
            let run = Run { frame: &scenario.sample.frame, times, live: None };
            // What writing the numbers costs is measured at once and taken off.
            let (judged, written) = (judged.run(run)?, written.run(run)?);
            table.add(scenario.name, size, judged - written + floor);
        }
    }
    Ok(())
}

fn all(bits: u32) -> Vec<Scenario> {
    let scenario = |name, mut sample: Sample, base: u32, warm| {
        // One device's frames are left alone later on.
        sample.starts_from(base);
        let shuffle = Shuffle { bits, at: sample.source_at, base, lap: None };
        Scenario { name, sample, shuffle, warm }
    };
    let fresh = fleet::v4(OPEN);
    // A port that no warm flow has, and the next one each time that every device has been through.
    let lap = Some((fresh.ports_at, 20_000));
    let first = Shuffle { bits, at: fresh.source_at, base: FIRST, lap };
    let mut all = vec![
        scenario("established", fleet::v4(OPEN), FIRST, true),
        // The last four bytes of an IPv6 device are its number.
        scenario("established, IPv6", fleet::v6(OPEN), 0, true),
        scenario("established in GTP-U", fleet::gtpu(OPEN), FIRST, true),
        scenario("unknown source", fleet::v4(OPEN), STRANGER, false),
        scenario("no rule", fleet::v4(CLOSED), FIRST, false),
    ];
    // One device cannot open 400,000 flows: its bucket and its ports end before.
    if bits >= FRESH_BITS {
        all.push(Scenario { name: "first packet", sample: fresh, shuffle: first, warm: false });
    }
    all
}

/// With so many devices no round opens more than a few flows of each, and they fit into the table.
const FRESH_BITS: u32 = 17;
