//! The XDP program: bytes and maps in, one action out. It decides nothing; `bulkhead_common` does.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![expect(internal_features, reason = "the BPF target has no atomic types, only the intrinsics")]

mod account;
mod atomic;
mod bounded;
mod flows;
mod frame;
mod maps;
mod subprogram;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use bulkhead_common::case::Case;
use bulkhead_common::decide::Tables;
use bulkhead_common::frame::Frame;
use bulkhead_common::verdict::Verdict;

use frame::XdpFrame;
use maps::Maps;

/// Judges one frame.
#[xdp]
fn bulkhead(context: XdpContext) -> u32 {
    let frame = XdpFrame::new(&context);
    let ifindex = maps::interface(&context);
    let counters = account::Counters::received(ifindex, frame.len());
    // Absent is impossible for an array of one; nothing may pass without having been judged.
    let Some(case) = maps::case() else { return XDP_DROP };
    *case = Case::new(Maps.epoch(), ifindex);
    let verdict = match bulkhead_common::parse(&frame, &mut case.packet) {
        Ok(()) => bulkhead_common::judge(&Maps, case),
        Err(reason) => Verdict::Drop(reason),
    };
    counters.judged(verdict, frame.len());
    account::report(case, verdict);
    match verdict {
        Verdict::Pass(_) => XDP_PASS,
        Verdict::Drop(_) => XDP_DROP,
    }
}

/// Never reached: the program has no panicking path, or the verifier would refuse it.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel lets GPL-compatible programs use every helper.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
