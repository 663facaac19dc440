//! What a packet costs, by `BPF_PROG_TEST_RUN`: printed for people, run on request.
//!
//! `cargo bench -p tests --bench cost`. Hot numbers repeat
//! one frame; random ones run each of many flows once a call, so the caches hold little of them, and
//! what such a call costs by itself is measured with a frame that is dropped at once and taken off.

use std::time::Duration;

use anyhow::{Result, ensure};
use bulkhead::tables::Image;
use bulkhead_common::abi::value::{ROLE_ACCESS, ROLE_CORE};
use tests::frame::eth;
use tests::generate::Random;
use tests::kernel::{Kernel, Runner, XDP_DROP, XDP_PASS, privilege};
use tests::small::{self, REMOTE, address};

const INTERFACE: u32 = 31;
const PORT: u16 = 5000;
const ROUNDS: usize = 5;
const HOT: u32 = 1_000_000;
/// Room for them all.
const CAPACITY: u32 = 262_144;

fn main() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let devices: Vec<(u8, u16)> = (1..=250).map(|device| (device, PORT)).collect();
    let tables = small::tables(&[(INTERFACE, ROLE_ACCESS | ROLE_CORE)], &devices);
    let mut kernel = Kernel::load(CAPACITY)?;
    kernel.fill(Image::new(&tables).layout())?;
    kernel.enter(INTERFACE, 5_000_000_000, 5_000_000_000)?;
    hot(kernel.runner()?)?;
    for flows in [1_000, 100_000] {
        kernel.fill(Image::new(&tables).layout())?;
        random(kernel.runner()?, flows)?;
    }
    Ok(())
}

fn hot(runner: Runner<'_>) -> Result<()> {
    let nothing = eth().ether_type(0x1234).payload(&[0; 46]).build();
    let (up, unsolicited) = (frame(0), eth().ip(REMOTE, address(1)).udp(9, 9).build());
    ensure!(runner.run(&up)? == XDP_PASS, "the flow is not opened");
    for (what, frame) in [("dropped at once", &nothing), ("established", &up), ("unsolicited", &unsolicited)]
    {
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            times.push(runner.timed(frame, HOT)?.1);
        }
        eprintln!("hot, {what}: {:?}", median(times));
    }
    Ok(())
}

/// Opens flows and then goes through them in no order.
fn random(runner: Runner<'_>, flows: u32) -> Result<()> {
    let nothing = eth().ether_type(0x1234).payload(&[0; 46]).build();
    let floor = mean((0..20_000).map(|_| timed(runner, &nothing, XDP_DROP)))?;
    let mut order: Vec<u32> = (0..flows).collect();
    shuffle(&mut order);
    let opened = mean(order.iter().map(|flow| timed(runner, &frame(*flow), XDP_PASS)))?;
    eprintln!("{flows} flows, first packet: {} ns above {floor} ns", opened.saturating_sub(floor));
    for _ in 0..ROUNDS {
        shuffle(&mut order);
        let found = mean(order.iter().map(|flow| timed(runner, &frame(*flow), XDP_PASS)))?;
        eprintln!("{flows} flows, established: {} ns above {floor} ns", found.saturating_sub(floor));
    }
    Ok(())
}

fn timed(runner: Runner<'_>, frame: &[u8], wanted: u32) -> Result<u64> {
    let (answer, time) = runner.timed(frame, 1)?;
    ensure!(answer == wanted, "XDP answers {answer}");
    Ok(time.as_nanos() as u64)
}

/// Without the highest hundredth: interrupts.
fn mean(times: impl Iterator<Item = Result<u64>>) -> Result<u64> {
    let mut times = times.collect::<Result<Vec<_>>>()?;
    times.sort_unstable();
    times.truncate(times.len() * 99 / 100);
    Ok(times.iter().sum::<u64>() / times.len().max(1) as u64)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn shuffle(order: &mut [u32]) {
    let mut random = Random::new(1);
    for at in (1..order.len()).rev() {
        order.swap(at, random.below(at + 1));
    }
}

/// A packet of flow number `flow`: 250 devices with ports of their own.
fn frame(flow: u32) -> Vec<u8> {
    let device = (flow % 250 + 1) as u8;
    eth().ip(address(device), REMOTE).udp((flow / 250 + 1) as u16, PORT).build()
}
