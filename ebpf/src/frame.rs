//! The only packet pointer arithmetic.

use aya_ebpf::bindings::xdp_md;
use bulkhead_common::frame::Frame;

use crate::bounded::bounded;
use crate::maps;

/// No frame is longer; tells the verifier how far a pointer can move. A mask: all ones.
const MAX_OFFSET: u32 = 0x3fff;

/// The frame between `data` and `data_end`.
pub(crate) struct XdpFrame {
    start: usize,
    end: usize,
}

impl XdpFrame {
    #[inline(always)]
    pub(crate) fn new(context: *mut xdp_md) -> Self {
        // SAFETY: the kernel's context outlives the program.
        unsafe { Self { start: (*context).data as usize, end: (*context).data_end as usize } }
    }
}

impl Frame for XdpFrame {
    #[inline(always)]
    fn len(&self) -> u32 {
        let shown = (self.end - self.start) as u32;
        match maps::replay() {
            // What a capture has cut off cannot be read, but it was there.
            Some(input) if input.length != 0 => input.length,
            _ => shown,
        }
    }

    #[inline(always)]
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        if at > MAX_OFFSET {
            return None;
        }
        let from = self.start + bounded::<MAX_OFFSET>(at);
        if from + N > self.end {
            return None;
        }
        // SAFETY: `from..from + N` lies inside `data..data_end`, checked above, and `[u8; N]` has no alignment.
        Some(unsafe { (from as *const [u8; N]).read() })
    }
}
