//! A TCP transfer at full speed through an enforced path: nothing is lost on the way, so nothing is sent twice.

use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::netns::{Namespace, SERVER};

use super::host::{Host, polled};

const PORT: &str = "5201";
/// Of what is sent, so much may be sent twice: the path itself drops a little when a queue of the lab is full.
const STORM: f64 = 0.01;
/// A server takes its time to listen where others want the processor, too.
const PATIENCE: Duration = Duration::from_secs(15);
/// TCP's segment on a link of 1500 bytes.
const SEGMENT: f64 = 1448.0;

#[test]
fn a_transfer_at_full_speed_sees_no_storm_of_retransmissions() -> Result<()> {
    let Some(host) = Host::enforcing()? else { return Ok(()) };
    for server in SERVER.both() {
        let report = transfer(host.lab.namespace("dn")?, host.lab.namespace("camera-1")?, server)?;
        let sum = &report["end"]["sum_sent"];
        let bytes = sum["bytes"].as_f64().with_context(|| format!("iperf3 names no bytes: {report}"))?;
        let again =
            sum["retransmits"].as_f64().with_context(|| format!("nor what it sent twice: {report}"))?;
        eprintln!("{server}: {:.0} Mbit/s, {again} sent twice", bytes * 8.0 / 2e6);
        ensure!(bytes > 1e6, "only {bytes} bytes in two seconds: {report}");
        ensure!(again <= 10.0 + STORM * bytes / SEGMENT, "{again} segments of {bytes} bytes were sent twice");
    }
    let status = host.status()?;
    ensure!(status.code == 0, "{}", status.text);
    Ok(())
}

/// Two seconds of iperf3, as its client reports them.
pub(crate) fn transfer(from: &Namespace, to: &Namespace, address: IpAddr) -> Result<Value> {
    let address = address.to_string();
    let mut server = Command::new("iperf3");
    server.args(["-s", "-p", PORT, "-B", &address]).stdin(Stdio::null());
    let server = from.spawn(server.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let report = ask(to, &address);
    let said = end(server)?;
    let report = report?;
    ensure!(report["error"].is_null(), "{report}; the server said: {said}");
    Ok(report)
}

/// Asks until the server listens, and returns the last answer.
fn ask(to: &Namespace, address: &str) -> Result<Value> {
    let ask = || -> Result<Value> {
        let mut client = Command::new("iperf3");
        client.args(["-c", address, "-p", PORT, "-t", "2", "-J"]);
        let output = to.spawn(client.stdin(Stdio::null()).stdout(Stdio::piped()))?.wait_with_output()?;
        Ok(serde_json::from_slice(&output.stdout)?)
    };
    polled(PATIENCE, ask, |report| report["error"].is_null())
}

/// Ends the server, and returns what it said.
fn end(mut server: Child) -> Result<String> {
    server.kill()?;
    let output = server.wait_with_output()?;
    Ok([output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat())
}
