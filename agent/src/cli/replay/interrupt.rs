//! Ctrl-C ends a replay between two packets: the last line is whole, and the summary tells of what was judged.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// What the shell reports for a process ended by SIGINT.
pub(super) const INTERRUPTED: u8 = 130;

static COME: AtomicBool = AtomicBool::new(false);

/// Watches for Ctrl-C.
#[derive(Debug)]
pub(super) struct Watch;

impl Watch {
    /// Takes Ctrl-C over, unless the capture is live: waiting for its next packet must not outlast Ctrl-C, and each of
    /// its lines is out already.
    pub(super) fn begin(is_live: bool) -> Result<Self> {
        if !is_live {
            let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
            // SAFETY: the handler only stores to an atomic.
            unsafe { sigaction(Signal::SIGINT, &action) }.context("watch for Ctrl-C")?;
        }
        Ok(Self)
    }

    /// True once it has come.
    #[expect(clippy::unused_self, reason = "nothing has come before watching has begun")]
    pub(super) fn has_come(&self) -> bool {
        COME.load(Ordering::Relaxed)
    }
}

extern "C" fn note(_: libc::c_int) {
    COME.store(true, Ordering::Relaxed);
}
