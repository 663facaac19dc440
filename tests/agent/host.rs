//! A host with an agent on it: the lab's core, files of its own, and the binary that users run.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bulkhead::datapath::Attachment;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tests::netns::{Endpoint, FORBIDDEN, Lab, SERVER, Servers, Topology, granted};

use super::clock;

/// Longest that the agent may take to answer, or to end, in a debug build on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// What the agent promises for whatever it repairs: one round of comparing, and a second for the work.
pub(crate) const REPAIR: Duration = Duration::from_secs(6);
/// Exit codes of `bulkhead status`.
pub(crate) const ENFORCING: i32 = 0;
pub(crate) const DEGRADED: i32 = 1;
pub(crate) const NOT_ENFORCING: i32 = 2;

const POLL: Duration = Duration::from_millis(20);
const POLICIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies/demo");

/// The lab's core as a host of its own, with servers behind it.
pub(crate) struct Host {
    agent: Option<Child>,
    /// True if the agent is not told whether somebody keeps the clock right.
    doubts_clock: bool,
    _servers: Servers,
    /// Settings of the agent, as a file.
    pub(crate) config: PathBuf,
    /// Nothing lies in it until a test writes there.
    pub(crate) folder: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) socket: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) lab: Lab,
}

/// What `bulkhead status` said.
#[derive(Debug)]
pub(crate) struct Status {
    pub(crate) code: i32,
    pub(crate) json: Value,
    pub(crate) text: String,
}

impl Host {
    /// Nothing where the test may not run. No agent runs yet.
    pub(crate) fn new() -> Result<Option<Self>> {
        Self::with_settings(|settings| settings)
    }

    /// As [`Self::new`], with the settings changed.
    pub(crate) fn with_settings(change: impl Fn(String) -> String) -> Result<Option<Self>> {
        if !granted() {
            return Ok(None);
        }
        let lab = Lab::new(&Topology::demo())?;
        lab.mount_bpffs()?;
        let root = lab.directory();
        let [config, folder, state] = ["agent.yaml", "policies", "state"].map(|name| root.join(name));
        let (socket, log) = (root.join("bulkhead.sock"), root.join("agent.log"));
        fs::create_dir(&folder)?;
        let servers = serve(&lab)?;
        let agent = None;
        let host =
            Self { agent, doubts_clock: false, _servers: servers, config, folder, state, socket, log, lab };
        fs::write(&host.config, change(host.settings(&host.state, &host.socket)?))?;
        Ok(Some(host))
    }

    /// The demo's settings with this host's paths.
    pub(crate) fn settings(&self, state: &Path, socket: &Path) -> Result<String> {
        let settings = fs::read_to_string(Path::new(POLICIES).join("host/agent.yaml"))?;
        let paths = [
            ("stateDir", state),
            ("socket", socket),
            ("pinDir", &self.lab.pins()),
            ("policyFolder", &self.folder),
        ];
        Ok(settings + &paths.map(|(key, path)| format!("  {key}: {}\n", path.display())).concat())
    }

    /// A host whose agent runs and has accepted the demo's policies.
    pub(crate) fn enforcing() -> Result<Option<Self>> {
        Self::new()?.map(Self::brought_up).transpose()
    }

    /// As [`Self::enforcing`], on a laboratory's host, whose clock is believed although nobody keeps it right; with
    /// more settings.
    pub(crate) fn trusting_its_clock(more: &str) -> Result<Option<Self>> {
        let host = Self::with_settings(|settings| settings + "  clock: trusted\n" + more)?;
        host.map(Self::brought_up).transpose()
    }

    /// As [`Self::enforcing`], on a host whose clock nobody is known to keep right, although somebody may.
    pub(crate) fn doubting_its_clock() -> Result<Option<Self>> {
        let Some(mut host) = Self::new()? else { return Ok(None) };
        host.doubts_clock = true;
        host.brought_up().map(Some)
    }

    fn brought_up(mut self) -> Result<Self> {
        self.start()?;
        self.apply()?;
        Ok(self)
    }

    /// Starts the agent and waits until it answers.
    pub(crate) fn start(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(program()?);
        command.args(["run", "-c"]).arg(&self.config).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        if self.doubts_clock {
            // SAFETY: between fork and exec only system calls are made, and no memory is taken.
            unsafe { command.pre_exec(clock::keep_silent) };
        }
        self.agent = Some(self.lab.namespace("core")?.spawn(&mut command)?);
        let until = Instant::now() + PATIENCE;
        while UnixStream::connect(&self.socket).is_err() {
            if let Some(status) = self.agent()?.try_wait()? {
                bail!("the agent ended with {status}:\n{}", self.log()?);
            }
            ensure!(Instant::now() < until, "the agent does not answer:\n{}", self.log()?);
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Runs an agent that is to end by itself.
    pub(crate) fn start_refused(&self, config: &Path) -> Result<Output> {
        let mut command = Command::new(program()?);
        command.args(["run", "-c"]).arg(config);
        self.output(&mut command)
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        Ok(self.agent.as_ref().context("no agent runs")?.id())
    }

    /// SIGKILL: no time for anything.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let mut agent = self.agent.take().context("no agent runs")?;
        agent.kill()?;
        agent.wait()?;
        Ok(())
    }

    /// Sends a signal and waits for the end: its status, and how long it took.
    pub(crate) fn stop(&mut self, signal: Signal) -> Result<(ExitStatus, Duration)> {
        let started = Instant::now();
        kill(Pid::from_raw(self.pid()?.cast_signed()), signal)?;
        let mut agent = self.agent.take().context("no agent runs")?;
        while started.elapsed() < PATIENCE {
            if let Some(status) = agent.try_wait()? {
                return Ok((status, started.elapsed()));
            }
            std::thread::sleep(POLL);
        }
        agent.kill()?;
        agent.wait()?;
        bail!("the agent did not end after {signal}:\n{}", self.log()?)
    }

    /// Prepares `bulkhead ARGUMENTS` against this host's agent.
    pub(crate) fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(program()?);
        command.args(arguments).arg("-c").arg(&self.config);
        Ok(command)
    }

