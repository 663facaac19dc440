//! Damaged captures, captures from a pipe, and what a replay leaves behind.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::capture::{Blocks, Classic, ETHERNET, Order};
use tests::frame::SYN;
use tests::kernel::privilege;

use super::run::{CLOUD, Done, File, START, fixture, up};

fn call() -> Vec<u8> {
    up(CLOUD).tcp(40_000, 443).flags(SYN).build()
}

#[test]
fn a_capture_that_ends_early_is_judged_as_far_as_it_goes() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let mut bytes =
        Blocks::new(Order::Little).ethernet("acc0").whole(0, START, &call()).whole(0, START, &call()).bytes();
    bytes.pop();
    let file = File::write(&bytes)?;
    let done = file.replay(&["-o", "json"])?;
    let lines = done.out.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    ensure!(done.code == Some(2) && lines.len() == 2, "{done:?}");
    ensure!(lines[0]["reason"] == "opened" && lines[1]["summary"]["complete"] == false, "{done:?}");
    ensure!(done.err.starts_with("error: ") && done.err.contains(": packet 2 at byte "), "{done:?}");
    ensure!(done.err.contains("the file ends early") && done.err.lines().count() == 1, "{done:?}");
    ensure!(file.replay(&[])?.out.contains("NOT THE WHOLE CAPTURE"), "the text does not say so");
    Ok(())
}

#[test]
fn a_capture_may_come_through_a_pipe() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let capture = Classic::new(Order::Little, false, ETHERNET).whole(1, &call()).bytes();
    let mut command = tests::binary::bulkhead();
    command.arg("replay").arg("-f").args([fixture("policy.yaml"), fixture("agent.yaml")]);
    command.args(["--in", "-", "--interface", "acc0", "-o", "json"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("no input")?.write_all(&capture)?;
    let done = Done::from(child.wait_with_output()?);
    ensure!(done.code == Some(0) && done.out.lines().count() == 2, "{done:?}");
    Ok(())
}

#[test]
fn a_closed_pipe_is_success() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let head = Classic::new(Order::Little, false, ETHERNET);
    let file = File::write(&(0..2000).fold(head, |file, second| file.whole(second, &call())).bytes())?;
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let done = file.command(&["--interface", "acc0"]).stdout(writer).output()?;
    ensure!(done.status.success() && done.stderr.is_empty(), "{done:?}");
    Ok(())
}

/// The interfaces of the fixtures are not there, and neither are pins before or after.
#[test]
fn nothing_is_pinned_and_no_interface_is_needed() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let pins = folder.path().join("pins");
    let settings = folder.path().join("agent.yaml");
    let text = fs::read_to_string(fixture("agent.yaml"))?;
    fs::write(&settings, format!("{text}  pinDir: {}\n", pins.display()))?;
    let file = File::write(&Classic::new(Order::Little, false, ETHERNET).whole(1, &call()).bytes())?;
    let mut command = tests::binary::bulkhead();
    command.arg("replay").arg("-f").arg(fixture("policy.yaml")).arg("-c").arg(&settings);
    let done = Done::from(command.arg("--in").arg(&file.path).args(["--interface", "acc0"]).output()?);
    ensure!(done.code == Some(0) && done.out.contains(" PASS opened up acc0 charger-1 "), "{done:?}");
    ensure!(!pins.exists() && nix::net::if_::if_nametoindex("acc0").is_err(), "something was touched");
    Ok(())
}
