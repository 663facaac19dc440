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

/// True for 0, in one branch: LLVM would make one of each part that the number was put together of.
#[inline(always)]
pub(crate) fn is_zero(number: u32) -> bool {
    let mut number = number as u64;
    // SAFETY: one instruction on one register. No instruction at all would have the line of the next one, and kernels refuse
    // two lines of one: "Invalid line_info".
    unsafe { asm!("{number} <<= 32", number = inout(reg) number, options(pure, nomem, nostack)) };
    number == 0
}
