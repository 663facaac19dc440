//! The wait after which no running packet can still see what was in force before.

use std::io;

use anyhow::{Context, Result};

/// Waits for an RCU grace period: every packet that was being judged at the call is through.
///
/// `membarrier(MEMBARRIER_CMD_GLOBAL)` is `synchronize_rcu` (kernel/sched/membarrier.c), and XDP
/// programs run inside RCU read-side sections. 8–32 ms.
///
/// # Errors
/// The kernel runs with `nohz_full`, where the call is refused.
pub fn wait_for_packets() -> Result<()> {
    const CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: the call takes no pointers.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, CMD_GLOBAL, 0, 0) };
    if result == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
        .context("wait for running packets (membarrier; not available with nohz_full)")
}
