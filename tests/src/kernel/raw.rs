//! The bridge from the ABI's types to aya's.

use bytemuck::Pod;

/// A type of the ABI, for aya's typed maps.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Raw<T>(pub T);

// SAFETY: `bytemuck::Pod` promises what `aya::Pod` asks for: any bytes are a value, and there is no padding.
unsafe impl<T: Pod> aya::Pod for Raw<T> {}
