//! Which test executables there are, and the tier that each belongs to.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::workspace;

/// Tests that need the same privilege.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tier {
    Unit,
    Cli,
    Kernel,
    Netns,
    /// Run by `cargo xtask vm` alone: its guests may be done things to that no host is, and have drivers that few
    /// hosts have.
    Guest,
}

/// The package whose integration tests are divided among the tiers.
const PACKAGE: &str = "tests";

const TIERS: [Tier; 5] = [Tier::Unit, Tier::Cli, Tier::Kernel, Tier::Netns, Tier::Guest];

impl Tier {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Cli => "cli",
            Self::Kernel => "kernel",
            Self::Netns => "netns",
            Self::Guest => "guest",
        }
    }

    /// Integration tests of package `tests` that the tier cannot do without.
    pub(crate) fn required(self) -> &'static [&'static str] {
        match self {
            Self::Unit => &["policy", "model", "fuzz", "regression", "reconcile", "documents", "captures"],
            Self::Cli => &["cli"],
            Self::Kernel => &["verifier", "datapath"],
            Self::Netns => &["enforcement", "agent", "online", "demo", "replay"],
            Self::Guest => &["clock", "tunnels"],
        }
    }

    pub(crate) fn is_privileged(self) -> bool {
        matches!(self, Self::Kernel | Self::Netns | Self::Guest)
    }

    /// Names of the required tests that no target has.
    pub(crate) fn missing(self, targets: &[Target]) -> impl Iterator<Item = &'static str> {
        let is_missing = |name: &&str| !targets.iter().any(|it| it.package == PACKAGE && it.name == *name);
        self.required().iter().copied().filter(is_missing)
    }

    /// The tier that names this target; what no tier names needs no privilege.
    fn of(package: &str, name: &str) -> Self {
        let names = |tier: &Self| package == PACKAGE && tier.required().contains(&name);
        TIERS.into_iter().find(names).unwrap_or(Self::Unit)
    }
}

/// A test executable.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) tier: Tier,
    package: String,
    pub(crate) name: String,
    pub(crate) executable: PathBuf,
    /// The package's directory, where `cargo test` would run it.
    pub(crate) directory: PathBuf,
}

impl Target {
    /// Package and target, as said to people.
    pub(crate) fn label(&self) -> String {
        if self.package == self.name { self.name.clone() } else { format!("{}::{}", self.package, self.name) }
    }
}

/// The cargo call that builds every test of the default members: one call, so that all share one set of features and
/// one build of each dependency.
pub(crate) fn command() -> Command {
    let mut command = Command::new(workspace::cargo());
    command.current_dir(workspace::root()).args([
        "test",
        "--no-run",
        "--message-format=json-render-diagnostics",
    ]);
    command
}

/// Builds tests and returns their executables.
pub(crate) fn build(command: &mut Command) -> Result<Vec<Target>> {
    let output = command.stderr(Stdio::inherit()).output().context("start cargo")?;
    if !output.status.success() {
        bail!("cargo test --no-run: {}", output.status);
    }
    let mut targets: Vec<Target> =
        String::from_utf8_lossy(&output.stdout).lines().filter_map(parse).collect();
    // Cargo reports in the order of compilation, which changes from run to run.
    targets.sort_by_key(Target::label);
    Ok(targets)
}

/// Reads one of cargo's messages; only a test's executable makes a target.
fn parse(line: &str) -> Option<Target> {
    let message: Value = serde_json::from_str(line).ok()?;
    let is_test = message["profile"]["test"] == true;
    let executable = message["executable"].as_str().filter(|_| is_test)?;
    let directory = Path::new(message["manifest_path"].as_str()?).parent()?;
    let package = package_name(message["package_id"].as_str()?)?;
    let name = message["target"]["name"].as_str()?;
    Some(Target {
        tier: Tier::of(package, name),
        package: package.to_owned(),
        name: name.to_owned(),
        executable: PathBuf::from(executable),
        directory: directory.to_owned(),
    })
}

/// `path+file:///w/agent#bulkhead@0.1.0`, or `path+file:///w/tests#0.1.0` when the directory has the package's name.
fn package_name(id: &str) -> Option<&str> {
    let (source, fragment) = id.rsplit_once('#')?;
    match fragment.split_once('@') {
        Some((name, _)) => Some(name),
        None => source.rsplit('/').next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(package_id: &str, name: &str, test: bool) -> String {
        format!(
            r#"{{"package_id":"{package_id}","manifest_path":"/w/tests/Cargo.toml","target":{{"name":"{name}"}},"profile":{{"test":{test}}},"executable":"/w/target/debug/deps/{name}-1"}}"#
        )
    }

    #[test]
    fn integration_tests_go_to_the_tier_that_names_them() {
        let target = parse(&message("path+file:///w/tests#0.1.0", "verifier", true)).unwrap();
        assert_eq!((target.tier, target.label()), (Tier::Kernel, "tests::verifier".to_owned()));
        assert_eq!(target.directory, Path::new("/w/tests"));
    }

    #[test]
    fn a_like_named_target_of_another_package_needs_no_privilege() {
        let target = parse(&message("path+file:///w/agent#bulkhead@0.1.0", "verifier", true)).unwrap();
        assert_eq!((target.tier, target.label()), (Tier::Unit, "bulkhead::verifier".to_owned()));
    }

    #[test]
    fn what_is_no_test_is_no_target() {
        assert!(parse(&message("path+file:///w/agent#bulkhead@0.1.0", "bulkhead", false)).is_none());
        assert!(parse("   Compiling bulkhead").is_none());
    }

    #[test]
    fn a_target_that_is_not_there_is_told() {
        let target = parse(&message("path+file:///w/tests#0.1.0", "verifier", true)).unwrap();
        assert_eq!(Tier::Kernel.missing(&[target]).collect::<Vec<_>>(), ["datapath"]);
    }
}
