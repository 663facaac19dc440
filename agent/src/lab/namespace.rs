//! A named network namespace that `ip netns exec` can enter, and how to act inside it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

/// Where iproute2 looks for named namespaces.
pub(crate) const DIRECTORY: &str = "/run/netns";

/// A network namespace with a name; cheap to clone.
#[derive(Clone, Debug)]
pub struct Namespace {
    name: String,
    file: Arc<File>,
}

impl Namespace {
    /// Creates a namespace and mounts it under [`DIRECTORY`] as `ip netns add` does.
    pub(crate) fn create(name: &str) -> Result<Self> {
        share_directory()?;
        let path = path_of(name);
        File::create_new(&path).with_context(|| format!("create {}", path.display()))?;
        on_thread(|| mount_new(&path))?.inspect_err(|_| drop(std::fs::remove_file(&path)))?;
        Self::open(name)
    }

    /// Opens a namespace that exists.
    pub(crate) fn open(name: &str) -> Result<Self> {
        let path = path_of(name);
        let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        Ok(Self { name: name.to_owned(), file: Arc::new(file) })
    }

    /// Returns the full name, as `ip netns exec NAME` takes it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `act` on a thread of its own inside the namespace and returns what it returned.
    ///
    /// A socket opened inside belongs to the namespace for good; it may be returned and used on any thread.
    pub fn run<T: Send>(&self, act: impl FnOnce() -> T + Send) -> Result<T> {
        on_thread(|| {
            setns(&*self.file, CloneFlags::CLONE_NEWNET)
                .with_context(|| format!("enter namespace {}", self.name))?;
            Ok(act())
        })?
    }

    /// Starts `command` inside the namespace.
    ///
    /// It gets a process group of its own, so that Ctrl-C on the terminal reaches the lab's owner only, who then
    /// takes everything down in order.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        use std::os::unix::process::CommandExt;
        let program = command.get_program().to_string_lossy().into_owned();
        let started =
            self.run(|| super::guard::unless_closing(|| Ok(command.process_group(0).spawn()?)))?;
        started.with_context(|| format!("start {program} in namespace {}", self.name))
    }

    /// Returns the hardware address of one interface inside the namespace.
    pub fn mac(&self, interface: &str) -> Result<[u8; 6]> {
        let found = self.run(|| super::inject::mac(interface))?;
        found.with_context(|| format!("read the hardware address of {interface} in {}", self.name))
    }
}

/// Unmounts the namespace and removes its name; the kernel frees it when its last socket closes.
pub(crate) fn remove(name: &str) {
    let path = path_of(name);
    // A name that is not a mount point was left by a creation that was cut short; only the file is there then.
    let _ = umount2(&path, MntFlags::MNT_DETACH);
    drop(std::fs::remove_file(&path));
}

/// Names the file behind a namespace.
pub(crate) fn path_of(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// A namespace is an attribute of a thread, so entering one happens on a thread that ends with the act.
fn on_thread<T: Send>(act: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("lab".into()).spawn_scoped(scope, act);
        let thread = thread.context("start a thread for a namespace")?;
        Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

fn mount_new(path: &Path) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("create a network namespace (needs CAP_SYS_ADMIN)")?;
    let mine = "/proc/thread-self/ns/net";
    mount(Some(mine), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("mount a network namespace on {}", path.display()))
}

/// Makes mounts below the directory visible in other mount namespaces, so that `ip netns exec` works from any shell.
fn share_directory() -> Result<()> {
    std::fs::create_dir_all(DIRECTORY).with_context(|| format!("create {DIRECTORY}"))?;
    let shared = MsFlags::MS_SHARED | MsFlags::MS_REC;
    if mount(None::<&str>, DIRECTORY, None::<&str>, shared, None::<&str>).is_ok() {
        return Ok(());
    }
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(DIRECTORY), DIRECTORY, None::<&str>, bind, None::<&str>)
        .and_then(|()| mount(None::<&str>, DIRECTORY, None::<&str>, shared, None::<&str>))
        .with_context(|| format!("make {DIRECTORY} a shared mount"))
}
