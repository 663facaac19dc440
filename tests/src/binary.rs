//! The real `bulkhead`, as `cargo xtask test` built it.

use std::path::PathBuf;
use std::process::Command;

/// A command of the binary under test: `BULKHEAD_BIN`, or what `cargo build` left last.
pub fn bulkhead() -> Command {
    let built = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/debug/bulkhead"));
    Command::new(std::env::var_os("BULKHEAD_BIN").map_or_else(built, PathBuf::from))
}
