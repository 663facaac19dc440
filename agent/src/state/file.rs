//! One state file: a line with format and checksum, then JSON.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use sha2::{Digest, Sha256};

use super::accepted::State;

/// First word of a state file, with the format's number.
const FORMAT: &str = "bulkhead-state-1";

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

/// Understands the bytes of a file.
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<State> {
    understand(bytes).with_context(|| format!("{} is damaged", path.display()))
}

fn understand(bytes: &[u8]) -> Result<State> {
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(|| anyhow!("it has no first line"))?;
    let (head, body) = (&bytes[..end], &bytes[end + 1..]);
    let head = std::str::from_utf8(head).context("its first line is no text")?;
    let (format, checksum) = head.split_once(' ').ok_or_else(|| anyhow!("its first line has no checksum"))?;
    ensure!(format == FORMAT, "it was written by another version ({format}, this one reads {FORMAT})");
    ensure!(checksum == digest(body), "its checksum does not fit its content");
    serde_json::from_slice(body).context("its content is not a state")
}

/// Writes and syncs a state.
pub(super) fn write(path: &Path, state: &State) -> Result<()> {
    let act = || format!("write {}", path.display());
    let body = serde_json::to_vec(state).with_context(act)?;
    let mut options = fs::OpenOptions::new();
    options.create(true).truncate(true).write(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let mut file = options.open(path).with_context(act)?;
    file.write_all(format!("{FORMAT} {}\n", digest(&body)).as_bytes()).with_context(act)?;
    file.write_all(&body).with_context(act)?;
    file.sync_all().with_context(act)
}

/// Makes renames in a folder survive a power cut.
pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    let opened = fs::File::open(folder).and_then(|folder| folder.sync_all());
    opened.with_context(|| format!("sync {}", folder.display()))
}

fn digest(body: &[u8]) -> String {
    Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect()
}
