//! Quarantine: both ways, at once, whatever is live, whoever is alive.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::netns::SERVER;

use super::crash::firmware;
use super::host::{ENFORCING, Host, PATIENCE, words};

/// The demo's segment, with a way to the update server.
const REPAIR: &str = "
apiVersion: bulkhead/v1
kind: Segment
metadata: {name: ev-chargers}
spec:
  members: {matchLabels: {class: ev-charger}}
  repair: {to: {destinations: [cloud]}, ports: [tcp/8443]}
";

fn done(host: &Host, arguments: &[&str]) -> Result<String> {
    let output = host.bulkhead(arguments)?;
    ensure!(output.status.success(), "{arguments:?}: {}", words(&output));
    Ok(words(&output))
}

fn shut(host: &Host, more: &[&str]) -> Result<String> {
    done(host, &[&["quarantine", "charger-1", "--reason", "it beacons"], more].concat())
}

#[test]
fn a_device_in_quarantine_is_cut_off_and_a_release_gives_it_back() -> Result<()> {
    let Some(mut host) = Host::enforcing()? else { return Ok(()) };
    let (mut live, mut neighbour) = (host.connection("charger-1", 443)?, host.connection("charger-2", 443)?);
    assert!(live.is_alive()? && neighbour.is_alive()?);
    let said = shut(&host, &[])?;
    assert!(said.contains("QUARANTINED charger-1") && said.contains("until it is released"), "{said}");
    assert!(!live.is_alive()?, "what was live is cut");
    assert!(!host.allows()?, "nothing new is opened");
    assert!(neighbour.is_alive()?, "and nobody else is touched");
    let status = host.status()?;
    assert!(
        status.text.contains("quarantine charger-1") && status.text.contains("“it beacons”"),
        "{}",
        status.text
    );
    assert_eq!(status.json["quarantine"][0]["device"], "charger-1");
    let described = done(&host, &["describe", "device", "charger-1"])?;
    assert!(described.contains("QUARANTINE charger-1") && described.contains("quarantined "), "{described}");
    let explained =
        done(&host, &["explain", "--from", "charger-1", "--to", "203.0.113.10", "--port", "tcp/443"])?;
    assert!(explained.contains("DENY quarantined") && explained.contains("it beacons"), "{explained}");
    // Neither an apply, nor a rollback, nor a restart lifts it.
    assert!(host.apply_text(&firmware(9443))?.status.success() && !host.allows()?);
    done(&host, &["rollback"])?;
    assert!(!host.allows()?);
    host.kill()?;
    assert!(!host.allows()?, "with the agent dead");
    host.start()?;
    assert!(!host.allows()?, "and with the next one");
    let said = done(&host, &["release", "charger-1"])?;
    assert!(said.contains("RELEASED charger-1"), "{said}");
    assert!(host.is_guarded()?);
    assert_eq!(host.status()?.code, ENFORCING);
    let again = host.bulkhead(&["release", "charger-1"])?;
    assert_eq!(again.status.code(), Some(1), "{}", words(&again));
    Ok(())
}

#[test]
fn a_quarantine_ends_by_the_kernel_s_clock_with_the_agent_dead() -> Result<()> {
    let Some(mut host) = Host::enforcing()? else { return Ok(()) };
    let started = Instant::now();
    shut(&host, &["--for", "6s"])?;
    let begun = Instant::now();
    host.kill()?;
    while begun.elapsed() < Duration::from_secs(5) {
        let allowed = host.allows()?;
        ensure!(!allowed || started.elapsed() >= Duration::from_secs(6), "it was open before its time");
    }
    std::thread::sleep(Duration::from_secs(6).saturating_sub(begun.elapsed()));
    assert!(host.allows()?, "and it is over in time");
    host.start()?;
    let status = host.await_status(PATIENCE, |status| status.code == ENFORCING)?;
    assert!(status.json["quarantine"].as_array().is_some_and(Vec::is_empty), "{}", status.text);
    Ok(())
}

#[test]
fn repair_leaves_what_the_segment_names_and_no_more() -> Result<()> {
    let Some(host) = Host::enforcing()? else { return Ok(()) };
    let refused = host.bulkhead(&["quarantine", "charger-1", "--reason", "x", "--allow-repair"])?;
    assert!(words(&refused).contains("names no `repair`"), "{}", words(&refused));
    assert!(host.apply_text(REPAIR)?.status.success());
    let mut live = host.connection("charger-1", 443)?;
    shut(&host, &["--allow-repair"])?;
    assert!(!live.is_alive()? && !host.allows()?);
    assert!(host.reaches("charger-1", SERVER.v4.into(), 8443)?, "the update server is reached");
    let mut repair = host.connection("charger-1", 8443)?;
    assert!(repair.is_alive()?);
    // The order of both words on the record: the second replaces the first.
    shut(&host, &[])?;
    assert!(!repair.is_alive()?, "what only the repair allowed is cut with it");
    done(&host, &["release", "charger-1"])?;
    assert!(host.allows()?);
    Ok(())
}
