//! What was said of devices while they run, on disk: no apply, rollback or restart forgets it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{Moment, Store};
use crate::policy::{Attribute, AttributeKey, Attributes, Name, Source, UNKNOWN_AGE};

/// What was said, by device and attribute.
pub type Sayings = BTreeMap<Name, BTreeMap<AttributeKey, Saying>>;

/// What somebody said of one attribute.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Saying {
    /// The value in its normal form.
    pub value: String,
    /// On whose word.
    pub source: Source,
    /// Who said it, as `kari via sudo`.
    pub author: String,
    /// When.
    pub since: Moment,
}

impl Saying {
    /// How long ago it was said. While the host stays up the boot clock counts. After a reboot only the wall clock
    /// tells; one that cannot be believed tells nothing, and what nobody knows the age of is too old for everybody.
    pub fn age(&self, now: &Moment, trusted: bool) -> Duration {
        if now.boot == self.since.boot {
            return Duration::from_millis(now.boot_ms.saturating_sub(self.since.boot_ms));
        }
        let elapsed = u64::try_from(now.wall.duration_since(self.since.wall).as_millis());
        elapsed.ok().filter(|_| trusted).map_or(UNKNOWN_AGE, Duration::from_millis)
    }

    fn attribute(&self, now: &Moment, trusted: bool) -> Attribute {
        let age = self.age(now, trusted);
        let ago = i64::try_from(age.as_millis()).ok().filter(|_| age < UNKNOWN_AGE);
        let said_ms = ago.and_then(|ago| i64::try_from(now.boot_ms).ok()?.checked_sub(ago));
        Attribute { value: self.value.clone(), source: self.source, age: Some(age), said_ms }
    }
}

/// What is known now.
pub fn known(sayings: &Sayings, now: &Moment, trusted: bool) -> BTreeMap<Name, Attributes> {
    let attributes = |said: &BTreeMap<AttributeKey, Saying>| {
        said.iter().map(|(key, saying)| (key.clone(), saying.attribute(now, trusted))).collect()
    };
    sayings.iter().map(|(name, said)| (name.clone(), attributes(said))).collect()
}

impl Store {
    /// Reads what was said of devices.
    ///
    /// # Errors
    /// The list is damaged: what a device's document says may not count any more, and nobody knows of which.
    pub fn sayings(&self) -> Result<Sayings> {
        self.list(FILE, FORMAT)
    }

    /// Keeps what was said of devices, whole or not at all.
    ///
    /// # Errors
    /// The disk is full or not writable; the list is the old one.
    pub fn keep_sayings(&self, list: &Sayings) -> Result<()> {
        self.keep_list(FILE, FORMAT, list)
    }
}

impl Store {
    /// Adds an entry to the record of who said what: a JSON object a line, the newest last.
    ///
    /// # Errors
    /// The disk is full or not writable.
    pub fn record_saying(&self, entry: &impl Serialize) -> Result<()> {
        self.record(RECORD, entry)
    }
}

/// The record.
const RECORD: &str = "attributes.log";

const FILE: &str = "attributes";
const FORMAT: &str = "bulkhead-attributes-1";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn moment(boot: &str, boot_ms: u64, wall: &str) -> Moment {
        Moment { boot: boot.to_owned(), boot_ms, wall: wall.parse().unwrap() }
    }

    fn saying() -> Saying {
        let since = moment("a", 100_000, "2026-12-01T10:00:00Z");
        Saying { value: "2.5".to_owned(), source: Source::Cli, author: "kari".to_owned(), since }
    }

    #[test]
    fn the_boot_clock_tells_the_age_while_the_host_is_up() {
        for wall in ["1970-01-01T00:00:00Z", "2026-12-01T10:00:00Z", "2030-01-01T00:00:00Z"] {
            assert_eq!(saying().age(&moment("a", 160_000, wall), false), Duration::from_secs(60));
        }
    }

    #[test]
    fn after_a_reboot_a_clock_that_cannot_be_believed_makes_everything_too_old() {
        for (wall, trusted, age) in [
            ("2026-12-01T10:05:00Z", true, Duration::from_secs(300)),
            ("2026-12-01T10:05:00Z", false, UNKNOWN_AGE),
            ("2026-12-01T09:59:59Z", true, UNKNOWN_AGE),
        ] {
            assert_eq!(saying().age(&moment("b", 5_000, wall), trusted), age, "{wall} {trusted}");
        }
    }

    #[test]
    fn the_list_comes_back_and_a_damaged_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.sayings().unwrap(), Sayings::new());
        let said =
            [AttributeKey::Plmn, AttributeKey::Label("firmware".to_owned())].map(|key| (key, saying()));
        let list = Sayings::from([(Name::new("pump-1").unwrap(), said.into())]);
        store.keep_sayings(&list).unwrap();
        assert_eq!(store.sayings().unwrap(), list);
        let path = folder.path().join(FILE);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(format!("{:#}", store.sayings().unwrap_err()).contains("damaged"));
    }
}
