//! Debian's packages, installed without a question and without removing any other.

use std::{ffi::OsStr, process::Command};

use anyhow::{Context as _, Result};

use crate::{privilege, progress::Step, toolchain::find_program};

/// Installs packages, after reading the lists of those to be had.
pub(crate) fn install(step: &Step, packages: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    step.run("reading the package lists", apt_get(&names)?.arg("update"))?;
    // A package that conflicts with an installed one (rustc-web with rustc) is for the owner of the machine to decide.
    let arguments = ["install", "-y", "--no-install-recommends", "--no-remove"];
    step.run(&format!("installing {names}"), apt_get(&names)?.args(arguments).args(packages))
}

fn apt_get(names: &str) -> Result<Command> {
    find_program("apt-get")
        .with_context(|| format!("there is no apt-get here: install {names}, or what stands for it"))?;
    let mut command = privilege::as_root(OsStr::new("env")).with_context(|| {
        format!("installing {names} takes root or sudo: run `apt-get install {names}` as root")
    })?;
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"]);
    Ok(command)
}
