//! Builds the eBPF object.
//!
//! `agent/build.rs` includes this file too, so that `cargo build` and `cargo xtask build-ebpf` cannot differ. It has a
//! target directory of its own: the outer cargo holds the lock of `target/debug` while a build script runs.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
};

use crate::toolchain::{Missing, Toolchain, without_outer_cargo};

/// Package and binary name of the eBPF crate.
const PACKAGE: &str = "bulkhead-ebpf";

/// Little endian: the only byte order among the hosts that are supported.
const TARGET: &str = "bpfel-unknown-none";

/// Why there is no object.
#[derive(Debug)]
pub(crate) enum BuildError {
    /// No toolchain for it.
    Missing(Missing),
    /// Its cargo did not start.
    Start { cargo: PathBuf, error: std::io::Error },
    /// Its cargo ran and failed; the reason is in what it printed.
    Failed { status: ExitStatus, llvm: u32 },
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(missing) => missing.fmt(f),
            Self::Start { cargo, error } => write!(f, "start {}: {error}", cargo.display()),
            Self::Failed { status, llvm } => write!(
                f,
                "building {PACKAGE} for {TARGET} failed ({status}); if it was the linker, it must be a bpf-linker \
                 built for LLVM {llvm} or newer"
            ),
        }
    }
}

impl std::error::Error for BuildError {}

/// Builds the object below `root`, the workspace, and returns its path.
pub(crate) fn build(root: &Path) -> Result<PathBuf, BuildError> {
    let toolchain = Toolchain::find().map_err(BuildError::Missing)?;
    let target_dir = root.join("target/ebpf");
    let cargo = &toolchain.compiler.cargo;
    let status = command(&toolchain, root, &target_dir)
        .status()
        .map_err(|error| BuildError::Start { cargo: cargo.clone(), error })?;
    if !status.success() {
        return Err(BuildError::Failed { status, llvm: toolchain.compiler.llvm });
    }
    Ok(target_dir.join(TARGET).join("release").join(PACKAGE))
}

fn command(toolchain: &Toolchain, root: &Path, target_dir: &Path) -> Command {
    let mut command = Command::new(&toolchain.compiler.cargo);
    without_outer_cargo(&mut command)
        .current_dir(root)
        .args(["build", "--locked", "--release", "--package", PACKAGE, "--target", TARGET])
        .args(["-Z", "build-std=core", "--target-dir"])
        .arg(target_dir)
        .env("RUSTC", &toolchain.compiler.rustc)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(&toolchain.linker))
        // A build script's standard output is read as instructions by the outer cargo.
        .stdout(Stdio::null())
        .stdin(Stdio::null());
    if toolchain.compiler.release {
        command.env("RUSTC_BOOTSTRAP", "1");
    }
    command
}

/// Instructions on halves of registers and jumps by them, which kernels take since 5.1 (commit 092ed0968bb6).
/// Without them a 32-bit number costs two shifts before it is compared or used.
const CPU: &str = "-Ctarget-cpu=v3";

/// BTF is made from debug information: without it the object has none, and map-in-map does not load. Unless told not to, the
/// linker lets LLVM expand no `memset`, not even of three bytes: each becomes a call of a loop over bytes.
fn flags(linker: &Path) -> String {
    let linker = format!("-Clinker={}", linker.display());
    [&linker, CPU, "-Clink-arg=--btf", "-Clink-arg=--disable-expand-memcpy-in-order", "-Cdebuginfo=2"]
        .join("\x1f")
}
