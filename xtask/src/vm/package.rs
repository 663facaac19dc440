//! Debian's packages, fetched and unpacked below `target/vm` without being installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{directory, lists::Lists, modules};
use crate::progress::Step;

/// A kernel to boot.
pub(super) struct Kernel {
    /// As `uname -r` says it.
    pub(super) release: String,
    pub(super) image: PathBuf,
    /// Drivers in the order in which they are loaded.
    pub(super) modules: Vec<PathBuf>,
}

/// What `--kernels` calls the newest kernel that Debian has, whichever its release.
const NEWEST: &str = "newest";

/// The first series with all that the program asks for; what is older has to be refused.
const OLDEST: [u64; 2] = [5, 12];

impl Kernel {
    /// Fetches the newest kernel of a series that the machine's package lists know, or those of other releases;
    /// `NAME=FILE` is an image of somebody else's, with all drivers in it.
    pub(super) fn fetch(step: &Step, series: &str) -> Result<Self> {
        if let Some((name, image)) = series.split_once('=') {
            let image = PathBuf::from(image);
            ensure!(image.is_file(), "there is no kernel image {}", image.display());
            return Ok(Self { release: name.to_owned(), image, modules: Vec::new() });
        }
        let (lists, package) = find(step, series)?;
        let release = package.trim_start_matches(IMAGE).trim_start_matches(BINARY).to_owned();
        let image = image(&unpack(step, &lists, &package)?, &release)?;
        // Since Debian 14 the modules are a package of their own.
        let root = match package.starts_with(BINARY) {
            true => unpack(step, &lists, &format!("linux-modules-{release}"))?,
            false => unpack(step, &lists, &package)?,
        };
        let below = format!("lib/modules/{release}/kernel");
        let folders = [root.join(&below), root.join("usr").join(&below)];
        let folder = folders.iter().find(|folder| folder.is_dir());
        let folder = folder.with_context(|| format!("there is no {below} in {}", root.display()))?;
        Ok(Self { release, image, modules: modules::below(folder)? })
    }

    /// True if the program has to be refused here.
    pub(super) fn is_too_old(&self) -> bool {
        numbers(&self.release).get(..OLDEST.len()).is_some_and(|series| series < OLDEST.as_slice())
    }
}

/// Where releases of Debian put the image: since Debian 14 beside the modules.
fn image(root: &Path, release: &str) -> Result<PathBuf> {
    let places = [format!("boot/vmlinuz-{release}"), format!("usr/lib/modules/{release}/vmlinuz")];
    let found = places.iter().map(|place| root.join(place)).find(|path| path.is_file());
    found.with_context(|| format!("the package in {} has neither {}", root.display(), places.join(" nor ")))
}

const IMAGE: &str = "linux-image-";
const BINARY: &str = "linux-binary-";

/// The lists that know the newest plain kernel of a series, and its package.
fn find(step: &Step, series: &str) -> Result<(Lists, String)> {
    let own = Lists::own();
    if series != NEWEST {
        if let Some(package) = newest(&own, series)? {
            return Ok((own, package));
        }
        own.update(step)?;
        if let Some(package) = newest(&own, series)? {
            return Ok((own, package));
        }
    }
    let other = Lists::other_releases(step)?;
    let package = newest(&other, series)?
        .with_context(|| format!("no package list of Debian has a kernel {series}"))?;
    Ok((other, package))
}

/// Names the newest plain kernel of a series, as `linux-image-6.1.0-56-amd64`.
fn newest(lists: &Lists, series: &str) -> Result<Option<String>> {
    let series = if series == NEWEST { "[0-9]+".to_owned() } else { series.replace('.', "\\.") };
    let names = lists.search(&format!("^linux-(image|binary)-{series}\\.[^ ]*-amd64$"))?;
    let plain = names.into_iter().filter(|name| !name.contains("-rt-") && !name.contains("-cloud-"));
    // Where both are there, the binary is what the image depends on.
    Ok(plain.max_by_key(|name| (numbers(name), name.starts_with(BINARY))))
}

/// The numbers in a name, which order `6.1.0-9` before `6.1.0-10`.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

/// Unpacks a package, fetched unless it is there, and returns the directory that stands for `/`.
pub(super) fn unpack(step: &Step, lists: &Lists, package: &str) -> Result<PathBuf> {
    let parent = directory()?;
    let root = parent.join(package);
    if root.exists() {
        return Ok(root);
    }
    let archive = parent.join(format!("{package}.partial"));
    fresh(&archive)?;
    let mut download = lists.command("apt-get");
    download.current_dir(&archive).args(["download", package]);
    if step.run(&format!("fetching {package}"), &mut download).is_err() {
        lists.update(step)?;
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

    #[test]
    fn an_old_kernel_is_told_by_its_release() {
        let kernel = |release: &str| Kernel {
            release: release.to_owned(),
            image: PathBuf::new(),
            modules: Vec::new(),
        };
        assert!(["5.10.0-32-amd64", "4.19.0-27-amd64", "5.4"].iter().all(|old| kernel(old).is_too_old()));
        assert!(
            !["5.15.40", "6.1.0-56-amd64", "7.2.12+deb14-amd64"].iter().any(|new| kernel(new).is_too_old())
        );
    }
}
