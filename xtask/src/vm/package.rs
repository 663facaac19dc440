//! Debian's packages, fetched and unpacked below `target/vm` without being installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::directory;
use crate::{apt, progress::Step};

/// A kernel to boot.
pub(super) struct Kernel {
    /// As `uname -r` says it.
    pub(super) release: String,
    pub(super) image: PathBuf,
    /// The driver for pairs of interfaces, which Debian builds as a module.
    pub(super) veth: Option<PathBuf>,
}

impl Kernel {
    /// Fetches the newest kernel of a series that the package lists know.
    pub(super) fn fetch(step: &Step, series: &str) -> Result<Self> {
        let package = match newest(series)? {
            Some(package) => package,
            None => {
                apt::update(step)?;
                newest(series)?.with_context(|| format!("the package lists have no kernel {series}"))?
            }
        };
        let root = unpack(step, &package)?;
        let release = package.trim_start_matches("linux-image-").to_owned();
        let image = root.join(format!("boot/vmlinuz-{release}"));
        let veth = root.join(format!("lib/modules/{release}/kernel/drivers/net/veth.ko"));
        Ok(Self { release, image, veth: veth.exists().then_some(veth) })
    }
}

/// Names the newest plain kernel of a series, as `linux-image-6.1.0-56-amd64`.
fn newest(series: &str) -> Result<Option<String>> {
    let pattern = format!("^linux-image-{}\\.[^ ]*-amd64$", series.replace('.', "\\."));
    let output = Command::new("apt-cache")
        .args(["search", "--names-only", &pattern])
        .output()
        .context("start apt-cache: kernels are fetched as Debian's packages")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let names = text.lines().filter_map(|line| line.split(' ').next());
    let plain = names.filter(|name| !name.contains("-rt-") && !name.contains("-cloud-"));
    Ok(plain.max_by_key(|name| numbers(name)).map(str::to_owned))
}

/// The numbers in a name, which order `6.1.0-9` before `6.1.0-10`.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

/// Unpacks a package, fetched unless it is there, and returns the directory that stands for `/`.
pub(super) fn unpack(step: &Step, package: &str) -> Result<PathBuf> {
    let parent = directory()?;
    let root = parent.join(package);
    if root.exists() {
        return Ok(root);
    }
    let archive = parent.join(format!("{package}.partial"));
    fresh(&archive)?;
    let mut download = Command::new("apt-get");
    download.current_dir(&archive).args(["download", package]);
    if step.run(&format!("fetching {package}"), &mut download).is_err() {
        apt::update(step)?;
        step.run(&format!("fetching {package}"), &mut download)?;
    }
    // Unpacked beside and renamed, so that a directory of this name is always whole.
    let content = archive.join("content");
    step.run(
        &format!("unpacking {package}"),
        Command::new("dpkg").arg("-x").arg(only_file(&archive)?).arg(&content),
    )?;
    fs::rename(&content, &root).with_context(|| format!("name {}", root.display()))?;
    fs::remove_dir_all(&archive).with_context(|| format!("remove {}", archive.display()))?;
    Ok(root)
}

fn fresh(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("remove {}", directory.display()))?;
    }
    fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))
}

fn only_file(directory: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))?;
    let mut paths = entries.map_while(Result::ok).map(|entry| entry.path());
    match (paths.next(), paths.next()) {
        (Some(path), None) => Ok(path),
        _ => bail!("apt-get download left not one file in {}", directory.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_builds_are_newer() {
        let names = ["linux-image-6.1.0-9-amd64", "linux-image-6.1.0-56-amd64", "linux-image-6.1.0-47-amd64"];
        assert_eq!(names.into_iter().max_by_key(|name| numbers(name)), Some(names[1]));
    }
}
