//! Writes an archive that the kernel unpacks as its first root: cpio in the `newc` form
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::{
    collections::BTreeSet,
    io::{Result, Write},
    path::Path,
};

/// Regular file that everybody may run.
const PROGRAM: u32 = 0o100_755;
const DIRECTORY: u32 = 0o040_755;

/// An archive in the making.
pub(super) struct Archive<W> {
    out: W,
    inode: u32,
    directories: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, inode: 1, directories: BTreeSet::new() }
    }

    /// Adds a file at an absolute path, and the directories above it.
    pub(super) fn file(&mut self, path: &Path, content: &[u8]) -> Result<()> {
        if let Some(parent) = path.parent() {
            self.directory(parent)?;
        }
        self.entry(&name(path), PROGRAM, content)
    }

    /// Adds a directory and those above it, unless they are there.
    pub(super) fn directory(&mut self, path: &Path) -> Result<()> {
        let mut above: Vec<String> = path.ancestors().map(name).filter(|name| !name.is_empty()).collect();
        above.reverse();
        for directory in above {
            if self.directories.insert(directory.clone()) {
                self.entry(&directory, DIRECTORY, &[])?;
            }
        }
        Ok(())
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> Result<()> {
        self.entry("TRAILER!!!", 0, &[])?;
        self.out.flush()
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        let size = u32::try_from(content.len()).map_err(std::io::Error::other)?;
        let name_size = u32::try_from(name.len() + 1).map_err(std::io::Error::other)?;
        // Inode, mode, uid, gid, links, mtime, size, four device numbers, size of the name, no checksum.
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.inode += 1;
        let header = fields.iter().fold(String::from("070701"), |text, field| format!("{text}{field:08x}"));
        let head = [header.as_bytes(), name.as_bytes(), b"\0"].concat();
        self.padded(&head)?;
        self.padded(content)
    }

    /// Names and contents end at a multiple of four octets.
    fn padded(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes)?;
        self.out.write_all(&[0; 3][..bytes.len().wrapping_neg() % 4])
    }
}

/// The path from the archive's root.
fn name(path: &Path) -> String {
    path.to_string_lossy().trim_start_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_directories_come_once() {
        let mut bytes = Vec::new();
        let mut archive = Archive::new(&mut bytes);
        archive.file(Path::new("/bin/a"), b"hello").unwrap();
        archive.file(Path::new("/bin/b"), b"").unwrap();
        archive.finish().unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(text.matches("070701").count(), 4);
        assert!(text.ends_with("TRAILER!!!\0\0\0\0"), "{text:?}");
        let sizes_and_name = format!("00000005{}0000000600000000bin/a\0", "0".repeat(32));
        assert!(text.contains(&sizes_and_name), "{text:?}");
    }
}
