//! Revisions: kept with their reasons, gone back to, confirmed in time or given up, audited.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tests::kernel::privilege;
use tests::netns::SERVER;

use super::crash::firmware;
use super::host::{ENFORCING, Host, PATIENCE, Status, polled, words};

/// Long enough to kill and start an agent in a debug build, short enough to wait for.
const WITHIN: Duration = Duration::from_secs(8);
/// An agent that lives is late by less.
const LATE: Duration = Duration::from_secs(2);

/// Runs a command that must succeed.
pub(crate) fn done(host: &Host, arguments: &[&str]) -> Result<String> {
    let output = host.bulkhead(arguments)?;
    let said = words(&output);
    anyhow::ensure!(output.status.success(), "{arguments:?}: {said}");
    Ok(said)
}

/// Runs a command that must be refused, in one line.
pub(crate) fn refused(host: &Host, arguments: &[&str]) -> Result<String> {
    let output = host.bulkhead(arguments)?;
    let said = words(&output);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
    Ok(said)
}

/// Moves the firmware server's port, as somebody does at the command line.
pub(crate) fn move_port(host: &Host, port: u16, more: &[&str]) -> Result<Vec<String>> {
    let path = host.lab.directory().join("change.yaml");
    fs::write(&path, firmware(port))?;
    let path = path.display().to_string();
    let arguments = [&["apply", "-f", &path], more].concat();
    Ok(arguments.iter().map(|argument| (*argument).to_owned()).collect())
}

pub(crate) fn as_typed(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// True if a new download gets through at this port and not at the other.
pub(crate) fn at(host: &Host, port: u16) -> Result<bool> {
    let other = if port == 8443 { 9443 } else { 8443 };
    let reaches = |port| host.reaches("charger-1", SERVER.v4.into(), port);
    Ok(reaches(port)? && !reaches(other)?)
}

pub(crate) fn is_back(status: &Status) -> bool {
    status.json["confirm"].is_null() && status.revision() == 3
}

#[test]
fn a_revision_is_kept_with_author_reason_and_every_line_and_can_be_gone_back_to() -> Result<()> {
    let Some(host) = Host::enforcing()? else { return Ok(()) };
    done(&host, &as_typed(&move_port(&host, 9443, &["-m", "the mirror moves"])?))?;
    let listed = done(&host, &["revisions"])?;
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 2, "{listed}");
    assert!(lines[0].starts_with("r2 *") && lines[0].contains("root"), "{listed}");
    assert!(lines[0].ends_with("cli: 0 added, 1 changed, 0 removed “the mirror moves”"), "{listed}");
    let shown = done(&host, &["revisions", "show", "r2"])?;
    for part in ["~ policy/firmware (", "- ", "ports: [tcp/8443]", "+ ", "ports: [tcp/9443]", "uid 0"] {
        assert!(shown.contains(part), "{part:?}: {shown}");
    }
    let detail: Value = serde_json::from_str(&done(&host, &["revisions", "show", "2", "-o", "json"])?)?;
    let before: Value = serde_json::from_str(&done(&host, &["revisions", "show", "1", "-o", "json"])?)?;
    assert_eq!(detail["previous"], before["hash"], "each holds the one before");
    assert!(at(&host, 9443)?);
    assert!(done(&host, &["rollback", "--dry-run"])?.contains("~ policy/firmware"));
    let said = done(&host, &["rollback", "-m", "it does not answer"])?;
    assert!(said.contains("APPLIED r3: 0 added, 1 changed, 0 removed"), "{said}");
    assert!(at(&host, 8443)? && host.is_guarded()?);
    assert!(done(&host, &["revisions"])?.contains("rollback to r1"));
    assert!(done(&host, &["rollback", "r2"])?.contains("APPLIED r4"));
    assert!(at(&host, 9443)?);
    for (to, told) in
        [("9", "r9 does not exist yet"), ("4", "r4 is in force"), ("0", "there is no r0; r1 to r4 are kept")]
    {
        assert!(refused(&host, &["rollback", to])?.contains(told));
    }
    let status = host.status()?;
    assert_eq!((status.code, status.revision()), (ENFORCING, 4), "{}", status.text);
    Ok(())
}

/// A user without a name.
const LOGIN: u32 = 12_345;

/// Runs a command as somebody does who once logged in, is root by now, and claims by `SUDO_USER` to be a third; nothing
/// where the kernel lets nobody have another login uid.
fn logged_in(host: &Host, arguments: &[&str]) -> Result<Option<String>> {
    const REFUSED: i32 = 77;
    let command = host.command(arguments)?;
    let logs_in = format!("echo {LOGIN} >/proc/self/loginuid || exit {REFUSED}; exec \"$@\"");
    let mut shell = Command::new("sh");
    shell.args(["-c", &logs_in, "sh"]).arg(command.get_program()).args(command.get_args());
    let output = host.spawn(shell.env("SUDO_USER", "kari"))?.wait_with_output()?;
    if output.status.code() == Some(REFUSED) {
        return Ok(None);
    }
    anyhow::ensure!(output.status.success(), "{arguments:?}: {}", words(&output));
    Ok(Some(words(&output)))
}

