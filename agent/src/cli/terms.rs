//! Options that an apply and a rollback share, and what is printed of either.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::check::draw_notes;
use super::{Format, REFUSED};
use crate::api::types::{ApplyReply, Changes, Plan, Refusal, Terms};
use crate::policy::Diagnostics;
use crate::runtime::ssh_connection;
use crate::sink::{clock, grouped};

#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct TermsArgs {
    /// Why, for the record.
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Say what would happen, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Only if this revision is in force; refuse if somebody was faster.
    #[arg(long, value_name = "N")]
    if_revision: Option<u64>,
    /// Make the change that this plan tells of, although it is beyond the guard.
    #[arg(long, value_name = "PLAN-ID")]
    accept: Option<String>,
    /// Go back by itself unless `bulkhead confirm` follows within this time, as 5m or 90s.
    #[arg(long, value_name = "TIME", value_parser = time)]
    confirm_within: Option<Duration>,
}

/// `90s`, `5m`, `2h`: at least a second, at most a day.
fn time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time from 1s to 24h; write it as 90s, 5m or 2h");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(wrong()),
    };
    let number = number.parse::<u64>().ok().filter(|number| (1..=86_400).contains(number));
    let seconds = number.map(|number| number * seconds).filter(|seconds| *seconds <= 86_400);
    seconds.map(Duration::from_secs).ok_or_else(wrong)
}

/// Whom `sudo` says that it is, for the record.
pub(super) fn sudo_user() -> Option<String> {
    std::env::var("SUDO_USER").ok()
}

/// A time as the API takes it.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl TermsArgs {
    /// As the agent takes them.
    pub(super) fn terms(&self) -> Terms {
        Terms {
            dry_run: self.dry_run,
            message: self.message.clone(),
            sudo_user: sudo_user(),
            if_revision: self.if_revision,
            confirm_within_ms: self.confirm_within.map(millis),
            accept: self.accept.clone(),
            connection: ssh_connection(std::process::id()),
        }
    }
}

