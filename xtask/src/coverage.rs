//! Which lines of the decision code no test reaches: the engine is judged by every line of it.
//!
//! The tests that need no privilege are built with rustc's own instrumentation; LLVM's tools, of the release that
//! rustc has, read what they left.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    apt,
    progress::{Step, say},
    setup,
    test::targets::{self, Target},
    workspace,
};

/// The code that decides, below the workspace's root.
const ENGINE: &str = "common/src/";
/// Tests that run the engine on the host.
const TESTS: [&str; 4] = ["model", "policy", "regression", "reconcile"];

/// Builds and runs the tests, and says which lines of the engine nobody ran; fails if there is one.
pub(crate) fn exec() -> Result<ExitCode> {
    setup::ensure_build()?;
    let tools = Tools::find(&Step::new(1, 3, "LLVM's tools"))?;
    let directory = workspace::target_dir().join("coverage");
    let tests = build(&Step::new(2, 3, "tests"), &directory)?;
    let step = Step::new(3, 3, "coverage");
    let mut lines = Lines::new();
    for test in &tests {
        let profiles = run(&step, test, &directory)?;
        tools.count(test, &profiles, &mut lines)?;
    }
    Ok(report(&lines))
}

/// LLVM's tools.
struct Tools {
    bin: PathBuf,
}

impl Tools {
    fn find(step: &Step) -> Result<Self> {
        let llvm = llvm_of_rustc()?;
        let bin = PathBuf::from(format!("/usr/lib/llvm-{llvm}/bin"));
        if !bin.join("llvm-cov").exists() {
            apt::install(step, &[&format!("llvm-{llvm}")])?;
        }
        ensure!(bin.join("llvm-cov").exists(), "there is still no {}", bin.join("llvm-cov").display());
        step.say(&bin.display().to_string());
        Ok(Self { bin })
    }

    /// Adds how often one test ran each line of the engine.
    ///
    /// One test at a time: where two programs have a function of one name and not of one shape, as small ones that
    /// are compiled anew in each crate may be, LLVM keeps the counts of one of them and drops the other's.
    fn count(&self, test: &Target, profiles: &Path, lines: &mut Lines) -> Result<()> {
        let merged = profiles.join("merged.profdata");
        let mut merge = Command::new(self.bin.join("llvm-profdata"));
        merge.args(["merge", "-sparse", "-o"]).arg(&merged).arg(profiles);
        succeed(&mut merge)?;
        let mut export = Command::new(self.bin.join("llvm-cov"));
        export.args(["export", "-format=lcov"]).arg(format!("-instr-profile={}", merged.display()));
        add(lines, &succeed(export.arg(&test.executable))?, workspace::root());
        Ok(())
    }
}

/// Major number of the LLVM that rustc was built with.
fn llvm_of_rustc() -> Result<u32> {
    let text = succeed(Command::new("rustc").arg("-vV").current_dir(workspace::root()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("LLVM version: "));
    let major = line.and_then(|version| version.split('.').next()?.parse().ok());
    major.context("rustc does not say which LLVM it has")
}

fn succeed(command: &mut Command) -> Result<String> {
    let program = command.get_program().display().to_string();
    let output = command.output().with_context(|| format!("start {program}"))?;
    if !output.status.success() {
        bail!("{program}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn build(step: &Step, directory: &Path) -> Result<Vec<Target>> {
    step.say("building them with instrumentation");
    let mut command = targets::command();
    command
        .args(["--package", "tests", "--package", "bulkhead-common", "--package", "bulkhead"])
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    command.env("RUSTFLAGS", "-Cinstrument-coverage").env("CARGO_TARGET_DIR", directory.join("target"));
    // Build scripts are instrumented too, and would leave a file a run in the sources.
    command.env("LLVM_PROFILE_FILE", directory.join("build").join("%m.profraw"));
    let mut tests = targets::build(&mut command)?;
    tests.retain(|test| {
        TESTS.contains(&test.name.as_str()) || matches!(test.name.as_str(), "bulkhead_common" | "bulkhead")
    });
    ensure!(tests.len() > TESTS.len(), "not every test was built: {tests:?}");
    Ok(tests)
}

/// Runs one test; the folder with what it left.
fn run(step: &Step, test: &Target, directory: &Path) -> Result<PathBuf> {
    let profiles = directory.join("profiles").join(&test.name);
    if profiles.exists() {
        fs::remove_dir_all(&profiles).with_context(|| format!("remove {}", profiles.display()))?;
    }
    let mut command = Command::new(&test.executable);
    command.current_dir(&test.directory).env("LLVM_PROFILE_FILE", profiles.join("%p-%m.profraw"));
    step.run(&format!("running {}", test.label()), &mut command)?;
    Ok(profiles)
}

/// How often each line was run, by file below the workspace's root.
type Lines = BTreeMap<String, BTreeMap<u32, u64>>;

/// Adds what stands in LLVM's lcov format: `SF:file`, then `DA:line,count`.
fn add(lines: &mut Lines, lcov: &str, root: &Path) {
    let mut file = None;
    for line in lcov.lines() {
        if let Some(path) = line.strip_prefix("SF:") {
            let path = Path::new(path).strip_prefix(root).ok().map(|path| path.display().to_string());
            file = path.filter(|path| path.starts_with(ENGINE));
        } else if let (Some(file), Some(data)) = (&file, line.strip_prefix("DA:")) {
            let mut numbers = data.split(',').map_while(|number| number.parse::<u64>().ok());
            if let (Some(line), Some(count)) = (numbers.next(), numbers.next()) {
                let line = u32::try_from(line).unwrap_or(u32::MAX);
                *lines.entry(file.clone()).or_default().entry(line).or_default() += count;
            }
        }
    }
}

fn report(lines: &Lines) -> ExitCode {
    let mut missed = 0;
    for (file, counts) in lines {
        let unrun: Vec<u32> =
            counts.iter().filter(|(_, count)| **count == 0).map(|(line, _)| *line).collect();
        say(&format!("{file}: {} of {} lines", counts.len() - unrun.len(), counts.len()));
        for line in &unrun {
            let source = fs::read_to_string(workspace::root().join(file)).unwrap_or_default();
            let text = source.lines().nth(*line as usize - 1).unwrap_or_default();
            say(&format!("  never run: {file}:{line}: {}", text.trim()));
        }
        missed += unrun.len();
    }
    let total: usize = lines.values().map(BTreeMap::len).sum();
    say(&format!("{} of {total} lines of the engine were run", total - missed));
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_engine_is_counted_and_copies_add_up() {
        let lcov = "SF:/w/common/src/parse.rs\nDA:3,0\nDA:4,2\nend_of_record\nSF:/w/agent/src/lib.rs\nDA:1,0\n\
                    end_of_record\nSF:/w/common/src/parse.rs\nDA:3,5\nend_of_record\n";
        let mut lines = Lines::new();
        add(&mut lines, lcov, Path::new("/w"));
        assert_eq!(lines.len(), 1);
        assert_eq!(lines["common/src/parse.rs"], BTreeMap::from([(3, 5), (4, 2)]));
    }
}
