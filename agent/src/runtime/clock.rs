//! What the kernel says of its own wall clock.

/// True if somebody keeps the wall clock right: NTP, PTP or the like (adjtimex(2), `STA_UNSYNC`).
pub(super) fn is_synchronised() -> bool {
    // SAFETY: all zeros is a valid `timex` (it asks and sets nothing), and it outlives the call.
    let (state, status) = unsafe {
        let mut timex = std::mem::zeroed::<libc::timex>();
        (libc::adjtimex(&raw mut timex), timex.status)
    };
    state != -1 && state != libc::TIME_ERROR && status & libc::STA_UNSYNC == 0
}
