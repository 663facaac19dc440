//! Runs the kernel and guest tiers under other kernels, each booted by QEMU with nothing but the tests in it.
//!
//! QEMU emulates the processor: test machines are often virtual ones without virtualisation of their own.

mod cpio;
mod guest;
mod initramfs;
mod lists;
mod modules;
mod package;
mod programs;

use std::{
    path::PathBuf,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{
    apt,
    progress::{Step, say},
    setup,
    test::{
        self,
        tally::Tally,
        targets::{self, Target, Tier},
    },
    toolchain::find_program,
    workspace,
};
use guest::End;
use lists::Lists;
use package::Kernel;

/// The only processor that kernels are fetched for.
const HOST: &str = "x86_64-unknown-linux-gnu";

/// Which kernels, and how patiently.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Kernel series to boot, as Debian packages them; `newest` is the newest of any release, `NAME=FILE` an image
    /// of your own with veth in it. Of those that are too old only the refusal is tested.
    #[arg(long, value_delimiter = ',', default_value = "6.1", value_name = "SERIES")]
    kernels: Vec<String>,
    /// Seconds after which a guest is given up.
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    timeout: u64,
    /// Run one target only; `verifier` is over in a minute.
    #[arg(long, value_name = "TARGET")]
    only: Option<String>,
}

/// Builds the agent and the tests of the kernel and guest tiers so that they run without a library, and runs the tests
/// in every kernel asked for.
pub(crate) fn exec(options: &Options) -> Result<ExitCode> {
    if cfg!(not(target_arch = "x86_64")) {
        bail!("cargo xtask vm boots x86_64 kernels only");
    }
    setup::ensure_build()?;
    let steps = options.kernels.len() + 2;
    install_qemu(&Step::new(1, steps, "emulator"))?;
    let step = Step::new(2, steps, "tests");
    let mut tests = build_tests(&step)?;
    tests.retain(|test| options.only.as_ref().is_none_or(|only| test.name == *only));
    let built = Built { agent: build_agent(&step)?, tests };
    let mut tally = Tally::default();
    for (index, series) in options.kernels.iter().enumerate() {
        let step = Step::new(index + 3, steps, &format!("kernel {series}"));
        run_kernel(&step, series, &built, Duration::from_secs(options.timeout), &mut tally)?;
    }
    Ok(test::close(&tally, &[], true))
}

fn install_qemu(step: &Step) -> Result<()> {
    if find_program(guest::QEMU).is_none() {
        apt::install(step, &["qemu-system-x86"])?;
    }
    find_program(guest::QEMU).with_context(|| format!("there is still no {}", guest::QEMU))?;
    step.say(guest::QEMU);
    Ok(())
}

/// What runs in guests.
struct Built {
    tests: Vec<Target>,
    /// The binary that users run, which tests start.
    agent: PathBuf,
}

/// Links the C library in: the guest has none. Without debug information, which is most of the size.
fn for_guests(command: &mut Command) -> &mut Command {
    command.args(["--target", HOST]).env_remove("CARGO_ENCODED_RUSTFLAGS");
    command.env("RUSTFLAGS", "-Ctarget-feature=+crt-static -Cstrip=debuginfo")
}

fn build_agent(step: &Step) -> Result<PathBuf> {
    let mut command = Command::new(workspace::cargo());
    command.current_dir(workspace::root()).args(["build", "--bin", "bulkhead"]);
    step.run("building the agent without shared libraries", for_guests(&mut command))?;
    Ok(workspace::target_dir().join(HOST).join("debug/bulkhead"))
}

fn build_tests(step: &Step) -> Result<Vec<Target>> {
    step.say("building them without shared libraries");
    let mut command = targets::command();
    for_guests(&mut command).args(["--package", "tests"]);
    for name in Tier::Kernel.required().iter().chain(Tier::Guest.required()) {
        if workspace::root().join("tests").join(name).with_extension("rs").exists() {
            command.args(["--test", name]);
        } else {
            step.say(&format!("there is no test {name}"));
        }
    }
    let tests = targets::build(&mut command)?;
    if !tests.iter().any(|test| test.name == "verifier") {
        bail!("package tests has no [[test]] verifier, which is what other kernels are booted for");
    }
    Ok(tests)
}

fn run_kernel(step: &Step, series: &str, built: &Built, patience: Duration, tally: &mut Tally) -> Result<()> {
    let busybox = package::unpack(step, &Lists::own(), "busybox-static")?.join("bin/busybox");
    let kernel = Kernel::fetch(step, series)?;
    let name = series.split('=').next().unwrap_or(series);
    let image = directory()?.join(format!("{name}.cpio"));
    let programs = programs::fetch(step, initramfs::PROGRAMS)?;
    initramfs::write(&image, &busybox, &programs, &kernel, built)?;
    step.say(&format!("booting {} (about 10 s)", kernel.release));
    let report = guest::run(name, &kernel.image, &image, patience, tally)?;
    match report.end {
        End::Finished => {}
        End::Late => tally.fail(&format!("{name}: its tests had not ended after {} s", patience.as_secs())),
        End::Early(status) => tally.fail(&format!("{name}: the guest ended before its tests ({status})")),
    }
    say(&format!("what the guest said: {}", report.log.display()));
    Ok(())
}

/// Where packages, images and logs are kept.
fn directory() -> Result<PathBuf> {
    let directory = workspace::target_dir().join("vm");
    std::fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    Ok(directory)
}
