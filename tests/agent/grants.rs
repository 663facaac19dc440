//! Grants: a visitor with a real session, on the device's own port.

use std::fs;
use std::time::Instant;

use anyhow::{Result, ensure};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tests::netns::SERVER;

use super::host::{ENFORCING, Host, PATIENCE, polled, words};
use super::site::{CREATE, Site, VISITOR, hold_over_the_end};

/// How long a grant lasts whose end is waited for.
const LASTS: u64 = 14;
/// How long one waits that begins later.
const WAITS: u64 = 5;

/// A document for the grant that has ended, with all the time in the world.
pub(crate) fn again(device: &str) -> String {
    let now = Timestamp::now();
    document(device, now, now + SignedDuration::from_hours(2))
}

fn document(device: &str, start: Timestamp, end: Timestamp) -> String {
    format!(
        "apiVersion: bulkhead/v1\nkind: Grant\nmetadata: {{name: chg-4711}}\nspec:\n  who: {{person: Berg}}\n  \
         from: {{cidrs: [192.0.2.66]}}\n  to: {{device: {device}}}\n  ports: [tcp/22]\n  \
         window: {{start: \"{start}\", end: \"{end}\"}}\n"
    )
}

/// Opens a grant, holds a session over its end, and looks at what is left; with or without an agent.
fn over_its_end(site: &mut Site, with_agent: bool) -> Result<()> {
    assert!(!site.is_open()?);
    let asked = Instant::now();
    let said = site.create(&format!("{LASTS}s"))?;
    let created = Instant::now();
    ensure!(said.contains("GRANTED chg-4711 open until"), "{said}");
    let mut live = site.session()?;
    assert!(!site.opens(VISITOR, "charger-1", 502)?, "no other port");
    assert!(!site.opens(VISITOR, "charger-2", 22)?, "no other device");
    assert!(!site.opens(("dn", SERVER.v4.into()), "charger-1", 22)?, "nobody else");
    let mut other = site.host.connection("charger-1", 443)?;
    if !with_agent {
        site.host.kill()?;
    }
    hold_over_the_end(&mut live, LASTS, (asked, created))?;
    assert!(!site.is_open()?, "and nothing new is opened");
    assert!(other.is_alive()?, "what policy allows goes on");
    Ok(())
}

/// What a report says of a grant whose time is over and which carried one session.
fn holds(report: &Value) -> Result<()> {
    ensure!(report["state"] == "ended" && report["closed"]["cause"] == "time", "{report}");
    ensure!(report["closed"]["at"] == report["end"] && report["opened"] == report["asked"]["at"], "{report}");
    ensure!(report["person"] == "Åse Berg" && report["ticket"] == "CHG-4711", "{report}");
    let carried = &report["carried"];
    ensure!(carried["flows"] == 1, "{report}");
    for way in ["bytes_up", "bytes_down"] {
        ensure!(carried[way].as_u64().is_some_and(|bytes| bytes > 500), "{report}");
    }
    Ok(())
}

