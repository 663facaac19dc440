//! A thread stays on one CPU: what a program keeps for each CPU is then what this thread's packets left there.

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

/// Keeps the calling thread where it is.
///
/// # Errors
///
/// If the kernel refuses.
pub fn stay() -> Result<()> {
    stay_on(sched_getcpu().context("ask for the CPU")?)
}

/// Lets the calling thread run only while its CPU has nothing else to do (`SCHED_IDLE`, sched(7)).
///
/// # Errors
///
/// If the kernel refuses.
pub fn give_way() -> Result<()> {
    let priority = libc::sched_param { sched_priority: 0 };
    // SAFETY: the kernel reads the structure and keeps nothing of it.
    let refused = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const priority) };
    nix::errno::Errno::result(refused).map(drop).context("give way to everybody else")
}

/// Keeps the calling thread on a CPU, from now on.
///
/// # Errors
///
/// If there is no such CPU, or the kernel refuses.
pub fn stay_on(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu).with_context(|| format!("choose CPU {cpu}"))?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("stay on CPU {cpu}"))
}
