//! The bridge from the ABI's types to aya's.

use bytemuck::{Pod, Zeroable};

/// A type of the ABI, for aya's typed maps.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Raw<T>(pub T);

// SAFETY: `bytemuck::Pod` promises what `aya::Pod` asks for: any bytes are a value, and there is no padding.
unsafe impl<T: Pod> aya::Pod for Raw<T> {}

/// Interface and clock of a replayed packet, as `ebpf/src/maps.rs` has them.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct ReplayInput {
    /// Monotonic time in nanoseconds.
    pub now: u64,
    /// The interface that the frame entered by.
    pub ifindex: u32,
    /// Zero.
    pub _pad: u32,
}
