//! A datagram for a GTP-U endpoint, as far as the short way reads it before it looks inside.

use crate::abi::value::ROLE_WITNESS;
use crate::abi::{Addr, NetworkId, Span, Subinterface};
use crate::decide::Tables;
use crate::plain::Plain;
use crate::search;

/// A plain datagram of somebody who may send it, for an endpoint of this host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct Datagram {
    /// VLAN number of its frame.
    pub vlan: u16,
    /// Where its UDP header begins: behind the headers of a plain frame.
    pub at: u32,
    /// The network that is seen there; none if the packet inside tells.
    pub network: NetworkId,
}

impl Datagram {
    /// Nothing if [`crate::tunnel::enter`] would not look inside.
    #[inline(always)]
    pub(super) fn of<T: Tables>(tables: &T, plain: &Plain, place: &Subinterface) -> Option<Self> {
        let judged = place.roles & ROLE_WITNESS == 0;
        let entered = judged
            && plain.is_gtpu()
            && is_among(tables, place.endpoints, plain.destination())
            && is_among(tables, place.peers, plain.source());
        entered.then_some(Self { vlan: plain.vlan, at: plain.transport, network: place.network })
    }
}

#[inline(always)]
fn is_among<T: Tables>(tables: &T, span: Span, address: Addr) -> bool {
    matches!(search::scope_of_few(tables, span, address), Ok(scope) if scope != 0)
}
