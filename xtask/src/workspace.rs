//! The workspace: where it is, and building what is in it.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{build_ebpf, progress::say, setup};

/// The directory that holds the workspace's Cargo.toml.
pub(crate) fn root() -> &'static Path {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir.parent().unwrap_or(crate_dir)
}

/// The cargo that runs this program, and so the release that rust-toolchain.toml names.
pub(crate) fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Where cargo leaves what it builds.
pub(crate) fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// Builds the XDP program and prints where it is.
pub(crate) fn build_ebpf() -> Result<()> {
    setup::ensure_build()?;
    let object = build_ebpf::build(root())?;
    say(&object.display().to_string());
    Ok(())
}

/// Builds the agent as it is installed, and prints where it is.
pub(crate) fn build_agent() -> Result<()> {
    setup::ensure_build()?;
    run_cargo(&["build", "--release", "--bin", "bulkhead"])?;
    say(&target_dir().join("release/bulkhead").display().to_string());
    Ok(())
}

/// Builds the agent for tests and the demo, which start it from here.
pub(crate) fn build_debug_agent() -> Result<PathBuf> {
    run_cargo(&["build", "--bin", "bulkhead"])?;
    Ok(target_dir().join("debug/bulkhead"))
}

/// Runs cargo in the workspace, its output going where this program's goes.
pub(crate) fn run_cargo(arguments: &[&str]) -> Result<()> {
    let status = Command::new(cargo()).current_dir(root()).args(arguments).status().context("start cargo")?;
    if !status.success() {
        bail!("cargo {}: {status}", arguments.join(" "));
    }
    Ok(())
}
