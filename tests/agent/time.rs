//! Windows of time: on live connections, by the kernel's clock, with nobody there.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp, Zoned};

use super::host::{ENFORCING, Host, PATIENCE, polled, words};

/// In place of the demo's rule for the update server, one that holds between two moments.
fn window(from: SignedDuration, to: SignedDuration) -> String {
    let now = Timestamp::now();
    format!(
        "apiVersion: bulkhead/v1\nkind: Policy\nmetadata: {{name: firmware}}\nspec:\n  \
         subject: {{segment: ev-chargers}}\n  allow:\n    - {{name: maintenance, to: {{destinations: [cloud]}}, \
         ports: [tcp/8443], notBefore: \"{}\", notAfter: \"{}\"}}\n",
        now + from,
        now + to
    )
}

const fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

fn is_open(host: &Host) -> Result<bool> {
    host.reaches("charger-1", tests::netns::SERVER.v4.into(), 8443)
}

#[test]
fn a_window_opens_and_closes_on_time_and_cuts_what_is_live_with_the_agent_dead() -> Result<()> {
    let Some(mut host) = Host::trusting_its_clock("")? else { return Ok(()) };
    let applied = Instant::now();
    let said = host.apply_text(&window(seconds(8), seconds(24)))?;
    ensure!(said.status.success(), "{}", words(&said));
    let status = host.await_status(PATIENCE, |status| status.code == ENFORCING)?;
    assert!(status.text.contains("clock believed"), "{}", status.text);
    host.kill()?;
    while applied.elapsed() < Duration::from_secs(6) {
        ensure!(
            !is_open(&host)? || applied.elapsed() > Duration::from_secs(7),
            "it was open before its time"
        );
    }
    std::thread::sleep(Duration::from_millis(8_500).saturating_sub(applied.elapsed()));
    let mut live = host.connection("charger-1", 8443)?;
    let mut other = host.connection("charger-1", 443)?;
    while applied.elapsed() < Duration::from_secs(23) {
        let alive = live.is_alive()?;
        ensure!(alive || applied.elapsed() > Duration::from_secs(23), "it was cut before its time");
        std::thread::sleep(Duration::from_millis(300));
    }
    // Not before the window's end, and within a second of it.
    std::thread::sleep(Duration::from_millis(25_000).saturating_sub(applied.elapsed()));
    assert!(!live.is_alive()?, "what was live is cut");
    assert!(!is_open(&host)?, "and nothing new is opened");
    assert!(other.is_alive()?, "what another rule allows goes on");
    host.start()?;
    assert!(!is_open(&host)?, "nor by the next agent");
    let drops = words(&host.bulkhead(&["drops"])?);
    assert!(drops.contains("condition_time"), "{drops}");
    Ok(())
}

#[test]
fn what_is_said_of_a_device_leaves_open_what_its_hour_opens() -> Result<()> {
    let Some(host) = Host::trusting_its_clock("")? else { return Ok(()) };
    let said = host.apply_text(&window(seconds(-60), seconds(3_600)))?;
    ensure!(said.status.success(), "{}", words(&said));
    let mut live = host.connection("charger-1", 8443)?;
    let closes = |host: &Host| Ok::<_, anyhow::Error>(host.status()?.json["clock"]["windows"].clone());
    let windows = closes(&host)?;
    // The first makes the device one of its own kind, the second changes its row alone.
    for firmware in ["firmware=2.3", "firmware=2.4"] {
        let said = host.bulkhead(&["device", "set", "charger-1", firmware])?;
        ensure!(said.status.success(), "{}", words(&said));
        assert!(live.is_alive()? && is_open(&host)?, "{firmware} is no matter of time");
        assert_eq!(closes(&host)?, windows);
    }
    Ok(())
}

#[test]
fn an_unsynchronised_clock_leaves_closed_what_depends_on_it_and_says_so() -> Result<()> {
    let Some(host) = Host::doubting_its_clock()? else { return Ok(()) };
    let said = host.apply_text(&window(seconds(-60), seconds(3_600)))?;
    ensure!(said.status.success(), "{}", words(&said));
    let status = host.status()?;
    assert!(status.json["clock"]["horizon"].is_null(), "{}", status.text);
    assert!(status.text.contains("the clock is not synchronised"), "{}", status.text);
    assert!(!is_open(&host)? && polled(PATIENCE, || host.allows(), |allows| *allows)?);
    let question = ["explain", "--from", "charger-1", "--to", "203.0.113.10", "--port", "tcp/8443"];
    let explained = words(&host.bulkhead(&question)?);
    assert!(explained.contains("DENY condition_time") && explained.contains("not believe"), "{explained}");
    Ok(())
}