/// Prints what was done, or would be.
pub(super) fn applied(format: Format, reply: &ApplyReply, out: &mut dyn Write) -> Result<ExitCode> {
    if format.machine(out, reply)? {
        return Ok(ExitCode::SUCCESS);
    }
    draw_notes(&reply.notes, out)?;
    let ApplyReply { revision, generation, writes, elapsed_ms, tests, .. } = reply;
    let counts = counts(&reply.changes);
    if reply.dry_run {
        list(&reply.changes, out)?;
        reply.plan.iter().try_for_each(|plan| tell(plan, out))?;
        writeln!(out, "WOULD APPLY over r{revision}: {counts}, {tests} tests passed; nothing was done")?;
    } else if reply.candidate && !reply.unchanged {
        list(&reply.changes, out)?;
        reply.plan.iter().try_for_each(|plan| tell(plan, out))?;
        writeln!(
            out,
            "CANDIDATE beside r{revision}: {counts}, {tests} tests passed; nothing else was changed"
        )?;
        writeln!(
            out,
            "  `bulkhead candidate` says what it would do otherwise, `bulkhead promote` brings it into force"
        )?;
    } else if reply.unchanged {
        writeln!(out, "UNCHANGED: r{revision} holds just this")?;
    } else {
        let effort = format!("generation {generation}, {writes} writes, {elapsed_ms} ms");
        writeln!(out, "APPLIED r{revision}: {counts}, {tests} tests passed; {effort}")?;
    }
    if let Some(waiting) = &reply.confirm {
        let (left, back_to) = (clock(waiting.seconds), waiting.back_to);
        writeln!(out, "  keep it with `bulkhead confirm` within {left}, or r{back_to} comes back")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Devices that are named; the rest are counted.
const NAMED: usize = 5;

/// What a change does to what is live, and what to do if that is beyond the guard.
fn tell(plan: &Plan, out: &mut dyn Write) -> Result<()> {
    let Plan { id, flows, flows_cut, flows_unknown, devices, .. } = plan;
    let [cut, live, of] = [*flows_cut, *flows, *devices].map(grouped);
    let (ruleless, removed) = (plan.ruleless.len() as u64, plan.removed.len() as u64);
    let unknown = match flows_unknown {
        0 => String::new(),
        unknown => format!(" ({} could not be judged)", grouped(*unknown)),
    };
    writeln!(out, "plan {id}: cuts {cut} of {live} live flows{unknown}{}", carried(plan))?;
    plan.examples.iter().try_for_each(|example| writeln!(out, "    {example}"))?;
    let more = flows_cut.saturating_sub(plan.examples.len() as u64);
    if more > 0 && *flows_cut > 0 {
        writeln!(out, "    and {} more", grouped(more))?;
    }
    let [lose, gone] = [ruleless, removed].map(grouped);
    writeln!(
        out,
        "plan {id}: of {of} devices {lose} lose every rule{}, {gone} are removed{}",
        names(&plan.ruleless),
        names(&plan.removed)
    )?;
    modes(plan, out)?;
    plan.beyond.iter().try_for_each(|sentence| writeln!(out, "guard plan {id} {sentence}"))?;
    if !plan.beyond.is_empty() {
        writeln!(out, "  if this is meant: the same command with --accept {id}")?;
    }
    Ok(())
}

/// Who is enforced from then on, and who no more.
fn modes(plan: &Plan, out: &mut dyn Write) -> Result<()> {
    let Plan { id, enforced, observed, refused_per_second, .. } = plan;
    if *enforced > 0 {
        writeln!(
            out,
            "plan {id}: begins to enforce {} devices; of all that are observed, policy refused {refused_per_second:.1} \
             packets/s that passed",
            grouped(*enforced)
        )?;
    }
    if *observed > 0 {
        let devices = grouped(*observed);
        writeln!(
            out,
            "plan {id}: no longer enforces {devices} devices: what policy refuses them would pass"
        )?;
    }
    Ok(())
}

/// What the flows that would be cut carried, as far as it was measured.
fn carried(plan: &Plan) -> String {
    match (plan.flows_cut, plan.measured_seconds) {
        (0, _) => String::new(),
        (_, 0) => ", whose packets were not measured yet".to_owned(),
        (_, seconds) => {
            format!(", {:.1} packets/s over the last {}", plan.packets_per_second, clock(seconds))
        }
    }
}

fn names(names: &[String]) -> String {
    let shown = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => String::new(),
        count if count > NAMED => format!(" ({shown} and {} more)", grouped((count - NAMED) as u64)),
        _ => format!(" ({shown})"),
    }
}

fn counts(changes: &Changes) -> String {
    let [added, changed, removed] = changes.counts();
    format!("{added} added, {changed} changed, {removed} removed")
}

/// One line an object, and one for those that are not named.
pub(super) fn list(changes: &Changes, out: &mut dyn Write) -> Result<()> {
    let lists = [('+', &changes.added), ('~', &changes.changed), ('-', &changes.removed)];
    for ((mark, names), more) in lists.into_iter().zip(changes.more) {
        for name in names {
            writeln!(out, "{mark} {name}")?;
        }
        if more > 0 {
            writeln!(out, "{mark} and {} more", grouped(more as u64))?;
        }
    }
    Ok(())
}

/// Prints what was done, or why nothing was.
pub(super) fn answered<T: Serialize>(
    format: Format,
    reply: Result<T, Refusal>,
    out: &mut dyn Write,
    print: impl FnOnce(&T, &mut dyn Write) -> Result<()>,
) -> Result<ExitCode> {
    let done = match reply {
        Ok(done) => done,
        Err(refusal) => return refused(format, &refusal, out),
    };
    if !format.machine(out, &done)? {
        print(&done, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints why nothing was done.
pub(super) fn refused(format: Format, refusal: &Refusal, out: &mut dyn Write) -> Result<ExitCode> {
    if !format.machine(out, refusal)? {
        let mut problems = Diagnostics::default();
        refusal.diagnostics.iter().for_each(|problem| problems.push(problem.clone()));
        super::draw(&problems);
        let mut told = Vec::new();
        refusal.plan.iter().try_for_each(|plan| tell(plan, &mut told))?;
        anstream::eprint!("{}", String::from_utf8_lossy(&told));
        anstream::eprintln!("REFUSED: {}", refusal.error);
    }
    Ok(ExitCode::from(REFUSED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_that_are_not_named_are_counted() {
        let added = vec!["device/a".to_owned()];
        let changes = Changes { added, more: [1_234, 0, 0], ..Changes::default() };
        let mut out = Vec::new();
        list(&changes, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "+ device/a\n+ and 1,234 more\n");
        assert_eq!(counts(&changes), "1235 added, 0 changed, 0 removed");
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, seconds) in [("1s", 1), ("90s", 90), ("5m", 300), ("24h", 86_400)] {
            assert_eq!(time(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "s", "5", "0s", "-1m", "25h", "5 m", "5min", "ä", "99999999999999999999s"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
