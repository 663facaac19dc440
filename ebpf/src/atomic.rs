//! Atomic words. The BPF target offers no atomic types: adds go through the intrinsics that LLVM
//! turns into `lock +=` and `cmpxchg_64`, loads and stores of aligned words are single instructions.

use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd};

/// Adds to a word that other CPUs add to.
#[inline(always)]
pub(crate) fn add(word: *mut u64, value: u64) {
    // SAFETY: callers pass a pointer into a live map value; the verifier checks that it is one.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(word, value) };
}

/// Replaces a word if it still is what was seen; false if somebody else was first.
///
/// `cmpxchg` of kernel 5.12 (commit 5ffa25502b5a); the kernel's is sequentially consistent.
#[inline(always)]
pub(crate) fn replace(word: *mut u64, seen: u64, new: u64) -> bool {
    const ORDER: AtomicOrdering = AtomicOrdering::SeqCst;
    // SAFETY: as for `add`.
    unsafe { atomic_cxchg::<u64, ORDER, ORDER>(word, seen, new).1 }
}

/// Reads a word that others may write.
#[inline(always)]
pub(crate) fn load(word: *const u64) -> u64 {
    // SAFETY: as for `add`; a volatile read of an aligned word is one instruction.
    unsafe { word.read_volatile() }
}

/// Writes a word that others may read.
#[inline(always)]
pub(crate) fn store(word: *mut u64, value: u64) {
    // SAFETY: as for `add`; a volatile write of an aligned word is one instruction.
    unsafe { word.write_volatile(value) };
}

/// Writes `to` if the word is `from`, and says whether it was. A full barrier, as the kernel defines
/// `BPF_CMPXCHG` (Documentation/bpf/standardization/instruction-set.rst).
#[inline(always)]
pub(crate) fn exchange(word: *mut u64, from: u64, to: u64) -> bool {
    const ORDER: AtomicOrdering = AtomicOrdering::SeqCst;
    // SAFETY: as for `add`.
    let (found, _) = unsafe { atomic_cxchg::<u64, ORDER, ORDER>(word, from, to) };
    found == from
}
