//! One file of the state: a line with format and checksum, then JSON.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::anchor::DIGITS;
use super::digest::digest;

/// First word of a file of accepted state, with the format's number.
pub(super) const STATE: &str = "bulkhead-state-3";
/// First word of what a state is made of.
pub(super) const PART: &str = "bulkhead-part-2";
/// First word of an entry of the journal.
pub(super) const REVISION: &str = "bulkhead-revision-3";

/// How a name ends of what could not be read.
pub(super) const DAMAGED: &str = "damaged-";

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
    if let Some(found) = other_version(format, bytes) {
        bail!("{} was written by another version ({found}, this one reads {format})", path.display());
    }
    understand(format, bytes).with_context(|| format!("{} is damaged", path.display()))
}

fn understand<T: DeserializeOwned>(format: &str, bytes: &[u8]) -> Result<(T, String)> {
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(|| anyhow!("it has no first line"))?;
    let (head, body) = (&bytes[..end], &bytes[end + 1..]);
    let head = std::str::from_utf8(head).context("its first line is no text")?;
    let (found, checksum) = head.split_once(' ').ok_or_else(|| anyhow!("its first line has no checksum"))?;
    ensure!(found == format, "its first line does not begin with {format}");
    ensure!(checksum == digest(body), "its checksum does not fit its content");
    let content = serde_json::from_slice(body).context("its content is not what it should be")?;
    Ok((content, checksum.to_owned()))
}

/// The format of a file, if that is this one with another number.
fn other_version<'b>(format: &str, bytes: &'b [u8]) -> Option<&'b str> {
    let line = bytes.split(|byte| *byte == b'\n').next()?;
    let (found, _) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    let (stem, _) = format.rsplit_once('-')?;
    let (of, number) = found.rsplit_once('-')?;
    (found != format && of == stem && number.parse::<u32>().is_ok()).then_some(found)
}

/// Writes and syncs a file; returns its checksum.
pub(super) fn write(path: &Path, format: &str, content: &impl Serialize) -> Result<String> {
    let (bytes, checksum) = seal(format, content).with_context(|| format!("write {}", path.display()))?;
    put(path, &bytes)?;
    Ok(checksum)
}

/// The bytes of a file, and its checksum.
pub(super) fn seal(format: &str, content: &impl Serialize) -> Result<(Vec<u8>, String)> {
    let first = |checksum: &str| format!("{format} {checksum}\n").into_bytes();
    let mut bytes = first(&"0".repeat(DIGITS));
    let body = bytes.len();
    serde_json::to_writer(&mut bytes, content)?;
    let checksum = digest(&bytes[body..]);
    bytes[..body].copy_from_slice(&first(&checksum));
    Ok((bytes, checksum))
}

/// Writes and syncs the bytes of a file.
pub(super) fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let act = || format!("write {}", path.display());
    let mut options = fs::OpenOptions::new();
    options.create(true).truncate(true).write(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let mut file = options.open(path).with_context(act)?;
    file.write_all(bytes).with_context(act)?;
    file.sync_all().with_context(act)
}

/// The first line of a file, however long the rest is; empty if there is none.
pub(super) fn first_line(path: &Path) -> Result<String> {
    let opened = fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path);
    let mut bytes = Vec::new();
    let read = opened.and_then(|file| file.take(LONGEST_LINE).read_to_end(&mut bytes));
    read.with_context(|| format!("read {}", path.display()))?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(String::from_utf8_lossy(line).into_owned())
}

/// Longer than any first line.
const LONGEST_LINE: u64 = 256;

/// Gives what cannot be read a name under which nobody looks for it, and returns that.
pub(super) fn move_aside(path: &Path) -> Result<PathBuf> {
    let aside = path.with_extension(format!("{DAMAGED}{}", jiff::Timestamp::now().as_nanosecond()));
    fs::rename(path, &aside).with_context(|| format!("move {} aside", path.display()))?;
    Ok(aside)
}

/// Makes a folder that is nobody else's.
pub(super) fn create_folder(folder: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("create {}", folder.display()))
}

/// Makes renames in a folder survive a power cut.
pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    let opened = fs::File::open(folder).and_then(|folder| folder.sync_all());
    opened.with_context(|| format!("sync {}", folder.display()))
}
