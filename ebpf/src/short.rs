//! The short way, as a program of its own in front of the whole one.
//!
//! Most packets go no further. To them a call would cost a sixth of all they take, where the kernel makes returns safe, and
//! the stack that they need would be taken from every chain of calls of the whole way. So this program calls nobody on its
//! way, and what it does not end goes on by a tail call, which the kernel patches into a jump.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use bulkhead_common::abi::value::NETWORK_FORWARDS;
use bulkhead_common::candidate::Decided;
use bulkhead_common::case::{Arrival, LinkType};
use bulkhead_common::decide::Tables as _;
use bulkhead_common::express::{self, Sight};
use bulkhead_common::verdict::{DropReason, Evidence, Pass, Verdict};

use crate::account::{self, Counters};
use crate::frame::{FirstBuffer, Packet, arrival};
use crate::maps::{self, Maps};
use crate::{candidate, handed, onward};

/// Ends a frame that enters, or hands it on.
#[inline(always)]
pub(crate) fn enter(context: &XdpContext) -> u32 {
    let first = arrival(context, false);
    let (verdict, flags) = match look(context.ctx, &first) {
        Ok(Some(flags)) => (Verdict::Pass(Pass::Established), flags),
        Ok(None) => {
            onward::judge(context);
            // Nothing may pass that nobody has judged.
            (Verdict::Drop(DropReason::InternalTable), 0)
        }
        Err(reason) => {
            account::keep_silent();
            (Verdict::Drop(reason), 0)
        }
    };
    Counters::of(&first).ended(verdict, &first);
    candidate::tell(&Decided::new(verdict, &Evidence::NONE));
    // It wants the frame as it came. So while there is one, the stack forwards.
    candidate::hand_on_entering(context);
    if flags & NETWORK_FORWARDS != 0 {
        onward::leave(context);
    }
    if verdict.passes() { XDP_PASS } else { XDP_DROP }
}

/// The network's flags of a frame that passes; of another one that goes on, the program behind finds what is known.
#[inline(always)]
fn look(context: *mut xdp_md, arrival: &Arrival) -> Result<Option<u32>, DropReason> {
    let epoch = Maps.epoch();
    if !is_there() {
        return handed::nothing().map(|()| None);
    }
    let frame = FirstBuffer(Packet::new(context, arrival.length));
    match express::outside(&frame, &Maps, epoch, arrival)? {
        Sight::Passes(flags) => return Ok(Some(flags)),
        Sight::Nothing => handed::nothing()?,
        Sight::Inside(datagram) => handed::datagram(datagram, epoch)?,
        Sight::Opens(opening) => handed::opening(opening)?,
    }
    Ok(None)
}

/// Who wants to be told of every packet must let it go the whole way, and there is no other for frames without an Ethernet
/// header. The verifier knows whose program it is, and looks no further.
#[inline(always)]
pub(crate) fn is_there() -> bool {
    !maps::tells_all() && !maps::is_candidate() && matches!(maps::link_type(), LinkType::Ethernet)
}
