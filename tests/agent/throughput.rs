//! A TCP transfer at full speed through an enforced path: nothing is lost on the way, so nothing is sent twice.

use std::net::IpAddr;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::netns::{Namespace, SERVER};

use super::host::Host;

const PORT: &str = "5201";
/// Of what is sent, so much may be sent twice: the path itself drops a little when a queue of the lab is full.
const STORM: f64 = 0.01;
/// TCP's segment on a link of 1500 bytes.
const SEGMENT: f64 = 1448.0;

#[test]
fn a_transfer_at_full_speed_sees_no_storm_of_retransmissions() -> Result<()> {
    let Some(host) = Host::enforcing()? else { return Ok(()) };
    for server in SERVER.both() {
        let report = transfer(host.lab.namespace("dn")?, host.lab.namespace("camera-1")?, server)?;
        let sum = &report["end"]["sum_sent"];
        let bytes = sum["bytes"].as_f64().context("iperf3 names no bytes")?;
        let again = sum["retransmits"].as_f64().context("iperf3 names no retransmissions")?;
        eprintln!("{server}: {:.0} Mbit/s, {again} sent twice", bytes * 8.0 / 2e6);
        ensure!(bytes > 1e6, "only {bytes} bytes in two seconds: {report}");
        ensure!(again <= 10.0 + STORM * bytes / SEGMENT, "{again} segments of {bytes} bytes were sent twice");
    }
    let status = host.status()?;
    ensure!(status.code == 0, "{}", status.text);
    Ok(())
}

/// Two seconds of iperf3, as its client reports them.
fn transfer(from: &Namespace, to: &Namespace, address: IpAddr) -> Result<Value> {
    let listen = ["-s", "-1", "-p", PORT, "-B", &address.to_string()].map(str::to_owned);
    let mut server = Command::new("iperf3");
    server.args(listen).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut server = from.spawn(&mut server)?;
    let mut report = Value::Null;
    for _ in 0..40 {
        let mut client = Command::new("iperf3");
        client.args(["-c", &address.to_string(), "-p", PORT, "-t", "2", "-J"]);
        client.stdin(Stdio::null()).stdout(Stdio::piped());
        let output = to.spawn(&mut client)?.wait_with_output()?;
        report = serde_json::from_slice(&output.stdout)?;
        if output.status.success() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let _ = server.kill();
    server.wait()?;
    Ok(report)
}
