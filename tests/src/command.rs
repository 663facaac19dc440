//! Other programs, such as `ip`, run to their end.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// Runs a program with its arguments in the thread's namespaces; says what it printed. A space divides two arguments,
/// so a second one behind it makes an empty argument.
///
/// # Errors
/// The program cannot be started or fails; with the beginning of what it complained of, which may go on for a million lines.
pub fn run(line: &str) -> Result<String> {
    let mut words = line.split(' ');
    let program = words.next().context("no program")?;
    let output = Command::new(program).args(words).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("start {program}"))?;
    ensure!(output.status.success(), "`{line}`: {}", first_line(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// [`run`] of `ip`.
///
/// # Errors
/// As [`run`].
pub fn ip(arguments: &str) -> Result<()> {
    run(&format!("ip {arguments}")).map(drop)
}

fn first_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let line = text.lines().next().unwrap_or("it said nothing");
    line.chars().take(200).collect()
}
