//! What a lab leaves on the machine, found by its prefix alone, so that another process can remove it.
//!
//! A lab owns `/run/bulkhead-lab/PREFIX/` (made first, removed last), `/run/netns/PREFIX-*`, `/sys/fs/bpf/PREFIX/`,
//! and the processes inside its namespaces. A lab whose owner died without a chance to clean up (`kill -9`, a panic
//! under `panic = "abort"`) is removed by whoever builds the next lab.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount, umount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::namespace;

/// In a lab's directory: the owner's pid and start time.
pub(crate) const OWNER: &str = "owner";
/// In a lab's directory: its owner meant it to stay.
pub(crate) const KEEP: &str = "keep";
/// In a lab's directory: the BPF filesystem was mounted for it.
const MOUNTED: &str = "mounted-bpffs";

const ROOT: &str = "/run/bulkhead-lab";
const BPFFS: &str = "/sys/fs/bpf";

/// How long processes in a lab get between being told and being killed.
const GRACE: Duration = Duration::from_secs(2);

/// A lab whose owner has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remnant {
    /// What the names of its namespaces begin with.
    pub prefix: String,
    /// Its owner left it up on purpose.
    pub kept: bool,
}

impl Remnant {
    /// Removes the lab: its processes, namespaces, pins and files.
    pub fn remove(&self) {
        remove(&self.prefix);
    }
}

/// Lists the labs whose owner has ended.
pub fn remnants() -> Vec<Remnant> {
    let entries = fs::read_dir(ROOT).into_iter().flatten().flatten();
    let prefixes = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let dead = prefixes.filter(|prefix| !owner_lives(prefix));
    dead.map(|prefix| Remnant { kept: directory(&prefix).join(KEEP).exists(), prefix }).collect()
}

/// Removes every lab whose owner ended without meaning it to stay.
pub(crate) fn remove_stale() {
    remnants().iter().filter(|remnant| !remnant.kept).for_each(Remnant::remove);
}

/// Takes a prefix that no other lab has, by creating its directory.
pub(crate) fn claim(number: usize) -> Result<String> {
    let pid = std::process::id();
    let prefix = if number == 0 { format!("bh-{pid}") } else { format!("bh-{pid}-{number}") };
    let directory = directory(&prefix);
    // A kept lab of an earlier process with our pid: its directory stands in the way, and says so.
    create_directory(&directory).with_context(|| {
        format!("create {} (bulkhead demo --clean removes an old one)", directory.display())
    })?;
    fs::write(directory.join(OWNER), format!("{pid} {}", start_time(pid).unwrap_or_default()))
        .with_context(|| format!("write the lab's owner to {}", directory.display()))?;
    Ok(prefix)
}

/// Another lab's removal may take the empty parent away between the two calls, so they are tried twice.
fn create_directory(directory: &Path) -> std::io::Result<()> {
    let both = || fs::create_dir_all(ROOT).and_then(|()| fs::create_dir(directory));
    both().or_else(|error| if error.kind() == std::io::ErrorKind::NotFound { both() } else { Err(error) })
}

/// Returns the directory of the lab `prefix`.
pub(crate) fn directory(prefix: &str) -> PathBuf {
    Path::new(ROOT).join(prefix)
}

/// Returns the pin directory of the lab `prefix`.
pub(crate) fn pins(prefix: &str) -> PathBuf {
    Path::new(BPFFS).join(prefix)
}

/// Mounts the BPF filesystem if there is none, and notes that it is to go with the lab.
pub(crate) fn mount_bpffs(prefix: &str) -> Result<()> {
    if super::is_bpffs(Path::new(BPFFS)) {
        return Ok(());
    }
    let none = None::<&str>;
    mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), none)
        .with_context(|| format!("mount bpffs on {BPFFS}"))?;
    fs::write(directory(prefix).join(MOUNTED), "").context("note that bpffs was mounted for the lab")
}

