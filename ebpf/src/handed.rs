//! What the program of the short way hands on with a packet that it does not end: what it has found out already.
//!
//! It lies in memory of the CPU at hand, and the program behind takes it out before anything else of this packet: it is never
//! there for another one.

use aya_ebpf::btf_maps::{PerCpuArray, ProgramArray};
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::XdpContext;
use bulkhead_common::abi::Epoch;
use bulkhead_common::abi::value::NETWORK_FORWARDS;
use bulkhead_common::express::{Datagram, Opening, Sight};

/// The program behind that of the short way; in its slot before the other is attached.
#[btf_map]
static WHOLE: ProgramArray<1> = ProgramArray::new();

#[btf_map]
static HANDED: PerCpuArray<Handed, 1> = PerCpuArray::new();

/// What is known of a packet.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Known {
    /// Nothing: it takes the whole way.
    Nothing = 0,
    /// It is of a flow that is vouched for, and its network forwards by XDP.
    Leaves = 1,
    /// [`Handed::datagram`].
    Datagram = 2,
    /// [`Handed::opening`].
    Opening = 3,
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

impl Handed {
    /// Leaves what the short way has seen, unless that ends the packet: then it comes back as the packet's network flags.
    #[inline(always)]
    pub(crate) fn leave(&mut self, sight: Sight, epoch: Epoch) -> Option<u32> {
        self.known = match sight {
            Sight::Passes(flags) if flags & NETWORK_FORWARDS == 0 => return Some(flags),
            Sight::Passes(_) => Known::Leaves,
            Sight::Nothing => Known::Nothing,
            Sight::Inside(datagram) => {
                (self.epoch, self.datagram) = (epoch, datagram);
                Known::Datagram
            }
            Sight::Opens(opening) => {
                self.opening = opening;
                Known::Opening
            }
        };
        None
    }

    /// Takes out what is known.
    #[inline(always)]
    pub(crate) fn take(&mut self) -> Known {
        core::mem::replace(&mut self.known, Known::Nothing)
    }
}

/// Calls the program behind; comes back if there is none.
#[inline(always)]
pub(crate) fn go_on(context: &XdpContext) {
    // SAFETY: nothing here waits to be dropped.
    unsafe { WHOLE.tail_call(context, 0) };
}
