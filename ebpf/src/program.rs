//! The engine in the kernel: each stage is a global subprogram.

use aya_ebpf::bindings::xdp_md;
use bulkhead_common::case::Case;
use bulkhead_common::engine::{Engine, Step, step_from_number};

use crate::frame::XdpFrame;
use crate::maps::Maps;
use crate::subprogram;

/// One run of the program on one frame.
pub(crate) struct Program {
    context: *mut xdp_md,
    frame: XdpFrame,
}

impl Program {
    #[inline(always)]
    pub(crate) fn new(context: *mut xdp_md) -> Self {
        Self { context, frame: XdpFrame::new(context) }
    }
}

impl Engine for Program {
    type Frame = XdpFrame;
    type Tables = Maps;

    #[inline(always)]
    fn frame(&self) -> &XdpFrame {
        &self.frame
    }

    #[inline(always)]
    fn tables(&self) -> &Maps {
        &Maps
    }

    #[inline(always)]
    fn parse_link(&self, case: &mut Case) -> Step {
        step_from_number(subprogram::parse_link(self.context, case))
    }

    #[inline(always)]
    fn parse_network(&self, case: &mut Case) -> Step {
        step_from_number(subprogram::parse_network(self.context, case))
    }

    #[inline(always)]
    fn locate(&self, case: &mut Case) -> Step {
        step_from_number(subprogram::locate(case))
    }

    #[inline(always)]
    fn enter_tunnel(&self, case: &mut Case) -> Step {
        step_from_number(subprogram::enter_tunnel(self.context, case))
    }

    #[inline(always)]
    fn identify(&self, case: &mut Case) -> Step {
        step_from_number(subprogram::identify(case))
    }

    #[inline(always)]
    fn read_error(&self, case: &mut Case) -> Step {
        step_from_number(subprogram::read_error(self.context, case))
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
    fn open(&self, case: &mut Case) -> Step {
        step_from_number(subprogram::open(case))
    }
}
