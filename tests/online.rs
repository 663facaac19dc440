//! Root: the real command line against the real agent, in the demo's lab.

use std::fs;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bulkhead::demo::agent::Agent;
use bulkhead::demo::files::Files;
use serde_json::Value;
use tests::binary::bulkhead;
use tests::netns::{Client, Endpoint, FORBIDDEN, Injector, Lab, SERVER, Servers, Topology, granted};

/// Long enough for the agent to read the ring.
const TOLD: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_millis(300);

/// A lab with an agent in it that has accepted the demo's policies as r1.
struct Online<'a> {
    lab: &'a Lab,
    agent: Agent<'a>,
    files: Files,
}

/// Exit code, standard output and standard error.
type Said = (Option<i32>, String, String);

impl<'a> Online<'a> {
    fn start(lab: &'a Lab) -> Result<Self> {
        lab.mount_bpffs()?;
        let files = Files::write(lab)?;
        let agent = Agent::start_program(bulkhead().get_program().into(), lab, &files)?;
        agent.apply(&[])?;
        Ok(Self { lab, agent, files })
    }

    fn say(&self, arguments: &[&str]) -> Result<Said> {
        let mut command = self.agent.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = self.agent.spawn(&mut command)?.wait_with_output()?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok((output.status.code(), text(output.stdout), text(output.stderr)))
    }

    /// Runs a command that must succeed, and returns its standard output.
    fn answer(&self, arguments: &[&str]) -> Result<String> {
        let (code, out, err) = self.say(arguments)?;
        ensure!(code == Some(0), "bulkhead {arguments:?}: {code:?}\n{out}{err}");
        Ok(out)
    }

    /// Runs a command; every part must be in what it prints.
    fn tells(&self, arguments: &[&str], parts: &[&str]) -> Result<()> {
        let out = self.answer(arguments)?;
        for part in parts {
            ensure!(out.contains(part), "{part:?} is not in the answer to {arguments:?}:\n{out}");
        }
        Ok(())
    }

    fn revision(&self) -> Result<Value> {
        let (_, out, _) = self.say(&["status", "-o", "json"])?;
        Ok(serde_json::from_str::<Value>(&out)?["revision"]["number"].clone())
    }

    /// The id of a drop with this reason, as soon as it is told.
    fn dropped(&self, reason: &str, device: &str) -> Result<String> {
        let asked = Instant::now();
        loop {
            let out = self.answer(&["drops", "-o", "json", "--reason", reason])?;
            let records = out.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
            let found = records.iter().rfind(|record| device.is_empty() || record["device"] == device);
            if let Some(record) = found {
                return Ok(record["id"].as_str().context("a drop has an id")?.to_owned());
            }
            ensure!(asked.elapsed() < TOLD, "no {reason} was told");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn client(&self, device: &str) -> Result<Client<'a>> {
        Ok(Client::new(self.lab.namespace(device)?).timeout(PATIENCE))
    }

    fn policies(&self) -> String {
        self.files.policies.display().to_string()
    }
}

#[test]
fn the_command_line_tells_what_the_agent_knows() -> Result<()> {
    if !granted() {
        return Ok(());
    }
    let lab = Lab::new(&Topology::demo())?;
    let online = Online::start(&lab)?;
    objects(&online)?;
    questions(&online)?;
    flows(&online)?;
    let id = drops(&online)?;
    changes(&online, &id)
}

fn objects(online: &Online<'_>) -> Result<()> {
    online.tells(
        &["get", "devices"],
        &["NAME", "ENTERS BY", "charger-1", "10.45.0.11, fd00:45:0:11::/64", "acc0"],
    )?;
    online.tells(
        &["get", "all"],
        &["NETWORK\n", "SEGMENT\n", "POLICY\n", "segment recorders → segment cameras, same site"],
    )?;
    let written = fs::read_to_string(online.files.policies.join("41-firmware.yaml"))?;
    assert_eq!(
        online.answer(&["get", "policy", "firmware", "-o", "yaml"])?,
        written,
        "a document as written"
    );
    let listed: Value = serde_json::from_str(&online.answer(&["get", "segments", "-o", "json"])?)?;
    assert_eq!(listed.as_array().map(Vec::len), Some(4));
    let (code, out, err) = online.say(&["get", "device", "chager-1"])?;
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("did you mean charger-1?"), "{err}");
    let parts = [
        "charger-1 · fleet · 10.45.0.11, ",
        "ev-chargers",
        "enters by acc0",
        "chargers/ocpp firmware/download · r1",
    ];
    online.tells(&["describe", "device", "charger-1"], &parts)?;
    online.tells(&["describe", "policy", "recording"], &["policy recording", "rule rtsp", "tcp/554"])?;
    online.tells(&["describe", "network", "fleet"], &["seen on", "service dns", "tcp/23"])
}

