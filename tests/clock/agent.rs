//! The real agent while somebody sets the clock: what a device's packets come to, new ones and those of a live session.

use std::fs;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bulkhead::demo::agent::Agent;
use bulkhead::demo::files::Files;
use jiff::{SignedDuration, Timestamp};
use tests::binary::bulkhead;
use tests::netns::{Client, Endpoint, Lab, LiveConnection, SERVER, Servers, Topology};

use super::{TOLD, hours, may_run, minutes, set_clock};

/// What one policy allows for an hour, and what another allows at any time.
const VISIT: u16 = 9443;
const ALWAYS: u16 = 443;
/// Emulated processors are slow.
const EXCHANGE: Duration = Duration::from_secs(4);
/// What the log says whenever the clock was set, and the status of one that shows less than it has shown.
const TOLD_OF_IT: &str = "windows of time are worked out anew";
const SET_BACK: &str = "the clock was set back";

/// A host whose agent has accepted the demo's policies, and one that opens a port for some time.
struct Host<'a> {
    lab: &'a Lab,
    files: Files,
    agent: Option<Agent<'a>>,
    _servers: Servers,
}

impl<'a> Host<'a> {
    fn new(lab: &'a Lab, open: SignedDuration) -> Result<Self> {
        lab.mount_bpffs()?;
        let servers = Servers::new();
        servers.start(lab.namespace("dn")?, &[VISIT, ALWAYS].map(|port| Endpoint::tcp(SERVER.v4, port)))?;
        let files = Files::write(lab)?;
        // Guests have no nf_tables.
        let settings = fs::read_to_string(&files.config)?;
        fs::write(&files.config, settings + "  secondGuard: off\n")?;
        fs::write(files.policies.join("visit.yaml"), visit(Timestamp::now() + open))?;
        let mut host = Self { lab, files, agent: None, _servers: servers };
        host.start()?;
        host.agent()?.apply(&[])?;
        Ok(host)
    }

    fn start(&mut self) -> Result<()> {
        let program = bulkhead().get_program().into();
        self.agent = Some(Agent::start_program(program, self.lab, &self.files)?);
        Ok(())
    }

    fn kill(&mut self) -> Result<()> {
        self.agent.take().context("no agent runs")?.kill()
    }

    fn agent(&self) -> Result<&Agent<'a>> {
        self.agent.as_ref().context("no agent runs")
    }

    fn status(&self) -> Result<String> {
        let mut command = self.agent()?.command(&["status"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = self.agent()?.spawn(&mut command)?.wait_with_output()?;
        Ok(String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned())
    }

    /// Sets the clock, and waits until the agent is told of it and has done what it does then.
    fn set_clock(&self, by: SignedDuration) -> Result<()> {
        let told =
            || Ok::<_, anyhow::Error>(fs::read_to_string(&self.files.log)?.matches(TOLD_OF_IT).count());
        let before = told()?;
        set_clock(by)?;
        let started = Instant::now();
        while told()? == before {
            ensure!(
                started.elapsed() < TOLD,
                "the agent is not told that the clock was set: {}",
                self.status()?
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        // It says so first, and answers nobody before it has done it.
        self.status().map(drop)
    }

    /// True if the agent says that the clock was later already.
    fn is_behind(&self) -> Result<bool> {
        Ok(self.status()?.contains(SET_BACK))
    }

    fn client(&self) -> Result<Client<'_>> {
        Ok(Client::new(self.lab.namespace("charger-1")?).timeout(EXCHANGE))
    }

    fn session(&self, port: u16) -> Result<LiveConnection> {
        let connected = self.client()?.connect(SocketAddr::new(SERVER.v4.into(), port))?;
        connected.map_err(|outcome| anyhow::anyhow!("charger-1 did not reach tcp/{port}: {outcome:?}"))
    }

    fn reaches(&self, port: u16) -> Result<bool> {
        Ok(self.client()?.tcp(SocketAddr::new(SERVER.v4.into(), port), b"hello")?.echoed(b"hello"))
    }

    fn is_open(&self) -> Result<bool> {
        self.reaches(VISIT)
    }

    /// True if nothing passes any more that was open for some time, and everything else does.
    fn is_closed(&self) -> Result<bool> {
        Ok(!self.is_open()? && self.reaches(ALWAYS)?)
    }
}

fn visit(end: Timestamp) -> String {
    format!(
        "apiVersion: bulkhead/v1\nkind: Policy\nmetadata: {{name: visit}}\nspec:\n  subject: {{device: charger-1}}\n  \
         allow:\n    - {{name: visit, to: {{destinations: [cloud]}}, ports: [tcp/{VISIT}], notAfter: \"{end}\"}}\n"
    )
}

#[test]
fn the_agent_closes_what_is_over_by_the_clock_and_neither_it_nor_the_next_one_reopens_it() -> Result<()> {
    if !may_run() {
        return Ok(());
    }
    let lab = Lab::new(&Topology::demo())?;
    let mut host = Host::new(&lab, hours(1))?;
    ensure!(host.is_open()?, "the rule is open for an hour");
    let mut live = host.session(VISIT)?;
    let mut other = host.session(ALWAYS)?;
    host.set_clock(hours(-1))?;
    ensure!(
        host.is_behind()? && live.is_alive()? && host.is_open()?,
        "a step back closes nothing that is open"
    );
    host.set_clock(hours(2) + minutes(1))?;
    ensure!(!live.is_alive()? && host.is_closed()?, "it is over by the clock as it is now");
    ensure!(!host.is_behind()?, "it has never been later: {}", host.status()?);
    host.set_clock(hours(-2))?;
    ensure!(host.is_behind()? && host.is_closed()?, "what is closed never reopens");
    host.kill()?;
    ensure!(host.is_closed()?, "nor with nobody there");
    host.start()?;
    ensure!(host.is_behind()? && host.is_closed()?, "nor by the next agent");
    host.kill()?;
    set_clock(hours(-3))?;
    host.start()?;
    ensure!(host.is_behind()? && host.is_closed()?, "nor by one that was away when the clock was set");
    ensure!(other.is_alive()?, "what is no matter of time goes on");
    Ok(())
}
