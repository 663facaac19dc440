//! The engine in the kernel: each stage is a global subprogram.

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use bulkhead_common::case::{Arrival, Case};
use bulkhead_common::engine::{Engine, Step, step_from_number};
use bulkhead_common::verdict::{DropReason, Pass};

use crate::frame::{Context, Packet};
use crate::maps::Maps;
use crate::subprogram;

/// One run of the program on one packet.
pub(crate) struct Program<C> {
    context: C,
    packet: Packet<C>,
}

impl<C: Context> Program<C> {
    #[inline(always)]
    pub(crate) fn new(context: C, length: u32) -> Self {
        Self { context, packet: Packet::new(context, length) }
    }
}

/// Stages that read the packet; the verifier takes a context as an argument only under its own type.
pub(crate) trait Stages: Copy {
    /// As [`bulkhead_common::express::express`]; and where what passes goes on.
    fn express(self, arrival: &Arrival) -> Result<Option<(Pass, Onward)>, DropReason>;
    /// As [`bulkhead_common::engine::arrive`].
    fn arrive(self, case: &mut Case) -> u32;
    /// As [`bulkhead_common::parse::network`].
    fn parse_network(self, case: &mut Case) -> u32;
    /// As [`bulkhead_common::tunnel::enter`].
    fn enter_tunnel(self, case: &mut Case) -> Step;
    /// As [`bulkhead_common::icmp_error::read`].
    fn read_error(self, case: &mut Case) -> u32;
}

/// Where a packet that passes on the short way goes on.
#[derive(Clone, Copy)]
pub(crate) enum Onward {
    /// To the kernel's stack.
    Stack,
    /// As well, because it is in a tunnel: in none it might have gone past it.
    Tunnel,
    /// Past it, if it can be.
    Past,
}

impl Stages for *mut xdp_md {
    #[inline(always)]
    fn express(self, arrival: &Arrival) -> Result<Option<(Pass, Onward)>, DropReason> {
        let Arrival { ifindex, length, .. } = *arrival;
        let mut number = subprogram::express_outside(self, ifindex, length);
        let datagram = (number >> 32) as u32;
        if number & subprogram::MAY_OPEN != 0 {
            number = subprogram::express_opening() as u64;
        } else if datagram != 0 {
            number = subprogram::express_inside(self, ifindex, length, datagram);
        }
        let onward = match (number & subprogram::MAY_LEAVE != 0, datagram != 0) {
            (false, _) => Onward::Stack,
            (true, true) => Onward::Tunnel,
            (true, false) => Onward::Past,
        };
        let step = step_from_number(number as u32 & !(subprogram::MAY_LEAVE as u32));
        step.map(|pass| pass.map(|pass| (pass, onward)))
    }

    #[inline(always)]
    fn arrive(self, case: &mut Case) -> u32 {
        subprogram::arrive(self, case)
    }

    #[inline(always)]
    fn parse_network(self, case: &mut Case) -> u32 {
        subprogram::parse_network(self, case)
    }

    #[inline(always)]
    fn enter_tunnel(self, case: &mut Case) -> Step {
        step_from_number(subprogram::enter_tunnel(self, case))
    }

    #[inline(always)]
    fn read_error(self, case: &mut Case) -> u32 {
        subprogram::read_error(self, case)
    }
}

impl Stages for *mut __sk_buff {
    /// What leaves has no short way.
    #[inline(always)]
    fn express(self, _arrival: &Arrival) -> Result<Option<(Pass, Onward)>, DropReason> {
        Ok(None)
    }

    #[inline(always)]
    fn arrive(self, case: &mut Case) -> u32 {
        subprogram::arrive_leaving(self, case)
    }

    #[inline(always)]
    fn parse_network(self, case: &mut Case) -> u32 {
        subprogram::leaving_network(self, case)
    }

    /// No tunnel ends where packets leave.
    #[inline(always)]
    fn enter_tunnel(self, _case: &mut Case) -> Step {
        Ok(None)
    }

    #[inline(always)]
    fn read_error(self, case: &mut Case) -> u32 {
        subprogram::leaving_error(self, case)
    }
}

impl<C: Context + Stages> Engine for Program<C> {
    type Frame = Packet<C>;
    type Tables = Maps;

    #[inline(always)]
    fn frame(&self) -> &Packet<C> {
        &self.packet
    }

    #[inline(always)]
    fn tables(&self) -> &Maps {
        &Maps
    }

    #[inline(always)]
    fn arrive(&self, case: &mut Case) -> Step {
        step_from_number(self.context.arrive(case))
    }

    #[inline(always)]
    fn parse_network(&self, case: &mut Case) -> Step {
        step_from_number(self.context.parse_network(case))
    }

    #[inline(always)]
    fn locate(&self, case: &mut Case) -> Step {
        step_from_number(subprogram::locate(case))
    }

    #[inline(always)]
    fn enter_tunnel(&self, case: &mut Case) -> Step {
        self.context.enter_tunnel(case)
    }

    #[inline(always)]
    fn witness(&self, case: &mut Case) -> Step {
        step_from_number(subprogram::witness(case))
    }

    #[inline(always)]
    fn identify(&self, case: &mut Case) -> Step {
        step_from_number(subprogram::identify(case))
    }

    #[inline(always)]
    fn read_error(&self, case: &mut Case) -> Step {
        step_from_number(self.context.read_error(case))
    }

    #[inline(always)]
    fn meet_receiver(&self, case: &mut Case) -> Step {
        step_from_number(subprogram::meet_receiver(case))
    }

    #[inline(always)]
    fn judge_error(&self, case: &mut Case) -> Step {
        step_from_number(subprogram::judge_error(case))
    }

    #[inline(always)]
    fn gather(&self, case: &mut Case) -> Step {
        step_from_number(subprogram::gather(case))
    }

    #[inline(always)]
    fn remember(&self, case: &mut Case) -> Step {
        step_from_number(subprogram::remember(case))
    }

    #[inline(always)]
    fn hold(&self, case: &mut Case) -> Step {
        step_from_number(subprogram::hold(case))
    }

    #[inline(always)]
    fn vouch(&self, case: &mut Case) -> Step {
        step_from_number(subprogram::vouch(case))
    }

    #[inline(always)]
    fn open(&self, case: &mut Case) -> Step {
        step_from_number(subprogram::open(case))
    }

    #[inline(always)]
    fn follow(&self, case: &mut Case) -> Step {
        step_from_number(subprogram::follow(case))
    }
}
