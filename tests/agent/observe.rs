//! Observing: what policy refuses passes and is told, what policy has no say in is dropped all the same, and to
//! enforce from then on cuts what is forbidden and nothing else.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bulkhead::policy::{self, Mode, SourceFile};
use serde_json::Value;
use tests::frame::eth;
use tests::netns::{Client, FORBIDDEN, Injector, LiveConnection, Match, Outcome, SERVER, Witness};

use super::host::{DEGRADED, ENFORCING, Host, PATIENCE, POLICIES_OF_THE_DEMO, Status, polled, words};
use super::revisions::done;

/// The demo's network with another mode.
fn network(mode: &str) -> Result<String> {
    let text = std::fs::read_to_string(Path::new(POLICIES_OF_THE_DEMO).join("10-network.yaml"))?;
    ensure!(text.contains("\nspec:\n"), "the demo's network is written in another way");
    Ok(text.replacen("\nspec:\n", &format!("\nspec:\n  mode: {mode}\n"), 1))
}

/// The demo's chargers with something more in their segment.
fn chargers(more: &str) -> String {
    format!(
        "apiVersion: bulkhead/v1\nkind: Segment\nmetadata: {{name: ev-chargers}}\nspec:\n  \
         members: {{matchLabels: {{class: ev-charger}}}}\n  {more}\n"
    )
}

fn applied(host: &Host, text: &str) -> Result<String> {
    let output = host.apply_text(text)?;
    ensure!(output.status.success(), "{}", words(&output));
    Ok(words(&output))
}

fn observing() -> Result<Option<Host>> {
    let Some(host) = Host::enforcing()? else { return Ok(None) };
    let said = applied(&host, &network("observe")?)?;
    ensure!(said.contains("network fleet only observes"), "{said}");
    Ok(Some(host))
}

/// A connection that no rule of the demo allows.
fn forbidden(host: &Host, device: &str) -> Result<LiveConnection> {
    let client = Client::new(host.lab.namespace(device)?).timeout(Duration::from_secs(3));
    let connected = client.connect(SocketAddr::new(FORBIDDEN.v4.into(), 443))?;
    connected.map_err(|outcome| anyhow::anyhow!("{device} could not connect: {outcome:?}"))
}

fn interface<'s>(status: &'s Status, name: &str) -> Result<&'s Value> {
    let interfaces = status.json["interfaces"].as_array().context("no interfaces")?;
    interfaces.iter().find(|interface| interface["name"] == name).context("no such interface")
}

fn said(host: &Host, arguments: &[&str]) -> Result<String> {
    Ok(words(&host.bulkhead(arguments)?))
}

/// As [`said`], once there is something to say: the agent reads events on a timer.
fn said_in_time(host: &Host, arguments: &[&str]) -> Result<String> {
    polled(PATIENCE, || said(host, arguments), |text| !text.trim().is_empty())
}

#[test]
fn what_policy_refuses_passes_and_is_told_with_everything_about_it() -> Result<()> {
    let Some(host) = observing()? else { return Ok(()) };
    assert!(host.allows()? && !host.forbids()?, "what is allowed and what is not pass");
    let status = host.status()?;
    assert_eq!(
        (status.code, status.json["health"].as_str()),
        (DEGRADED, Some("observing")),
        "{}",
        status.text
    );
    assert!(
        status.text.contains("OBSERVING r2") && status.text.contains("fleet only observes"),
        "{}",
        status.text
    );
    assert!(status.text.contains("would drop: no_rule"), "{}", status.text);
    let acc0 = interface(&status, "acc0")?;
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    assert!(number(&acc0["would_drop"]["no_rule"]) > 0, "{acc0}");
    assert!(acc0["reasons"].get("no_rule").is_none(), "{acc0}");
    let passed = number(&acc0["passed"]) + number(&acc0["dropped"]);
    assert!(number(&acc0["received"]) >= passed && passed > 0, "{acc0}");
    let drops = said_in_time(&host, &["drops", "--reason", "no_rule"])?;
    assert!(drops.contains("WOULD-DROP no_rule up acc0 charger-1 ev-chargers 10.45.0.11:"), "{drops}");
    let id =
        drops.split('#').nth(1).and_then(|rest| rest.split_whitespace().next()).context(drops.clone())?;
    let explained = said(&host, &["explain", id])?;
    assert!(explained.contains("only observed that it would drop it and is still in force"), "{explained}");
    assert!(explained.contains("DENY no_rule, and it passes: nobody enforces it"), "{explained}");
    let described = said(&host, &["describe", "device", "charger-1"])?;
    assert!(described.contains("ev-chargers OBSERVE"), "{described}");
    assert!(described.contains("passed and would have been dropped: no_rule"), "{described}");
    let flows = said(&host, &["flows", "--reason", "observed"])?;
    assert!(flows.contains("LIVE observed up acc0 charger-1"), "{flows}");
    Ok(())
}

