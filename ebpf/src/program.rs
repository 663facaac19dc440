//! The engine in the kernel: each stage is a global subprogram.

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use bulkhead_common::case::{Arrival, Case};
use bulkhead_common::engine::{Engine, Step, step_from_number};
use bulkhead_common::verdict::DropReason;

use crate::frame::{Context, Packet};
use crate::handed::{self, Known};
use crate::maps::Maps;
use crate::short;
use crate::subprogram::{self, MAY_LEAVE};

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
    /// Goes on with what the short way has handed on; where what passes there goes on.
    fn express(self, arrival: &Arrival) -> Result<Option<Onward>, DropReason>;
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
    /// As well, as the first packet of a flow.
    Begun,
    /// As well, because it is in a tunnel: in none it might have gone past it.
    Tunnel,
}

impl Stages for *mut xdp_md {
    #[inline(always)]
    fn express(self, arrival: &Arrival) -> Result<Option<Onward>, DropReason> {
        let Some(handed) = handed::place().filter(|_| short::is_there()) else { return Ok(None) };
        match handed.take() {
            Known::Nothing => Ok(None),
            Known::Opening => Ok((subprogram::express_opening() != 0).then_some(Onward::Begun)),
            Known::Datagram => {
                let number = subprogram::express_inside(self, arrival.ifindex, arrival.length);
                let onward = if number & MAY_LEAVE == 0 { Onward::Stack } else { Onward::Tunnel };
                step_from_number(number & !MAY_LEAVE).map(|pass| pass.map(|_| onward))
            }
        }
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
    fn express(self, _arrival: &Arrival) -> Result<Option<Onward>, DropReason> {
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
