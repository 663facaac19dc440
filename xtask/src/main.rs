//! The project's chores, by the names that CI uses: `cargo xtask VERB`.

mod apt;
mod bench;
mod build_ebpf;
mod coverage;
mod demo;
mod fuzz;
mod lint;
mod privilege;
mod progress;
mod setup;
mod test;
mod toolchain;
mod vm;
mod workspace;

use std::{ffi::OsString, process::ExitCode};

use clap::Parser;

/// Bulkhead's chores.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
enum Verb {
    /// Installs what building and testing need and this machine lacks.
    Setup,
    /// Builds the XDP program alone and prints where it is.
    BuildEbpf,
    /// Builds the agent for use, with the XDP program inside, and prints where it is.
    Build,
    /// Builds the agent and shows it at work in a lab of network namespaces.
    Demo {
        /// Arguments for `bulkhead demo`, after `--`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Runs the tests of one tier, or the lints and every tier.
    Test {
        /// What to run.
        #[arg(value_enum, default_value = "all")]
        tier: test::Selection,
    },
    /// Checks formatting, clippy's lints and, with cargo-deny, licences and sources of dependencies.
    Lint,
    /// Says which lines of the decision code no unprivileged test reaches.
    Coverage,
    /// Measures nanoseconds per packet beside other firewalls, in one run.
    Bench(bench::Options),
    /// Looks for inputs that the engine, the compiler or the decoder fails on, with cargo-fuzz.
    Fuzz(fuzz::Options),
    /// Runs the kernel tier under other kernels, in QEMU.
    Vm(vm::Options),
}

fn main() -> ExitCode {
    exec(Verb::parse()).unwrap_or_else(|error| {
        progress::say(&format!("error: {error:#}"));
        ExitCode::from(2)
    })
}

fn exec(verb: Verb) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Setup => setup::run().map(|()| ExitCode::SUCCESS),
        Verb::BuildEbpf => workspace::build_ebpf().map(|()| ExitCode::SUCCESS),
        Verb::Build => workspace::build_agent().map(|()| ExitCode::SUCCESS),
        Verb::Demo { args } => demo::exec(&args),
        Verb::Test { tier } => test::exec(tier),
        Verb::Lint => lint::exec(),
        Verb::Coverage => coverage::exec(),
        Verb::Bench(options) => bench::exec(&options),
        Verb::Fuzz(options) => fuzz::exec(&options),
        Verb::Vm(options) => vm::exec(&options),
    }
}
