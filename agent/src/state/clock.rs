//! What the wall clock has shown, on disk: no restart and no reboot reopens what has closed.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::Store;
use crate::policy::{Anchor, Pair};

/// What is kept of the clocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptClock {
    /// The boot whose clock [`Self::seen`] and [`Self::anchor`] are told by.
    pub boot: String,
    /// The highest wall time ever seen.
    pub seen: Pair,
    /// What windows were worked out from.
    pub anchor: Anchor,
}

impl Store {
    /// Reads what the clock has shown.
    ///
    /// # Errors
    /// The file is damaged: nobody knows.
    pub fn clock(&self) -> Result<Option<KeptClock>> {
        self.list(FILE, FORMAT)
    }

    /// Keeps what the clock has shown, whole or not at all.
    ///
    /// # Errors
    /// The disk is full or not writable; the file is the old one.
    pub fn keep_clock(&self, clock: &KeptClock) -> Result<()> {
        self.keep_list(FILE, FORMAT, &Some(clock))
    }
}

/// The file's name.
const FILE: &str = "clock";
const FORMAT: &str = "bulkhead-clock-1";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_the_clock_has_shown_comes_back_and_a_damaged_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.clock().unwrap(), None);
        let seen = Pair { wall: "2026-12-01T10:00:00.123456789Z".parse().unwrap(), boot: 7_000_000_001 };
        let kept = KeptClock { boot: "a".to_owned(), seen, anchor: Anchor::new(seen) };
        store.keep_clock(&kept).unwrap();
        assert_eq!(store.clock().unwrap(), Some(kept));
        let path = folder.path().join(FILE);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(format!("{:#}", store.clock().unwrap_err()).contains("damaged"));
    }
}
