//! Who is in quarantine, on disk: no apply, rollback or restart lifts it.

use std::collections::BTreeMap;

use anyhow::Result;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Moment, Store};
use crate::policy::{Confinement, Name};

/// Devices in quarantine, by name.
pub type Quarantines = BTreeMap<Name, Quarantine>;

/// Why a device is in quarantine, and for how long.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Quarantine {
    /// Why.
    pub reason: String,
    /// Who put it there.
    pub author: String,
    /// When.
    pub since: Moment,
    /// How long it lasts, in milliseconds; until it is released if there is none.
    pub for_ms: Option<u64>,
    /// True if the device may still reach what its segment names for its repair.
    pub allow_repair: bool,
    /// The boot in which the deadline holds, and the deadline by its clock, in milliseconds.
    deadline: Option<(String, u64)>,
}

const NANOSECONDS: u64 = 1_000_000;

impl Quarantine {
    /// Begins now.
    pub fn begin(
        reason: String,
        author: String,
        for_ms: Option<u64>,
        allow_repair: bool,
        now: Moment,
    ) -> Self {
        let deadline = for_ms.map(|time| (now.boot.clone(), now.boot_ms.saturating_add(time)));
        Self { reason, author, since: now, for_ms, allow_repair, deadline }
    }

    /// The deadline in the clock of this boot. After a reboot only the wall clock tells how much of the
    /// time is over; one that cannot be believed tells nothing, and all of it is still to come.
    pub fn settle(&mut self, now: &Moment, trusted: bool) {
        let (Some(whole), Some((boot, _))) = (self.for_ms, &self.deadline) else { return };
        if *boot == now.boot {
            return;
        }
        let elapsed = now.wall.duration_since(self.since.wall).as_millis();
        let elapsed = u64::try_from(elapsed).unwrap_or_default();
        let left = if trusted { whole.saturating_sub(elapsed) } else { whole };
        self.deadline = Some((now.boot.clone(), now.boot_ms.saturating_add(left)));
    }

    /// True if the time is over.
    pub fn is_over(&self, now: &Moment) -> bool {
        self.deadline.as_ref().is_some_and(|(boot, at)| *boot == now.boot && *at <= now.boot_ms)
    }

    /// When it will end by the wall clock as it goes now.
    pub fn ends(&self, now: &Moment) -> Option<Timestamp> {
        let (_, at) = self.deadline.as_ref()?;
        let left = i64::try_from(at.saturating_sub(now.boot_ms)).ok()?;
        now.wall.checked_add(jiff::SignedDuration::from_millis(left)).ok()
    }

    /// As the tables hold it.
    pub fn confinement(&self) -> Confinement {
        let until = self.deadline.as_ref().map(|(_, at)| at.saturating_mul(NANOSECONDS));
        Confinement { until, repair: self.allow_repair }
    }
}

impl Store {
    /// Reads who is in quarantine.
    ///
    /// # Errors
    /// The list is damaged: nobody knows whom it names.
    pub fn quarantines(&self) -> Result<Quarantines> {
        self.list(FILE, FORMAT)
    }

    /// Keeps who is in quarantine, whole or not at all.
    ///
    /// # Errors
    /// The disk is full or not writable; the list is the old one.
    pub fn keep_quarantines(&self, list: &Quarantines) -> Result<()> {
        self.keep_list(FILE, FORMAT, list)
    }
}

const FILE: &str = "quarantine";
const FORMAT: &str = "bulkhead-quarantine-1";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn moment(boot: &str, boot_ms: u64, wall: &str) -> Moment {
        Moment { boot: boot.to_owned(), boot_ms, wall: wall.parse().unwrap() }
    }

    fn for_an_hour() -> Quarantine {
        let since = moment("a", 100_000, "2026-12-01T10:00:00Z");
        Quarantine::begin("beacons".to_owned(), "kari".to_owned(), Some(3_600_000), false, since)
    }

    #[test]
    fn the_boot_clock_counts_while_the_host_is_up() {
        let quarantine = for_an_hour();
        assert_eq!(quarantine.confinement().until, Some(3_700_000_000_000));
        assert!(!quarantine.is_over(&moment("a", 3_699_999, "2030-01-01T00:00:00Z")));
        assert!(quarantine.is_over(&moment("a", 3_700_000, "1970-01-01T00:00:00Z")));
    }

    #[test]
    fn after_a_reboot_the_wall_clock_counts_as_far_as_it_can_be_believed() {
        for (wall, trusted, left) in [
            ("2026-12-01T10:20:00Z", true, 2_400_000),
            ("2026-12-01T10:20:00Z", false, 3_600_000),
            ("2026-12-01T12:00:00Z", true, 0),
            ("1970-01-01T00:00:00Z", true, 3_600_000),
        ] {
            let (mut quarantine, now) = (for_an_hour(), moment("b", 5_000, wall));
            quarantine.settle(&now, trusted);
            assert_eq!(
                quarantine.confinement().until,
                Some((5_000 + left) * NANOSECONDS),
                "{wall} {trusted}"
            );
            assert_eq!(quarantine.is_over(&now), left == 0);
        }
    }

    #[test]
    fn the_list_comes_back_and_a_damaged_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.quarantines().unwrap(), Quarantines::new());
        let list = Quarantines::from([(Name::new("pump-1").unwrap(), for_an_hour())]);
        store.keep_quarantines(&list).unwrap();
        assert_eq!(store.quarantines().unwrap(), list);
        let path = folder.path().join(FILE);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(format!("{:#}", store.quarantines().unwrap_err()).contains("damaged"));
    }
}
