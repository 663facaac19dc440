//! The real agent of the demo, and the real CLI against it.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::files::Files;
use crate::lab::{Lab, Namespace};

/// How long the agent may take from its start to its first answer.
const START: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// An agent that runs in the lab's core, with files of its own.
#[derive(Debug)]
pub struct Agent<'a> {
    core: &'a Namespace,
    program: PathBuf,
    files: Files,
    process: Child,
}

impl<'a> Agent<'a> {
    /// Starts this program as the agent and waits until it answers on its socket.
    ///
    /// # Errors
    /// As [`Self::start_program`].
    pub fn start(lab: &'a Lab, files: &Files) -> Result<Self> {
        Self::start_program(std::env::current_exe().context("find this program")?, lab, files)
    }

    /// Starts `program` as the agent and waits until it answers on its socket.
    ///
    /// # Errors
    /// It cannot be started, ends, or does not answer; the end of its log is in the error.
    pub fn start_program(program: PathBuf, lab: &'a Lab, files: &Files) -> Result<Self> {
        let core = lab.namespace("core")?;
        let log = File::options().create(true).append(true).open(&files.log);
        let log = log.with_context(|| format!("open {}", files.log.display()))?;
        let errors = log.try_clone().context("share the agent's log")?;
        let mut command = Command::new(&program);
        command.args(["run", "-c"]).arg(&files.config).stdin(Stdio::null()).stdout(log).stderr(errors);
        let process = core.spawn(&mut command)?;
        let mut agent = Self { core, program, files: files.clone(), process };
        agent.wait_until_ready()?;
        Ok(agent)
    }

    /// Prepares `bulkhead ARGUMENTS` against this agent.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).arg("--socket").arg(&self.files.socket).stdin(Stdio::null());
        command
    }

    /// Starts a prepared command beside the agent.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        self.core.spawn(command)
    }

    /// Applies the folder of policies with the CLI, and more options.
    ///
    /// # Errors
    /// It is refused; its words are in the error.
    pub fn apply(&self, options: &[&str]) -> Result<String> {
        let policies = self.files.policies.to_string_lossy();
        self.bulkhead(&[&["apply", "-f", &policies], options].concat())
    }

    /// Runs `bulkhead ARGUMENTS` against this agent, and returns its words.
    ///
    /// # Errors
    /// It does not succeed; its words are in the error.
    pub fn bulkhead(&self, arguments: &[&str]) -> Result<String> {
        let name = arguments.first().copied().unwrap_or_default();
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = self.spawn(&mut command)?.wait_with_output();
        let output = output.with_context(|| format!("wait for bulkhead {name}"))?;
        let words = words(&output);
        ensure!(output.status.success(), "bulkhead {name}: {}\n{words}", output.status);
        Ok(words)
    }

    /// Kills the agent with SIGKILL, which leaves it no time for anything.
    ///
    /// # Errors
    /// It cannot be killed or waited for.
    pub fn kill(mut self) -> Result<()> {
        self.process.kill().context("kill the agent")?;
        self.process.wait().context("wait for the killed agent")?;
        Ok(())
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let until = Instant::now() + START;
        while UnixStream::connect(&self.files.socket).is_err() {
            if let Some(status) = self.process.try_wait().context("look after the agent")? {
                bail!("the agent ended with {status}:\n{}", self.log_tail());
            }
            ensure!(
                Instant::now() < until,
                "the agent does not answer after {START:?}:\n{}",
                self.log_tail()
            );
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(&self.files.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

fn words(output: &Output) -> String {
    let words = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&words).trim_end().to_owned()
}