#[test]
fn an_author_is_who_once_logged_in_whatever_sudo_says() -> Result<()> {
    let Some(host) = Host::trusting_its_clock("")? else { return Ok(()) };
    let Some(said) = logged_in(&host, &as_typed(&move_port(&host, 9443, &[])?))? else {
        privilege::skip("the kernel takes no login uid here");
        return Ok(());
    };
    assert!(said.contains("APPLIED r2"), "{said}");
    let (author, ids) =
        (format!("uid {LOGIN} via root"), format!("uid 0, login uid {LOGIN}, sudo user kari"));
    let shown = done(&host, &["revisions", "show", "2"])?;
    assert!(shown.lines().next().is_some_and(|line| line.contains(&format!(" {author}, cli"))), "{shown}");
    assert!(shown.lines().any(|line| line.trim() == ids), "{shown}");
    assert!(done(&host, &["revisions"])?.contains(&format!(" {author}, cli: ")));
    // What is audited: the entry of the revision, and the record of grants.
    let create = [&super::site::CREATE[..], &["--for", "1h"]].concat();
    assert!(logged_in(&host, &create)?.is_some_and(|said| said.contains("GRANTED")));
    for (file, told) in [
        ("revisions/2", format!("\"author\":\"{author}\"")),
        ("revisions/2", format!("\"who\":{{\"uid\":0,\"login_uid\":{LOGIN},\"sudo_user\":\"kari\"}}")),
        ("grants.log", format!("\"by\":\"{author}\"")),
    ] {
        let text = String::from_utf8_lossy(&fs::read(host.state.join(file))?).into_owned();
        assert!(text.contains(&told), "{told} is not in {file}: {text}");
    }
    let verified = done(&host, &["audit", "verify"])?;
    assert!(verified.contains("OK 3 revisions"), "{verified}");
    Ok(())
}

#[test]
fn the_second_of_two_writers_is_told() -> Result<()> {
    let Some(host) = Host::enforcing()? else { return Ok(()) };
    done(&host, &as_typed(&move_port(&host, 9443, &["--if-revision", "1"])?))?;
    let said = refused(&host, &as_typed(&move_port(&host, 8443, &["--if-revision", "1"])?))?;
    assert!(said.starts_with("REFUSED: r2 is in force and not r1"), "{said}");
    assert!(refused(&host, &["rollback", "--if-revision", "1"])?.contains("r2 is in force and not r1"));
    assert!(at(&host, 9443)?, "the first one's change is there");
    assert_eq!(host.status()?.revision(), 2);
    Ok(())
}

#[test]
fn a_rollback_holds_the_folder_until_somebody_lets_it_go() -> Result<()> {
    let Some(mut host) = Host::with_settings(|settings| settings + "  autoApply: true\n")? else {
        return Ok(());
    };
    super::folder::fill(&host.folder)?;
    host.start()?;
    host.await_status(PATIENCE, |status| status.code == ENFORCING && status.revision() == 1)?;
    fs::write(host.folder.join("41-firmware.yaml"), firmware(9443))?;
    host.await_status(PATIENCE, |status| status.revision() == 2)?;
    done(&host, &["rollback"])?;
    host.nudge()?;
    std::thread::sleep(LATE);
    let held = host.status()?;
    assert_eq!(held.revision(), 3, "the folder did not apply itself: {}", held.text);
    assert!(held.text.contains("bulkhead resume") && held.text.contains("1 changed"), "{}", held.text);
    // A restart forgets nothing.
    host.kill()?;
    host.start()?;
    std::thread::sleep(LATE);
    assert_eq!(host.status()?.revision(), 3);
    assert!(at(&host, 8443)?);
    // What is the folder's is not pruned by somebody at the command line, nor the other way round.
    let extra = host.lab.directory().join("extra.yaml");
    fs::write(&extra, firmware(7443).replace("name: firmware", "name: extra"))?;
    let said = done(&host, &["apply", "--prune", "-f", &extra.to_string_lossy()])?;
    assert!(said.contains("APPLIED r4: 1 added, 0 changed, 0 removed"), "{said}");
    assert!(done(&host, &["resume"])?.contains("RESUMED"));
    host.await_status(PATIENCE, |status| status.revision() == 5)?;
    assert!(at(&host, 9443)?);
    assert!(done(&host, &["get", "policies"])?.contains("extra"));
    assert!(done(&host, &["resume"])?.contains("UNCHANGED"));
    Ok(())
}

