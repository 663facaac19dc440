//! Root: the demo of the real binary, as a user starts it.

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tests::binary::bulkhead;
use tests::netns::granted;

#[test]
fn every_case_comes_out_as_expected_and_nothing_is_left() -> Result<()> {
    if !granted() {
        return Ok(());
    }
    let demo =
        bulkhead().args(["demo", "-o", "json"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let lab = Lab::of(&demo);
    let output = demo.wait_with_output()?;
    let rows = rows(&output)?;
    let differing: Vec<&Value> = rows.iter().filter(|row| row["holds"] != true).collect();
    assert!(differing.is_empty(), "{differing:#?}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}", output.status);
    for wanted in [
        "IPv4",
        "IPv6",
        "unknown SIM",
        "poses as",
        "scans",
        "policy push",
        "unconfirmed apply: gone again",
        "live download is cut, and goes on",
        "a candidate",
        "window closes",
        "a grant ends",
        "kill -9",
        "adopts",
    ] {
        assert!(
            rows.iter().any(|row| row["case"].as_str().is_some_and(|case| case.contains(wanted))),
            "no case {wanted}"
        );
    }
    lab.assert_gone()
}

#[test]
fn an_interrupt_in_the_middle_leaves_nothing() -> Result<()> {
    if !granted() {
        return Ok(());
    }
    let mut demo = bulkhead().arg("demo").stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let lab = Lab::of(&demo);
    let started = Instant::now();
    while lab.namespaces()? == 0 {
        ensure!(started.elapsed() < Duration::from_secs(20), "the demo makes no namespaces");
        ensure!(demo.try_wait()?.is_none(), "the demo ended by itself");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Far enough that the agent runs and programs are attached.
    std::thread::sleep(Duration::from_secs(4));
    ensure!(lab.pins(), "the agent pinned nothing yet");
    kill(Pid::from_raw(i32::try_from(demo.id())?), Signal::SIGINT)?;
    let status = demo.wait()?;
    assert!(!status.success(), "an interrupted demo has not shown anything");
    lab.assert_gone()
}

fn rows(output: &Output) -> Result<Vec<Value>> {
    let text = std::str::from_utf8(&output.stdout)?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("read {line:?}"))).collect()
}

/// What a demo makes outside itself; its names carry the process's number.
struct Lab {
    prefix: String,
}

impl Lab {
    fn of(demo: &Child) -> Self {
        Self { prefix: format!("bh-{}", demo.id()) }
    }

    fn namespaces(&self) -> Result<usize> {
        let listed =
            Command::new("ip").args(["netns", "list"]).output().context("list the network namespaces")?;
        Ok(String::from_utf8_lossy(&listed.stdout)
            .lines()
            .filter(|line| line.starts_with(&self.prefix))
            .count())
    }

    fn pins(&self) -> bool {
        std::path::Path::new("/sys/fs/bpf").join(&self.prefix).exists()
    }

    fn assert_gone(&self) -> Result<()> {
        assert_eq!(self.namespaces()?, 0, "namespaces are left");
        assert!(!self.pins(), "pins are left");
        let files = std::path::Path::new("/run/bulkhead-lab").join(&self.prefix);
        assert!(!files.exists(), "{} is left", files.display());
        Ok(())
    }
}
