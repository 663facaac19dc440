//! A candidate: judged beside what is in force while real traffic goes on, changing none of it, until it is promoted or
//! given up; with the agent dead too, and over whatever becomes of the policy meanwhile.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::generate::{Random, seed};
use tests::netns::SERVER;

use super::crash::firmware;
use super::host::{ENFORCING, Host, PATIENCE, polled, words};
use super::kills::Moments;
use super::revisions::{at, done};

/// The port that is open today, and the one that the candidate opens instead.
const TODAY: u16 = 8443;
const TOMORROW: u16 = 9443;
const RULE: &str = "firmware/download";
const DEVICE: &str = "charger-1";
const OTHER_DEVICE: &str = "charger-2";

/// A host whose firmware server is to move.
fn trying() -> Result<Option<Host>> {
    let Some(host) = Host::enforcing()? else { return Ok(None) };
    let said = try_out(&host, TOMORROW)?;
    ensure!(said.contains("CANDIDATE beside r1: 0 added, 1 changed, 0 removed"), "{said}");
    Ok(Some(host))
}

fn try_out(host: &Host, port: u16) -> Result<String> {
    let path = host.lab.directory().join("candidate.yaml");
    fs::write(&path, firmware(port))?;
    done(host, &["apply", "--candidate", "-m", "the server moves", "-f", &path.to_string_lossy()])
}

/// What the agent says of the candidate; nothing if there is none.
fn candidate(host: &Host) -> Result<Option<Value>> {
    let output = host.bulkhead(&["candidate", "-o", "json"])?;
    let said: Value = serde_json::from_slice(&output.stdout).with_context(|| words(&output))?;
    ensure!(output.status.code() == Some(i32::from(said.is_null())), "{said}");
    Ok(Some(said).filter(|said| !said.is_null()))
}

/// Packets of a rule or a device that it would pass, and that it would drop.
fn would(report: &Value, of: &str, name: &str) -> [u64; 2] {
    ["would_pass", "would_drop"].map(|which| report[of][name][which].as_u64().unwrap_or_default())
}

/// The report, once it tells of the device what is wanted.
fn told(host: &Host, wanted: impl Fn([u64; 2]) -> bool) -> Result<Value> {
    told_of(host, DEVICE, wanted)
}

fn told_of(host: &Host, device: &str, wanted: impl Fn([u64; 2]) -> bool) -> Result<Value> {
    let look = || candidate(host)?.context("there is no candidate");
    let report = polled(PATIENCE, look, |report| wanted(would(report, "devices", device)))?;
    ensure!(wanted(would(&report, "devices", device)), "{report:#}");
    Ok(report)
}

/// Asks the server at both ports, as today's policy has it.
fn ask(host: &Host) -> Result<()> {
    ensure!(at(host, TODAY)?, "what is in force has changed");
    Ok(())
}

#[test]
fn a_candidate_counts_what_it_would_do_and_changes_nothing() -> Result<()> {
    let Some(host) = trying()? else { return Ok(()) };
    let mut download = host.connection(DEVICE, TODAY)?;
    ask(&host)?;
    assert!(download.is_alive()?, "what it would drop goes on");
    let report = told(&host, |[pass, drop]| pass > 0 && drop > 0)?;
    let [pass, drop] = would(&report, "rules", RULE);
    assert!(pass > 0 && drop > 0, "today's rule would lose what the candidate's gains: {report:#}");
    let compared = &report["compared"];
    let sum = |counts: &Value| {
        counts.as_object().into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum::<u64>()
    };
    let number = |name: &str| compared[name].as_u64().unwrap_or_default();
    let parts =
        number("same") + number("unknowable") + sum(&compared["would_pass"]) + sum(&compared["would_drop"]);
    assert_eq!(number("judged"), parts, "every packet is one of them: {report:#}");
    assert!(compared["would_pass"]["no_rule"].as_u64() > Some(0) && number("same") > 0, "{report:#}");
    assert_eq!(report["changes"]["changed"][0], "policy/firmware", "{report:#}");
    let status = host.status()?;
    assert_eq!((status.code, status.revision()), (ENFORCING, 1), "{}", status.text);
    assert!(
        status.text.contains("candidate by ") && status.text.contains("the server moves"),
        "{}",
        status.text
    );
    let text = done(&host, &["candidate"])?;
    assert!(
        text.contains(&format!("rule {RULE}: would pass ")) && text.contains("dropped today for: "),
        "{text}"
    );
    // Each device has its own two: the other one has only asked for what the candidate opens.
    assert!(
        text.contains(&format!("device {DEVICE}: would pass ")) && !text.contains(OTHER_DEVICE),
        "{text}"
    );
    assert!(!host.reaches(OTHER_DEVICE, SERVER.v4.into(), TOMORROW)?);
    let report = told_of(&host, OTHER_DEVICE, |[pass, _]| pass > 0)?;
    let [pass, drop] = would(&report, "devices", OTHER_DEVICE);
    let text = done(&host, &["candidate"])?;
    let line = format!("device {OTHER_DEVICE}: would pass {pass}, would drop 0");
    assert!(drop == 0 && text.contains(&line), "{text}");
    let given_up = done(&host, &["candidate", "drop"])?;
    assert!(given_up.contains("GIVEN UP"), "{given_up}");
    assert_eq!(candidate(&host)?, None);
    assert!(!host.pins().join("candidate").exists(), "its maps are gone");
    ask(&host)?;
    assert!(download.is_alive()?);
    Ok(())
}

