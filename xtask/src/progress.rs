//! What the chores say while they work, and long commands that show they are alive.

use std::{
    fs::{self, File},
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::workspace;

/// How often a terminal sees the seconds move.
const TICK: Duration = Duration::from_millis(500);

/// How often a log, which cannot be overwritten, gets another line.
const LOG_TICK: Duration = Duration::from_secs(15);

/// Lines of a failed command's output that are worth showing.
const TAIL: usize = 20;

/// Prints one line. A closed pipe is the reader's choice, not an error.
pub(crate) fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// One numbered step of a chore.
pub(crate) struct Step {
    label: String,
}

impl Step {
    /// Names step `number` of `total`.
    pub(crate) fn new(number: usize, total: usize, name: &str) -> Self {
        Self { label: format!("[{number}/{total}] {name}") }
    }

    /// Prints a line of this step.
    pub(crate) fn say(&self, text: &str) {
        say(&format!("{}: {text}", self.label));
    }

    /// Runs a command with its output in a file, saying what is being done and for how long.
    pub(crate) fn run(&self, doing: &str, command: &mut Command) -> Result<()> {
        let log = log_path(&self.label)?;
        let file = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let started = Instant::now();
        self.say(&format!("{doing}…"));
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("start {}", command.get_program().display()))?;
        let status = self.wait(child, doing, started)?;
        if !status.success() {
            bail!("{doing}: {status}; the end of {}:\n{}", log.display(), tail(&log));
        }
        Ok(())
    }

    fn wait(&self, mut child: Child, doing: &str, started: Instant) -> Result<ExitStatus> {
        let terminal = io::stdout().is_terminal();
        let mut said = started;
        loop {
            if let Some(status) = child.try_wait()? {
                if terminal {
                    overwrite(&format!("{}: {doing}: {} s\n", self.label, started.elapsed().as_secs()));
                }
                return Ok(status);
            }
            if terminal {
                overwrite(&format!("{}: {doing}… {} s", self.label, started.elapsed().as_secs()));
            } else if said.elapsed() >= LOG_TICK {
                said = Instant::now();
                self.say(&format!("{doing}… {} s", started.elapsed().as_secs()));
            }
            thread::sleep(TICK);
        }
    }
}

fn overwrite(text: &str) {
    let mut out = io::stdout().lock();
    let _ = write!(out, "\r\x1b[K{text}").and_then(|()| out.flush());
}

fn log_path(label: &str) -> Result<PathBuf> {
    let dir = workspace::root().join("target/xtask");
    fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    let name: String = label.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    Ok(dir.join(name).with_extension("log"))
}

fn tail(path: &PathBuf) -> String {
    let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}
