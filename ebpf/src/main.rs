//! The XDP program: bytes and maps in, one action out. It decides nothing; `bulkhead_common` does.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![expect(internal_features, reason = "the BPF target has no atomic types, only the intrinsics")]

mod account;
mod atomic;
mod bounded;
mod flows;
mod fragments;
mod frame;
mod maps;
mod program;
mod subprogram;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use bulkhead_common::engine::{self, Engine as _};
use bulkhead_common::frame::Frame;
use bulkhead_common::verdict::Verdict;

use program::Program;

/// Judges one frame.
#[xdp]
fn bulkhead(context: XdpContext) -> u32 {
    let program = Program::new(context.ctx);
    let length = program.frame().len();
    let ifindex = maps::interface(&context);
    let counters = account::Counters::received(ifindex, length);
    // Absent is impossible for an array of one; nothing may pass without having been judged.
    let Some(case) = maps::case() else { return XDP_DROP };
    subprogram::begin(case, ifindex, length);
    let verdict = engine::run(&program, case);
    counters.judged(verdict, length);
    subprogram::report(case, verdict);
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
