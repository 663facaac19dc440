//! What is known of a device opens and closes rules, live flows included; and nobody forgets it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::netns::LiveConnection;

use super::host::{Host, words};

/// What the agent promises from a change of an attribute to the last packet that passes.
const FLIP: Duration = Duration::from_secs(1);

/// The demo's rule for chargers, for those that run a firmware, in a country.
fn demanding(when: &str) -> String {
    format!(
        "apiVersion: bulkhead/v1\nkind: Policy\nmetadata: {{name: chargers}}\nspec:\n  \
         subject: {{segment: ev-chargers}}\n  allow:\n    - name: ocpp\n      to: {{destinations: [cloud]}}\n      \
         ports: [tcp/443]\n      when: {{{when}}}\n"
    )
}

const FIRMWARE: &str = "labels: {firmware: {atLeast: \"2.4\"}}, location: {country: [\"NO\"]}";

fn done(host: &Host, arguments: &[&str]) -> Result<String> {
    let output = host.bulkhead(arguments)?;
    ensure!(output.status.success(), "{arguments:?}: {}", words(&output));
    Ok(words(&output))
}

fn refused(host: &Host, arguments: &[&str]) -> Result<String> {
    let output = host.bulkhead(arguments)?;
    ensure!(!output.status.success(), "{arguments:?}: {}", words(&output));
    Ok(words(&output))
}