/// Whoever is called answers, if only that nobody listens: so the packet has arrived, and what answers it too.
#[test]
fn whatever_policy_refuses_passes_while_a_network_observes() -> Result<()> {
    let Some(host) = observing()? else { return Ok(()) };
    let text = "apiVersion: bulkhead/v1\nkind: Policy\nmetadata: {name: demanding}\nspec:\n  \
                subject: {segment: ev-chargers}\n  allow:\n    - name: gated\n      \
                to: {cidrs: [198.51.100.0/24]}\n      ports: [tcp/444]\n      \
                when: {labels: {patched: {is: \"yes\"}}}\n";
    applied(&host, text)?;
    applied(&host, &chargers("limits: {flows: 1}"))?;
    let topology = host.lab.topology();
    let address = |device: &str| -> Result<IpAddr> {
        Ok(topology.device(device).context("no such device")?.address.v4.into())
    };
    let calls = [
        ("outside", address("charger-1")?, 9, "unsolicited", "n6"),
        ("charger-1", address("charger-2")?, 9, "segment_denied", "acc0"),
        ("charger-2", FORBIDDEN.v4.into(), 444, "condition_posture", "acc0"),
        ("charger-2", SERVER.v4.into(), 443, "flow_quota", "acc0"),
    ];
    for (from, to, port, reason, at) in calls {
        let client = Client::new(host.lab.namespace(from)?).timeout(Duration::from_secs(3));
        let outcome = client.tcp(SocketAddr::new(to, port), b"?")?;
        ensure!(outcome == Outcome::Refused || outcome.echoed(b"?"), "{reason}: {outcome:?}");
        let status = host.status()?;
        let would = interface(&status, at)?["would_drop"][reason].as_u64().unwrap_or_default();
        ensure!(would > 0, "{reason}: {}", status.text);
    }
    Ok(())
}

#[test]
fn what_is_not_policy_s_to_allow_is_dropped_all_the_same() -> Result<()> {
    let Some(host) = observing()? else { return Ok(()) };
    // The camera's packets enter by another interface.
    let camera = IpAddr::from([10, 45, 0, 31]);
    let spoofed = Match { source: Some(camera), destination: None };
    let arrived = Witness::open(host.lab.namespace("dn")?, "n6", spoofed)?;
    let access = Injector::open(host.lab.namespace("ran")?, "acc0")?;
    let to = host.lab.namespace("core")?.mac("acc0")?;
    (0..10).try_for_each(|_| access.send(&eth().to_mac(to).ip(camera, SERVER.v4).udp(4000, 443).build()))?;
    let count = |status: &Status| interface(status, "acc0").ok()?["reasons"]["spoofed_source"].as_u64();
    host.await_status(PATIENCE, |status| count(status) == Some(10))?;
    assert_eq!(arrived.seen()?, 0, "counted behind the host");
    // And an address that no device has is one of those that the network observes.
    let nobody = IpAddr::from([10, 45, 9, 9]);
    access.send(&eth().to_mac(to).ip(nobody, SERVER.v4).udp(4000, 443).build())?;
    let would = |status: &Status| interface(status, "acc0").ok()?["would_drop"]["unknown_device"].as_u64();
    host.await_status(PATIENCE, |status| would(status).is_some())?;
    Ok(())
}

#[test]
fn to_enforce_cuts_what_is_forbidden_and_keeps_what_was_built_while_observing() -> Result<()> {
    let Some(host) = observing()? else { return Ok(()) };
    let (mut good, mut bad) = (host.connection("charger-1", 443)?, forbidden(&host, "charger-1")?);
    assert!(good.is_alive()? && bad.is_alive()?);
    let path = host.lab.directory().join("enforce.yaml");
    std::fs::write(&path, network("enforce")?)?;
    let told = said(&host, &["apply", "--dry-run", "-f", &path.to_string_lossy()])?;
    assert!(
        told.contains("begins to enforce 5 devices") && told.contains("cuts 1 of 2 live flows"),
        "{told}"
    );
    applied(&host, &network("enforce")?)?;
    assert!(good.is_alive()?, "it was allowed all the time");
    assert!(!bad.is_alive()?, "it was only not forbidden");
    assert!(host.is_guarded()?);
    assert_eq!(host.status()?.code, ENFORCING);
    Ok(())
}

