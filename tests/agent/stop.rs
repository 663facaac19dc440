//! The agent ends, and what follows it when it is asked to.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use tests::netns::FORBIDDEN;

use super::host::{DEGRADED, ENFORCING, Host, PATIENCE, words};

/// systemd waits longer, and an operator does not.
const QUICK: Duration = Duration::from_secs(4);

#[test]
fn a_stopped_agent_leaves_its_datapath_enforcing() -> Result<()> {
    let Some(mut host) = Host::enforcing()? else { return Ok(()) };
    let mut live = host.connection("charger-1", 443)?;
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut tail = host.spawn(&mut host.command(&["flows", "-f"])?)?;
        // A client that says half of what it wants, and waits.
        let mut slow = UnixStream::connect(&host.socket)?;
        if signal == Signal::SIGTERM {
            slow.write_all(b"POST /v1/apply HTTP/1.1\r\ncontent-length: 10\r\n")?;
        }
        std::thread::sleep(Duration::from_millis(300));
        let (status, took) = host.stop(signal)?;
        assert_eq!(status.code(), Some(0), "{signal}: {}", host.log()?);
        assert!(took < QUICK, "{signal}: it took {took:?}");
        assert!(!host.socket.exists(), "{signal}: the socket goes with it");
        let until = Instant::now() + PATIENCE;
        while tail.try_wait()?.is_none() {
            assert!(Instant::now() < until, "{signal}: the tail did not end");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(host.status()?.code, DEGRADED);
        assert!(host.is_guarded()? && live.is_alive()?);
        host.start()?;
        assert_eq!(host.status()?.code, ENFORCING);
    }
    Ok(())
}

#[test]
fn detach_waits_for_the_agent_to_go_and_then_leaves_nothing() -> Result<()> {
    let Some(mut host) = Host::enforcing()? else { return Ok(()) };
    // The lost socket of an agent that runs does not make it gone.
    for lost in [false, true] {
        if lost {
            std::fs::remove_file(&host.socket)?;
        }
        let output = host.bulkhead(&["detach"])?;
        let said = words(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("stop it first"), "{said}");
        assert!(host.is_guarded()?);
    }
    host.stop(Signal::SIGTERM)?;
    let output = host.bulkhead(&["detach"])?;
    let said = words(&output);
    assert!(output.status.success(), "{said}");
    for interface in ["acc0", "acc1", "n6"] {
        assert!(said.contains(&format!("{interface} is NOT ENFORCED any more")), "{said}");
    }
    assert!(!host.lab.pins().exists(), "no pin and no folder is left");
    assert!(host.reaches("charger-1", FORBIDDEN.v4.into(), 443)?, "nothing is enforced");
    let again = host.bulkhead(&["detach"])?;
    assert!(again.status.success() && words(&again).contains("nothing was attached"), "{}", words(&again));
    host.start()?;
    assert_eq!(host.status()?.code, ENFORCING, "the accepted policy is back");
    assert!(host.is_guarded()?);
    Ok(())
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() -> Result<()> {
    let Some(host) = Host::enforcing()? else { return Ok(()) };
    let mut shell = Command::new("bash");
    let bulkhead = super::host::program()?;
    // By reason: the lab's own multicast listener reports are drops too, and may come first.
    shell.arg("-c").arg(format!(
        "set -o pipefail; {} drops -f --reason no_rule -c {} | head -1",
        bulkhead.display(),
        host.config.display()
    ));
    let mut piped = host.spawn(&mut shell)?;
    let (until, mut port) = (Instant::now() + PATIENCE, 2000);
    while piped.try_wait()?.is_none() {
        assert!(Instant::now() < until, "the tail does not notice");
        // Another port each: what is alike is told together, ten seconds later.
        port += 1;
        assert!(!host.reaches("charger-1", FORBIDDEN.v4.into(), port)?);
    }
    let output = piped.wait_with_output()?;
    let said = words(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let line = said.lines().next().context("nothing was told")?;
    assert!(line.contains("no_rule") && said.lines().count() == 1, "{said}");
    Ok(())
}