/// Removes everything that the lab `prefix` owns; what is already gone is no fault.
pub(crate) fn remove(prefix: &str) {
    let names = namespaces(prefix);
    end_processes(&names);
    remove_tree(&pins(prefix));
    names.iter().for_each(|name| namespace::remove(name));
    if directory(prefix).join(MOUNTED).exists() {
        // Busy where somebody else has begun to use it: then it stays theirs.
        let _ = umount(BPFFS);
    }
    remove_tree(&directory(prefix));
    drop(fs::remove_dir(ROOT));
}

fn remove_tree(path: &Path) {
    // Asked first: below /sys, removing what is not there is "not permitted" and not "not found".
    if path.exists()
        && let Err(error) = fs::remove_dir_all(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        eprintln!("the lab left {}: {error}", path.display());
    }
}

fn namespaces(prefix: &str) -> Vec<String> {
    let entries = fs::read_dir(namespace::DIRECTORY).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| is_of(prefix, name)).collect()
}

/// True of the name of a namespace of the lab `prefix`. The first lab of a process, `bh-7`, does not own `bh-7-1-core`.
fn is_of(prefix: &str, name: &str) -> bool {
    let rest = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-'));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    rest.is_some_and(|rest| !rest.split_once('-').is_some_and(|(first, _)| is_number(first)))
}

/// Ends the processes inside the namespaces: asked first, so that they can put away what they hold, then killed.
fn end_processes(names: &[String]) {
    let inodes: BTreeSet<u64> = names
        .iter()
        .filter_map(|name| fs::metadata(namespace::path_of(name)).ok())
        .map(|meta| meta.ino())
        .collect();
    let until = Instant::now() + GRACE;
    send(Signal::SIGTERM, &processes_in(&inodes));
    while !processes_in(&inodes).is_empty() {
        if Instant::now() >= until {
            send(Signal::SIGKILL, &processes_in(&inodes));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn send(signal: Signal, pids: &[Pid]) {
    for &pid in pids {
        // One that has ended meanwhile is what is wanted.
        let _ = kill(pid, signal);
    }
}

/// Lists the processes, other than this one, whose main thread is in one of the namespaces.
fn processes_in(inodes: &BTreeSet<u64>) -> Vec<Pid> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let inside = |pid: &i32| {
        fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|meta| inodes.contains(&meta.ino()))
    };
    let own = Pid::this();
    pids.filter(inside).filter(|pid| !is_zombie(*pid)).map(Pid::from_raw).filter(|pid| *pid != own).collect()
}

fn is_zombie(pid: i32) -> bool {
    stat_field(pid.unsigned_abs(), 0).is_some_and(|state| state == "Z")
}

fn owner_lives(prefix: &str) -> bool {
    let Ok(owner) = fs::read_to_string(directory(prefix).join(OWNER)) else {
        // Between mkdir and the note: the pid is in the name.
        return pid_of(prefix).is_some_and(|pid| start_time(pid).is_some());
    };
    let (pid, start) = owner.split_once(' ').unwrap_or((&owner, ""));
    pid.parse().ok().and_then(start_time).is_some_and(|now| now == start)
}

fn pid_of(prefix: &str) -> Option<u32> {
    prefix.strip_prefix("bh-")?.split('-').next()?.parse().ok()
}

/// Reads a process's start time (clock ticks since boot), which tells it from a later one with the same pid.
fn start_time(pid: u32) -> Option<String> {
    stat_field(pid, 19)
}

/// Reads a field of `/proc/PID/stat` counted from the state, which follows the command's closing parenthesis.
fn stat_field(pid: u32, index: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(index).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_owns_its_namespaces_and_no_other_lab_s() {
        for (prefix, name, own) in [
            ("bh-7", "bh-7-core", true),
            ("bh-7", "bh-7-lan-2", true),
            ("bh-7-1", "bh-7-1-core", true),
            ("bh-7", "bh-7-1-core", false),
            ("bh-7-1", "bh-7-10-core", false),
            ("bh-7", "bh-70-core", false),
            ("bh-7-1", "bh-7-core", false),
            ("bh-7", "bh-7", false),
        ] {
            assert_eq!(is_of(prefix, name), own, "{prefix} {name}");
        }
    }
}
