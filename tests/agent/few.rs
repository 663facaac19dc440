//! A change of a few devices among many: enforced like any other, at the cost of a few.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, ensure};
use tests::netns::SERVER;

use super::host::{ENFORCING, Host, PATIENCE, POLICIES_OF_THE_DEMO, words};
use super::revisions::done;

/// Meters beside the demo's devices, which never send anything.
const METERS: u32 = 20_000;
/// Chargers without the tests of the demo's policy, which name a device.
const CHARGERS: &str = "\
apiVersion: bulkhead/v1
kind: Policy
metadata: {name: chargers}
spec:
  subject: {segment: ev-chargers}
  allow: [{name: ocpp, to: {destinations: [cloud]}, ports: [tcp/443]}]
";

fn many() -> Result<Option<Host>> {
    let larger = |settings: String| {
        let tables = settings.lines().find(|line| line.contains("tables: {")).unwrap_or_default().to_owned();
        settings.replace(&tables, "  tables: {devices: 32768, addresses: 32768}")
    };
    let Some(mut host) = Host::with_settings(larger)? else { return Ok(None) };
    host.start()?;
    host.apply()?;
    let said = host.apply_text(CHARGERS)?;
    ensure!(said.status.success(), "{}", words(&said));
    Ok(Some(host))
}

/// A table of meters.
fn meters(host: &Host) -> Result<String> {
    let mut table = "name,network,addresses,labels.class,imsi\n".to_owned();
    for number in 0..METERS {
        let address = std::net::Ipv4Addr::from_bits(0x0a2d_8000 + number);
        writeln!(
            table,
            "meter-{number},fleet,{address},meter,{:015}",
            242_010_000_000_000_u64 + u64::from(number)
        )?;
    }
    let path = host.lab.directory().join("meters.csv");
    fs::write(&path, table)?;
    Ok(path.display().to_string())
}

/// Ticks of processors that the agent has used.
fn ticks(host: &Host) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", host.pid()?))?;
    // Behind the name, which may hold anything: fields 14 and 15 (proc(5)).
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |at: usize| fields.get(at - 3).and_then(|text| text.parse::<u64>().ok()).context("read stat");
    Ok(field(14)? + field(15)?)
}

/// charger-2's document, and that of another device.
fn charger(name: &str, addresses: &str, interface: &str) -> String {
    format!(
        "apiVersion: bulkhead/v1\nkind: Device\nmetadata: {{name: {name}, labels: {{class: ev-charger, site: oslo-12}}}}\n\
         spec: {{network: fleet, addresses: [{addresses}], binding: {{interface: {interface}}}}}\n"
    )
}

const ITS_OWN: &str = "10.45.0.12, \"fd00:45:0:12::/64\"";

fn reaches(host: &Host) -> Result<bool> {
    host.reaches("charger-2", SERVER.v4.into(), 443)
}

fn applied(host: &Host, text: &str, counts: &str) -> Result<()> {
    let said = words(&host.apply_text(text)?);
    ensure!(said.contains(counts), "{said}");
    Ok(())
}

#[test]
fn a_device_among_many_costs_what_one_does() -> Result<()> {
    let Some(host) = many()? else { return Ok(()) };
    let table = meters(&host)?;
    let before = ticks(&host)?;
    done(&host, &["apply", "-f", &table])?;
    let all = ticks(&host)? - before;
    let before = ticks(&host)?;
    let turns = 4;
    for turn in 0..turns {
        let interface = if turn % 2 == 0 { "acc1" } else { "acc0" };
        applied(&host, &charger("charger-2", ITS_OWN, interface), "0 added, 1 changed, 0 removed")?;
        assert_eq!(reaches(&host)?, turn % 2 == 1, "it is bound to {interface}");
    }
    let one = (ticks(&host)? - before) / turns;
    assert!(one * 20 < all, "one device took {one} ticks, and {METERS} took {all}");
    Ok(())
}

#[test]
fn devices_come_change_and_go_one_by_one_and_a_restart_comes_to_the_same() -> Result<()> {
    let Some(mut host) = many()? else { return Ok(()) };
    assert!(reaches(&host)?);
    // Its address is nobody's, then another device's, then its own again.
    applied(&host, &charger("charger-2", "10.45.0.99", "acc0"), "0 added, 1 changed, 0 removed")?;
    assert!(!reaches(&host)?);
    applied(&host, &charger("spare", ITS_OWN, "acc0"), "1 added, 0 changed, 0 removed")?;
    assert!(reaches(&host)?);
    let flows = done(&host, &["flows"])?;
    assert!(flows.contains("spare"), "{flows}");
    let drops = done(&host, &["drops"])?;
    assert!(drops.contains("unknown_device"), "{drops}");
    done(&host, &["quarantine", "spare", "--reason", "it scans"])?;
    assert!(!reaches(&host)?);
    applied(&host, &charger("spare", "10.45.0.12", "acc0"), "0 added, 1 changed, 0 removed")?;
    assert!(!reaches(&host)?, "another document lets nobody out");
    done(&host, &["release", "spare"])?;
    assert!(reaches(&host)?);
    // The kernel holds what the whole policy comes to: the next agent has nothing to write.
    let generation = host.status()?.generation();
    host.kill()?;
    host.start()?;
    let status = host.await_status(PATIENCE, |status| status.code == ENFORCING)?;
    assert_eq!(status.generation(), generation, "{}\n{}", status.text, host.log()?);
    assert!(reaches(&host)?);
    done(&host, &["rollback", "2"])?;
    assert!(reaches(&host)?, "it is charger-2's again");
    let taken = words(&host.apply_text(&charger("spare", "10.45.0.12", "acc0"))?);
    assert!(taken.contains("used twice") && taken.contains("charger-2"), "{taken}");
    assert!(
        done(&host, &["explain", "--from", "charger-2", "--to", "203.0.113.10", "--port", "tcp/443"])?
            .contains("ALLOW")
    );
    let whole = host.bulkhead(&["apply", "--prune", "-f", POLICIES_OF_THE_DEMO])?;
    assert!(whole.status.success() && reaches(&host)?, "{}", words(&whole));
    Ok(())
}
