//! Two hundred changes cost no more than a few.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};
use bulkhead::api::client::Client;
use bulkhead::api::types::{ApplyReply, ApplyRequest, NamedText, path};

use super::crash::firmware;
use super::host::Host;

/// What an allocator may keep for itself, in KiB.
const SLACK: u64 = 8 * 1024;

/// What the agent holds of the system.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    /// Descriptors by what they are: `bpf-map`, `bpf-prog`, `socket`.
    descriptors: BTreeMap<String, usize>,
    threads: bool,
}

#[test]
fn applies_leave_no_descriptor_no_map_no_program_and_no_memory_behind() -> Result<()> {
    let Some(host) = Host::enforcing()? else { return Ok(()) };
    let client = Client::connect(&host.socket)?;
    change(&client, 0..20)?;
    let (held, memory) = (held(host.pid()?)?, resident(host.pid()?)?);
    change(&client, 20..200)?;
    assert_eq!(self::held(host.pid()?)?, held);
    let after = resident(host.pid()?)?;
    assert!(after <= memory + SLACK, "{memory} KiB became {after} KiB");
    assert_eq!(host.status()?.revision(), 201);
    assert!(host.is_guarded()?);
    Ok(())
}

fn change(client: &Client, rounds: std::ops::Range<u16>) -> Result<()> {
    for round in rounds {
        let files = vec![NamedText { name: "firmware.yaml".into(), text: firmware(8000 + round) }];
        let request = ApplyRequest { files, ..ApplyRequest::default() };
        let reply: ApplyReply = client.post(path::APPLY, &request)?;
        ensure!(!reply.unchanged && reply.writes > 0, "round {round} changed nothing");
    }
    Ok(())
}

fn held(pid: u32) -> Result<Held> {
    let mut descriptors = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        // One may be closed while we look.
        let Ok(target) = fs::read_link(entry?.path()) else { continue };
        let target = target.to_string_lossy();
        let kind = target.split([':', '[']).next().unwrap_or_default();
        let kind = if kind.starts_with("anon_inode") { target.as_ref() } else { kind };
        *descriptors.entry(kind.to_owned()).or_default() += 1;
    }
    // Threads that wait for work come and go, but not by the hundred.
    let threads = fs::read_dir(format!("/proc/{pid}/task"))?.count() < 100;
    Ok(Held { descriptors, threads })
}

fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
