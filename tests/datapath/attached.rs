//! What only a program on an interface does: `BPF_PROG_TEST_RUN` gives the others their clock and lengths.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bulkhead::tables::Image;
use bulkhead_common::abi::value::{ROLE_ACCESS, Timeouts};
use bulkhead_common::timeouts::timeout;
use bulkhead_common::verdict::{DropReason, Pass, Verdict};
use nix::time::{ClockId, clock_gettime};
use tests::frame::{Frame, eth};
use tests::kernel::{Kernel, XDP_DROP, XDP_PASS, privilege};
use tests::small;

use super::forward::{FIRST_BUFFER, LOOPBACK};

/// The longest that a kernel's tick lasts: 100 a second.
const TICK: u64 = 10_000_000;

fn kernel() -> Result<Kernel> {
    let mut kernel = Kernel::load_attached(16)?;
    kernel.count_on(LOOPBACK)?;
    kernel.fill(Image::new(&small::tables(&[(LOOPBACK, ROLE_ACCESS)], &[(11, 5000)])).layout())?;
    Ok(kernel)
}

fn packet() -> Frame {
    eth().ip(small::address(11), small::REMOTE).udp(40_000, 5000)
}

#[test]
fn its_clock_is_the_kernel_s_and_goes_on_whichever_way_packets_take() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let kernel = kernel()?;
    let frame = packet().payload(&[0; 18]).build();
    let mut last = 0;
    // The first opens the flow, the second vouches for it, the others are on the short way.
    for turn in 0..12 {
        let asked = coarse_clock()?;
        ensure!(kernel.runner()?.run(&frame)? == XDP_PASS);
        let answered = coarse_clock()?;
        let flow = kernel.flows().into_values().next().context("there is no flow")?;
        let seen = flow.deadline - timeout(&Timeouts::default(), flow.key.protocol, flow.state);
        let known = asked - 2 * TICK..=answered;
        ensure!(known.contains(&seen), "packet {turn}: the clock was {seen}, not in {known:?}");
        ensure!(seen > last, "packet {turn}: the clock stood still");
        last = seen;
        thread::sleep(Duration::from_millis(30));
    }
    let counters = kernel.counters(LOOPBACK)?;
    ensure!(counters.of(Verdict::Pass(Pass::Established)).packets == 11, "{counters:?}");
    Ok(())
}

/// What programs read, by a system call.
fn coarse_clock() -> Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)?;
    Ok((now.tv_sec() * 1_000_000_000 + now.tv_nsec()).cast_unsigned())
}

#[test]
fn a_packet_that_ends_in_the_first_buffer_is_read_there_and_one_that_does_not_is_read_whole() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let kernel = kernel()?;
    let run = |kernel: &Kernel, frame: &[u8], answer: u32, verdict: Verdict| -> Result<u64> {
        let before = kernel.counters(LOOPBACK)?;
        ensure!(kernel.runner()?.run(frame)? == answer);
        let after = kernel.counters(LOOPBACK)?;
        let bytes = after.of(verdict).bytes - before.of(verdict).bytes;
        ensure!(after.received.bytes - before.received.bytes == bytes, "{verdict:?} is not all");
        Ok(bytes)
    };
    let (opened, established) = (Verdict::Pass(Pass::Opened), Verdict::Pass(Pass::Established));
    let small = packet().payload(&[0; 18]).build();
    ensure!(run(&kernel, &small, XDP_PASS, opened)? == small.len() as u64);
    for _ in 0..2 {
        ensure!(run(&kernel, &small, XDP_PASS, established)? == small.len() as u64);
    }
    let jumbo = packet().payload(&[0; 5000]).build();
    ensure!(run(&kernel, &jumbo, XDP_PASS, established)? == jumbo.len() as u64, "it is counted whole");
    // What lies behind a packet is none of it, nor is the buffer that it lies in.
    let padded = [small.as_slice(), &[0; 5000]].concat();
    ensure!(run(&kernel, &padded, XDP_PASS, established)? == u64::from(FIRST_BUFFER));
    let mut cut = jumbo;
    cut.truncate(4000);
    ensure!(
        run(&kernel, &cut, XDP_DROP, Verdict::Drop(DropReason::MalformedIpv4))? == 4000,
        "its end is missing"
    );
    Ok(())
}
