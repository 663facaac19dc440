//! Runs the tests by tiers, live, and closes with one line that counts all of them.
//!
//! A test that cannot run prints `skipped: REASON` and returns; libtest would call that a pass, so the skips are read
//! from its output and taken off. Under `CI=true` a skip, a missing target and an empty tier are failures.

mod tally;
mod targets;

use std::{
    env,
    io::{BufRead as _, BufReader},
    process::{Command, ExitCode, ExitStatus, Stdio},
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
const AGENT: &str = "BULKHEAD_BIN";

/// Runs what was asked for; the last line printed is the count.
pub(crate) fn exec(selection: Selection) -> Result<ExitCode> {
    setup::ensure()?;
    privilege::mount_bpffs()?;
    let failed_lints = if selection == Selection::All { lint::failures()? } else { Vec::new() };
    let mut tally = Tally::default();
    let built = run_tiers(selection, &mut tally);
    if let Err(error) = &built {
        say(&format!("error: {error:#}"));
        tally.fail("the build of the tests");
    }
    Ok(close(&tally, &failed_lints))
}

fn run_tiers(selection: Selection, tally: &mut Tally) -> Result<()> {
    say("building the agent and the tests");
    let agent = workspace::build_debug_agent()?;
    let targets = targets::build()?;
    let environment = Environment {
        agent: agent.into_os_string(),
        strict: is_ci(),
        sudo: !privilege::is_root() && privilege::has_quiet_sudo(),
    };
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
        say(&format!("\n=== {}: {}", tier.name(), target.label()));
        let status = stream(&mut environment.command(target), tally)?;
        tally.end_target(&target.label(), status.success());
    }
    if tier == Tier::Unit {
        say("\n=== unit: examples in the documentation");
        let status = stream(
            Command::new(workspace::cargo()).current_dir(workspace::root()).args(["test", "--doc"]),
            tally,
        )?;
        tally.end_target("examples in the documentation", status.success());
    }
    if tally.total() == before {
        tally.fail(&format!("{}: the tier has no test", tier.name()));
    }
    Ok(())
}

/// Runs a command whose standard output is libtest's, line by line.
fn stream(command: &mut Command, tally: &mut Tally) -> Result<ExitStatus> {
    let program = command.get_program().to_owned();
    let context = || format!("start {}", program.display());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().with_context(context)?;
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).split(b'\n') {
            let line = line.with_context(|| format!("read what {} prints", program.display()))?;
            let line = String::from_utf8_lossy(&line);
            say(&line);
            tally.read(&line);
        }
    }
    child.wait().with_context(|| format!("wait for {}", program.display()))
}

/// Tells every skip and failure again, then the count, then what the whole run comes to.
fn close(tally: &Tally, failed_lints: &[&str]) -> ExitCode {
    say("");
    for skip in tally.skips() {
        say(&format!("skipped: {skip}"));
    }
    for failure in tally.failures() {
        say(&format!("failed: {failure}"));
    }
    for lint in failed_lints {
        say(&format!("lint failed: {lint}"));
    }
    let strict = is_ci() && tally.skipped() > 0;
    if strict {
        say("a skipped test is a failure under CI=true");
    }
    say(&tally.closing_line());
    let good = tally.passed() > 0 && tally.failed() == 0 && failed_lints.is_empty() && !strict;
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn is_ci() -> bool {
    env::var_os("CI").is_some_and(|value| value == "true")
}

/// What the tests are told about where they run.
struct Environment {
    agent: std::ffi::OsString,
    strict: bool,
    sudo: bool,
}

impl Environment {
    fn command(&self, target: &Target) -> Command {
        let privileged = target.tier.is_privileged();
        let mut command = if privileged && self.sudo { sudo_env() } else { Command::new("env") };
        let mut agent = std::ffi::OsString::from(format!("{AGENT}="));
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
