//! Records of what was done: a JSON object a line, the newest last.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use super::Store;

/// A record that is longer gives way to a new one.
pub(super) const RECORD_BYTES: u64 = 8 << 20;

impl Store {
    /// Adds an entry to a record; one that has grown long is kept as `NAME.1` beside a new one.
    pub(super) fn record(&self, name: &str, entry: &impl Serialize) -> Result<()> {
        let path = self.folder.join(name);
        let act = || format!("write {}", path.display());
        self.make_room(name)?;
        let mut line = serde_json::to_vec(entry).with_context(act)?;
        line.push(b'\n');
        let mut options = fs::OpenOptions::new();
        options.create(true).append(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let written =
            options.open(&path).and_then(|mut file| file.write_all(&line).and_then(|()| file.sync_data()));
        written.with_context(act)
    }

    /// Puts a record aside that has grown long.
    pub(super) fn make_room(&self, name: &str) -> Result<()> {
        let path = self.folder.join(name);
        if fs::metadata(&path).is_ok_and(|found| found.len() > RECORD_BYTES) {
            fs::rename(&path, rotated(&path)).with_context(|| format!("put {} aside", path.display()))?;
        }
        Ok(())
    }
}

/// Where a record is kept that gave way to a new one.
pub(super) fn rotated(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}
