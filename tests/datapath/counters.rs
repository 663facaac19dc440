//! Interfaces come and go; their counters begin at zero, and there is room for those that are there.

use anyhow::{Result, ensure};
use bulkhead_common::abi::key::EGRESS;
use bulkhead_common::abi::map::INTERFACE_CAPACITY;
use tests::frame::eth;
use tests::kernel::{Kernel, privilege};

/// One row is for interfaces that have none of their own.
const ROOM: u32 = INTERFACE_CAPACITY - 1;

#[test]
fn counters_begin_at_zero_in_a_row_that_another_interface_had() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let mut kernel = Kernel::load(8)?;
    for ifindex in [70_001, 70_002, 70_001 | EGRESS] {
        kernel.count_on(ifindex)?;
        ensure!(received(&mut kernel, ifindex, 3)? == 3);
        kernel.stop_counting(ifindex);
    }
    // Without counters of its own it is counted with all others.
    ensure!(received(&mut kernel, 70_001, 5)? == 5 && kernel.counters(0)?.received.packets == 5);
    Ok(())
}

#[test]
fn a_table_that_is_full_refuses_and_takes_another_once_one_is_gone() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let mut kernel = Kernel::load(8)?;
    (1..=ROOM).try_for_each(|ifindex| kernel.count_on(ifindex))?;
    for ifindex in 1..=ROOM {
        ensure!(received(&mut kernel, ifindex, 1)? == 1, "interface {ifindex} is counted elsewhere");
    }
    ensure!(kernel.count_on(ROOM + 1).is_err(), "there is room for more than the table has rows");
    kernel.stop_counting(9);
    kernel.count_on(ROOM + 1)?;
    ensure!(received(&mut kernel, ROOM + 1, 1)? == 1);
    Ok(())
}

/// Counts packets that enter by an interface; what it has counted then.
fn received(kernel: &mut Kernel, ifindex: u32, packets: usize) -> Result<u64> {
    kernel.enter(ifindex, 1, 1)?;
    let frame = eth().ether_type(0x1234).payload(&[0; 46]).build();
    for _ in 0..packets {
        kernel.runner()?.run(&frame)?;
    }
    Ok(kernel.counters(ifindex)?.received.packets)
}
