//! Debian's packages, installed without a question and without removing any other.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{privilege, progress::Step, toolchain::find_program};

/// Installs packages, after reading the lists of those to be had.
pub(crate) fn install(step: &Step, packages: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    let wanted = format!("install {names}");
    step.run("reading the package lists", apt_get(&wanted)?.arg("update"))?;
    // A package that conflicts with an installed one (rustc-web with rustc) is for the machine's owner to decide.
    let arguments = ["install", "-y", "--no-install-recommends", "--no-remove"];
    step.run(&format!("installing {names}"), apt_get(&wanted)?.args(arguments).args(packages))
}

/// Reads the lists of packages that are to be had.
pub(crate) fn update(step: &Step) -> Result<()> {
    step.run("reading the package lists", apt_get("update")?.arg("update"))
}

/// `wanted` is what to type where this cannot be done.
fn apt_get(wanted: &str) -> Result<Command> {
    find_program("apt-get").with_context(|| format!("there is no apt-get here for `apt-get {wanted}`"))?;
    let mut command = privilege::as_root("env")
        .with_context(|| format!("run `apt-get {wanted}` as root: this is not root, and there is no sudo"))?;
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"]);
    Ok(command)
}
