//! The short way, as a program of its own in front of the whole one.
//!
//! Most packets go no further. To them a call would cost a sixth of all they take, where the kernel makes returns safe, and
//! the stack that they need would be taken from every chain of calls of the whole way. So this program calls nobody on its
//! way, and what it does not end goes on by a tail call, which the kernel patches into a jump.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use bulkhead_common::candidate::Decided;
use bulkhead_common::case::{Arrival, LinkType};
use bulkhead_common::decide::Tables as _;
use bulkhead_common::express;
use bulkhead_common::verdict::{DropReason, Evidence, Pass, Verdict};

use crate::account::{self, Counters};
use crate::frame::{FirstBuffer, Packet, arrival};
use crate::maps::{self, Maps};
use crate::{candidate, handed};

/// Ends a frame that enters, or hands it on.
#[inline(always)]
pub(crate) fn enter(context: &XdpContext) -> u32 {
    let first = arrival(context, false);
    let verdict = match look(context.ctx, &first) {
        Ok(true) => Verdict::Pass(Pass::Established),
        Ok(false) => {
            handed::go_on(context);
            // Nothing may pass that nobody has judged.
            Verdict::Drop(DropReason::InternalTable)
        }
        Err(reason) => {
            account::keep_silent();
            Verdict::Drop(reason)
        }
    };
    Counters::of(&first).ended(verdict, &first);
    candidate::tell(&Decided::new(verdict, &Evidence::NONE));
    candidate::hand_on_entering(context);
    if verdict.passes() { XDP_PASS } else { XDP_DROP }
}

/// True if the frame passes; if not, the program behind finds what is known of it.
#[inline(always)]
fn look(context: *mut xdp_md, arrival: &Arrival) -> Result<bool, DropReason> {
    // Absent is impossible for an array of one.
    let Some(handed) = handed::place() else { return Err(DropReason::InternalTable) };
    let epoch = Maps.epoch();
    let sight = if is_there() {
        let frame = FirstBuffer(Packet::new(context, arrival.length));
        express::outside(&frame, &Maps, epoch, arrival)?
    } else {
        express::Sight::Nothing
    };
    Ok(handed.leave(sight, epoch).is_some())
}

/// Who wants to be told of every packet must let it go the whole way, and there is no other for frames without an Ethernet
/// header. The verifier knows whose program it is, and looks no further.
#[inline(always)]
pub(crate) fn is_there() -> bool {
    !maps::tells_all() && !maps::is_candidate() && matches!(maps::link_type(), LinkType::Ethernet)
}