#[test]
fn what_nobody_confirms_goes_away_again_and_what_somebody_confirms_stays() -> Result<()> {
    let Some(host) = Host::enforcing()? else { return Ok(()) };
    let within = format!("{}s", WITHIN.as_secs());
    let confirmed_by = ["--confirm-within", &within];
    let said = done(&host, &as_typed(&move_port(&host, 9443, &confirmed_by)?))?;
    assert!(said.contains("APPLIED r2") && said.contains("or r1 comes back"), "{said}");
    let status = host.status()?;
    assert!(
        status.text.contains("confirm in 0:0") && status.text.contains("or back to r1"),
        "{}",
        status.text
    );
    assert!(at(&host, 9443)?);
    // Somebody else's change must not be swept away with it.
    assert!(
        refused(&host, &as_typed(&move_port(&host, 8443, &[])?))?.contains("r2 waits for `bulkhead confirm`")
    );
    host.await_status(WITHIN + LATE, is_back)?;
    assert!(at(&host, 8443)? && host.is_guarded()?);
    assert!(done(&host, &["revisions"])?.contains("bulkhead, not confirmed, back to r1"));
    done(&host, &as_typed(&move_port(&host, 9443, &confirmed_by)?))?;
    assert!(done(&host, &["confirm"])?.contains("CONFIRMED r4"));
    std::thread::sleep(WITHIN + LATE);
    assert_eq!(host.status()?.revision(), 4);
    assert!(at(&host, 9443)?);
    assert!(done(&host, &["confirm"])?.contains("UNCHANGED"));
    // Given up at once, without a number.
    done(&host, &as_typed(&move_port(&host, 8443, &confirmed_by)?))?;
    assert!(done(&host, &["rollback"])?.contains("APPLIED r6"));
    assert!(at(&host, 9443)? && host.status()?.json["confirm"].is_null());
    Ok(())
}

#[test]
fn the_time_to_confirm_runs_while_the_agent_is_dead() -> Result<()> {
    let Some(mut host) = Host::enforcing()? else { return Ok(()) };
    let within = format!("{}s", WITHIN.as_secs());
    let change = move_port(&host, 9443, &["--confirm-within", &within])?;
    done(&host, &as_typed(&change))?;
    let applied = std::time::Instant::now();
    // Killed and back before it is over: it goes on waiting, no longer than before.
    host.kill()?;
    host.start()?;
    let status = host.status()?;
    assert!(status.text.contains("or back to r1"), "{}", status.text);
    assert_eq!(status.revision(), 2);
    host.await_status(WITHIN + LATE, is_back)?;
    assert!(applied.elapsed() < WITHIN + LATE, "{:?}", applied.elapsed());
    assert!(at(&host, 8443)?);
    // Killed, and back after it is over.
    done(&host, &as_typed(&change))?;
    host.kill()?;
    std::thread::sleep(WITHIN);
    assert!(at(&host, 9443)?, "nobody is there to take it back yet");
    host.start()?;
    let status = host.status()?;
    assert_eq!(status.revision(), 5, "{}", status.text);
    assert!(at(&host, 8443)? && host.is_guarded()?);
    Ok(())
}

#[test]
fn the_history_is_held_against_what_was_told_outside() -> Result<()> {
    let anchor = |settings: String| settings + "  audit: {anchor: {file: ANCHOR}}\n  revisions: {keep: 3}\n";
    let Some(mut host) = Host::with_settings(anchor)? else { return Ok(()) };
    let outside = host.lab.directory().join("anchors");
    let settings = fs::read_to_string(&host.config)?.replace("ANCHOR", &outside.display().to_string());
    fs::write(&host.config, settings)?;
    host.start()?;
    host.apply()?;
    for port in [9443, 8443, 9443, 8443] {
        done(&host, &as_typed(&move_port(&host, port, &[])?))?;
    }
    let told = || -> Result<bool> { Ok(fs::read_to_string(&outside).unwrap_or_default().contains(" r5 ")) };
    polled(PATIENCE, told, |told| *told)?;
    let said = done(&host, &["audit", "verify"])?;
    assert!(said.contains("OK 3 revisions, r3 to r5, one chain"), "{said}");
    assert!(said.contains("r5 is as it was told outside"), "{said}");
    host.kill()?;
    let entry = host.state.join("revisions/4");
    let whole = fs::read(&entry)?;
    let mut flipped = whole.clone();
    *flipped.last_mut().context("the entry is empty")? ^= 1;
    fs::write(&entry, &flipped)?;
    let output = host.bulkhead(&["audit", "verify"])?;
    assert_eq!(output.status.code(), Some(1), "{}", words(&output));
    assert!(words(&output).contains("! r4: ") && words(&output).contains("NOT WHOLE"), "{}", words(&output));
    fs::write(&entry, &whole)?;
    // Cut off, with the state that told of it.
    fs::remove_file(host.state.join("revisions/5"))?;
    fs::rename(host.state.join("previous"), host.state.join("accepted"))?;
    let said = words(&host.bulkhead(&["audit", "verify"])?);
    assert!(said.contains("r5 was anchored, and the newest entry is r4"), "{said}");
    Ok(())
}

#[test]
fn a_place_outside_that_is_away_is_told_and_stops_nothing() -> Result<()> {
    let away = |settings: String| settings + "  audit: {anchor: {webhook: \"http://127.0.0.1:9/anchor\"}}\n";
    let Some(mut host) = Host::with_settings(away)? else { return Ok(()) };
    host.start()?;
    host.apply()?;
    assert!(host.is_guarded()?);
    let status = host.await_status(PATIENCE, |status| status.text.contains("r1 is not anchored"))?;
    assert!(status.text.contains("http://127.0.0.1:9/anchor"), "{}", status.text);
    assert_eq!(status.revision(), 1);
    Ok(())
}
