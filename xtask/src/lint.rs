//! Formatting, clippy's lints, and the rules for dependencies.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::{progress::say, setup, toolchain::find_program, workspace};

/// One check: what it is called, and the arguments for cargo.
type Check = (&'static str, &'static [&'static str]);

const CHECKS: [Check; 2] = [
    ("formatting", &["fmt", "--all", "--check"]),
    ("clippy", &["clippy", "--all-targets", "--", "-D", "warnings"]),
];

/// The XDP program is linted on the host: clippy has no BPF target. Its panics abort, as they must without std, and its
/// unstable features are opened as its own build opens them; a target directory of its own keeps that from the rest.
const EBPF_CHECK: Check = (
    "clippy for the XDP program",
    &[
        "clippy",
        "-p",
        "bulkhead-ebpf",
        "--profile",
        "ebpf-lint",
        "--target-dir",
        "target/ebpf-lint",
        "--",
        "-D",
        "warnings",
    ],
);

const DENY: Check = ("dependencies", &["deny", "--offline", "check", "bans", "licenses", "sources"]);

/// Runs every check and tells which ones failed by the exit code.
pub(crate) fn exec() -> Result<ExitCode> {
    setup::ensure_build()?;
    Ok(if failures()?.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs every check, the first failure not hiding the next, and returns the names of those that failed.
pub(crate) fn failures() -> Result<Vec<&'static str>> {
    let mut failed = Vec::new();
    for check in CHECKS {
        failed.extend(failure(check, false)?);
    }
    failed.extend(failure(EBPF_CHECK, true)?);
    if find_program("cargo-deny").is_some() {
        failed.extend(failure(DENY, false)?);
    } else {
        say("lint: dependencies: not checked, cargo-deny is not installed");
    }
    Ok(failed)
}

fn failure((name, arguments): Check, unstable: bool) -> Result<Option<&'static str>> {
    say(&format!("lint: {name}"));
    let mut command = Command::new(workspace::cargo());
    command.current_dir(workspace::root()).args(arguments);
    if unstable {
        command.env("RUSTC_BOOTSTRAP", "1");
    }
    let status = command.status().context("start cargo")?;
    if !status.success() {
        say(&format!("lint: {name}: failed"));
    }
    Ok((!status.success()).then_some(name))
}
