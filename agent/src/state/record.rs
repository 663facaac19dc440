//! A record that shows whether it is whole: each line holds the one before, and the newest is kept beside it.
//!
//! A line is written and synced before what is kept of it: if the agent dies in between, the record goes on by one line
//! from there. A line that was not written to its end is taken away before the next, which changes nothing that
//! anybody was told.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use super::anchor::{Anchor, Chain};
use super::digest::digest;
use super::link::{Line, Link};
use super::log::{RECORD_BYTES, rotated};
use super::{Store, file};

/// The record of what was done with grants, the newest last.
pub(super) const RECORD: &str = "grants.log";
/// What is kept of its newest line.
pub(super) const HEAD: &str = "grants.head";
pub(super) const FORMAT: &str = "bulkhead-record-head-1";

impl Store {
    /// Adds an entry to the record of what was done with grants; what is to be told outside of it.
    ///
    /// # Errors
    /// The disk is full or not writable; the record is as it was.
    pub fn record_grant(&self, entry: &impl Serialize) -> Result<Anchor> {
        let path = self.folder.join(RECORD);
        let act = || format!("write {}", path.display());
        self.make_room(RECORD)?;
        let bytes = file::read(&path)?.unwrap_or_default();
        let whole = whole_lines(&bytes);
        let (line, link) = self.newest(whole)?.followed_by(entry).with_context(act)?;
        append(&path, whole.len() as u64, &line).with_context(act)?;
        if let Err(error) = self.keep_list(HEAD, FORMAT, &link) {
            tracing::warn!("an entry is on the record of grants, and not what it is known by: {error:#}");
        }
        Ok(anchor(link))
    }

    /// The newest entry on grants; nothing if there is none, or nobody knows.
    pub fn newest_on_grants(&self) -> Option<Anchor> {
        self.head().filter(|link| link.number > 0).map(anchor)
    }

    /// Where the chain goes on: behind the newest line, or the one that is known to have been there.
    fn newest(&self, lines: &[u8]) -> Result<Link> {
        let tip = match last(lines) {
            // The file is new: what it goes on from was put aside.
            None => {
                let aside = file::read(&rotated(&self.folder.join(RECORD)))?.unwrap_or_default();
                last(&aside).map_or_else(Link::default, |line| tip(line, &aside))
            }
            Some(line) => tip(line, lines),
        };
        let head = self.head().filter(|head| head.number > tip.number);
        Ok(head.unwrap_or(tip))
    }

    fn head(&self) -> Option<Link> {
        let kept = self.list::<Link>(HEAD, FORMAT);
        kept.inspect_err(|error| tracing::error!("where the record of grants ends is lost: {error:#}")).ok()
    }
}

fn anchor(Link { number, hash }: Link) -> Anchor {
    Anchor { chain: Chain::Grants, number, hash }
}

/// The link of a last line; what comes before the first link is sealed by it.
fn tip(line: &[u8], all: &[u8]) -> Link {
    Line::claimed(line).unwrap_or_else(|| Link { number: 0, hash: digest(all) })
}

/// Everything up to the last end of a line.
pub(super) fn whole_lines(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    &bytes[..end]
}

/// The last line of some whole lines.
fn last(lines: &[u8]) -> Option<&[u8]> {
    lines.strip_suffix(b"\n")?.rsplit(|byte| *byte == b'\n').next()
}

/// Puts a line behind the first `at` bytes, whole or not at all.
fn append(path: &Path, at: u64, line: &[u8]) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.create(true).append(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let mut file = options.open(path)?;
    if file.metadata()?.len() > at {
        file.set_len(at)?;
    }
    let written = file.write_all(line).and_then(|()| file.sync_data());
    // A part of a line takes room that is needed, and says nothing.
    written.inspect_err(|_| drop(file.set_len(at)))
}

/// True for a record that was put aside because it had grown long.
pub(super) const fn is_full(bytes: &[u8]) -> bool {
    bytes.len() as u64 > RECORD_BYTES
}
