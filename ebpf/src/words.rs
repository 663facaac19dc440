//! Memory without alignment, read and written by words.
//!
//! The compiler takes what has no alignment byte by byte, and puts words together again with two instructions more for each.
//! The kernel lets programs read packets by words wherever the machine can (`CONFIG_HAVE_EFFICIENT_UNALIGNED_ACCESS`), and
//! x86-64 and arm64 can.

use core::arch::asm;

/// Copies `N` bytes, 47 at most.
///
/// # Safety
/// All of them may be read.
#[inline(always)]
pub(crate) unsafe fn read<const N: usize>(from: usize) -> [u8; N] {
    const { assert!(N < 48) };
    let mut bytes = [0; N];
    let to = bytes.as_mut_ptr();
    macro_rules! copy {
        ($word:ty, $name:literal, $at:expr) => {{
            let word: u64;
            asm!(
                concat!("{word} = *(", $name, " *)({from} + {at})"),
                word = out(reg) word,
                from = in(reg) from,
                at = const $at,
                options(pure, readonly, nostack)
            );
            to.add($at).cast::<$word>().write_unaligned(word as $word);
        }};
    }
    // SAFETY: each reads and writes inside the `N` bytes, which the caller vouches for.
    unsafe {
        if N >= 8 {
            copy!(u64, "u64", 0);
        }
        if N >= 16 {
            copy!(u64, "u64", 8);
        }
        if N >= 24 {
            copy!(u64, "u64", 16);
        }
        if N >= 32 {
            copy!(u64, "u64", 24);
        }
        if N >= 40 {
            copy!(u64, "u64", 32);
        }
        if N & 4 != 0 {
            copy!(u32, "u32", N & !7);
        }
        if N & 2 != 0 {
            copy!(u16, "u16", N & !3);
        }
        if N & 1 != 0 {
            copy!(u8, "u8", N & !1);
        }
    }
    bytes
}

macro_rules! writes {
    ($name:ident, $word:ty, $kind:literal) => {
        /// Writes a word.
        ///
        /// # Safety
        /// All of its bytes may be written.
        #[inline(always)]
        pub(crate) unsafe fn $name(to: usize, word: $word) {
            // SAFETY: the caller vouches for it.
            unsafe {
                asm!(
                    concat!("*(", $kind, " *)({to} + 0) = {word}"),
                    to = in(reg) to,
                    word = in(reg) word as u64,
                    options(nostack)
                );
            }
        }
    };
}

writes!(write_64, u64, "u64");
writes!(write_32, u32, "u32");
writes!(write_16, u16, "u16");
