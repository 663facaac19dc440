//! The XDP program: bytes and maps in, one action out. It decides nothing; `bulkhead_common` does.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![expect(internal_features, reason = "the BPF target has no atomic types, only the intrinsics")]

mod account;
mod atomic;
mod bounded;
mod candidate;
mod flows;
mod fragments;
mod frame;
mod maps;
mod program;
mod subprogram;
mod sweep;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use bulkhead_common::abi::key::EGRESS;
use bulkhead_common::candidate::Decided;
use bulkhead_common::case::{Arrival, LinkType};
use bulkhead_common::engine;
use bulkhead_common::verdict::{Evidence, Verdict};

use frame::Context;
use program::{Program, Stages};

/// Judges a frame that enters. `frags`: it may lie in several buffers, so that jumbo frames enter natively.
#[xdp(frags)]
fn bulkhead(context: XdpContext) -> u32 {
    enter(&context)
}

/// As [`bulkhead`], for kernels where every frame lies in one buffer: before Linux 5.18.
#[xdp]
fn bulkhead_plain(context: XdpContext) -> u32 {
    enter(&context)
}

#[inline(always)]
fn enter(context: &XdpContext) -> u32 {
    let frame = context.ctx;
    let arrival = Arrival::of(maps::interface(context), maps::link_type(), frame.length());
    let passes = judge(frame, arrival);
    candidate::hand_on_entering(context);
    match passes {
        true => XDP_PASS,
        false => XDP_DROP,
    }
}

/// Judges a packet that leaves by a device without Ethernet header, behind the host's address translation.
#[classifier]
fn bulkhead_egress(context: TcContext) -> i32 {
    let packet = context.skb.skb;
    // SAFETY: the kernel's context outlives the program.
    let (ifindex, segments, entered) =
        unsafe { ((*packet).ifindex, (*packet).gso_segs, (*packet).ingress_ifindex) };
    let arrival = Arrival {
        packets: if segments == 0 { 1 } else { segments },
        // What was forwarded says where it came from.
        from_host: entered == 0,
        ..Arrival::of(ifindex | EGRESS, LinkType::RawIp, packet.length())
    };
    let passes = judge(packet, arrival);
    candidate::hand_on_leaving(&context);
    match passes {
        // `TCX_NEXT` and `TCX_DROP` have the same numbers.
        true => TC_ACT_UNSPEC,
        false => TC_ACT_SHOT,
    }
}

/// Judges and counts one packet; true if it goes on.
#[inline(always)]
fn judge<C: Context + Stages>(context: C, arrival: Arrival) -> bool {
    if maps::is_candidate() {
        return candidate::judge(context, arrival);
    }
    let counters = account::Counters::received(&arrival);
    if let Some(verdict) = shortly(context, &arrival) {
        counters.judged(verdict, &arrival);
        candidate::tell(&Decided::new(verdict, &Evidence::NONE));
        return verdict.passes();
    }
    // Absent is impossible for an array of one; nothing may pass without having been judged.
    let Some(case) = maps::case() else { return false };
    subprogram::begin(case, arrival);
    let verdict = engine::run(&Program::new(context, arrival.length), case);
    counters.judged(verdict, &arrival);
    subprogram::report(case, verdict);
    verdict.passes()
}

/// What the short way says, if anything. Of a drop nobody is told: that is why it may be taken.
#[inline(always)]
fn shortly<C: Context + Stages>(context: C, arrival: &Arrival) -> Option<Verdict> {
    match context.express(arrival) {
        Ok(pass) => pass.map(Verdict::Pass),
        Err(reason) => {
            account::keep_silent();
            Some(Verdict::Drop(reason))
        }
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
