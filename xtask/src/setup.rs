//! Installs what building and testing need and this machine lacks.
//!
//! Every part is looked for first, so a second run says what it found and changes nothing.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    apt,
    progress::{Step, say},
    toolchain::{Compiler, Toolchain, find_linker, find_program, without_outer_cargo},
    workspace,
};

/// Programs that the demo, the tests and the benchmark run, and Debian's package of each.
const TOOLS: [(&str, &str); 5] =
    [("ip", "iproute2"), ("curl", "curl"), ("iperf3", "iperf3"), ("nft", "nftables"), ("ethtool", "ethtool")];

/// Debian's packages of a compiler with its source; `-web` is the release kept current for browsers.
const COMPILER_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// The release that these sources were built with.
const LINKER: &str = "bpf-linker@0.13.0";

/// One thing to be found or installed.
#[derive(Clone, Copy, Debug)]
enum Part {
    Tools,
    Compiler,
    Linker,
}

/// What compiling needs: enough for the lints and for a binary to take elsewhere.
const FOR_BUILD: [Part; 2] = [Part::Compiler, Part::Linker];

/// What running the demo and the tests needs.
const FOR_RUN: [Part; 3] = [Part::Tools, Part::Compiler, Part::Linker];

/// Looks at every part, installs the missing ones and says so.
pub(crate) fn run() -> Result<()> {
    provide(&FOR_RUN)
}

/// Installs what compiling lacks, without a word when it lacks nothing.
pub(crate) fn ensure_build() -> Result<()> {
    ensure(&FOR_BUILD)
}

/// Installs what demo and tests lack, without a word when they lack nothing.
pub(crate) fn ensure_run() -> Result<()> {
    ensure(&FOR_RUN)
}

fn ensure(parts: &[Part]) -> Result<()> {
    let missing: Vec<&str> =
        parts.iter().filter(|part| part.found().is_none()).map(|part| part.name()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    say(&format!("missing on this machine: {}", missing.join(", ")));
    provide(parts)
}

fn provide(parts: &[Part]) -> Result<()> {
    for (index, part) in parts.iter().enumerate() {
        let step = Step::new(index + 1, parts.len(), part.name());
        if part.found().is_none() {
            part.install(&step)?;
        }
        let found = part
            .found()
            .with_context(|| format!("{} still not found after its installation", part.name()))?;
        step.say(&found);
    }
    Ok(())
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Tools => "tools for demo and tests",
            Self::Compiler => "eBPF compiler",
            Self::Linker => "eBPF linker",
        }
    }

    /// Says where the part is, if it is here.
    fn found(self) -> Option<String> {
        match self {
            Self::Tools => missing_tools().is_empty().then(|| TOOLS.map(|(program, _)| program).join(", ")),
            Self::Compiler => {
                Compiler::find().map(|it| format!("{} with source, LLVM {}", it.rustc.display(), it.llvm))
            }
            Self::Linker => find_linker().map(|path| path.display().to_string()),
        }
    }

    fn install(self, step: &Step) -> Result<()> {
        match self {
            Self::Tools => apt::install(step, &missing_tools()),
            Self::Compiler => install_compiler(step),
            Self::Linker => install_linker(step),
        }
    }
}

/// Packages of the tools that are not on PATH.
fn missing_tools() -> Vec<&'static str> {
    TOOLS.iter().filter(|(program, _)| find_program(program).is_none()).map(|&(_, package)| package).collect()
}

/// Tries the distribution's packages, then the source for a rustup nightly that is there already.
fn install_compiler(step: &Step) -> Result<()> {
    for attempt in [install_packaged_compiler, install_nightly_source] {
        match attempt(step) {
            Ok(()) if Compiler::find().is_some() => return Ok(()),
            Ok(()) => step.say("installed, but older than this workspace needs"),
            Err(error) => step.say(&format!("{error:#}")),
        }
    }
    match Toolchain::find() {
        Err(missing) => bail!("{missing}"),
        Ok(_) => Ok(()),
    }
}

fn install_packaged_compiler(step: &Step) -> Result<()> {
    apt::install(step, &COMPILER_PACKAGES)
}

fn install_nightly_source(step: &Step) -> Result<()> {
    let rustup = find_program("rustup").context("there is no rustup here")?;
    let mut command = Command::new(rustup);
    without_outer_cargo(&mut command).args(["component", "add", "rust-src", "--toolchain", "nightly"]);
    step.run("adding rust-src to the nightly", &mut command)
}

/// Builds bpf-linker against the LLVM that the compiler uses.
fn install_linker(step: &Step) -> Result<()> {
    let compiler = Compiler::find().context("the linker must match the compiler, and there is none")?;
    let prefix = llvm_prefix(step, compiler.llvm)?;
    let mut command = Command::new(workspace::cargo());
    command
        .current_dir(workspace::root())
        .env("LLVM_PREFIX", prefix)
        .args(["install", LINKER, "--locked", "--no-default-features", "--features"])
        .arg(format!("llvm-{}", compiler.llvm));
    step.run("building bpf-linker (a few minutes, once)", &mut command)
}

/// A directory with the `lib/libLLVM.so` that bpf-linker's build looks for, as a link to the shared library.
///
/// The library comes with the compiler; its `-dev` package would only add this link and a gigabyte of static ones.
fn llvm_prefix(step: &Step, llvm: u32) -> Result<PathBuf> {
    let library = match shared_llvm(llvm) {
        Some(library) => library,
        None => {
            apt::install(step, &[&format!("libllvm{llvm}")])?;
            shared_llvm(llvm).with_context(|| format!("libLLVM.so.{llvm} is not known to ldconfig"))?
        }
    };
    let prefix = workspace::root().join(format!("target/xtask/llvm-{llvm}"));
    link_library(&library, &prefix.join("lib"))?;
    Ok(prefix)
}

fn link_library(library: &Path, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    let link = dir.join("libLLVM.so");
    if link.symlink_metadata().is_ok() {
        fs::remove_file(&link).with_context(|| format!("remove {}", link.display()))?;
    }
    symlink(library, &link).with_context(|| format!("link {} to {}", link.display(), library.display()))
}

/// Finds the shared library by the dynamic linker's own list: `\tlibLLVM.so.22.1 (libc6,x86-64) => /lib/…`.
fn shared_llvm(llvm: u32) -> Option<PathBuf> {
    let list = Command::new("/sbin/ldconfig").arg("-p").output().ok()?;
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    let name = format!("libLLVM.so.{llvm}.");
    let line = list.lines().find(|line| line.trim_start().starts_with(&name))?;
    line.split_once(" => ").map(|(_, path)| PathBuf::from(path))
}