#[test]
fn a_grant_ends_on_a_live_session_and_leaves_one_report() -> Result<()> {
    let Some(mut site) = Site::new("")? else { return Ok(()) };
    over_its_end(&mut site, true)?;
    let status = site.host.await_status(PATIENCE, |status| status.json["grants"] == serde_json::json!([]))?;
    assert_eq!(status.code, ENFORCING);
    holds(&site.report()?)?;
    let shown = site.done("kari", &["grant", "show", "chg-4711"])?;
    for part in ["Åse Berg (Vendor AS), +47", "asked ", "opened ", "its time was over", "1 flow"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let log = fs::read_to_string(site.host.state.join("grants.log"))?;
    for act in ["asked", "opened", "ended", "report"] {
        let told = log.lines().filter(|line| line.contains(&format!("\"act\":\"{act}\""))).count();
        assert_eq!(told, 1, "{act}: {log}");
    }
    let history = site.done("kari", &["revisions"])?;
    assert!(
        history.contains("kari via sudo, cli") && history.contains("grant chg-4711: Åse Berg"),
        "{history}"
    );
    // Neither its document again, nor going back to when it was open.
    let applied = site.host.apply_text(&again("charger-1"))?;
    assert!(applied.status.success(), "{}", words(&applied));
    assert!(!site.is_open()?);
    site.done("kari", &["rollback", "2"])?;
    assert!(!site.is_open()?);
    holds(&site.report()?)
}

/// Granted in the morning for a visit that begins later.
#[test]
fn a_document_of_a_grant_opens_it_at_its_start_and_no_longer_than_to_its_end() -> Result<()> {
    let Some(site) = Site::new("")? else { return Ok(()) };
    let (asked, now) = (Instant::now(), Timestamp::now());
    let seconds = |seconds: u64| now + SignedDuration::from_secs(seconds.cast_signed());
    let said = site.host.apply_text(&document("charger-1", seconds(WAITS), seconds(WAITS + LASTS)))?;
    ensure!(said.status.success(), "{}", words(&said));
    let opened = polled(PATIENCE, || site.is_open(), |open| *open)?;
    ensure!(opened && asked.elapsed().as_secs() >= WAITS, "{opened} after {:?}", asked.elapsed());
    let mut live = site.session()?;
    hold_over_the_end(&mut live, WAITS + LASTS, (asked, asked))?;
    ensure!(!site.is_open()?, "and nothing new is opened");
    let ended = polled(PATIENCE, || site.report(), |report| report["state"] == "ended")?;
    ensure!(ended["closed"]["cause"] == "time" && ended["person"] == "Berg", "{ended}");
    Ok(())
}

#[test]
fn a_grant_ends_by_the_kernel_s_clock_with_the_agent_dead() -> Result<()> {
    let Some(mut site) = Site::new("")? else { return Ok(()) };
    over_its_end(&mut site, false)?;
    site.host.start()?;
    assert!(!site.is_open()?, "nor by the next agent");
    holds(&site.report()?)
}

#[test]
fn a_live_session_lasts_through_restart_rollback_and_extension_and_ends_with_the_revocation() -> Result<()> {
    let Some(mut site) = Site::new("")? else { return Ok(()) };
    site.create("1h")?;
    let mut live = site.session()?;
    assert!(site.host.status()?.text.contains("grant chg-4711 open until"), "{}", site.host.status()?.text);
    site.host.kill()?;
    site.host.start()?;
    assert!(live.is_alive()?, "a restart cuts nobody off");
    let before = site.report()?;
    site.done("kari", &["grant", "extend", "chg-4711", "--for", "1h"])?;
    let after = site.report()?;
    assert!(live.is_alive()? && after["end"].as_str() > before["end"].as_str(), "{after}");
    assert_eq!(after["extended"].as_array().map(Vec::len), Some(1), "{after}");
    site.done("kari", &["rollback", "1"])?;
    assert!(live.is_alive()?, "going back restores policy, and a grant is none");
    let listed = site.done("kari", &["grant", "list"])?;
    assert!(listed.contains("chg-4711") && listed.contains("open"), "{listed}");
    let explain = ["explain", "--from", "192.0.2.66", "--to", "charger-1", "--port", "tcp/22"];
    let explained = site.done("kari", &explain)?;
    assert!(explained.contains("ALLOW by chg-4711/grant"), "{explained}");
    let said = site.done("kari", &["grant", "revoke", "chg-4711"])?;
    assert!(said.contains("REVOKED chg-4711 ended") && said.contains("1 flow"), "{said}");
    assert!(!live.is_alive()? && !site.is_open()?, "at its next packet");
    assert_eq!(site.report()?["closed"]["cause"], "revoked");
    // For good.
    site.host.kill()?;
    site.host.start()?;
    assert!(!site.is_open()?);
    for act in [&["grant", "extend", "chg-4711", "--for", "1h"][..], &["grant", "revoke", "chg-4711"]] {
        assert!(site.refused("kari", act)?.contains("never opens again"));
    }
    let same = site.refused("kari", &[&CREATE[..], &["--for", "1h", "--name", "chg-4711"]].concat())?;
    assert!(same.contains("is taken"), "{same}");
    let next = site.create("1h")?;
    assert!(next.contains("GRANTED chg-4711-2 open") && site.is_open()?, "{next}");
    Ok(())
}

/// True if the kernel knows who logged in, and `sudo` is not asked.
fn is_logged_in() -> bool {
    let login = fs::read_to_string("/proc/self/loginuid").unwrap_or_default();
    !matches!(login.trim(), "" | "4294967295")
}

#[test]
fn four_eyes_open_a_grant_that_two_would_not_and_no_longer_than_the_host_allows() -> Result<()> {
    let limits = "  grants: {maxDuration: 2h, fourEyes: true}\n";
    let Some(site) = Site::new(limits)? else { return Ok(()) };
    let long = site.refused("kari", &[&CREATE[..], &["--for", "3h"]].concat())?;
    assert!(long.contains("grants.maxDuration"), "{long}");
    let wrong = CREATE.map(|word| if word == "charger-1" { "charger-11" } else { word });
    let unknown = site.refused("kari", &[&wrong[..], &["--for", "1h"]].concat())?;
    assert!(unknown.contains("nearest is \"charger-1\""), "{unknown}");
    let said = site.create("1h")?;
    assert!(said.contains("GRANTED chg-4711 waiting") && said.contains("grant approve"), "{said}");
    assert!(!site.is_open()?);
    let own = site.refused("kari", &["grant", "approve", "chg-4711"])?;
    assert!(own.contains("somebody else has to agree"), "{own}");
    if is_logged_in() {
        println!("skipped in part: whoever logged in here is everybody who agrees");
        return Ok(());
    }
    site.done("ola", &["grant", "approve", "chg-4711"])?;
    let report = site.report()?;
    assert_eq!(report["asked"]["by"], "kari via sudo", "{report}");
    assert_eq!(report["approved"]["by"], "ola via sudo", "{report}");
    let mut live = site.session()?;
    let own = site.refused("kari", &["grant", "extend", "chg-4711", "--for", "30m"])?;
    assert!(own.contains("somebody else has to agree") && live.is_alive()?, "{own}");
    site.done("ola", &["grant", "extend", "chg-4711", "--for", "30m"])?;
    assert!(live.is_alive()?, "an extension cuts nobody off");
    let far = site.refused("ola", &["grant", "extend", "chg-4711", "--for", "2h"])?;
    assert!(far.contains("grants.maxDuration") && live.is_alive()?, "{far}");
    // What was approved of was one device.
    assert!(site.host.apply_text(&again("charger-2"))?.status.success());
    assert!(!live.is_alive()? && !site.is_open()? && !site.opens(VISITOR, "charger-2", 22)?);
    assert_eq!(site.report()?["state"], "waiting");
    Ok(())
}

#[test]
fn without_a_clock_that_is_believed_nothing_is_granted() -> Result<()> {
    let Some(host) = Host::doubting_its_clock()? else { return Ok(()) };
    let output = host.bulkhead(&[&CREATE[..], &["--for", "1h"]].concat())?;
    assert_eq!(output.status.code(), Some(1));
    assert!(words(&output).contains("the clock is not believed"), "{}", words(&output));
    assert_eq!(host.status()?.json["grants"], serde_json::json!([]));
    Ok(())
}
