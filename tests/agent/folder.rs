//! The policy folder: shown while it waits, applied by itself where that is wanted.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use tests::netns::SERVER;

use super::crash::firmware;
use super::host::{ENFORCING, Host, POLICIES_OF_THE_DEMO};

/// A change is looked at when it has settled.
const SOON: Duration = Duration::from_secs(20);

/// Puts the demo's policies into the folder.
pub(crate) fn fill(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(POLICIES_OF_THE_DEMO)? {
        let path = entry?.path();
        if let Some(name) = path.file_name().filter(|_| path.extension().is_some_and(|e| e == "yaml")) {
            fs::copy(&path, folder.join(name))?;
        }
    }
    Ok(())
}

#[test]
fn a_change_of_the_folder_is_shown_and_not_applied() -> Result<()> {
    let Some(host) = Host::enforcing()? else { return Ok(()) };
    fill(&host.folder)?;
    fs::write(host.folder.join("41-firmware.yaml"), firmware(9443))?;
    let status = host.await_status(SOON, |status| !status.json["pending"].is_null())?;
    assert_eq!((status.code, status.revision()), (ENFORCING, 1), "waiting is no fault: {}", status.text);
    assert_eq!(status.json["pending"]["changes"]["changed"][0], "policy/firmware");
    assert!(status.text.contains("0 added, 1 changed, 0 removed"), "{}", status.text);
    assert!(host.reaches("charger-1", SERVER.v4.into(), 8443)?, "the accepted policy holds");
    // An error in it, and then a file that is no text.
    for (text, told) in [(&b"kind: Nonsense\n"[..], "bad.yaml"), (&[0xff, 0xfe], "bad.yaml")] {
        fs::write(host.folder.join("bad.yaml"), text)?;
        let status = host.await_status(SOON, |status| status.text.contains("cannot be applied"))?;
        assert!(status.text.contains(told), "{}", status.text);
        assert_eq!((status.code, status.revision()), (ENFORCING, 1), "{}", status.text);
        fs::remove_file(host.folder.join("bad.yaml"))?;
        host.await_status(SOON, |status| !status.text.contains("cannot be applied"))?;
    }
    Ok(())
}

#[test]
fn a_folder_that_may_applies_itself_unless_it_is_wrong() -> Result<()> {
    let auto = |settings: String| settings + "  autoApply: true\n";
    let Some(mut host) = Host::with_settings(auto)? else { return Ok(()) };
    fill(&host.folder)?;
    host.start()?;
    host.await_status(SOON, |status| status.code == ENFORCING && status.revision() == 1)?;
    assert!(host.is_guarded()?);
    fs::write(host.folder.join("41-firmware.yaml"), "kind: [")?;
    let status = host.await_status(SOON, |status| status.text.contains("cannot be applied"))?;
    assert!(status.text.contains("41-firmware.yaml"), "{}", status.text);
    assert_eq!(status.revision(), 1);
    assert!(host.reaches("charger-1", SERVER.v4.into(), 8443)?, "the accepted policy holds");
    fs::write(host.folder.join("41-firmware.yaml"), firmware(9443))?;
    let status = host.await_status(SOON, |status| status.revision() == 2)?;
    assert!(host.reaches("charger-1", SERVER.v4.into(), 9443)?);
    assert!(status.json["pending"].is_null(), "{}", status.text);
    Ok(())
}

/// What an apply by hand would be asked about, or refused for, is not applied unasked.
#[test]
fn what_refuses_a_folder_may_go_without_a_change_of_it() -> Result<()> {
    let auto = |settings: String| settings + "  autoApply: true\n";
    let Some(mut host) = Host::with_settings(auto)? else { return Ok(()) };
    fill(&host.folder)?;
    // charger-2's address is this host's own.
    host.ip("core", &["addr add 10.45.0.12/32 dev n6"])?;
    // What was written just now is looked at again anyway.
    std::thread::sleep(std::time::Duration::from_secs(3));
    host.start()?;
    let status = host.await_status(SOON, |status| !status.json["pending"].is_null())?;
    assert_eq!(
        (status.json["pending"]["errors"].as_u64(), status.revision()),
        (Some(1), 0),
        "{}",
        status.text
    );
    host.ip("core", &["addr del 10.45.0.12/32 dev n6"])?;
    host.await_status(SOON, |status| status.code == ENFORCING && status.revision() == 1)?;
    Ok(())
}

#[test]
fn a_folder_that_may_applies_nothing_that_a_guard_or_its_own_tests_refuse() -> Result<()> {
    let auto = |settings: String| settings.replace("100%", "1%") + "  autoApply: true\n";
    let Some(mut host) = Host::with_settings(auto)? else { return Ok(()) };
    fill(&host.folder)?;
    host.start()?;
    host.await_status(SOON, |status| status.code == ENFORCING && status.revision() == 1)?;
    let path = host.folder.join("90-more.yaml");
    let tested = firmware(9443).replace("{name: firmware}", "{name: more}")
        + "  tests: [{device: charger-1, opens: 198.51.100.9, port: tcp/443, expect: allow}]\n";
    fs::write(&path, tested)?;
    let status = host.await_status(SOON, |status| status.text.contains("cannot be applied"))?;
    assert!(status.text.contains("expected allow"), "{}", status.text);
    assert_eq!((status.code, status.revision()), (ENFORCING, 1), "{}", status.text);
    fs::remove_file(&path)?;
    host.await_status(SOON, |status| !status.text.contains("cannot be applied"))?;
    // With it the pumps lose every rule that they have.
    fs::remove_file(host.folder.join("50-pumps.yaml"))?;
    let status = host.await_status(SOON, |status| status.text.contains("cannot be applied"))?;
    assert!(status.text.contains("more away than the guard allows"), "{}", status.text);
    assert_eq!((status.code, status.revision()), (ENFORCING, 1), "{}", status.text);
    Ok(())
}
