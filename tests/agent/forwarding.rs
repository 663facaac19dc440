//! `forwarding: xdp` as an operator sees it: what goes the fast way, what it would go round, and that it goes back.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::nat;
use tests::netns::SERVER;

use super::host::{DEGRADED, ENFORCING, Host, PATIENCE, POLICIES_OF_THE_DEMO, Status, words};
use super::revisions::done;
use super::throughput;

/// The agent looks at the host every five seconds.
const LOOK: Duration = Duration::from_secs(5 + PATIENCE.as_secs());

#[test]
fn a_transfer_goes_past_the_stack_until_the_host_translates_addresses() -> Result<()> {
    let Some(host) = Host::enforcing()? else { return Ok(()) };
    host.lab.fit_for_xdp()?;
    ensure!(host.status()?.json["forwarding"].is_null(), "nobody has asked for it");
    let applied = host.apply_text(&network()?)?;
    ensure!(applied.status.success(), "{}", words(&applied));
    let opened = |status: &Status| names(&status.json["forwarding"]["leaves"]) == ["acc0", "acc1", "n6"];
    let status = host.await_status(LOOK, opened)?;
    ensure!(status.code == ENFORCING, "{}", status.text);
    ensure!(status.text.contains("forwarding by XDP for fleet · enters acc0, acc1, n6"), "{}", status.text);
    ensure!(status.text.contains("is a veth"), "{}", status.text);

    let (dn, camera) = (host.lab.namespace("dn")?, host.lab.namespace("camera-1")?);
    let report = throughput::transfer(dn, camera, SERVER.v4.into())?;
    ensure!(report["end"]["sum_sent"]["bytes"].as_f64().is_some_and(|bytes| bytes > 1e6), "{report}");
    let status = host.status()?;
    for link in ["acc1", "n6"] {
        let (fast, passed) = (ways(&status, link, "fast")?, interface(&status, link)?["passed"].as_u64());
        ensure!(
            Some(fast * 10) > passed.map(|passed| passed * 9),
            "{link}: {fast} of {passed:?}\n{}",
            status.text
        );
    }
    ensure!(status.text.contains("forwarded by XDP"), "{}", status.text);

    while_a_candidate_looks_on(&host, || throughput::transfer(dn, camera, SERVER.v4.into()).map(drop))?;

    nat::masquerade(host.lab.namespace("core")?)?;
    let stopped = |status: &Status| !names(&status.json["forwarding"]["obstacles"]).is_empty();
    let status = host.await_status(LOOK, stopped)?;
    ensure!(names(&status.json["forwarding"]["enters"]).is_empty(), "{}", status.text);
    ensure!(
        status.text.contains("although fleet asks for XDP") && status.text.contains("lab-nat"),
        "{}",
        status.text
    );
    ensure!([ENFORCING, DEGRADED].contains(&status.code), "{}", status.text);
    let before = ways(&status, "acc1", "fast")?;
    throughput::transfer(dn, camera, SERVER.v4.into())?;
    let status = host.status()?;
    ensure!(ways(&status, "acc1", "fast")? == before, "something still goes round the translation");
    Ok(())
}

/// A candidate sees packets as they came: all of them go by the stack, and past it again behind the trial.
fn while_a_candidate_looks_on(host: &Host, transfer: impl Fn() -> Result<()>) -> Result<()> {
    let candidate = host.lab.directory().join("candidate.yaml");
    fs::write(&candidate, fs::read_to_string(format!("{POLICIES_OF_THE_DEMO}/10-network.yaml"))?)?;
    done(host, &["apply", "--candidate", "-f", &candidate.to_string_lossy()])?;
    let before = host.status()?;
    ensure!(before.text.contains("while a candidate is tried out"), "{}", before.text);
    transfer()?;
    let fast = |status: &Status| ways(status, "acc1", "fast");
    ensure!(fast(&host.status()?)? == fast(&before)?, "a candidate has got what was on its way out");
    let said: Value = serde_json::from_slice(&host.bulkhead(&["candidate", "-o", "json"])?.stdout)?;
    let compared = &said["compared"];
    ensure!(compared["judged"].as_u64() > Some(1000), "{said:#}");
    ensure!(compared["judged"] == compared["same"], "the same policy would do otherwise: {said:#}");
    done(host, &["candidate", "drop"])?;
    transfer()?;
    ensure!(fast(&host.status()?)? > fast(&before)?, "the stack goes on forwarding");
    Ok(())
}

/// The demo's network, forwarded by XDP.
fn network() -> Result<String> {
    let text = fs::read_to_string(format!("{POLICIES_OF_THE_DEMO}/10-network.yaml"))?;
    let changed = text.replacen("spec:\n", "spec:\n  forwarding: xdp\n", 1);
    ensure!(changed != text, "the demo's network is written otherwise");
    Ok(changed)
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn interface<'s>(status: &'s Status, name: &str) -> Result<&'s Value> {
    let interfaces = status.json["interfaces"].as_array().context("no interfaces")?;
    interfaces.iter().find(|interface| interface["name"] == name).with_context(|| format!("no {name}"))
}

fn ways(status: &Status, link: &str, way: &str) -> Result<u64> {
    Ok(interface(status, link)?["ways"][way].as_u64().unwrap_or_default())
}
