//! Bounds that the verifier sees.

use core::arch::asm;

/// Masks a number that is known to be at most `MASK` (all ones), in a way the compiler cannot drop.
///
/// The compiler proves a bound and removes the check, or tests one register and uses its copy; the
/// verifier then knows nothing ("invalid access to packet", "invalid access to map value").
#[inline(always)]
pub(crate) fn bounded<const MASK: u32>(number: u32) -> usize {
    let mut number = number as usize;
    // SAFETY: one instruction on one register.
    unsafe {
        asm!("{number} &= {mask}", number = inout(reg) number, mask = const MASK, options(pure, nomem, nostack))
    };
    number
}
