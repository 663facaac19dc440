//! Runs the tests by tiers, live, and closes with one line that counts all of them.
//!
//! A test that cannot run prints `skipped: REASON` and returns; libtest would call that a pass, so the skips are read
//! from its output and taken off. Under `CI=true` a skip, a missing target and an empty tier are failures.

pub(crate) mod tally;
pub(crate) mod targets;

use std::{
    env,
    ffi::OsString,
    io::{BufRead as _, BufReader},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use crate::{lint, privilege, progress::say, setup, workspace};
use tally::Tally;
use targets::{Target, Tier};

/// What `cargo xtask test` is asked to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Selection {
    /// No privilege: libraries, programs, policies, the model against its oracle.
    Unit,
    /// The real binary: output and exit codes.
    Cli,
    /// CAP_BPF: what the kernel's verifier and the loaded program say.
    Kernel,
    /// Root: live traffic between network namespaces.
    Netns,
    /// The lints, then every tier.
    All,
}

/// Set for tests that would otherwise skip for want of privilege.
const REQUIRE_PRIVILEGE: &str = "BULKHEAD_REQUIRE_PRIVILEGE";

/// Tells tests where the agent's binary is: cargo tells only those of the agent's own package.
pub(crate) const AGENT: &str = "BULKHEAD_BIN";

/// Runs what was asked for; the last line printed is the count.
pub(crate) fn exec(selection: Selection) -> Result<ExitCode> {
    setup::ensure_run()?;
    if selection.tiers().iter().any(|tier| tier.is_privileged()) {
        privilege::mount_bpffs()?;
    }
    let failed_lints = if selection == Selection::All { lint::failures()? } else { Vec::new() };
    let mut tally = Tally::default();
    if let Err(error) = run_tiers(selection, &mut tally) {
        say(&format!("error: {error:#}"));
        tally.fail("the run could not be finished");
    }
    Ok(close(&tally, &failed_lints, is_ci()))
}

fn run_tiers(selection: Selection, tally: &mut Tally) -> Result<()> {
    say("building the agent and the tests");
    let agent = workspace::build_debug_agent()?;
    let targets = targets::build(&mut targets::command())?;
    let environment =
        Environment { agent: agent.into_os_string(), strict: is_ci(), sudo: privilege::has_quiet_sudo() };
    for tier in selection.tiers() {
        run_tier(*tier, &targets, &environment, tally)?;
    }
    Ok(())
}

fn run_tier(tier: Tier, targets: &[Target], environment: &Environment, tally: &mut Tally) -> Result<()> {
    let before = tally.total();
    for name in tier.missing(targets) {
        tally.absent(tier.name(), name);
    }
    for target in targets.iter().filter(|target| target.tier == tier) {
        stream(tier, &target.label(), &mut environment.command(target), tally)?;
    }
    if tier == Tier::Unit {
        let mut examples = Command::new(workspace::cargo());
        examples.current_dir(workspace::root()).args(["test", "--doc"]);
        stream(tier, "examples in the documentation", &mut examples, tally)?;
    }
    if tally.total() == before {
        tally.fail(&format!("{}: the tier has no test", tier.name()));
    }
    Ok(())
}

/// Runs a command whose standard output is libtest's, showing it line by line.
fn stream(tier: Tier, label: &str, command: &mut Command, tally: &mut Tally) -> Result<()> {
    say(&format!("\n=== {}: {label}", tier.name()));
    tally.begin_target(label);
    let program = command.get_program().to_owned();
    let context = || format!("run {} for {label}", program.display());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().with_context(context)?;
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).split(b'\n') {
            let line = String::from_utf8_lossy(&line.with_context(context)?).into_owned();
            if tally.read(&line) {
                say(&line);
            }
        }
    }
    tally.end_target(child.wait().with_context(context)?.success());
    Ok(())
}

/// Tells every skip and failure again, then the count as the last line.
pub(crate) fn close(tally: &Tally, failed_lints: &[&str], strict: bool) -> ExitCode {
    say("");
    let lines = [("skipped", tally.skips()), ("failed", tally.failures())];
    for (what, names) in lines {
        names.iter().for_each(|name| say(&format!("{what}: {name}")));
    }
    failed_lints.iter().for_each(|name| say(&format!("lint failed: {name}")));
    let refused = strict && tally.skipped() > 0;
    if refused {
        say("what is skipped counts as failed here");
    }
    say(&tally.closing_line());
    let good = tally.passed() > 0 && tally.failed() == 0 && failed_lints.is_empty() && !refused;
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn is_ci() -> bool {
    env::var_os("CI").is_some_and(|value| value == "true")
}

/// What the tests are told about where they run.
struct Environment {
    agent: OsString,
    strict: bool,
    sudo: bool,
}

impl Environment {
    fn command(&self, target: &Target) -> Command {
        let privileged = target.tier.is_privileged();
        let mut command = if privileged && self.sudo { sudo_env() } else { Command::new("env") };
        let mut agent = OsString::from(format!("{AGENT}="));
        agent.push(&self.agent);
        command.current_dir(&target.directory).arg(agent);
        if self.strict {
            command.arg(format!("{REQUIRE_PRIVILEGE}=1"));
        }
        // What a passing test printed holds the reason it was skipped for, or the verifier's cost.
        command.arg(&target.executable).arg("--show-output");
        if privileged {
            // Namespaces and pins are one per machine.
            command.arg("--test-threads=1");
        }
        command
    }
}

fn sudo_env() -> Command {
    let mut command = Command::new("sudo");
    command.args(["-n", "--", "env"]);
    command
}

impl Selection {
    fn tiers(self) -> &'static [Tier] {
        match self {
            Self::Unit => &[Tier::Unit],
            Self::Cli => &[Tier::Cli],
            Self::Kernel => &[Tier::Kernel],
            Self::Netns => &[Tier::Netns],
            Self::All => &[Tier::Unit, Tier::Cli, Tier::Kernel, Tier::Netns],
        }
    }
}
