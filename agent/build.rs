//! Builds the XDP program and leaves it as `OUT_DIR/bulkhead.bpf.o`, for the agent to embed.
//!
//! aya-build does the same for a rustup nightly only; this also takes a distribution's rustc, by the code that
//! `cargo xtask build-ebpf` runs.
#[path = "../xtask/src/build_ebpf.rs"]
mod build_ebpf;
#[path = "../xtask/src/toolchain.rs"]
mod toolchain;

use std::{
    env, fs,
    io::{Error, Result},
    path::{Path, PathBuf},
};

use build_ebpf::BuildError;

/// What decides the object's content, from the workspace root.
const SOURCES: [&str; 8] = [
    "Cargo.lock",
    "Cargo.toml",
    "common/Cargo.toml",
    "common/src",
    "ebpf/Cargo.toml",
    "ebpf/src",
    "xtask/src/build_ebpf.rs",
    "xtask/src/toolchain.rs",
];

fn main() -> Result<()> {
    // Asked when it runs: a build folder that was copied would else embed the program of the tree it was copied from.
    let here = env::var_os("CARGO_MANIFEST_DIR")
        .ok_or_else(|| Error::other("cargo has not set CARGO_MANIFEST_DIR"))?;
    let root = Path::new(&here).join("..").canonicalize()?;
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    match build_ebpf::build(&root) {
        Ok(object) => embed(&object),
        // One sentence: there is no output of a failed build to show.
        Err(BuildError::Missing(missing)) => {
            println!("cargo::error={missing}");
            Ok(())
        }
        Err(error) => Err(Error::other(error)),
    }
}

fn embed(object: &Path) -> Result<()> {
    let out = env::var_os("OUT_DIR").ok_or_else(|| Error::other("cargo has not set OUT_DIR"))?;
    let name = |error| Error::other(format!("copy {}: {error}", object.display()));
    fs::copy(object, PathBuf::from(out).join("bulkhead.bpf.o")).map_err(name)?;
    Ok(())
}
