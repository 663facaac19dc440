//! The one system call behind all that aya does not offer.

use std::io;

/// `bpf(2)` with the attributes of one command.
pub(super) fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<libc::c_long> {
    // SAFETY: the commands used here only read `attributes`, and write only where these point.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