/// Exchanges until nothing comes back; when something last did.
fn last_answer(live: &mut LiveConnection, stop: &AtomicBool) -> Result<Option<Instant>> {
    let mut last = None;
    while !stop.load(Ordering::Relaxed) {
        if !live.exchange(b"still there?")?.echoed(b"still there?") {
            return Ok(last);
        }
        last = Some(Instant::now());
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(None)
}

/// How long after `change` began a live connection last got an answer.
fn cut_after(live: &mut LiveConnection, change: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let stop = AtomicBool::new(false);
    let (began, ended) = std::thread::scope(|scope| {
        let exchanges = scope.spawn(|| last_answer(live, &stop));
        std::thread::sleep(Duration::from_millis(200));
        let began = Instant::now();
        let changed = change();
        if changed.is_err() {
            stop.store(true, Ordering::Relaxed);
        }
        (changed.map(|()| began), exchanges.join())
    });
    let ended = ended.map_err(|_| anyhow::anyhow!("the exchange panicked"))??;
    Ok(ended.context("nothing was answered")?.saturating_duration_since(began?))
}

#[test]
fn an_attribute_opens_and_closes_a_rule_to_live_flows_within_a_second() -> Result<()> {
    let Some(mut host) = Host::enforcing()? else { return Ok(()) };
    assert!(host.apply_text(&demanding(FIRMWARE))?.status.success());
    assert!(!host.allows()?, "nothing is known of it");
    let said =
        done(&host, &["device", "set", "charger-1", "firmware=2.5", "plmn=24201", "--source", "inventory"])?;
    assert!(
        said.contains("OPENED chargers/ocpp") && said.contains("24201 in NO · inventory, 0s ago"),
        "{said}"
    );
    let (mut live, mut other) = (host.connection("charger-1", 443)?, host.connection("charger-1", 8443)?);
    assert!(
        !host.reaches("charger-2", tests::netns::SERVER.v4.into(), 443)?,
        "nothing is known of the other one"
    );
    let cut =
        cut_after(&mut live, || done(&host, &["device", "set", "charger-1", "firmware=2.3"]).map(drop))?;
    assert!(cut < FLIP, "it was cut after {cut:?}");
    assert!(other.is_alive()?, "and what another rule allows goes on");
    let explained =
        done(&host, &["explain", "--from", "charger-1", "--to", "203.0.113.10", "--port", "tcp/443"])?;
    assert!(explained.starts_with("DENY condition_posture · fleet · up acc0"), "{explained}");
    assert!(explained.contains("when no (firmware must be at least 2.4 and is 2.3 (cli, "), "{explained}");
    let dropped = done(&host, &["drops"])?;
    let line = dropped.lines().find(|line| line.contains("condition_posture")).context("no such drop")?;
    assert!(line.contains("nearest chargers/ocpp (firmware"), "{line}");
    let counted = host.status()?.json["interfaces"][0]["reasons"]["condition_posture"].as_u64();
    assert!(counted.is_some_and(|count| count > 0), "{counted:?}");
    let assumed = ["--given", "firmware=2.4"];
    let explained = done(
        &host,
        &[&["explain", "--from", "charger-1", "--to", "203.0.113.10", "--port", "tcp/443"][..], &assumed]
            .concat(),
    )?;
    assert!(explained.starts_with("ALLOW by chargers/ocpp"), "{explained}");
    // Back, and abroad: the place closes it like the posture.
    done(&host, &["device", "set", "charger-1", "firmware=2.10"])?;
    assert!(host.allows()?);
    let mut live = host.connection("charger-1", 443)?;
    let said = done(&host, &["device", "set", "charger-1", "plmn=24001"])?;
    assert!(
        said.contains("CLOSED chargers/ocpp: plmn must be in NO and is 24001 in SE (cli, 0s ago)"),
        "{said}"
    );
    assert!(!live.is_alive()? && !host.allows()?);
    let dropped = done(&host, &["drops"])?;
    assert!(dropped.contains("condition_place"), "{dropped}");
    done(&host, &["device", "unset", "charger-1", "plmn"])?;
    assert!(!host.allows()?, "nobody says where it is any more");
    done(&host, &["device", "set", "charger-1", "cell=24202-0a1b2c3"])?;
    assert!(host.allows()?, "the network follows from the cell");
    host.kill()?;
    host.start()?;
    assert!(host.allows()?, "and the next agent knows it");
    Ok(())
}

#[test]
fn attributes_are_no_policy_and_survive_whatever_changes_policy() -> Result<()> {
    let Some(mut host) = Host::enforcing()? else { return Ok(()) };
    assert!(host.apply_text(&demanding(FIRMWARE))?.status.success());
    done(&host, &["device", "set", "charger-1", "firmware=2.5", "plmn=24201", "imei=350000000000017"])?;
    let revision = host.status()?.revision();
    let mut live = host.connection("charger-1", 443)?;
    host.kill()?;
    host.start()?;
    assert!(live.is_alive()?, "a restart forgets nothing");
    assert_eq!(host.status()?.revision(), revision, "and no revision was made");
    done(&host, &["rollback"])?;
    assert!(host.allows()?, "the rule demands nothing");
    assert!(host.apply_text(&demanding(FIRMWARE))?.status.success());
    assert!(live.is_alive()?, "neither apply nor rollback touches what is known");
    let known = done(&host, &["device", "get", "charger-1"])?;
    for part in ["firmware  2.5 · cli, ", "imei      35000…017 · cli", "class     ev-charger · policy\n"]
    {
        assert!(known.contains(part), "{part}: {known}");
    }
    let described = done(&host, &["describe", "device", "charger-1", "-o", "json"])?;
    assert!(described.contains("\"24201\"") && !described.contains("350000000000017"), "{described}");
    let log = std::fs::read_to_string(host.state.join("attributes.log"))?;
    let entry: serde_json::Value = serde_json::from_str(log.lines().last().context("an empty record")?)?;
    assert_eq!((&entry["device"], &entry["set"]["plmn"]), (&"charger-1".into(), &"24201".into()));
    assert_eq!((&entry["source"], &entry["author"]), (&"cli".into(), &"root".into()));
    Ok(())
}

#[test]
fn what_is_too_old_closes_a_rule_without_a_packet() -> Result<()> {
    let Some(host) = Host::enforcing()? else { return Ok(()) };
    assert!(
        host.apply_text(&demanding("labels: {firmware: {atLeast: \"2.4\", maxAge: 5s}}"))?.status.success()
    );
    done(&host, &["device", "set", "charger-1", "firmware=2.5"])?;
    let mut live = host.connection("charger-1", 443)?;
    let cut = cut_after(&mut live, || Ok(()))?;
    assert!((Duration::from_secs(3)..Duration::from_secs(6)).contains(&cut), "it was cut after {cut:?}");
    let explained =
        done(&host, &["explain", "--from", "charger-1", "--to", "203.0.113.10", "--port", "tcp/443"])?;
    assert!(explained.contains("which is older than 5s"), "{explained}");
    done(&host, &["device", "set", "charger-1", "firmware=2.5"])?;
    assert!(host.allows()?, "said anew it counts anew");
    Ok(())
}

#[test]
fn what_is_too_old_closes_a_rule_with_the_agent_dead() -> Result<()> {
    let Some(mut host) = Host::enforcing()? else { return Ok(()) };
    assert!(
        host.apply_text(&demanding("labels: {firmware: {atLeast: \"2.4\", maxAge: 4s}}"))?.status.success()
    );
    done(&host, &["device", "set", "charger-1", "firmware=2.5"])?;
    let (mut live, mut other) = (host.connection("charger-1", 443)?, host.connection("charger-1", 8443)?);
    let cut = cut_after(&mut live, || host.kill())?;
    // What it may be, and the time that an agent would have to do it.
    assert!((Duration::from_secs(6)..Duration::from_secs(10)).contains(&cut), "it was cut after {cut:?}");
    assert!(!host.allows()? && other.is_alive()?, "and what does not age goes on");
    host.start()?;
    assert!(!host.allows()?);
    done(&host, &["device", "set", "charger-1", "firmware=2.5"])?;
    assert!(host.allows()?, "until somebody says it anew");
    Ok(())
}

#[test]
fn what_cannot_be_said_of_a_device_is_refused() -> Result<()> {
    let Some(mut host) = Host::enforcing()? else { return Ok(()) };
    for (arguments, told) in [
        (&["set", "charger-9", "firmware=2"][..], "there is no device \"charger-9\""),
        (&["set", "charger-1", "firmware"], "assigns nothing"),
        (&["set", "charger-1", "plmn=242-01"], "5 or 6 digits"),
        (&["set", "charger-1", "firmware=1", "firmware=2"], "firmware is set twice"),
        (&["unset", "charger-1", "firmware"], "nobody has set firmware of charger-1"),
        (&["get", "charger-9"], "there is no device \"charger-9\""),
    ] {
        let said = refused(&host, &[&["device"], arguments].concat())?;
        assert!(said.contains(told), "{arguments:?}: {said}");
    }
    // A damaged list may have closed something: no agent goes on without it, and the datapath keeps what it has.
    done(&host, &["device", "set", "charger-1", "firmware=2.3"])?;
    host.kill()?;
    std::fs::write(host.state.join("attributes"), "bulkhead-attributes-1 0\n{}")?;
    let ended = host.start_refused(&host.config)?;
    assert!(words(&ended).contains("what is known of devices is lost"), "{}", words(&ended));
    assert!(host.is_guarded()?);
    Ok(())
}

/// What a rule may demand, what must be said of a device to meet it, and what does not.
const DEMANDS: [(&str, &str, &str); 10] = [
    ("location: {plmn: [\"24201\", \"24202\"]}", "plmn=24202", "plmn=24203"),
    ("location: {country: [\"NO\"]}", "trackingArea=24201-1a2b", "trackingArea=24001-1a2b"),
    ("location: {trackingArea: [\"24201-1a2b\"]}", "trackingArea=24201-1a2b", "trackingArea=24201-1a2c"),
    ("location: {cell: [\"24201-0a1b2c3\"]}", "cell=24201-0a1b2c3", "cell=24201-0a1b2c4"),
    ("rat: [lte-m, nb-iot]", "rat=nb-iot", "rat=nr"),
    // The last digits, of the check and the software, name nobody.
    ("imei: {in: [\"350000000000017\"]}", "imei=3500000000000199", "imei=350000000000025"),
    ("imei: {tac: [\"35000000\"]}", "imei=350000000000017", "imei=350000010000016"),
    ("labels: {lot: {is: a7}}", "lot=a7", "lot=a8"),
    ("labels: {lot: {in: [a7, b1]}}", "lot=b1", "lot=b2"),
    ("labels: {firmware: {below: \"2.10\"}}", "firmware=2.9", "firmware=2.10"),
];

#[test]
fn every_demand_opens_by_what_meets_it_and_closes_by_what_does_not() -> Result<()> {
    let Some(host) = Host::enforcing()? else { return Ok(()) };
    for (demand, right, wrong) in DEMANDS {
        let applied = host.apply_text(&demanding(demand))?;
        ensure!(applied.status.success(), "{demand}: {}", words(&applied));
        let (key, _) = right.split_once('=').context("no value")?;
        ensure!(!host.allows()?, "{demand}: nothing is known of it");
        done(&host, &["device", "set", "charger-1", right])?;
        ensure!(host.allows()?, "{demand}: {right}");
        let mut live = host.connection("charger-1", 443)?;
        done(&host, &["device", "set", "charger-1", wrong])?;
        ensure!(!live.is_alive()? && !host.allows()?, "{demand}: {wrong}");
        done(&host, &["device", "unset", "charger-1", key])?;
    }
    Ok(())
}
