//! When the program was attached to a host whose flows it did not know, on disk: a restart goes on from there.

use std::time::Duration;

use anyhow::Result;

use super::{Moment, Store};

/// How long it takes until flows that were live before have shown themselves.
pub fn warms_for(since: &Moment, whole: Duration, now: &Moment) -> Duration {
    let elapsed = now.boot_ms.checked_sub(since.boot_ms).filter(|_| since.boot == now.boot);
    elapsed.map_or(Duration::ZERO, |elapsed| whole.saturating_sub(Duration::from_millis(elapsed)))
}

impl Store {
    /// When the program was attached without flows, if it ever was.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn attached_cold(&self) -> Result<Option<Moment>> {
        self.list(FILE, FORMAT)
    }

    /// Keeps when the program was attached without flows.
    ///
    /// # Errors
    /// The disk is full or not writable.
    pub fn keep_attached_cold(&self, at: &Moment) -> Result<()> {
        self.keep_list(FILE, FORMAT, &Some(at))
    }
}

const FILE: &str = "attached";
const FORMAT: &str = "bulkhead-attached-1";

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(boot: &str, boot_ms: u64) -> Moment {
        Moment { boot: boot.to_owned(), boot_ms, wall: "2026-12-01T10:00:00Z".parse().unwrap() }
    }

    #[test]
    fn it_is_over_in_time_and_with_the_boot() {
        let (since, whole) = (moment("a", 10_000), Duration::from_secs(300));
        for (now, left) in [
            (moment("a", 10_000), 300_000),
            (moment("a", 309_999), 1),
            (moment("a", 310_000), 0),
            (moment("a", 9_000), 0),
            (moment("b", 10_001), 0),
        ] {
            assert_eq!(warms_for(&since, whole, &now), Duration::from_millis(left), "{now:?}");
        }
    }

    #[test]
    fn it_comes_back_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.attached_cold().unwrap(), None);
        store.keep_attached_cold(&moment("a", 7)).unwrap();
        assert_eq!(store.attached_cold().unwrap(), Some(moment("a", 7)));
    }
}
