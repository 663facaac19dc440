//! Finds a compiler and a linker for the eBPF object.
//!
//! `core` has to be rebuilt for `bpfel-unknown-none`, which takes the compiler's own source and its unstable
//! `-Z build-std`. Two kinds of compiler offer both: a rustup nightly with `rust-src`, and a distribution's release
//! packaged together with its source, where `RUSTC_BOOTSTRAP=1` opens the unstable flags.
//!
//! `agent/build.rs` includes this file too, so it uses nothing but std.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The distribution's compiler. Debian's `rustc-web` puts it here, whatever rustup has put first on PATH.
const DISTRIBUTION_RUSTC: &str = "/usr/bin/rustc";

/// Everything that building the object takes.
#[derive(Debug)]
pub(crate) struct Toolchain {
    pub(crate) compiler: Compiler,
    /// bpf-linker.
    pub(crate) linker: PathBuf,
}

/// A rustc that can build `core` for the BPF target, with the cargo of the same release.
#[derive(Debug)]
pub(crate) struct Compiler {
    pub(crate) rustc: PathBuf,
    pub(crate) cargo: PathBuf,
    /// A release, not a nightly: unstable flags have to be opened with `RUSTC_BOOTSTRAP=1`.
    pub(crate) release: bool,
    /// Major version of LLVM; bpf-linker reads this LLVM's bitcode, so it needs the same one or a newer one.
    pub(crate) llvm: u32,
}

/// What was not found, worded as what to install.
#[derive(Debug)]
pub(crate) struct Missing {
    compiler: bool,
    linker: bool,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let compiler = "a rustup nightly with rust-src (`rustup toolchain install nightly --component rust-src`) \
                        or the distribution's rustc 1.95 or newer with its source (Debian 12: `apt-get install \
                        rustc-web cargo-web rust-web-src`)";
        let linker = "bpf-linker built for the LLVM of that compiler (`cargo install bpf-linker`)";
        let wanted = match (self.compiler, self.linker) {
            (true, true) => format!("{compiler}, and {linker}"),
            (true, false) => compiler.to_owned(),
            (false, _) => linker.to_owned(),
        };
        write!(f, "the XDP program cannot be built here: run `cargo xtask setup`, or install {wanted}")
    }
}

impl std::error::Error for Missing {}

impl Toolchain {
    /// Finds the first complete toolchain, a nightly before the distribution's release.
    pub(crate) fn find() -> Result<Self, Missing> {
        match (Compiler::find(), find_linker()) {
            (Some(compiler), Some(linker)) => Ok(Self { compiler, linker }),
            (compiler, linker) => Err(Missing { compiler: compiler.is_none(), linker: linker.is_none() }),
        }
    }
}

impl Compiler {
    /// Finds a compiler that has its source and is new enough for this workspace.
    pub(crate) fn find() -> Option<Self> {
        nightly_rustc().and_then(Self::at).or_else(|| Self::at(PathBuf::from(DISTRIBUTION_RUSTC)))
    }

    fn at(rustc: PathBuf) -> Option<Self> {
        let cargo = rustc.with_file_name("cargo");
        let sysroot = output(Command::new(&rustc).args(["--print", "sysroot"]))?;
        let source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library");
        let version = output(Command::new(&rustc).arg("-vV"))?;
        let release = field(&version, "release: ")?;
        let llvm = field(&version, "LLVM version: ")?.split('.').next()?.parse().ok()?;
        let usable = cargo.exists() && source.exists() && at_least(release, env!("CARGO_PKG_RUST_VERSION"));
        usable.then(|| Self { release: !release.contains("nightly"), rustc, cargo, llvm })
    }
}

/// Finds bpf-linker on PATH or where `cargo install` puts it, which sudo's PATH leaves out.
pub(crate) fn find_linker() -> Option<PathBuf> {
    find_program("bpf-linker")
        .or_else(|| cargo_home().map(|home| home.join("bin/bpf-linker")).filter(|path| path.exists()))
}

/// Finds a program on PATH, or where root's programs are, which is not on everybody's PATH.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let directories = env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")]);
    directories.map(|directory| directory.join(name)).find(|path| is_program(path))
}

/// Removes what an outer cargo or rustup has set, so that a command picks its own compiler, flags and target.
///
/// Without this the distribution's cargo is handed clippy's wrapper, the outer profile and another release's
/// libraries. Settings of the user's machine (registries, proxies, `CARGO_HOME`) stay.
pub(crate) fn without_outer_cargo(command: &mut Command) -> &mut Command {
    const KEPT: [&str; 6] =
        ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "CARGO_SOURCE_", "RUSTUP_HOME"];
    for (name, _) in env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        let outer = ["CARGO", "RUST", "LD_LIBRARY_PATH"].iter().any(|prefix| name.starts_with(prefix));
        if outer && !KEPT.iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command
}

/// Asks rustup where its nightly is; `rustup which` never installs one, `rustc +nightly` may.
fn nightly_rustc() -> Option<PathBuf> {
    let rustup = find_program("rustup")?;
    let path =
        output(without_outer_cargo(Command::new(rustup).args(["which", "--toolchain", "nightly", "rustc"])))?;
    Some(PathBuf::from(path.trim()))
}

fn cargo_home() -> Option<PathBuf> {
    let home = || env::home_dir().map(|home| home.join(".cargo"));
    env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home)
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Standard output of a command that succeeds; what it says on standard error is of no interest here.
fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name))
}

/// Compares `1.97.0-nightly` with `1.95` by the first two numbers.
fn at_least(release: &str, oldest: &str) -> bool {
    let numbers =
        |text: &str| -> Vec<u32> { text.split('.').take(2).map_while(|n| n.parse().ok()).collect() };
    numbers(release) >= numbers(oldest)
}
