//! Grants while a revision waits to be confirmed: at three in the morning both may be needed.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::host::{PATIENCE, words};
use super::site::{CREATE, Site};

/// How long there is to confirm: longer than a busy machine takes for everything that is done meanwhile.
const WITHIN: Duration = Duration::from_secs(20);
/// A SIM that the first revision does not know.
const PUMP_9: &str = "apiVersion: bulkhead/v1\nkind: Device\nmetadata: {name: pump-9}\nspec: {network: fleet, \
                      addresses: [10.45.0.29], binding: {interface: acc0}}\n";

/// Applies a text that waits to be confirmed; exit code and words.
fn apply_waiting(site: &Site, text: &str, within: Duration) -> Result<(Option<i32>, String)> {
    let path = site.host.lab.directory().join("waits.yaml");
    fs::write(&path, text)?;
    let within = format!("{}s", within.as_secs());
    site.run("kari", &["apply", "-f", &path.to_string_lossy(), "--confirm-within", &within])
}

/// How many seconds there are left to confirm; nothing if nothing waits.
fn left(site: &Site) -> Result<Option<u64>> {
    Ok(site.host.status()?.json["confirm"]["seconds"].as_u64())
}

/// The demo's firmware policy with another port.
const MOVED: &str = "apiVersion: bulkhead/v1\nkind: Policy\nmetadata: {name: firmware}\nspec:\n  subject: {segment: \
                     ev-chargers}\n  allow:\n    - {name: download, to: {destinations: [cloud]}, ports: [tcp/9443]}\n";

#[test]
fn a_grant_made_while_a_revision_waits_stays_when_that_goes_away_and_gives_it_no_time() -> Result<()> {
    let Some(site) = Site::new("")? else { return Ok(()) };
    let (code, said) = apply_waiting(&site, MOVED, WITHIN)?;
    ensure!(code == Some(0) && said.contains("or r1 comes back"), "{said}");
    let before = left(&site)?.context("nothing waits")?;
    site.create("1h")?;
    let mut live = site.session()?;
    site.done("kari", &["grant", "extend", "chg-4711", "--for", "1h"])?;
    let after = left(&site)?.context("the grant has confirmed what waited")?;
    ensure!(after <= before, "{after} s are left after {before} s");
    // A grant as a file is an apply, and may hold anything: it is told what to do instead.
    let said = site.host.apply_text(&format!("{PUMP_9}---\n"))?;
    let said = words(&said);
    ensure!(
        said.contains("waits for `bulkhead confirm`") && said.contains("bulkhead grant create"),
        "{said}"
    );

    let is_back = |status: &super::host::Status| status.json["confirm"].is_null();
    let status = site.host.await_status(WITHIN + PATIENCE, is_back)?;
    ensure!(status.revision() == 5, "apply, grant, extension, and back: {}", status.text);
    assert!(site.host.reaches("charger-1", tests::netns::SERVER.v4.into(), 8443)?, "what was before is back");
    assert!(live.is_alive()? && site.is_open()?, "a way back neither opens nor closes grants");
    let history = site.done("kari", &["revisions"])?;
    ensure!(history.contains("not confirmed, back to r1"), "{history}");
    let report = site.report()?;
    ensure!(
        report["state"] == "open" && report["extended"].as_array().is_some_and(|all| all.len() == 1),
        "{report}"
    );
    Ok(())
}

#[test]
fn nothing_is_granted_beside_which_what_waits_could_not_go_away() -> Result<()> {
    let Some(site) = Site::new("")? else { return Ok(()) };
    let grant = super::grants::again("pump-9");
    let (code, said) = apply_waiting(&site, &format!("{PUMP_9}---\n{grant}"), Duration::from_secs(600))?;
    ensure!(code == Some(1) && said.contains("r1 could not come back beside the grant"), "{said}");
    ensure!(said.contains("pump-9"), "{said}");
    let (code, said) = apply_waiting(&site, PUMP_9, Duration::from_secs(600))?;
    ensure!(code == Some(0), "{said}");
    let to_pump_9 = CREATE.map(|word| if word == "charger-1" { "pump-9" } else { word });
    let create = [&to_pump_9[..], &["--for", "1h"]].concat();
    let said = site.refused("kari", &create)?;
    ensure!(
        said.contains("r1 could not come back beside the grant") && said.contains("bulkhead confirm"),
        "{said}"
    );
    ensure!(left(&site)?.is_some(), "it waits on");
    ensure!(site.create("1h")?.contains("GRANTED chg-4711 open"), "what r1 has may be visited");
    site.done("kari", &["confirm"])?;
    ensure!(site.done("kari", &create)?.contains("GRANTED chg-4711-2 open"));
    Ok(())
}
