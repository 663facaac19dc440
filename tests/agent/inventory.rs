//! Devices from a table: applied, watched in the folder, changed row by row, gone back from, kept over a restart.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tests::netns::SERVER;

use super::folder::fill;
use super::host::{ENFORCING, Host, words};
use super::revisions::done;

/// A change of the folder is looked at when it has settled.
const SOON: Duration = Duration::from_secs(20);

const COLUMNS: &str = "name,network,addresses,interface,labels.class,labels.site,imsi";
const CHARGER_1: &str = "charger-1,fleet,10.45.0.11 fd00:45:0:11::/64,acc0,ev-charger,oslo-12,";
/// As it is, but where it never is.
const ELSEWHERE: &str = "charger-1,fleet,10.45.0.11 fd00:45:0:11::/64,acc1,ev-charger,oslo-12,";
const CHARGER_9: &str = "charger-9,fleet,10.45.0.19,,ev-charger,oslo-12,242017000000019";

/// Writes the table of devices into the folder.
fn write(host: &Host, rows: &[&str]) -> Result<()> {
    let text = [&[COLUMNS], rows].concat().join("\r\n");
    fs::write(host.folder.join("devices.csv"), text).context("write the table")
}

/// Takes a device's document out of a file of the folder.
fn remove_document(host: &Host, file: &str, device: &str) -> Result<()> {
    let path = host.folder.join(file);
    let text = fs::read_to_string(&path)?;
    let named = format!("name: {device},");
    let kept: Vec<&str> = text.split("---\n").filter(|document| !document.contains(&named)).collect();
    fs::write(&path, kept.join("---\n")).context("write the documents that stay")
}

/// A host whose folder has charger-1 as a row, and enforces it.
fn with_a_table() -> Result<Option<Host>> {
    let Some(host) = Host::enforcing()? else { return Ok(None) };
    fill(&host.folder)?;
    remove_document(&host, "20-devices.yaml", "charger-1")?;
    write(&host, &[CHARGER_1])?;
    let said = apply_folder(&host)?;
    assert!(said.contains("APPLIED r2: 0 added, 1 changed, 0 removed"), "{said}");
    Ok(Some(host))
}

fn apply_folder(host: &Host) -> Result<String> {
    done(host, &["apply", "--prune", "-f", &host.folder.display().to_string()])
}

fn reaches(host: &Host) -> Result<bool> {
    host.reaches("charger-1", SERVER.v4.into(), 443)
}

#[test]
fn a_row_is_enforced_as_a_document_is() -> Result<()> {
    let Some(host) = with_a_table()? else { return Ok(()) };
    assert!(host.is_guarded()? && reaches(&host)?);
    let folder = host.folder.display().to_string();
    assert!(words(&host.bulkhead(&["diff", "--prune", "-f", &folder])?).trim().is_empty(), "nothing differs");
    // Bound to another link, its packets are spoofed; going back brings it back.
    write(&host, &[ELSEWHERE])?;
    apply_folder(&host)?;
    assert!(!reaches(&host)?, "it is bound to another interface");
    let shown = done(&host, &["revisions", "show", "r3"])?;
    assert!(shown.contains("~ device/charger-1") && shown.contains(&format!("+ {ELSEWHERE}")), "{shown}");
    done(&host, &["rollback"])?;
    assert!(reaches(&host)?, "the row is as it was");
    Ok(())
}

#[test]
fn the_folder_is_watched_for_rows() -> Result<()> {
    let Some(mut host) = with_a_table()? else { return Ok(()) };
    write(&host, &[CHARGER_1, CHARGER_9])?;
    let status = host.await_status(SOON, |status| !status.json["pending"].is_null())?;
    assert_eq!(status.json["pending"]["changes"]["added"][0], "device/charger-9", "{}", status.text);
    write(&host, &[CHARGER_1, CHARGER_9, "charger-10,fleet,10.45.0.300,,,,"])?;
    let status = host.await_status(SOON, |status| status.text.contains("cannot be applied"))?;
    assert!(status.text.contains("devices.csv:4:18"), "{}", status.text);
    write(&host, &[CHARGER_1, CHARGER_9])?;
    let said = apply_folder(&host)?;
    assert!(said.contains("1 added, 0 changed, 0 removed"), "{said}");
    // What was accepted is whole by itself: the file is not needed any more.
    fs::remove_file(host.folder.join("devices.csv"))?;
    host.kill()?;
    host.start()?;
    let status = host.await_status(SOON, |status| status.code == ENFORCING)?;
    assert_eq!(status.revision(), 3, "{}", status.text);
    assert!(host.is_guarded()? && reaches(&host)?);
    Ok(())
}

#[test]
fn a_row_is_shown_as_a_document_without_its_identity() -> Result<()> {
    let Some(host) = with_a_table()? else { return Ok(()) };
    write(&host, &[CHARGER_1, CHARGER_9])?;
    apply_folder(&host)?;
    let shown: Value = serde_json::from_str(&done(&host, &["get", "devices", "charger-9", "-o", "json"])?)?;
    assert_eq!(shown["spec"]["addresses"][0], "10.45.0.19", "{shown:#}");
    assert_eq!(shown["spec"]["profiles"][0]["imsi"], "24201…019", "{shown:#}");
    assert_eq!(shown["line"], 3, "{shown:#}");
    let told = done(&host, &["describe", "device", "charger-9"])?;
    assert!(told.contains("devices.csv:3"), "{told}");
    // The document that is shown says the same as the row: applied, it changes nothing but where it is written.
    let document = done(&host, &["get", "devices", "charger-9", "-o", "yaml", "--show-identity"])?;
    let said = words(&host.apply_text(&document)?);
    assert!(said.contains("0 added, 1 changed, 0 removed"), "{said}");
    assert!(said.contains(", 0 writes"), "no row of the kernel differs: {said}");
    Ok(())
}
