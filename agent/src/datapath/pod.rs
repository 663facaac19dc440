//! The bridge from our layouts to aya's.

/// A type of `bulkhead_common::abi`, for aya's typed maps.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(super) struct Abi<T>(pub(super) T);

// SAFETY: `bytemuck::Pod` promises what `aya::Pod` asks for: any bytes are a value, and there is no padding.
unsafe impl<T: bytemuck::Pod> aya::Pod for Abi<T> {}