#[test]
fn a_segment_may_be_stricter_and_a_canary_goes_first() -> Result<()> {
    let Some(host) = observing()? else { return Ok(()) };
    let enforced = host.apply_text(&network("enforce")?)?;
    ensure!(enforced.status.success(), "{}", words(&enforced));
    let refused = host.apply_text(&chargers("mode: observe"))?;
    assert!(words(&refused).contains("is looser than network fleet"), "{}", words(&refused));
    applied(&host, &network("observe")?)?;
    applied(&host, &chargers("mode: enforce"))?;
    assert!(host.forbids()?, "the segment enforces");
    applied(&host, &chargers("canary: {share: 0%}"))?;
    assert!(!host.forbids()?, "nobody goes first");
    let mut bad = forbidden(&host, "charger-1")?;
    assert!(bad.is_alive()?);
    applied(&host, &chargers("canary: {share: 100%}"))?;
    assert!(host.forbids()? && !bad.is_alive()?, "everybody does");
    let status = host.status()?;
    assert_eq!(status.json["observing"][0]["enforced"], 2, "{}", status.text);
    Ok(())
}

/// The demo's policies with a network that observes, chargers of whom some are enforced first, and other names or labels.
fn folder(host: &Host, canary: &str, change: impl Fn(String) -> String) -> Result<PathBuf> {
    let folder = host.lab.directory().join("canary");
    std::fs::create_dir_all(&folder)?;
    super::folder::fill(&folder)?;
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        std::fs::write(&path, change(std::fs::read_to_string(&path)?))?;
    }
    std::fs::write(folder.join("10-network.yaml"), network("observe")?)?;
    let devices = folder.join("20-devices.yaml");
    let text = std::fs::read_to_string(&devices)?;
    let (_, text) = text.split_once("---\n").context("the demo's segments are written in another way")?;
    std::fs::write(&devices, format!("{}---\n{text}", chargers(&format!("canary: {canary}"))))?;
    Ok(folder)
}

/// True if a device gets to where no rule lets it.
fn roams(host: &Host, device: &str) -> Result<bool> {
    host.reaches(device, FORBIDDEN.v4.into(), 443)
}

/// Names of chargers of which a share enforces the first, and not the second.
fn drawn(share: &str) -> Result<[String; 2]> {
    let network = "apiVersion: bulkhead/v1\nkind: Network\nmetadata: {name: fleet}\nspec:\n  mode: observe\n  \
                   seenOn: [{interface: acc0}, {interface: n6}]\n  pools: [10.45.0.0/16]\n---\n";
    let device = |number: u8| {
        format!(
            "---\napiVersion: bulkhead/v1\nkind: Device\nmetadata: {{name: bay-{number}, labels: {{class: \
             ev-charger}}}}\nspec: {{network: fleet, addresses: [10.45.1.{number}]}}\n"
        )
    };
    let mut text = network.to_owned() + &chargers(&format!("canary: {{share: {share}}}"));
    text.extend((1..200).map(device));
    let policy = policy::parse(vec![SourceFile::new("bays.yaml", text.as_str())], None)
        .map_err(|problems| anyhow::anyhow!("{:?}", problems.iter().next()))?
        .policy;
    let first = |mode| {
        let found = policy.devices().values().find(|device| policy.mode_of(device) == mode);
        found.map(|device| device.name.to_string()).context("everybody or nobody is drawn")
    };
    Ok([first(Mode::Enforce)?, first(Mode::Observe)?])
}

#[test]
fn a_share_enforces_the_same_devices_always_and_a_label_those_that_bear_it() -> Result<()> {
    let Some(mut host) = Host::enforcing()? else { return Ok(()) };
    let [early, late] = drawn("5%")?;
    let renamed = |text: String| text.replace("charger-1", &early).replace("charger-2", &late);
    let applied = |host: &Host, path: &Path| done(host, &["apply", "--prune", "-f", &path.to_string_lossy()]);
    applied(&host, &folder(&host, "{share: 5%}", renamed)?)?;
    assert!(
        !roams(&host, "charger-1")? && roams(&host, "charger-2")?,
        "{early} goes first, and {late} does not"
    );
    assert!(host.allows()?, "what a rule allows passes in either mode");
    host.kill()?;
    host.start()?;
    assert!(!roams(&host, "charger-1")? && roams(&host, "charger-2")?, "the draw does not change");
    applied(&host, &folder(&host, "{share: 10%}", renamed)?)?;
    assert!(!roams(&host, "charger-1")?, "whoever was among the first stays there");
    let labelled =
        |text: String| text.replacen("class: ev-charger, site", "class: ev-charger, ring: first, site", 1);
    applied(&host, &folder(&host, "{matchLabels: {ring: first}}", labelled)?)?;
    assert!(!roams(&host, "charger-1")? && roams(&host, "charger-2")?, "one has the label");
    let status = host.status()?;
    assert_eq!(status.json["observing"][0]["enforced"], 1, "{}", status.text);
    Ok(())
}