    /// Runs `bulkhead ARGUMENTS` to its end.
    pub(crate) fn bulkhead(&self, arguments: &[&str]) -> Result<Output> {
        self.output(&mut self.command(arguments)?)
    }

    /// Starts a command in the core, its output piped.
    pub(crate) fn spawn(&self, command: &mut Command) -> Result<Child> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.lab.namespace("core")?.spawn(command)
    }

    fn output(&self, command: &mut Command) -> Result<Output> {
        let mut child = self.spawn(command)?;
        let until = Instant::now() + PATIENCE;
        while child.try_wait()?.is_none() {
            if Instant::now() >= until {
                child.kill()?;
            }
            std::thread::sleep(POLL);
        }
        Ok(child.wait_with_output()?)
    }

    /// Applies the demo's policies.
    pub(crate) fn apply(&self) -> Result<()> {
        let output = self.bulkhead(&["apply", "--prune", "-f", POLICIES_OF_THE_DEMO])?;
        ensure!(output.status.success(), "{}", words(&output));
        Ok(())
    }

    /// Applies one text without pruning.
    pub(crate) fn apply_text(&self, text: &str) -> Result<Output> {
        let path = self.lab.directory().join("change.yaml");
        fs::write(&path, text)?;
        self.bulkhead(&["apply", "-f", &path.to_string_lossy()])
    }

    pub(crate) fn status(&self) -> Result<Status> {
        let (json, text) = (self.bulkhead(&["status", "-o", "json"])?, self.bulkhead(&["status"])?);
        let code = json.status.code().context("status was killed")?;
        Ok(Status {
            code,
            json: serde_json::from_slice(&json.stdout).unwrap_or_default(),
            text: words(&text),
        })
    }

    /// Waits until the status is as wanted; else what it is.
    pub(crate) fn await_status(
        &self,
        patience: Duration,
        wanted: impl Fn(&Status) -> bool,
    ) -> Result<Status> {
        let status = polled(patience, || self.status(), &wanted)?;
        ensure!(wanted(&status), "{}\n{}", status.text, self.log()?);
        Ok(status)
    }

    /// Makes the agent compare now instead of within its five seconds: it watches the folder.
    pub(crate) fn nudge(&self) -> Result<()> {
        let path = self.folder.join("nudge");
        fs::write(&path, "")?;
        Ok(fs::remove_file(path)?)
    }

    pub(crate) fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.log)?)
    }

    /// Where the pins of this version are.
    pub(crate) fn pins(&self) -> PathBuf {
        bulkhead::runtime::pins(&self.lab.pins())
    }

    pub(crate) fn attachments(&self) -> Result<Vec<Attachment>> {
        bulkhead::datapath::attachments(&self.pins())
    }

    /// Runs `ip` in the namespace of a role; one command a line.
    pub(crate) fn ip(&self, role: &str, lines: &[&str]) -> Result<()> {
        for line in lines {
            let mut command = Command::new("ip");
            command.args(["-n", self.lab.namespace(role)?.name()]).args(line.split(' '));
            let output = command.output()?;
            ensure!(output.status.success(), "ip {line}: {}", words(&output));
        }
        Ok(())
    }

    fn agent(&mut self) -> Result<&mut Child> {
        self.agent.as_mut().context("no agent runs")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }
}

impl Status {
    pub(crate) fn revision(&self) -> u64 {
        self.json["revision"]["number"].as_u64().unwrap_or_default()
    }

    pub(crate) fn generation(&self) -> u64 {
        self.json["generation"].as_u64().unwrap_or_default()
    }

    /// How an interface is attached.
    pub(crate) fn mode(&self, interface: &str) -> Option<&str> {
        let interfaces = self.json["interfaces"].as_array()?;
        interfaces.iter().find(|i| i["name"] == interface)?["mode"].as_str()
    }
}

/// The demo's policies, without the settings of its host.
pub(crate) const POLICIES_OF_THE_DEMO: &str = POLICIES;

/// Both streams of a command.
pub(crate) fn words(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// The binary that `cargo xtask test` built, or that lies beside this test.
pub(crate) fn program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("BULKHEAD_BIN") {
        return Ok(path.into());
    }
    let test = std::env::current_exe()?;
    let program = test.ancestors().nth(2).context("the test lies nowhere")?.join("bulkhead");
    ensure!(program.exists(), "{} is missing: run `cargo build -p bulkhead`", program.display());
    Ok(program)
}

fn serve(lab: &Lab) -> Result<Servers> {
    let servers = Servers::new();
    let dn = lab.namespace("dn")?;
    servers.start(dn, &[443, 8443, 9443].map(|port| Endpoint::tcp(SERVER.v4, port)))?;
    servers.start(dn, &[Endpoint::tcp(FORBIDDEN.v4, 443)])?;
    Ok(servers)
}

/// Looks again and again until it is as wanted, or patience is over; what it was last.
pub(crate) fn polled<T>(
    patience: Duration,
    look: impl Fn() -> Result<T>,
    wanted: impl Fn(&T) -> bool,
) -> Result<T> {
    let until = Instant::now() + patience;
    loop {
        let found = look()?;
        if wanted(&found) || Instant::now() >= until {
            return Ok(found);
        }
        std::thread::sleep(POLL);
    }
}
