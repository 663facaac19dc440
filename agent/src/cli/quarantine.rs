//! `bulkhead quarantine` and `bulkhead release`: shut a device in, and let it out again.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use super::settings::Settings;
use super::terms::{answered, millis, sudo_user};
use super::{Format, words};
use crate::api::client::Client;
use crate::api::types::{QuarantineReport, QuarantineRequest, ReleaseRequest, path};
use crate::sink::Safe;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The device.
    device: String,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Until when it lasts, from now, as 90s, 30m, 2h or 7d [default: until it is released].
    #[arg(long = "for", value_name = "TIME", value_parser = lasting)]
    lasts: Option<Duration>,
    /// Leave it what its segment names for its repair.
    #[arg(long)]
    allow_repair: bool,
    /// How the answer is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, clap::Args)]
pub(super) struct ReleaseArgs {
    /// The device.
    device: String,
    /// How the answer is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// `90s`, `30m`, `2h`, `7d`: at least a second, at most a year.
pub(super) fn lasting(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time from 1s to 366d; write it as 90s, 30m, 2h or 7d");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number = number.parse::<u64>().ok().filter(|_| number.bytes().all(|byte| byte.is_ascii_digit()));
    let seconds = number.and_then(|number| number.checked_mul(seconds));
    let seconds = seconds.filter(|seconds| (1..=366 * 86_400).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(wrong)
}

pub(super) fn exec(args: &Args, settings: &Settings, out: &mut dyn Write) -> Result<ExitCode> {
    let request = QuarantineRequest {
        device: args.device.clone(),
        reason: args.reason.clone(),
        for_ms: args.lasts.map(millis),
        allow_repair: args.allow_repair,
        sudo_user: sudo_user(),
    };
    let reply = Client::connect(&settings.socket()?)?.ask_for(path::QUARANTINE, &request)?;
    answered(args.output, reply, out, |report, out| told("QUARANTINED", report, out))
}

pub(super) fn release(args: &ReleaseArgs, settings: &Settings, out: &mut dyn Write) -> Result<ExitCode> {
    let request = ReleaseRequest { device: args.device.clone(), sudo_user: sudo_user() };
    let reply = Client::connect(&settings.socket()?)?.ask_for(path::RELEASE, &request)?;
    answered(args.output, reply, out, |report, out| told("RELEASED", report, out))
}

fn told(done: &str, report: &QuarantineReport, out: &mut dyn Write) -> Result<()> {
    Ok(writeln!(out, "{done} {}", sentence(report))?)
}

/// `pump-0003 since 02:58 by kari via sudo until 04:58, repair allowed: “beacons”`.
pub(super) fn sentence(report: &QuarantineReport) -> String {
    let QuarantineReport { device, reason, author, since, until, allow_repair, .. } = report;
    let until = until
        .map_or_else(|| "until it is released".to_owned(), |until| format!("until {}", words::moment(until)));
    let repair = if *allow_repair { ", repair allowed" } else { "" };
    format!(
        "{device} since {} by {} {until}{repair}: “{}”",
        words::moment(*since),
        Safe(author),
        Safe(reason)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, seconds) in [("1s", 1), ("30m", 1800), ("2h", 7200), ("366d", 366 * 86_400)] {
            assert_eq!(lasting(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "s", "5", "0s", "-1m", "+1m", "367d", "5 m", "ä", "99999999999999999999d"] {
            assert!(lasting(text).is_err(), "{text}");
        }
    }
}
