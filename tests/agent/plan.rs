//! Plans: what a change would take away is told before it is made, and beyond the guard it has to be meant.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::host::{Host, POLICIES_OF_THE_DEMO, words};
use super::revisions::{as_typed, at, done, move_port};

/// A host with the guard as it is unless somebody sets it, and the demo's policies in force.
fn guarded() -> Result<Option<Host>> {
    guarded_with("")
}

fn guarded_with(guard: &str) -> Result<Option<Host>> {
    let change = |settings: String| settings.replace("  guard: {devices: 100%, flows: 100%}\n", guard);
    let Some(mut host) = Host::with_settings(change)? else { return Ok(None) };
    ensure!(!fs::read_to_string(&host.config)?.contains("100%"), "the demo's guard is still there");
    host.start()?;
    // The first apply takes nothing away that a revision gave.
    host.apply()?;
    Ok(Some(host))
}

/// Runs a command that the guard must refuse; what it says, and the plan's id.
fn held(host: &Host, arguments: &[&str]) -> Result<(String, String)> {
    let output = host.bulkhead(arguments)?;
    let said = words(&output);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("REFUSED: ") && last.ends_with("stays in force"), "{said}");
    Ok((said.clone(), id(&said)?))
}

fn id(said: &str) -> Result<String> {
    let found = said.split_whitespace().find(|word| word.starts_with("p-"));
    Ok(found.with_context(|| said.to_owned())?.trim_end_matches(':').to_owned())
}

/// The demo's policies with one text in them changed, in a folder of their own.
fn changed_demo(host: &Host, file: &str, change: impl Fn(String) -> String) -> Result<PathBuf> {
    let folder = host.lab.directory().join("changed");
    if !folder.exists() {
        fs::create_dir(&folder)?;
        super::folder::fill(&folder)?;
    }
    let path = folder.join(file);
    let before = fs::read_to_string(&path)?;
    let after = change(before.clone());
    ensure!(before != after, "nothing was changed in {file}");
    fs::write(path, after)?;
    Ok(folder)
}

#[test]
fn a_change_that_cuts_much_is_refused_until_exactly_it_is_accepted() -> Result<()> {
    let Some(host) = guarded()? else { return Ok(()) };
    let mut download = host.connection("charger-1", 8443)?;
    let mut others = [host.connection("charger-1", 443)?, host.connection("charger-2", 443)?];
    let change = move_port(&host, 9443, &[])?;
    let (said, plan) = held(&host, &as_typed(&change))?;
    assert!(said.contains(&format!("guard plan {plan} would cut 1 of 3 live flows (33.3% > 5%)")), "{said}");
    assert!(said.contains("charger-1 → 203.0.113.10 tcp/8443, allowed by firmware/download"), "{said}");
    assert!(said.contains(&format!("--accept {plan}")), "{said}");
    let dry = done(&host, &as_typed(&move_port(&host, 9443, &["--dry-run"])?))?;
    assert!(
        dry.contains(&format!("plan {plan}: cuts 1 of 3 live flows")) && dry.contains("WOULD APPLY"),
        "{dry}"
    );
    // Another content, and an id of nobody.
    let (said, other) = held(&host, &as_typed(&move_port(&host, 7443, &["--accept", &plan])?))?;
    assert!(said.contains("was about another change") && other != plan, "{said}");
    let (said, _) = held(&host, &as_typed(&move_port(&host, 9443, &["--accept", "p-000000"])?))?;
    assert!(said.contains("is not known"), "{said}");
    assert!(download.is_alive()? && host.status()?.revision() == 1, "nothing was done so far");
    // More would be cut than was told.
    let mut second = host.connection("charger-2", 8443)?;
    let accepting = move_port(&host, 9443, &["--accept", &plan])?;
    let (said, both) = held(&host, &as_typed(&accepting))?;
    assert!(said.contains("was about 1 flows, and it is 2 now"), "{said}");
    let accepting = move_port(&host, 9443, &["--accept", &both])?;
    assert!(done(&host, &as_typed(&accepting))?.contains("APPLIED r2"));
    assert!(!download.is_alive()? && !second.is_alive()?, "what was foretold");
    assert!(others[0].is_alive()? && others[1].is_alive()?, "and nothing else");
    // The plan was about r1.
    let (said, _) = held(&host, &as_typed(&move_port(&host, 8443, &["--accept", &plan])?))?;
    assert!(said.contains("was about a change of r1"), "{said}");
    Ok(())
}

