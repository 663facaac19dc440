//! The program alone: `BPF_PROG_TEST_RUN` over many devices, without a driver or the kernel around it.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result, ensure};
use bulkhead::tables::Image;
use tests::kernel::Kernel;
use tests::kernel::pair::Pair;

use super::bytecode::{Shuffle, Then};
use super::first::{self, First};
use super::fleet::{self, CLOSED, FIRST, LOOPBACK, OPEN, STRANGER, Sample};
use super::options::{Options, Size};
use super::program::{Program, Run, XDP_DROP, XDP_PASS};
use super::table::Table;

/// Runs of a call at least: each call waits for two grace periods.
pub(crate) const TIMES: u32 = 400_000;

/// One row: how its frames look and vary.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) sample: Sample,
    pub(crate) shuffle: Shuffle,
    /// Opens every flow before it is measured.
    pub(crate) warm: bool,
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

/// A scenario, with the program behind what writes its numbers, and what writes them alone.
pub(crate) struct Measured {
    name: String,
    scenario: Scenario,
    judged: Program,
    written: Program,
}

impl Measured {
    /// `more` is added to the scenario's name.
    pub(crate) fn prepare(scenario: Scenario, more: &str, by: &Kernel, devices: u32) -> Result<Self> {
        let judged = Program::shuffling(scenario.shuffle, Then::Program(by.program_fd()?.as_fd()))?;
        let written = Program::shuffling(scenario.shuffle, Then::Answer(XDP_DROP))?;
        if scenario.warm {
            judged.run(Run { frame: &scenario.sample.frame, times: devices, live: None })?;
        }
        Ok(Self { name: format!("{}{more}", scenario.name), scenario, judged, written })
    }

    /// Nanoseconds of a packet beyond writing its number, which is measured at once and taken off.
    pub(crate) fn sample(&self, times: u32) -> Result<f64> {
        let run = Run { frame: &self.scenario.sample.frame, times, live: None };
        Ok(self.judged.run(run)? - self.written.run(run)?)
    }
}

fn scenarios(size: Size, rounds: u32, table: &mut Table) -> Result<()> {
    let devices = size.devices();
    let tables = Image::new(&fleet::tables(devices, LOOPBACK));
    let mut kernel = Kernel::load_attached(devices)?;
    kernel.count_on(LOOPBACK)?;
    kernel.fill(tables.layout())?;
    let wanted = all(size.bits).into_iter().filter(|scenario| table.wants(scenario.name));
    let mut measured: Vec<_> =
        wanted.map(|scenario| Measured::prepare(scenario, "", &kernel, devices)).collect::<Result<_>>()?;
    let pair = beside_itself(size, &tables, table, &mut measured)?;
    let first = First::prepare(size, &tables, table)?;
    let empty = Program::answering(XDP_DROP)?;
    for _ in 0..rounds {
        let floor = empty.run(Run { frame: &fleet::v4(OPEN).frame, times: TIMES, live: None })?;
        for one in &measured {
            let times = if one.scenario.warm { TIMES.max(devices) } else { TIMES };
            table.add(&one.name, size, one.sample(times)? + floor);
        }
        if let Some(first) = &first {
            table.add(first::NAME, size, first.sample()? + floor);
        }
    }
    pair.as_ref().map_or(Ok(()), agreed)
}

/// What is measured once more with a candidate.
const BESIDE: [&str; 3] = ["established", "unknown source", "no rule"];
const WITH_A_CANDIDATE: &str = ", with a candidate";

/// Adds what is to be measured with a candidate of the same policy: it goes the whole way, whatever it then says.
fn beside_itself(
    size: Size,
    tables: &Image,
    table: &Table,
    measured: &mut Vec<Measured>,
) -> Result<Option<Pair>> {
    let is_wanted = |scenario: &Scenario| {
        BESIDE.contains(&scenario.name) && table.wants(&format!("{}{WITH_A_CANDIDATE}", scenario.name))
    };
    let wanted: Vec<_> = all(size.bits).into_iter().filter(is_wanted).collect();
    if wanted.is_empty() {
        return Ok(None);
    }
    let mut pair = Pair::load_attached(size.devices())?;
    pair.candidate.fill(tables.layout())?;
    pair.enforced.count_on(LOOPBACK)?;
    pair.enforced.fill(tables.layout())?;
    for scenario in wanted {
        measured.push(Measured::prepare(scenario, WITH_A_CANDIDATE, &pair.enforced, size.devices())?);
    }
    Ok(Some(pair))
}

/// A candidate that nobody has called would cost nothing.
fn agreed(pair: &Pair) -> Result<()> {
    let compared = pair.candidate.compared()?;
    ensure!(
        compared.judged > 0 && compared.same == compared.judged,
        "of {} packets the candidate says the same of {}",
        compared.judged,
        compared.same
    );
    Ok(())
}

fn all(bits: u32) -> Vec<Scenario> {
    let scenario = |name, mut sample: Sample, base: u32, warm| {
        // One device's frames are left alone later on.
        sample.starts_from(base);
        let shuffle = Shuffle { bits, at: sample.source_at, base, lap: None };
        Scenario { name, sample, shuffle, warm }
    };
    vec![
        scenario("established", fleet::v4(OPEN), FIRST, true),
        // The last four bytes of an IPv6 device are its number.
        scenario("established, IPv6", fleet::v6(OPEN), 0, true),
        scenario("established in GTP-U", fleet::gtpu(OPEN), FIRST, true),
        scenario("unknown source", fleet::v4(OPEN), STRANGER, false),
        scenario("no rule", fleet::v4(CLOSED), FIRST, false),
    ]
}
