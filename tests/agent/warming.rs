//! What was live before the program was attached.

use anyhow::{Result, ensure};

use super::host::{ENFORCING, Host, PATIENCE, Status, words};

/// The demo's network, whose devices are heard within a second.
const LIVELY: &str = "
apiVersion: bulkhead/v1
kind: Network
metadata: {name: fleet}
spec:
  seenOn: [{interface: acc0}, {interface: acc1}, {interface: n6}]
  pools: [10.45.0.0/16, \"fd00:45::/32\"]
  infrastructure: [10.99.0.0/16, \"fd00:99::/32\"]
  services: {dns: [10.99.0.53, \"fd00:99::53\"]}
  never: [tcp/23]
  timeouts: {udp: 1s}
";

fn left(status: &Status) -> Option<u64> {
    status.json["warming_ms"].as_u64()
}

#[test]
fn after_a_cold_attach_status_says_warming_and_what_was_live_shows_itself() -> Result<()> {
    let Some(mut host) = Host::new()? else { return Ok(()) };
    // Nobody is attached: it passes, and nobody knows of it.
    let mut live = host.connection("charger-1", 443)?;
    host.start()?;
    host.apply()?;
    let status = host.status()?;
    let first = left(&status);
    ensure!(first.is_some_and(|left| left <= 300_000), "{}", status.text);
    assert!(status.code == ENFORCING && status.text.contains("warming for "), "{}", status.text);
    assert!(live.is_alive()?, "the device sends, and it is known");
    host.kill()?;
    host.start()?;
    let status = host.status()?;
    assert!(left(&status).is_some() && left(&status) < first, "a restart goes on: {}", status.text);
    // It goes by how soon devices are heard.
    let said = host.apply_text(LIVELY)?;
    ensure!(said.status.success(), "{}", words(&said));
    let status = host.await_status(PATIENCE, |status| left(status).is_none())?;
    assert!(!status.text.contains("warming"), "{}", status.text);
    // A program that stayed attached knows what is live.
    host.kill()?;
    host.start()?;
    assert!(left(&host.status()?).is_none() && live.is_alive()?);
    Ok(())
}