#[test]
fn a_candidate_counts_on_without_an_agent_and_the_next_one_takes_it_over() -> Result<()> {
    let Some(mut host) = trying()? else { return Ok(()) };
    ask(&host)?;
    let before = would(&told(&host, |[pass, drop]| pass > 0 && drop > 0)?, "devices", DEVICE);
    host.kill()?;
    ask(&host)?;
    host.start()?;
    let more = |[pass, drop]: [u64; 2]| pass > before[0] && drop > before[1];
    let report = told(&host, more)?;
    assert_eq!(report["problem"], Value::Null, "{report:#}");
    let taken_over = would(&report, "devices", DEVICE);
    ask(&host)?;
    told(&host, |[pass, drop]| pass > taken_over[0] && drop > taken_over[1])?;
    Ok(())
}

#[test]
fn a_candidate_is_promoted_as_an_apply_is_and_only_knowingly_over_another_revision() -> Result<()> {
    let Some(host) = trying()? else { return Ok(()) };
    ask(&host)?;
    let mut download = host.connection(DEVICE, TODAY)?;
    told(&host, |[pass, _]| pass > 0)?;
    let changed = host.apply_text(OTHER)?;
    ensure!(changed.status.success(), "{}", words(&changed));
    let report = candidate(&host)?.context("the candidate is gone")?;
    assert_eq!(
        (report["made"]["number"].as_u64(), report["over"].as_u64()),
        (Some(1), Some(2)),
        "{report:#}"
    );
    assert_eq!(would(&report, "rules", RULE), [0, 0], "over another revision it counts anew: {report:#}");
    let refused = host.bulkhead(&["promote"])?;
    assert_eq!(refused.status.code(), Some(1));
    assert!(words(&refused).contains("written for r1 and r2 is in force"), "{}", words(&refused));
    ask(&host)?;
    let dry = done(&host, &["promote", "--if-revision", "2", "--dry-run"])?;
    assert!(
        dry.contains(": cuts ")
            && dry.contains("allowed by firmware/download")
            && dry.contains("WOULD APPLY over r2"),
        "{dry}"
    );
    let promoted = done(&host, &["promote", "--if-revision", "2"])?;
    assert!(promoted.contains("APPLIED r3"), "{promoted}");
    assert!(at(&host, TOMORROW)? && !download.is_alive()?, "the candidate is in force");
    assert_eq!(candidate(&host)?, None);
    assert!(!host.pins().join("candidate").exists(), "its maps are gone");
    let revision = done(&host, &["revisions", "show", "3"])?;
    assert!(revision.contains("the server moves"), "{revision}");
    let nothing = host.bulkhead(&["promote"])?;
    assert!(words(&nothing).contains("there is no candidate"), "{}", words(&nothing));
    Ok(())
}

#[test]
fn an_agent_killed_while_it_promotes_leaves_one_whole_policy_and_knows_which() -> Result<()> {
    let Some(mut host) = Host::enforcing()? else { return Ok(()) };
    let random = Random::new(seed(std::process::id().into()));
    let mut moments = Moments { random, spread: SPREAD };
    let (mut open, mut promoted) = (TODAY, 0);
    for round in 0..ROUNDS {
        let next = if open == TODAY { TOMORROW } else { TODAY };
        if candidate(&host)?.is_none() {
            try_out(&host, next)?;
        }
        let mut command = host.spawn(&mut host.command(&["promote"])?)?;
        std::thread::sleep(moments.next());
        host.kill()?;
        let answered = command.wait()?.success();
        moments.learn(answered);
        host.start()?;
        let accepted = if candidate(&host)?.is_some() { open } else { next };
        ensure!(
            !answered || accepted == next,
            "round {round}: it was answered, and the candidate is still one"
        );
        ensure!(at(&host, accepted)?, "round {round}: {accepted} is accepted and not open");
        promoted += u32::from(accepted == next);
        open = accepted;
    }
    println!("{promoted} of {ROUNDS} were promoted");
    Ok(())
}

const ROUNDS: u32 = 20;
/// From before a promotion begins to after it ended, at first.
const SPREAD: Duration = Duration::from_millis(200);

/// A change that has nothing to do with the candidate's.
const OTHER: &str = "apiVersion: bulkhead/v1\nkind: Destination\nmetadata: {name: spare}\nspec: {cidrs: [198.51.100.99/32]}\n";

#[test]
fn a_candidate_is_tested_and_refused_as_an_apply_is() -> Result<()> {
    let Some(host) = Host::enforcing()? else { return Ok(()) };
    let path = host.lab.directory().join("candidate.yaml");
    let wrong = firmware(TOMORROW)
        + "  tests:\n    - {device: charger-1, opens: 203.0.113.10, port: tcp/8443, expect: allow, rule: download}\n";
    for text in [wrong, firmware(TOMORROW).replace("cloud", "clod")] {
        fs::write(&path, text)?;
        let refused = host.bulkhead(&["apply", "--candidate", "-f", &path.to_string_lossy()])?;
        assert_eq!(refused.status.code(), Some(1), "{}", words(&refused));
        assert!(words(&refused).contains("REFUSED"), "{}", words(&refused));
    }
    assert_eq!(candidate(&host)?, None);
    ask(&host)
}

#[test]
fn nothing_of_a_candidate_is_left_when_the_datapath_is_detached() -> Result<()> {
    let Some(mut host) = trying()? else { return Ok(()) };
    host.kill()?;
    let said = done(&host, &["detach"])?;
    assert!(said.contains("detached"), "{said}");
    assert!(!Path::new(&host.pins()).exists(), "a candidate's pins are left");
    assert!(host.reaches(DEVICE, SERVER.v4.into(), TOMORROW)?, "nothing is enforced");
    Ok(())
}