#[test]
fn devices_that_lose_every_rule_or_are_gone_are_counted() -> Result<()> {
    let Some(host) = guarded()? else { return Ok(()) };
    let path = |name: &str| format!("{POLICIES_OF_THE_DEMO}/{name}");
    let (network, devices) = (path("10-network.yaml"), path("20-devices.yaml"));
    let (said, _) = held(&host, &["apply", "--prune", "-f", &network, &devices])?;
    assert!(said.contains("would leave 5 of 5 devices without any rule (100.0% > 1%)"), "{said}");
    assert!(said.contains("camera-1, charger-1, charger-2, nvr-1, pump-1"), "{said}");
    let renamed = |text: String| text.replace("charger-2", "charger-9");
    changed_demo(&host, "40-chargers.yaml", renamed)?;
    let folder = changed_demo(&host, "20-devices.yaml", renamed)?.display().to_string();
    let (said, plan) = held(&host, &["apply", "--prune", "-f", &folder])?;
    assert!(said.contains("would remove 1 of 5 devices (20.0% > 1%)"), "{said}");
    assert!(host.is_guarded()? && host.status()?.revision() == 1);
    assert!(done(&host, &["apply", "--prune", "-f", &folder, "--accept", &plan])?.contains("APPLIED r2"));
    // Going back takes the new one away.
    let (said, plan) = held(&host, &["rollback"])?;
    assert!(said.contains("would remove 1 of 5 devices"), "{said}");
    assert!(done(&host, &["rollback", "--accept", &plan])?.contains("APPLIED r3"));
    Ok(())
}

#[test]
fn a_guard_is_as_wide_as_it_is_set() -> Result<()> {
    let Some(host) = guarded_with("  guard: {devices: 0%, flows: 33.34%}\n")? else { return Ok(()) };
    let mut download = host.connection("charger-1", 8443)?;
    let _others = [host.connection("charger-1", 443)?, host.connection("charger-2", 443)?];
    assert!(done(&host, &as_typed(&move_port(&host, 9443, &[])?))?.contains("APPLIED r2"));
    assert!(!download.is_alive()?);
    Ok(())
}

