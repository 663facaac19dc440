//! The only packet pointer arithmetic.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::helpers::{bpf_skb_load_bytes, bpf_xdp_get_buff_len, bpf_xdp_load_bytes};
use aya_ebpf::programs::XdpContext;
use bulkhead_common::case::Arrival;
use bulkhead_common::frame::Frame;

use crate::bounded::bounded;
use crate::{maps, words};

/// No header begins later; tells the verifier how far a pointer can move. A mask: all ones.
const MAX_OFFSET: u32 = 0x3fff;

/// What the kernel hands to a program, with a packet in it.
pub(crate) trait Context: Copy {
    /// First and last address that may be read directly: a part of the packet, where it lies in several buffers.
    fn linear(self) -> (usize, usize);
    /// Bytes of the whole packet.
    fn length(self) -> u32;
    /// Bytes of it in the first buffer, which asks nobody.
    #[inline(always)]
    fn first_length(self) -> u32 {
        match maps::replay() {
            Some(_) => self.length(),
            None => {
                let (start, end) = self.linear();
                (end - start) as u32
            }
        }
    }
    /// Copies `N` bytes from anywhere in the packet.
    fn copy<const N: usize>(self, at: u32) -> Option<[u8; N]>;
}

impl Context for *mut xdp_md {
    #[inline(always)]
    fn linear(self) -> (usize, usize) {
        // SAFETY: the kernel's context outlives the program.
        unsafe { ((*self).data as usize, (*self).data_end as usize) }
    }

    #[inline(always)]
    fn length(self) -> u32 {
        match maps::replay() {
            // What a capture has cut off cannot be read, but it was there.
            Some(input) if input.length != 0 => input.length,
            // SAFETY: as above; the kernel counts every fragment of a multi-buffer frame.
            _ if maps::has_frags() => unsafe { bpf_xdp_get_buff_len(self) as u32 },
            _ => {
                let (start, end) = self.linear();
                (end - start) as u32
            }
        }
    }

    #[inline(always)]
    fn copy<const N: usize>(self, at: u32) -> Option<[u8; N]> {
        if !maps::has_frags() {
            return None;
        }
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: the helper writes `N` bytes or says that it did not.
        let failed = unsafe { bpf_xdp_load_bytes(self, at, bytes.as_mut_ptr().cast(), N as u32) };
        // SAFETY: all of it was written.
        (failed == 0).then(|| unsafe { bytes.assume_init() })
    }
}

impl Context for *mut __sk_buff {
    #[inline(always)]
    fn linear(self) -> (usize, usize) {
        // SAFETY: the kernel's context outlives the program.
        unsafe { ((*self).data as usize, (*self).data_end as usize) }
    }

    #[inline(always)]
    fn length(self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self).len }
    }

    #[inline(always)]
    fn copy<const N: usize>(self, at: u32) -> Option<[u8; N]> {
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: the helper writes `N` bytes or says that it did not.
        let failed = unsafe { bpf_skb_load_bytes(self.cast(), at, bytes.as_mut_ptr().cast(), N as u32) };
        // SAFETY: all of it was written.
        (failed == 0).then(|| unsafe { bytes.assume_init() })
    }
}

/// How a frame enters. Asked twice, where it would else lie on the stack meanwhile; with the length of the whole frame or of
/// its first buffer.
#[inline(always)]
pub(crate) fn arrival(context: &XdpContext, whole: bool) -> Arrival {
    let length = if whole { context.ctx.length() } else { context.ctx.first_length() };
    Arrival::of(maps::interface(context), maps::link_type(), length)
}

/// The packet of a context.
pub(crate) struct Packet<C> {
    context: C,
    start: usize,
    end: usize,
    length: u32,
}

impl<C: Context> Packet<C> {
    /// The packet, whose whole length is known.
    #[inline(always)]
    pub(crate) fn new(context: C, length: u32) -> Self {
        let (start, end) = context.linear();
        Self { context, start, end, length }
    }

    /// Reads where the first buffer has it all.
    #[inline(always)]
    fn read<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        let from = self.start + bounded::<MAX_OFFSET>(at);
        if from + N > self.end {
            return None;
        }
        // SAFETY: `from..from + N` lies inside `data..data_end`, checked above.
        Some(unsafe { words::read(from) })
    }
}

impl<C: Context> Frame for Packet<C> {
    #[inline(always)]
    fn len(&self) -> u32 {
        self.length
    }

    #[inline(always)]
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        if at > MAX_OFFSET {
            return None;
        }
        // Beyond the first buffer: jumbo frames, and what the stack has merged.
        self.read(at).or_else(|| self.context.copy(at))
    }
}

/// A packet of which only the first buffer is read; what lies behind it seems cut off.
pub(crate) struct FirstBuffer<C>(pub(crate) Packet<C>);

impl<C: Context> Frame for FirstBuffer<C> {
    #[inline(always)]
    fn len(&self) -> u32 {
        self.0.length
    }

    #[inline(always)]
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        if at > MAX_OFFSET { None } else { self.0.read(at) }
    }
}
