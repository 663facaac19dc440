//! Records of what was done: a JSON object a line, the newest last.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, Result};
use serde::Serialize;

use super::Store;

/// A record that is longer gives way to a new one.
const RECORD_BYTES: u64 = 8 << 20;

impl Store {
    /// Adds an entry to a record; one that has grown long is kept as `NAME.1` beside a new one.
    pub(super) fn record(&self, name: &str, entry: &impl Serialize) -> Result<()> {
        let path = self.folder.join(name);
        let act = || format!("write {}", path.display());
        if fs::metadata(&path).is_ok_and(|found| found.len() > RECORD_BYTES) {
            fs::rename(&path, self.folder.join(format!("{name}.1"))).with_context(act)?;
        }
        let mut line = serde_json::to_vec(entry).with_context(act)?;
        line.push(b'\n');
        let mut options = fs::OpenOptions::new();
        options.create(true).append(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let written =
            options.open(&path).and_then(|mut file| file.write_all(&line).and_then(|()| file.sync_data()));
        written.with_context(act)
    }
}