#[test]
fn a_change_that_would_cut_off_whoever_makes_it_is_refused() -> Result<()> {
    let Some(host) = guarded()? else { return Ok(()) };
    // The network claims the address that the operator's session comes from.
    let claimed = |text: String| text.replace("pools: [", "pools: [192.0.2.0/24, ");
    let folder = changed_demo(&host, "10-network.yaml", claimed)?.display().to_string();
    let apply = |session: &str, more: &[&str]| -> Result<std::process::Output> {
        let mut command = host.command(&[&["apply", "--prune", "-f", &folder], more].concat())?;
        command.env("SSH_CONNECTION", session);
        Ok(host.spawn(&mut command)?.wait_with_output()?)
    };
    let output = apply("192.0.2.66 50123 10.99.3.1 22", &[])?;
    let said = words(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let told = "would cut the connection it is made from: 192.0.2.66 → 10.99.3.1 port 22 on n6 (";
    assert!(said.contains(told), "{said}");
    assert_eq!(host.status()?.revision(), 1);
    // The session of somebody else is not in danger.
    let output = apply("198.51.100.99 50123 10.99.3.1 22", &["--dry-run"])?;
    assert!(output.status.success() && !words(&output).contains("guard plan"), "{}", words(&output));
    // `sudo` forgets the session, and its own parents do not.
    let mut shell = std::process::Command::new("sh");
    let bulkhead = super::host::program()?;
    shell.args(["-c", "env -u SSH_CONNECTION \"$0\" apply --prune -f \"$1\" -c \"$2\"; exit $?"]);
    shell.arg(bulkhead).arg(&folder).arg(&host.config).env("SSH_CONNECTION", "192.0.2.66 50123 10.99.3.1 22");
    let output = host.spawn(&mut shell)?.wait_with_output()?;
    assert!(words(&output).contains(told) && output.status.code() == Some(1), "{}", words(&output));
    // Whoever means it can have it.
    let plan = id(&said)?;
    let output = apply("192.0.2.66 50123 10.99.3.1 22", &["--accept", &plan])?;
    assert!(output.status.success(), "{}", words(&output));
    Ok(())
}

#[test]
fn to_promote_and_to_go_back_cut_off_nobody_who_does_it_either() -> Result<()> {
    let Some(host) = guarded()? else { return Ok(()) };
    let claimed = |text: String| text.replace("pools: [", "pools: [192.0.2.0/24, ");
    let folder = changed_demo(&host, "10-network.yaml", claimed)?.display().to_string();
    let in_a_session = |arguments: &[&str]| -> Result<std::process::Output> {
        let mut command = host.command(arguments)?;
        command.env("SSH_CONNECTION", "192.0.2.66 50123 10.99.3.1 22");
        Ok(host.spawn(&mut command)?.wait_with_output()?)
    };
    // Whoever has no session is not in danger: that is how the claim gets into force.
    let far = |arguments: &[&str]| done(&host, arguments);
    let only_then = |arguments: &[&str], revision: u64| -> Result<()> {
        let output = in_a_session(arguments)?;
        let said = words(&output);
        ensure!(output.status.code() == Some(1), "{arguments:?}: {said}");
        ensure!(
            said.contains("would cut the connection it is made from: 192.0.2.66"),
            "{arguments:?}: {said}"
        );
        ensure!(host.status()?.revision() == revision, "{}", host.status()?.text);
        let accepted = in_a_session(&[arguments, &["--accept", &id(&said)?]].concat())?;
        ensure!(accepted.status.success(), "{arguments:?}: {}", words(&accepted));
        Ok(())
    };
    far(&["apply", "--candidate", "--prune", "-f", &folder])?;
    only_then(&["promote"], 1)?;
    let said = far(&["apply", "--prune", "-f", POLICIES_OF_THE_DEMO])?;
    ensure!(said.contains("APPLIED r3"), "{said}");
    only_then(&["rollback", "2"], 3)
}

#[test]
fn a_program_that_speaks_the_api_in_a_session_is_not_cut_off_either() -> Result<()> {
    let Some(host) = guarded()? else { return Ok(()) };
    let claimed = |text: String| text.replace("pools: [", "pools: [192.0.2.0/24, ");
    let folder = changed_demo(&host, "10-network.yaml", claimed)?;
    let text = fs::read_to_string(folder.join("10-network.yaml"))?;
    let request = host.lab.directory().join("request.json");
    fs::write(
        &request,
        serde_json::json!({"files": [{"name": "10-network.yaml", "text": text}]}).to_string(),
    )?;
    let post = |session: &str| -> Result<String> {
        let mut curl = std::process::Command::new("curl");
        curl.args(["-sS", "-H", "content-type: application/json", "--unix-socket"]).arg(&host.socket);
        curl.arg("-d").arg(format!("@{}", request.display())).arg("http://bulkhead/v1/apply");
        Ok(words(&host.spawn(curl.env("SSH_CONNECTION", session))?.wait_with_output()?))
    };
    // It says nothing of a session: the agent looks at who is at the other end of its socket.
    let refused = post("192.0.2.66 50123 10.99.3.1 22")?;
    assert!(refused.contains("would cut the connection it is made from: 192.0.2.66"), "{refused}");
    assert_eq!(host.status()?.revision(), 1);
    let reply: Value = serde_json::from_str(&post("198.51.100.99 50123 10.99.3.1 22")?)?;
    assert_eq!(reply["revision"], 2, "{reply:#}");
    Ok(())
}

#[test]
fn the_first_apply_is_held_only_for_whoever_makes_it() -> Result<()> {
    let Some(mut host) =
        Host::with_settings(|s| s.replace("roles: [core], transit: pass", "roles: [core], transit: drop"))?
    else {
        return Ok(());
    };
    host.start()?;
    let mut command = host.command(&["apply", "-f", POLICIES_OF_THE_DEMO])?;
    command.env("SSH_CONNECTION", "192.0.2.66 50123 10.99.3.1 22");
    let output = host.spawn(&mut command)?.wait_with_output()?;
    let said = words(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("on n6 (transit_denied)") && said.contains("nothing is enforced yet"), "{said}");
    host.apply()?;
    assert_eq!(host.status()?.revision(), 1);
    Ok(())
}

#[test]
fn the_way_back_is_not_guarded_where_nobody_confirmed() -> Result<()> {
    let Some(host) = guarded()? else { return Ok(()) };
    let (_, plan) = {
        let _download = host.connection("charger-1", 8443)?;
        held(&host, &as_typed(&move_port(&host, 9443, &[])?))?
    };
    let more = ["--accept", &plan, "--confirm-within", "4s"];
    done(&host, &as_typed(&move_port(&host, 9443, &more)?))?;
    let mut moved = host.connection("charger-1", 9443)?;
    host.await_status(Duration::from_secs(8), super::revisions::is_back)?;
    assert!(!moved.is_alive()? && at(&host, 8443)?, "it went back though that cut every flow there was");
    Ok(())
}

#[test]
fn the_packets_that_would_drop_are_those_that_the_flows_carried() -> Result<()> {
    let Some(host) = guarded()? else { return Ok(()) };
    // The agent looks for the first time within a round.
    std::thread::sleep(super::host::REPAIR);
    let mut download = host.connection("charger-1", 8443)?;
    let _other = host.connection("charger-2", 443)?;
    for _ in 0..200 {
        assert!(download.is_alive()?);
    }
    let dry = done(&host, &as_typed(&move_port(&host, 9443, &["--dry-run", "-o", "json"])?))?;
    let reply: Value = serde_json::from_str(&dry)?;
    let plan = &reply["plan"];
    assert_eq!((&plan["flows_cut"], &plan["flows_unknown"]), (&1.into(), &0.into()), "{plan:#}");
    let flows = done(&host, &["flows", "-o", "json"])?;
    let carried: f64 = flows
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|flow| flow["destination_port"] == 8443)
        .map(|flow| {
            ["packets_up", "packets_down"]
                .map(|key| flow[key].as_f64().unwrap_or_default())
                .iter()
                .sum::<f64>()
        })
        .sum();
    let seconds = plan["measured_seconds"].as_f64().context("no time")?;
    let told = plan["packets_per_second"].as_f64().context("no rate")?;
    assert!(carried >= 400.0 && seconds >= 1.0, "{carried} packets in {seconds} s");
    // The time is told in whole seconds.
    assert!(
        told * seconds <= carried && told * (seconds + 1.0) >= carried,
        "{told}/s for {seconds} s, {carried}"
    );
    assert_eq!(
        reply["plan"]["examples"][0],
        "charger-1 → 203.0.113.10 tcp/8443, allowed by firmware/download"
    );
    Ok(())
}
