//! Programs that tests in a guest call, and the libraries that these are linked to.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::{lists::Lists, package};
use crate::progress::Step;

/// Debian's packages, and the program in each.
const PROGRAMS: [(&str, &str); 3] = [("iproute2", "ip"), ("ethtool", "ethtool"), ("wireguard-tools", "wg")];

/// Where packages put programs.
const FOLDERS: [&str; 4] = ["bin", "sbin", "usr/bin", "usr/sbin"];

/// A file of the guest: where it lies there, and its content on this machine.
pub(super) type File = (String, PathBuf);

/// The programs in `folder`, and their libraries where the linker looks for them.
pub(super) fn fetch(step: &Step, folder: &str) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for (package, program) in PROGRAMS {
        let root = package::unpack(step, &Lists::own(), package)?;
        let places = FOLDERS.iter().map(|folder| root.join(folder).join(program));
        let found = places.into_iter().find(|path| path.is_file());
        let path = found.with_context(|| format!("there is no {program} in {}", root.display()))?;
        files.extend(libraries(&path)?);
        files.push((format!("{folder}/{program}"), path));
    }
    files.sort();
    files.dedup();
    Ok(files)
}

/// What a program is linked to on this machine, which has the same release's libraries.
fn libraries(program: &Path) -> Result<Vec<File>> {
    let output = Command::new("ldd").arg(program).output().context("start ldd")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complete = output.status.success() && !text.contains("not found");
    ensure!(complete, "{} needs libraries that are not installed:\n{text}", program.display());
    Ok(paths(&text).map(|path| (path.to_owned(), PathBuf::from(path))).collect())
}

/// `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`, and the linker itself without an arrow.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_by_their_paths() {
        let text = "\tlinux-vdso.so.1 (0x00007f)\n\tlibc.so.6 => /lib/libc.so.6 (0x00007f)\n\t/lib64/ld.so.2 (0x0)\n";
        assert_eq!(paths(text).collect::<Vec<_>>(), ["/lib/libc.so.6", "/lib64/ld.so.2"]);
    }
}
