//! A candidate: judged beside what is in force on real traffic, told, and promoted.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::agent::Agent;
use super::files::{Files, NEW_PORT, OLD_PORT};
use super::report::Row;
use super::story::Story;
use super::unconfirmed::downloads;
use crate::lab::Lab;

/// What the operator looks for: the rule that would let packets through which are dropped, and the other way round.
const TOLD: &str = "rule firmware/download: would pass ";
/// Until the counters must tell on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(300);

/// Tries moving the firmware server's port back out beside the policy in force, looks, and promotes it.
pub(crate) fn candidate(
    lab: &Lab,
    agent: &Agent<'_>,
    files: &Files,
    story: &mut Story<'_>,
) -> Result<Vec<Row>> {
    story.say("→ bulkhead apply --candidate: the port is moved back, and nothing changes yet")?;
    files.move_firmware_port(NEW_PORT, OLD_PORT)?;
    story.quote(&agent.apply(&["--candidate"])?)?;
    let untouched = downloads(lab, NEW_PORT)? && !downloads(lab, OLD_PORT)?;
    let report = told(agent, story)?;
    story.quote(&report)?;
    story.say("→ bulkhead promote")?;
    story.quote(&agent.bulkhead(&["promote"])?)?;
    let promoted = downloads(lab, OLD_PORT)? && !downloads(lab, NEW_PORT)?;
    // The port is as it was for what comes next.
    files.move_firmware_port(OLD_PORT, NEW_PORT)?;
    agent.apply(&[])?;
    let row = |case: &str, holds: bool| Row::new(case, "yes", if holds { "yes" } else { "no" }, holds);
    Ok(vec![
        row("a candidate: nothing of what is in force changes", untouched),
        row("a candidate: it counts what it would pass and drop, by rule", counts_both(&report)),
        row("a candidate: promoted, its port is open and the other closed", promoted),
    ])
}

/// What is said of the candidate, once it tells of both ports.
fn told(agent: &Agent<'_>, story: &mut Story<'_>) -> Result<String> {
    let until = Instant::now() + PATIENCE;
    loop {
        let report = agent.bulkhead(&["candidate"])?;
        if counts_both(&report) || Instant::now() >= until {
            return Ok(report);
        }
        story.listen(POLL)?;
    }
}

fn counts_both(report: &str) -> bool {
    let line = report.lines().find_map(|line| line.trim_start().strip_prefix(TOLD));
    line.is_some_and(|counts| !counts.starts_with("0,") && !counts.ends_with("would drop 0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_counts_both_ways_or_it_does_not() {
        let line = |counts: &str| format!("judged 9\n  rule firmware/download: would pass {counts}\n");
        assert!(counts_both(&line("3, would drop 4")));
        assert!(!counts_both(&line("0, would drop 4")) && !counts_both(&line("3, would drop 0")));
        assert!(!counts_both("judged 0"));
    }
}
