//! What a program that is only ever run by `BPF_PROG_TEST_RUN` is told of each frame.

use bytemuck::{Pod, Zeroable};

/// How a replayed frame entered.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct ReplayInput {
    /// Monotonic time in nanoseconds.
    pub now: u64,
    /// Boot time in nanoseconds: it goes on while the host sleeps.
    pub boot: u64,
    /// The interface.
    pub ifindex: u32,
    /// [`crate::case::LinkType`] as a number.
    pub link: u32,
    /// Bytes of the frame on the wire, of which the program may be shown the first only; 0 if it is shown all.
    pub length: u32,
    /// Zero.
    pub _pad: u32,
}
