//! `bulkhead replay` up to the kernel: what is refused needs no privilege to be refused.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tests::capture::{Blocks, Classic, ETHERNET, Order};
use tests::frame::eth;

use super::{Done, command};

fn fixture(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/replay").join(name).display().to_string()
}

/// A capture in a folder that goes with the first value.
fn file(bytes: &[u8]) -> Result<(tempfile::TempDir, PathBuf)> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("capture");
    std::fs::write(&path, bytes)?;
    Ok((folder, path))
}

fn arguments(path: &Path, options: &[&str]) -> Vec<String> {
    let head = ["replay", "-f", &fixture("policy.yaml"), &fixture("agent.yaml"), "--in"].map(str::to_owned);
    let options = options.iter().map(|option| (*option).to_owned());
    head.into_iter().chain([path.display().to_string()]).chain(options).collect()
}

fn replay(bytes: &[u8], options: &[&str]) -> Result<Done> {
    let (_folder, path) = file(bytes)?;
    let arguments = arguments(&path, options);
    Ok(command(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).output()?.into())
}

fn packet() -> Vec<u8> {
    eth().ipv4([10, 45, 0, 11].into(), [203, 0, 113, 10].into()).udp(1, 2).build()
}

fn classic(link: u32) -> Vec<u8> {
    Classic::new(Order::Little, false, link).whole(1, &packet()).bytes()
}

/// One line of error with all of the parts, nothing on standard output, exit code 2.
fn refused(done: &Done, parts: &[&str]) -> Result<()> {
    ensure!(done.code == Some(2) && done.out.is_empty(), "{done:?}");
    ensure!(done.err.starts_with("error: ") && done.err.lines().count() == 1, "{done:?}");
    for part in parts {
        ensure!(done.err.contains(part), "{part:?} is not in {}", done.err);
    }
    Ok(())
}

#[test]
fn an_unknown_interface_of_a_capture_must_be_mapped() -> Result<()> {
    let file = Blocks::new(Order::Little).ethernet("acc0").ethernet("acc1").whole(0, 1, &packet()).bytes();
    let done = replay(&file, &[])?;
    refused(
        &done,
        &["taken on \"acc1\"", "which has acc0, n6", "did you mean acc0?", "--interface acc1=NAME"],
    )?;
    let done = replay(&file, &["--interface", "acc1=n7"])?;
    refused(
        &done,
        &["--interface", "\"n7\" is no interface of the agent, which has acc0, n6", "did you mean n6?"],
    )
}

#[test]
fn a_classic_capture_must_say_where_it_was_taken() -> Result<()> {
    refused(&replay(&classic(ETHERNET), &[])?, &["has no name", "--interface NAME", "one of acc0, n6"])?;
    let twice = ["--interface", "acc0", "--interface", "n6"];
    refused(&replay(&classic(ETHERNET), &twice)?, &["--interface n6", "mapped already"])?;
    refused(&replay(&classic(147), &["--interface", "acc0"])?, &["link type 147", "Ethernet (1)"])
}

#[test]
fn what_is_no_capture_is_named() -> Result<()> {
    refused(&replay(b"#!/bin/sh", &[])?, &["capture: not a pcap or pcapng capture"])?;
    refused(&replay(b"", &[])?, &["the file is empty"])?;
    let missing = arguments(Path::new("/nonexistent/capture"), &[]);
    let missing = command(&missing.iter().map(String::as_str).collect::<Vec<_>>()).output()?.into();
    refused(&missing, &["/nonexistent/capture: open the capture: No such file"])?;
    let both = command(&["replay", "-f", "-", "--in", "-"]).output()?.into();
    refused(&both, &["standard input is either the policy or the capture"])
}

#[test]
fn a_wrong_policy_is_refused_before_the_capture_is_read() -> Result<()> {
    let (_folder, path) = file(b"kind: Nonsense")?;
    let done: Done =
        command(&["replay", "-f", &path.display().to_string(), "--in", "/nonexistent"]).output()?.into();
    ensure!(
        done.code == Some(1) && done.err.lines().last().is_some_and(|last| last.starts_with("REFUSED: ")),
        "{done:?}"
    );
    Ok(())
}

#[test]
fn without_the_capabilities_one_sentence_says_which() -> Result<()> {
    let (_folder, path) = file(&classic(ETHERNET))?;
    let inner = command(&[]);
    // Also root has none of them then.
    let mut outer = Command::new("setpriv");
    outer.args(["--bounding-set=-all", "--inh-caps=-all", "--"]).arg(inner.get_program());
    outer.args(arguments(&path, &["--interface", "acc0"]));
    let done = if nix::unistd::geteuid().is_root() {
        outer.output().context("run setpriv")?.into()
    } else {
        replay(&classic(ETHERNET), &["--interface", "acc0"])?
    };
    refused(&done, &["CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON are missing", "run it as root"])
}
