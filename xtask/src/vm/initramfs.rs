//! The guest's root: busybox, the tests, the agent and what else they start or read, and an init that runs them.

use std::{
    fs::{self, File},
    io::BufWriter,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{Built, cpio::Archive, package::Kernel, programs};
use crate::{
    test::{self, targets::Target},
    workspace,
};

/// What tests may read, at the same paths as on the host.
const READ_BY_TESTS: [&str; 2] = ["tests/fixtures", "policies"];

/// Where programs lie that are not busybox's own.
pub(super) const PROGRAMS: &str = "/programs";

/// Marks, on the console, the start of a test and its end with the exit code.
pub(super) const BEGIN: &str = "@@ begin ";
pub(super) const END: &str = "@@ end ";

/// Writes the archive that the kernel will boot into.
pub(super) fn write(
    image: &Path,
    busybox: &Path,
    programs: &[programs::File],
    kernel: &Kernel,
    built: &Built,
) -> Result<()> {
    let file = File::create(image).with_context(|| format!("create {}", image.display()))?;
    let mut archive = Archive::new(BufWriter::new(file));
    add(&mut archive, "/bin/busybox", busybox)?;
    for (to, from) in programs {
        add(&mut archive, to, from)?;
    }
    // As many digits as the shell needs to find them in their order.
    for (number, module) in kernel.modules.iter().enumerate() {
        add(&mut archive, &format!("/modules/{number:03}.ko"), module)?;
    }
    add(&mut archive, &format!("{PROGRAMS}/bulkhead"), &built.agent)?;
    for test in &built.tests {
        add(&mut archive, &format!("/tests/{}", test.name), &test.executable)?;
        archive.directory(&test.directory)?;
    }
    for directory in READ_BY_TESTS {
        add_tree(&mut archive, &workspace::root().join(directory))?;
    }
    let only = kernel.is_too_old().then_some(REFUSAL);
    archive.file(Path::new("/init"), init(&built.tests, only).as_bytes())?;
    archive.finish().with_context(|| format!("write {}", image.display()))
}

type Image = Archive<BufWriter<File>>;

fn add(archive: &mut Image, to: &str, from: &Path) -> Result<()> {
    let content = fs::read(from).with_context(|| format!("read {}", from.display()))?;
    archive.file(Path::new(to), &content).with_context(|| format!("put {} into the image", from.display()))
}

fn add_tree(archive: &mut Image, directory: &Path) -> Result<()> {
    if !directory.exists() {
        return Ok(());
    }
    let entries = fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))?;
    let mut paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            add_tree(archive, &path)?;
        } else {
            add(archive, &path.to_string_lossy(), &path)?;
        }
    }
    Ok(())
}

/// The target and the test that a kernel runs which is too old for all others.
const REFUSAL: (&str, &str) = ("verifier", "a_kernel_is_refused_by_the_name_of_what_it_lacks");

/// The first program. Every test is told that it must not skip, that its processor is an emulated one, and
/// that it may set the clock.
fn init(tests: &[Target], only: Option<(&str, &str)>) -> String {
    let mut script = format!(
        "#!/bin/busybox sh\n\
         /bin/busybox mkdir -p /proc /sys /dev /tmp /run\n\
         /bin/busybox --install -s /bin\n\
         export PATH={PROGRAMS}:/bin HOME=/tmp RUST_BACKTRACE=1 BULKHEAD_REQUIRE_PRIVILEGE=1\n\
         export BULKHEAD_EMULATED=1 BULKHEAD_OWNS_CLOCK=1 {}={PROGRAMS}/bulkhead\n\
         mount -t proc proc /proc\n\
         mount -t sysfs sysfs /sys\n\
         mount -t devtmpfs devtmpfs /dev\n\
         mount -t bpf bpffs /sys/fs/bpf\n\
         ip link set lo up\n\
         for module in /modules/*.ko; do test -e $module && insmod $module; done\n",
        test::AGENT,
    );
    for test in tests.iter().filter(|test| only.is_none_or(|(target, _)| test.name == target)) {
        let (name, directory) = (&test.name, test.directory.display());
        let exact = only.map(|(_, test)| format!("--exact {test} ")).unwrap_or_default();
        script += &format!(
            "cd '{directory}'\necho '{BEGIN}{name}'\n\
             /tests/{name} {exact}--show-output --test-threads=1\necho \"{END}$?\"\n"
        );
    }
    script + "poweroff -f\n"
}
