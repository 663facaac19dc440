//! The XDP program: bytes and maps in, one action out. It decides nothing; `bulkhead_common` does.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![expect(internal_features, reason = "the BPF target has no atomic types, only the intrinsics")]

mod account;
mod atomic;
mod bounded;
mod candidate;
mod clock;
mod flows;
mod forward;
mod fragments;
mod frame;
mod handed;
mod maps;
mod onward;
mod program;
mod short;
mod subprogram;
mod sweep;
mod words;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT};
use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use bulkhead_common::abi::key::EGRESS;
use bulkhead_common::candidate::Decided;
use bulkhead_common::case::{Arrival, LinkType};
use bulkhead_common::verdict::{Evidence, Pass, Verdict, Way};
use bulkhead_common::{engine, forward as fast};

use account::Counters;
use frame::{Context, arrival};
use program::{Onward, Program, Stages};

/// Judges a frame that enters, if [`short`] says so: what enters by an Ethernet interface. What it does not end, [`bulkhead`]
/// judges. `frags`: a frame may lie in several buffers, so that jumbo frames enter natively.
#[xdp(frags)]
fn bulkhead_short(context: XdpContext) -> u32 {
    short::enter(&context)
}

/// As [`bulkhead_short`], for kernels where every frame lies in one buffer: before Linux 5.18.
#[xdp]
fn bulkhead_short_plain(context: XdpContext) -> u32 {
    short::enter(&context)
}

/// Judges a frame that enters.
#[xdp(frags)]
fn bulkhead(context: XdpContext) -> u32 {
    enter(&context)
}

/// As [`bulkhead`], for those kernels.
#[xdp]
fn bulkhead_plain(context: XdpContext) -> u32 {
    enter(&context)
}

/// Sends a frame that was judged on past the kernel's stack, if it can be.
#[xdp(frags)]
fn bulkhead_leave(context: XdpContext) -> u32 {
    leave(&context)
}

/// As [`bulkhead_leave`], for those kernels.
#[xdp]
fn bulkhead_leave_plain(context: XdpContext) -> u32 {
    leave(&context)
}

/// And counts how it leaves.
#[inline(always)]
fn leave(context: &XdpContext) -> u32 {
    // Of the whole frame: what lies in other buffers would be sent on with it.
    let arrival = arrival(context, true);
    let counters = Counters::of(&arrival);
    let way = forward::send(context.ctx, &arrival);
    counters.left(way, &arrival);
    if matches!(way, Way::Fast) { XDP_REDIRECT } else { XDP_PASS }
}

#[inline(always)]
fn enter(context: &XdpContext) -> u32 {
    let first = arrival(context, false);
    let counters = Counters::of(&first);
    let fate = judge(context.ctx, &counters, first);
    // It wants the frame as it came. So while there is one, the stack forwards.
    candidate::hand_on_entering(context);
    match fate {
        Fate::Ends => XDP_DROP,
        Fate::GoesOn => XDP_PASS,
        Fate::GoesOnInTunnel { whole } => {
            counters.left(Way::Tunnel, &arrival(context, whole));
            XDP_PASS
        }
        Fate::MayLeave => {
            match maps::link_type() {
                LinkType::Ethernet => onward::leave(context),
                LinkType::RawIp => counters.left(Way::Entry, &arrival(context, true)),
            }
            XDP_PASS
        }
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
    let fate = judge(packet, &Counters::of(&arrival), arrival);
    candidate::hand_on_leaving(&context);
    match fate {
        // `TCX_NEXT` and `TCX_DROP` have the same numbers. It is on its way out already.
        Fate::GoesOn | Fate::GoesOnInTunnel { .. } | Fate::MayLeave => TC_ACT_UNSPEC,
        Fate::Ends => TC_ACT_SHOT,
    }
}

/// What becomes of a packet.
enum Fate {
    /// It is dropped.
    Ends,
    /// The kernel goes on with it.
    GoesOn,
    /// As well; and it is counted that a tunnel is why, by the length of the whole frame if that was asked for.
    GoesOnInTunnel { whole: bool },
    /// XDP sends it on if it can be, or the kernel goes on with it.
    MayLeave,
}

impl Fate {
    #[inline(always)]
    const fn passing(passes: bool) -> Self {
        if passes { Self::GoesOn } else { Self::Ends }
    }
}

/// Judges and counts one packet, of whose length the part in the first buffer is known.
#[inline(always)]
fn judge<C: Context + Stages>(context: C, counters: &Counters, first: Arrival) -> Fate {
    if maps::is_candidate() {
        return Fate::passing(candidate::judge(context, whole(context, first)));
    }
    // It takes only packets that end in the first buffer.
    if let Some((verdict, fate)) = shortly(context, &first) {
        counters.ended(verdict, &first);
        candidate::tell(&Decided::new(verdict, &Evidence::NONE));
        return fate;
    }
    let arrival = whole(context, first);
    counters.received(&arrival);
    // Absent is impossible for an array of one; nothing may pass without having been judged.
    let Some(case) = maps::case() else { return Fate::Ends };
    case.arrival = arrival;
    let verdict = engine::run(&Program::new(context, arrival.length), case);
    counters.judged(verdict, &arrival);
    subprogram::report(case, verdict);
    match fast::is_wanted(case, verdict) {
        false => Fate::passing(verdict.passes()),
        true if case.packet.teid != 0 => Fate::GoesOnInTunnel { whole: true },
        true => Fate::MayLeave,
    }
}

/// With the length of the whole packet, for which the kernel has to be called.
#[inline(always)]
fn whole<C: Context>(context: C, first: Arrival) -> Arrival {
    Arrival { length: context.length(), ..first }
}

/// What the short way says, if anything, and what becomes of the packet. Of a drop nobody is told, nor of a new flow: that is
/// why it may be taken.
#[inline(always)]
fn shortly<C: Context + Stages>(context: C, arrival: &Arrival) -> Option<(Verdict, Fate)> {
    match context.express(arrival) {
        Ok(onward) => onward.map(|onward| match onward {
            Onward::Begun => {
                account::keep_silent();
                (Verdict::Pass(Pass::Opened), Fate::GoesOn)
            }
            Onward::Stack => (Verdict::Pass(Pass::Established), Fate::GoesOn),
            Onward::Tunnel => (Verdict::Pass(Pass::Established), Fate::GoesOnInTunnel { whole: false }),
        }),
        Err(reason) => {
            account::keep_silent();
            Some((Verdict::Drop(reason), Fate::Ends))
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
