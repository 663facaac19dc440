//! Runs the real binary on a capture, with the policy and the host of the fixtures.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tests::binary::bulkhead;
use tests::frame::{Frame, bare, eth};

/// A device that may call [`CLOUD`].
pub(crate) const CHARGER: Ipv4Addr = Ipv4Addr::new(10, 45, 0, 11);
/// A device with a MAC address that is bound.
pub(crate) const CHARGER_2: Ipv4Addr = Ipv4Addr::new(10, 45, 0, 12);
/// What devices may call.
pub(crate) const CLOUD: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// What nobody may call.
pub(crate) const STRANGER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
/// A second, in nanoseconds.
pub(crate) const SECOND: u64 = 1_000_000_000;
/// 2026-12-01 03:12:04 UTC.
pub(crate) const START: u64 = 1_796_094_724 * SECOND;

/// A frame of the device.
pub(crate) fn up(to: Ipv4Addr) -> Frame {
    eth().ipv4(CHARGER, to)
}

/// A frame for the device.
pub(crate) fn down(from: Ipv4Addr) -> Frame {
    eth().ipv4(from, CHARGER)
}

/// The device's packet without an Ethernet header.
pub(crate) fn up_bare(to: Ipv4Addr) -> Frame {
    bare().ipv4(CHARGER, to)
}

/// A file of the fixtures.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/replay").join(name)
}

/// What a run did.
#[derive(Debug)]
pub(crate) struct Done {
    /// The exit code.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

/// A capture on disk, for as long as this value lives.
#[derive(Debug)]
pub(crate) struct File {
    _folder: TempDir,
    /// Where it is.
    pub(crate) path: PathBuf,
}

impl File {
    /// Writes a capture.
    pub(crate) fn write(bytes: &[u8]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("capture");
        fs::write(&path, bytes)?;
        Ok(Self { _folder: folder, path })
    }

    /// A replay of it, by the fixtures' policy; times are shown in UTC.
    pub(crate) fn command(&self, options: &[&str]) -> Command {
        let mut command = bulkhead();
        command.arg("replay").arg("-f").args([fixture("policy.yaml"), fixture("agent.yaml")]);
        command.arg("--in").arg(&self.path).args(options).env("TZ", "UTC").env("NO_COLOR", "1");
        command
    }

    /// Runs a replay of it.
    pub(crate) fn replay(&self, options: &[&str]) -> Result<Done> {
        let mut command = self.command(options);
        Ok(command.output().with_context(|| format!("run {command:?}; build the agent first"))?.into())
    }

    /// Packets of a replay of it, and the summary.
    pub(crate) fn judged(&self, options: &[&str]) -> Result<(Vec<Value>, Value)> {
        let done = self.replay(&[options, &["-o", "json"]].concat())?;
        ensure!(done.code == Some(0) && done.err.is_empty(), "{done:?}");
        let mut lines = done.out.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
        let last = lines.pop().context("there is no line")?;
        Ok((lines, last["summary"].clone()))
    }
}

/// Writes a capture and replays it for programs.
pub(crate) fn judged(bytes: &[u8], options: &[&str]) -> Result<(Vec<Value>, Value)> {
    File::write(bytes)?.judged(options)
}

/// Verdict and reason of each packet.
pub(crate) fn reasons(packets: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("null").to_owned();
    packets.iter().map(|packet| format!("{} {}", text(&packet["verdict"]), text(&packet["reason"]))).collect()
}
