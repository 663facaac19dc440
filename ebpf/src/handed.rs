//! What the program of the short way hands on with a packet that it does not end: what it has found out already.
//!
//! It lies in memory of the CPU at hand, and the program behind takes it out before anything else of this packet: it is never
//! there for another one.

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::btf_map;
use bulkhead_common::abi::Epoch;
use bulkhead_common::express::{Datagram, Opening};
use bulkhead_common::verdict::DropReason;

#[btf_map]
static HANDED: PerCpuArray<Handed, 1> = PerCpuArray::new();

/// What is known of a packet.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Known {
    /// Nothing: it takes the whole way.
    Nothing = 0,
    /// [`Handed::datagram`].
    Datagram = 1,
    /// [`Handed::opening`].
    Opening = 2,
}

/// All of it; whatever is not known is of some packet before.
#[repr(C)]
pub(crate) struct Handed {
    known: Known,
    /// What the packet is judged under.
    pub(crate) epoch: Epoch,
    pub(crate) datagram: Datagram,
    pub(crate) opening: Opening,
}

/// This CPU's place for it.
#[inline(always)]
pub(crate) fn place() -> Option<&'static mut Handed> {
    // SAFETY: the entry is this CPU's own and XDP does not nest on a CPU, so there is one reference at a time.
    HANDED.get_ptr_mut(0).map(|handed| unsafe { &mut *handed })
}

/// Leaves nothing.
#[inline(always)]
pub(crate) fn nothing() -> Result<(), DropReason> {
    leave(|handed| handed.known = Known::Nothing)
}

/// Leaves a datagram, and what its packet is judged under.
#[inline(always)]
pub(crate) fn datagram(datagram: Datagram, epoch: Epoch) -> Result<(), DropReason> {
    leave(|handed| {
        (handed.known, handed.epoch, handed.datagram) = (Known::Datagram, epoch, datagram);
    })
}

/// Leaves a packet that may open a flow.
#[inline(always)]
pub(crate) fn opening(opening: Opening) -> Result<(), DropReason> {
    leave(|handed| (handed.known, handed.opening) = (Known::Opening, opening))
}

#[inline(always)]
fn leave(write: impl FnOnce(&mut Handed)) -> Result<(), DropReason> {
    // Absent is impossible for an array of one.
    place().map(write).ok_or(DropReason::InternalTable)
}

impl Handed {
    /// Takes out what is known.
    #[inline(always)]
    pub(crate) fn take(&mut self) -> Known {
        core::mem::replace(&mut self.known, Known::Nothing)
    }
}
