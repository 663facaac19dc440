//! Root, sudo, and the one mount that kernel tests need.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{progress::say, toolchain::find_program};

/// Where maps and links are pinned.
const BPFFS: &str = "/sys/fs/bpf";

/// Whether this process is root. `/proc/self` belongs to the effective user.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// A command that runs as root, or nothing when there is no way to be root.
pub(crate) fn as_root(program: impl AsRef<OsStr>) -> Option<Command> {
    if is_root() {
        return Some(Command::new(program));
    }
    let mut sudo = Command::new(find_program("sudo")?);
    sudo.arg("--").arg(program);
    Some(sudo)
}

/// Whether this is not root, but sudo lets it through without a question, which nobody may be there to answer.
pub(crate) fn has_quiet_sudo() -> bool {
    if is_root() {
        return false;
    }
    let Some(sudo) = find_program("sudo") else {
        return false;
    };
    let status = Command::new(sudo).args(["-n", "true"]).stdin(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Mounts bpffs where it belongs if it is not there and this process may.
pub(crate) fn mount_bpffs() -> Result<()> {
    let mounts = fs::read_to_string("/proc/mounts").context("read /proc/mounts")?;
    let mounted = mounts.lines().any(|line| line.contains(&format!(" {BPFFS} bpf ")));
    if mounted || !(is_root() || has_quiet_sudo()) {
        return Ok(());
    }
    if !Path::new(BPFFS).exists() {
        bail!("{BPFFS} does not exist: this kernel has no BPF file system, or /sys is not mounted");
    }
    say(&format!("mounting the BPF file system at {BPFFS}"));
    let mut mount = as_root("mount").context("mounting takes root or sudo")?;
    let status = mount.args(["-t", "bpf", "bpffs", BPFFS]).status().context("start mount")?;
    if !status.success() {
        bail!("mount -t bpf bpffs {BPFFS}: {status}");
    }
    Ok(())
}