fn questions(online: &Online<'_>) -> Result<()> {
    let ask = |from, to, port| ["explain", "--from", from, "--to", to, "--port", port];
    let parts = ["ALLOW by chargers/ocpp · fleet · up acc0 · r1 (", "root"];
    online.tells(&ask("charger-1", "203.0.113.10", "tcp/443"), &parts)?;
    online
        .tells(&ask("192.0.2.66", "charger-1", "tcp/22"), &["DENY unsolicited · fleet · down n6 · r1 ("])?;
    online.tells(&ask("charger-1", "10.99.0.9", "tcp/22"), &["DENY no_rule", "is infrastructure"])
}

fn flows(online: &Online<'_>) -> Result<()> {
    let servers = Servers::new();
    servers.start(online.lab.namespace("dn")?, &[Endpoint::tcp(SERVER.v4, 443)])?;
    let connected = online.client("charger-1")?.connect(SocketAddr::new(SERVER.v4.into(), 443))?;
    let mut open = connected.map_err(|outcome| anyhow::anyhow!("the allowed server: {outcome:?}"))?;
    ensure!(open.is_alive()?);
    let out = online.answer(&["flows", "-o", "json", "--device", "charger-1"])?;
    let flow: Value = serde_json::from_str(out.lines().next().context("no flow is listed")?)?;
    assert_eq!((&flow["rule"], &flow["destination_port"]), (&"chargers/ocpp".into(), &443.into()));
    Ok(())
}

/// Provokes drops, and returns the id of one for want of a rule.
fn drops(online: &Online<'_>) -> Result<String> {
    let forbidden = SocketAddr::new(FORBIDDEN.v4.into(), 443);
    let closed = SocketAddr::new(SERVER.v4.into(), 80);
    online.client("charger-1")?.tcp(closed, b"anybody there?")?;
    let id = online.dropped("no_rule", "charger-1")?;
    let parts = [
        "DROP no_rule up acc0 charger-1",
        "r1 dropped it and is still in force",
        "DENY no_rule",
        "to allow: ",
    ];
    online.tells(&["explain", &id], &parts)?;
    online.tells(&["explain", &format!("#{id}")], &["← nearest, "])?;
    online.tells(&["describe", "device", "charger-1"], &["no_rule ", "bulkhead explain "])?;

    online.client("stray-1")?.tcp(forbidden, b"anybody there?")?;
    let stray = online.dropped("unknown_device", "")?;
    online.tells(&["explain", &stray], &["10.45.0.99 is of network fleet and no Device has it", "MAC "])?;

    let charger = online.lab.topology().device("charger-1").context("charger-1 is not in the lab")?.address;
    online.client("camera-1")?.spoofing(charger.v4).tcp(forbidden, b"it was me")?;
    let spoofed = online.dropped("spoofed_source", "charger-1")?;
    let parts =
        ["charger-1 must enter by acc0", "this came in by acc1, MAC ", "something else uses its address"];
    online.tells(&["explain", &spoofed], &parts)?;

    let radio = Injector::open(online.lab.namespace("ran")?, "acc0")?;
    let cut_off = [&[2; 6][..], &radio.mac(), &[0x08, 0x00, 0x45, 0x00]].concat();
    radio.send(&cut_off)?;
    let malformed = online.dropped("malformed_ipv4", "")?;
    let parts = ["r1 dropped it, and no rule decides this", "(RFC 791)", "capture it on acc0"];
    online.tells(&["explain", &malformed], &parts)?;

    let (code, _, err) = online.say(&["explain", "zzzzz"])?;
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("#zzzzz is not remembered"), "{err}");
    Ok(id)
}

/// What `diff` and `apply` answer, and what becomes of the drop under another policy.
fn changes(online: &Online<'_>, id: &str) -> Result<()> {
    let folder = online.policies();
    assert_eq!(online.say(&["diff", "-f", &folder])?.0, Some(0), "nothing differs");
    let path = online.files.policies.join("41-firmware.yaml");
    let written = fs::read_to_string(&path)?;
    fs::write(&path, written.replace("destinations: [cloud]", "destinations: [clod]"))?;
    let (code, out, err) = online.say(&["apply", "-f", &folder])?;
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    assert!(err.contains("41-firmware.yaml:9:") && err.contains("cloud"), "{err}");
    assert!(err.contains("r1 stays in force"), "{err}");
    assert_eq!(online.revision()?, 1);

    fs::write(&path, written.replace("ports: [tcp/8443]", "ports: [tcp/8443, tcp/80]"))?;
    let (code, out, err) = online.say(&["diff", "-f", &folder])?;
    assert_eq!((code, out.as_str()), (Some(1), "~ policy/firmware\n"), "{err}");
    online.tells(&["apply", "-f", &folder, "-m", "let it through"], &["APPLIED r2"])?;
    let parts = [
        "r1 dropped it; r2 is in force now and would ALLOW it by firmware/download",
        "ALLOW by firmware/download",
    ];
    online.tells(&["explain", id], &parts)
}
