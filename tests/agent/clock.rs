//! A kernel that does not tell whether somebody keeps the clock right: what the host's own says cannot be changed for a
//! test without changing it for everybody.

use std::io::{Error, Result};

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, c_ulong,
    sock_filter, sock_fprog,
};

/// Refuses to this process, and whatever it starts or becomes, to ask by adjtimex(2) or clock_adjtime(2) (EPERM).
pub(crate) fn keep_silent() -> Result<()> {
    /// Where `struct seccomp_data` (linux/seccomp.h) has the number of the system call.
    const NUMBER: u32 = 0;
    let is = |call: libc::c_long, skip: u8| statement(BPF_JMP | BPF_JEQ | BPF_K, call as u32, [skip, 0]);
    let mut filter = [
        statement(BPF_LD | BPF_W | BPF_ABS, NUMBER, [0, 0]),
        is(libc::SYS_adjtimex, 2),
        is(libc::SYS_clock_adjtime, 1),
        statement(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, [0, 0]),
        statement(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned(), [0, 0]),
    ];
    let program = sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    let mode = libc::SECCOMP_MODE_FILTER as c_ulong;
    // SAFETY: the kernel reads the program, which outlives the call, and keeps a copy.
    match unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) } {
        0 => Ok(()),
        _ => Err(Error::last_os_error()),
    }
}

const fn statement(code: u32, k: u32, [jt, jf]: [u8; 2]) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}
