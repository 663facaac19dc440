//! Which packages are to be had: by the machine's own lists, or by those of other Debian releases.
//!
//! The other lists are kept below `target/vm`, so that the machine's own package manager never sees them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::directory;
use crate::{apt, progress::Step};

/// Debian releases beside the machine's own: an older kernel, and the newest.
const RELEASES: [&str; 3] = ["bullseye", "trixie", "forky"];
const ARCHIVE: &str = "http://deb.debian.org/debian";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Package lists, and the settings that make apt read them.
pub(super) struct Lists {
    settings: Option<PathBuf>,
}

impl Lists {
    /// The machine's own.
    pub(super) const fn own() -> Self {
        Self { settings: None }
    }

    /// Those of other releases, read anew if there are none yet.
    pub(super) fn other_releases(step: &Step) -> Result<Self> {
        let root = directory()?.join("apt");
        let settings = root.join("apt.conf");
        let lists = Self { settings: Some(settings.clone()) };
        if !settings.exists() {
            write(&root, &settings)?;
            lists.update(step)?;
        }
        Ok(lists)
    }

    /// Reads the lists again.
    pub(super) fn update(&self, step: &Step) -> Result<()> {
        if self.settings.is_none() {
            return apt::update(step);
        }
        let mut update = self.command("apt-get");
        step.run("reading the package lists of other Debian releases", update.args(["-q", "update"]))
    }

    /// One of apt's commands over these lists.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        if let Some(settings) = &self.settings {
            command.env("APT_CONFIG", settings);
        }
        command
    }

    /// Names of packages that fit a pattern.
    pub(super) fn search(&self, pattern: &str) -> Result<Vec<String>> {
        let output = self
            .command("apt-cache")
            .args(["search", "--names-only", pattern])
            .output()
            .context("start apt-cache: kernels are fetched as Debian's packages")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
    }
}

fn write(root: &Path, settings: &Path) -> Result<()> {
    for folder in ["lists/partial", "cache/archives/partial"] {
        let path = root.join(folder);
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
    }
    let line = |release: &&str| format!("deb [signed-by={KEYRING}] {ARCHIVE} {release} main\n");
    let sources: String = RELEASES.iter().map(line).collect();
    let path = root.join("sources.list");
    fs::write(&path, sources).with_context(|| format!("write {}", path.display()))?;
    let at = |name: &str| root.join(name).display().to_string();
    let content = format!(
        "Dir::Etc::sourcelist \"{}\";\nDir::Etc::sourceparts \"/dev/null\";\nDir::State::lists \"{}\";\n\
         Dir::Cache \"{}\";\nAPT::Sandbox::User \"root\";\n",
        at("sources.list"),
        at("lists"),
        at("cache")
    );
    fs::write(settings, content).with_context(|| format!("write {}", settings.display()))
}
