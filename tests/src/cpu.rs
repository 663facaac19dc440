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