#[test]
fn describe_and_explain_tell_when_a_rule_opens() -> Result<()> {
    let Some(host) = Host::trusting_its_clock("")? else { return Ok(()) };
    let said = host.apply_text(&window(seconds(3_600), seconds(7_200)))?;
    ensure!(said.status.success(), "{}", words(&said));
    let described = words(&host.bulkhead(&["describe", "device", "charger-1"])?);
    assert!(described.contains("time firmware/maintenance") && described.contains("opens "), "{described}");
    let at = (Timestamp::now() + seconds(5_400)).to_string();
    let question = ["explain", "--from", "charger-1", "--to", "203.0.113.10", "--port", "tcp/8443"];
    let now = words(&host.bulkhead(&question)?);
    assert!(now.contains("DENY condition_time") && now.contains("time no"), "{now}");
    let drops = words(&host.bulkhead(&["drops"])?);
    assert!(!is_open(&host)?, "{drops}");
    let then = words(&host.bulkhead(&[&question[..], &["--at", &at]].concat())?);
    assert!(then.contains("ALLOW by firmware/maintenance"), "{then}");
    Ok(())
}

/// The window of the demo's rule for the update server, as a schedule in a zone.
fn scheduled(schedule: &str) -> String {
    format!(
        "apiVersion: bulkhead/v1\nkind: Policy\nmetadata: {{name: firmware}}\nspec:\n  \
         subject: {{segment: ev-chargers}}\n  allow:\n    - {{name: maintenance, to: {{destinations: [cloud]}}, \
         ports: [tcp/8443], when: {{schedule: {{{schedule}}}}}}}\n"
    )
}

/// Zones of which in one it is always day and no hour ends within minutes.
const ZONES: [&str; 6] =
    ["UTC", "Asia/Tokyo", "America/New_York", "Asia/Kolkata", "America/St_Johns", "Australia/Adelaide"];

fn by_day() -> Result<(&'static str, Zoned)> {
    for zone in ZONES {
        let now = Timestamp::now().in_tz(zone)?;
        if (8..19).contains(&now.hour()) && (5..50).contains(&now.minute()) {
            return Ok((zone, now));
        }
    }
    anyhow::bail!("it is night everywhere, or an hour ends")
}

#[test]
fn a_schedule_is_open_in_its_hours_on_its_days_and_not_on_exceptions() -> Result<()> {
    let Some(host) = Host::trusting_its_clock("")? else { return Ok(()) };
    let (zone, now) = by_day()?;
    let day = |date: Date| format!("{:?}", date.weekday())[..3].to_lowercase();
    let (today, yesterday, tomorrow) = (now.date(), now.date().yesterday()?, now.date().tomorrow()?);
    let hours =
        |from: i8, to: i8| format!("between: \"{:02}:00-{:02}:00\"", now.hour() + from, now.hour() + to);
    // The last of them ends with this hour and has begun yesterday.
    let (current, next, over_night) = (hours(0, 1), hours(1, 2), hours(2, 1));
    for (schedule, open) in [
        (current.clone(), true),
        (next, false),
        (format!("{current}, days: [{}]", day(today)), true),
        (format!("{current}, days: [{}, {}]", day(yesterday), day(tomorrow)), false),
        (format!("{current}, except: [\"{today}\"]"), false),
        (format!("{current}, except: [\"{yesterday}\", \"{tomorrow}\"]"), true),
        (format!("{over_night}, except: [\"{today}\"]"), true),
        (format!("{over_night}, except: [\"{yesterday}\"]"), false),
    ] {
        let schedule = format!("{schedule}, timezone: {zone}");
        let said = host.apply_text(&scheduled(&schedule))?;
        ensure!(said.status.success(), "{schedule}: {}", words(&said));
        ensure!(is_open(&host)? == open, "at {now} {schedule}");
    }
    Ok(())
}
