//! One file of the state: a line with format and checksum, then JSON.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::digest::digest;

/// First word of a file of accepted state, with the format's number.
pub(super) const STATE: &str = "bulkhead-state-1";
/// First word of an entry of the journal.
pub(super) const REVISION: &str = "bulkhead-revision-1";

/// Reads a file; nothing if there is none.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let opened = fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path);
    let mut bytes = Vec::new();
    match opened.and_then(|mut file| file.read_to_end(&mut bytes)) {
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// Reads a file and understands it; nothing if there is none.
pub(super) fn load<T: DeserializeOwned>(path: &Path, format: &str) -> Result<Option<(T, String)>> {
    read(path)?.map(|bytes| parse(path, format, &bytes)).transpose()
}

/// Understands the bytes of a file; its checksum comes with the content.
pub(super) fn parse<T: DeserializeOwned>(path: &Path, format: &str, bytes: &[u8]) -> Result<(T, String)> {
    understand(format, bytes).with_context(|| format!("{} is damaged", path.display()))
}

fn understand<T: DeserializeOwned>(format: &str, bytes: &[u8]) -> Result<(T, String)> {
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(|| anyhow!("it has no first line"))?;
    let (head, body) = (&bytes[..end], &bytes[end + 1..]);
    let head = std::str::from_utf8(head).context("its first line is no text")?;
    let (found, checksum) = head.split_once(' ').ok_or_else(|| anyhow!("its first line has no checksum"))?;
    ensure!(found == format, "it was written by another version ({found}, this one reads {format})");
    ensure!(checksum == digest(body), "its checksum does not fit its content");
    let content = serde_json::from_slice(body).context("its content is not what it should be")?;
    Ok((content, checksum.to_owned()))
}

/// Writes and syncs a file; returns its checksum.
pub(super) fn write(path: &Path, format: &str, content: &impl Serialize) -> Result<String> {
    let act = || format!("write {}", path.display());
    let body = serde_json::to_vec(content).with_context(act)?;
    let checksum = digest(&body);
    let mut options = fs::OpenOptions::new();
    options.create(true).truncate(true).write(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let mut file = options.open(path).with_context(act)?;
    file.write_all(format!("{format} {checksum}\n").as_bytes()).with_context(act)?;
    file.write_all(&body).with_context(act)?;
    file.sync_all().with_context(act)?;
    Ok(checksum)
}

/// Makes renames in a folder survive a power cut.
pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    let opened = fs::File::open(folder).and_then(|folder| folder.sync_all());
    opened.with_context(|| format!("sync {}", folder.display()))
}
