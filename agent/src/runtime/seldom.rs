//! Work that takes long on a large host is done a small part of the time only.

use std::time::{Duration, Instant};

/// Not more than one part in this many of the time.
const ONE_IN: u32 = 50;
/// Nor less often than this.
const AT_THE_LATEST: Duration = Duration::from_secs(300);

/// When such work may be done again.
#[derive(Debug, Default)]
pub(super) struct Seldom {
    next: Option<Instant>,
}

impl Seldom {
    /// True if it may be done.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| next <= now)
    }

    /// It was begun at one time and done at another.
    pub(super) fn done(&mut self, begun: Instant, now: Instant) {
        self.next = Some(now + ((now - begun) * ONE_IN).min(AT_THE_LATEST));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_longer_is_done_less_often() {
        let (start, mut work) = (Instant::now(), Seldom::default());
        assert!(work.is_due(start));
        for (took, waits) in
            [(Duration::from_millis(100), Duration::from_secs(5)), (AT_THE_LATEST, AT_THE_LATEST)]
        {
            let done = start + took;
            work.done(start, done);
            assert!(!work.is_due(done + waits - Duration::from_millis(1)));
            assert!(work.is_due(done + waits));
        }
    }
}
