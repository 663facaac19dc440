//! Runs the fuzz targets of tests/fuzz with cargo-fuzz, from the corpus that is kept there.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::{
    progress::say,
    setup,
    toolchain::{find_program, without_outer_cargo},
    workspace,
};

/// The targets, as tests/fuzz/Cargo.toml names them.
const TARGETS: [&str; 4] = ["decode", "judge", "parse", "policy"];
/// Longer inputs teach nothing that shorter ones do not.
const LONGEST: &str = "8192";
/// The policy target starts from these too.
const POLICIES: [&str; 3] = ["accepted", "compiled", "refused"];

/// What to run, and for how long.
#[derive(Args)]
pub(crate) struct Options {
    /// One target; all of them, one after the other, if none is named.
    #[arg(value_parser = TARGETS)]
    target: Option<String>,
    /// Seconds for each.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// Runs the targets; fails if one of them found something.
pub(crate) fn exec(options: &Options) -> Result<ExitCode> {
    setup::ensure_build()?;
    ensure!(find_program("cargo-fuzz").is_some(), "cargo-fuzz is not installed: `cargo install cargo-fuzz`");
    let mut found = Vec::new();
    for target in TARGETS.into_iter().filter(|target| options.target.as_deref().is_none_or(|t| t == *target))
    {
        say(&format!("fuzz: {target}, {} s", options.seconds));
        if !run(target, options.seconds)? {
            found.push(target);
        }
    }
    if found.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    say(&format!(
        "fuzz: found something: {}; keep the input in tests/fuzz/corpus when it is mended",
        found.join(", ")
    ));
    Ok(ExitCode::FAILURE)
}

/// True if nothing was found. What is new goes to the target directory, so that the kept corpus stays small.
fn run(target: &str, seconds: u32) -> Result<bool> {
    let tests = workspace::root().join("tests");
    let build = workspace::target_dir().join("fuzz");
    let grown = build.join("corpus").join(target);
    fs::create_dir_all(&grown).with_context(|| format!("create {}", grown.display()))?;
    let rustup = find_program("rustup").context("find rustup: cargo-fuzz builds with its nightly")?;
    let mut command = Command::new(rustup);
    // The code under test is free of `unsafe` where input is read, so no sanitizer slows it down.
    without_outer_cargo(&mut command)
        .args(["run", "nightly", "cargo", "fuzz", "run", "--sanitizer", "none", "--target-dir"])
        .arg(&build)
        .arg(target)
        .args(corpora(target, &tests, grown))
        .args([
            "--".to_owned(),
            format!("-max_total_time={seconds}"),
            format!("-max_len={LONGEST}"),
            "-timeout=20".to_owned(),
        ])
        .current_dir(&tests);
    Ok(command.status().context("start cargo fuzz")?.success())
}

/// Where inputs come from; the first is where new ones go.
fn corpora(target: &str, tests: &Path, grown: PathBuf) -> Vec<PathBuf> {
    let mut folders = vec![grown, tests.join("fuzz/corpus").join(target)];
    if target == "policy" {
        folders.extend(POLICIES.map(|name| tests.join("fixtures/policies").join(name)));
    }
    folders
}
