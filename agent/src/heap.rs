//! How this process takes memory from the kernel.

/// Lets the heap of each thread grow by much at once.
///
/// A thread's heap in the GNU library has room for 64 MiB and is opened page by page otherwise, with a system call each:
/// of a million devices, read by threads of their own, that took as long as compiling them. What threads free stays with
/// this process for those that come, and blocks of 128 KiB and more are always mapped by themselves (mallopt(3)).
pub fn grow_in_strides() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it only sets a number that the allocator goes by, before other threads are started.
    unsafe {
        libc::mallopt(libc::M_TOP_PAD, 64 << 20);
    }
}
