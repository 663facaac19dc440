//! `bulkhead candidate` and `bulkhead promote`: what a candidate would do otherwise, and what becomes of it.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use super::settings::Settings;
use super::terms::{TermsArgs, applied, list, refused};
use super::{Format, REFUSED, words};
use crate::api::client::Client;
use crate::api::types::{CandidateReport, CandidateStatus, Done, PromoteRequest, WouldCount, path};
use crate::sink::{Safe, grouped};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// Every rule and device, not only those that differ most.
    #[arg(long)]
    all: bool,
    /// How the answer is printed.
    #[arg(short, long, value_enum, default_value_t, global = true)]
    output: Format,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Say what the candidate is and what it would do otherwise.
    Show,
    /// Give the candidate up; what is in force stays.
    Drop,
}

#[derive(Debug, clap::Args)]
pub(super) struct PromoteArgs {
    #[command(flatten)]
    terms: TermsArgs,
    /// How the answer is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Rules and devices that are printed unless all are wanted.
const SHOWN: usize = 10;

pub(super) fn exec(args: &Args, settings: &Settings, out: &mut dyn Write) -> Result<ExitCode> {
    let client = Client::connect(&settings.socket()?)?;
    match args.what {
        None | Some(What::Show) => {
            let report: Option<CandidateReport> = client.get(path::CANDIDATE, &())?;
            if !args.output.machine(out, &report)? {
                print(report.as_ref(), args.all, out)?;
            }
            Ok(report.map_or(ExitCode::from(REFUSED), |_| ExitCode::SUCCESS))
        }
        Some(What::Drop) => match client.ask_for::<Done>(path::CANDIDATE_DROP, &())? {
            Ok(done) => {
                if !args.output.machine(out, &done)? {
                    writeln!(out, "GIVEN UP: the candidate is gone, r{} stays in force", done.revision)?;
                }
                Ok(ExitCode::SUCCESS)
            }
            Err(refusal) => refused(args.output, &refusal, out),
        },
    }
}

pub(super) fn promote(args: &PromoteArgs, settings: &Settings, out: &mut dyn Write) -> Result<ExitCode> {
    let request = PromoteRequest { terms: args.terms.terms() };
    match Client::connect(&settings.socket()?)?.ask_for(path::PROMOTE, &request)? {
        Ok(reply) => applied(args.output, &reply, out),
        Err(refusal) => refused(args.output, &refusal, out),
    }
}

fn print(report: Option<&CandidateReport>, all: bool, out: &mut dyn Write) -> Result<()> {
    let Some(report) = report else {
        return Ok(writeln!(out, "there is no candidate: `bulkhead apply --candidate -f …` makes one")?);
    };
    let CandidateReport { status, changes, compared, rules, devices } = report;
    writeln!(out, "CANDIDATE {}", sentence(status))?;
    status.problem.iter().try_for_each(|problem| writeln!(out, "  ! {problem}"))?;
    if status.made.number != status.over {
        writeln!(out, "  ! it was written for r{}: look twice before you promote it", status.made.number)?;
    }
    list(changes, out)?;
    writeln!(
        out,
        "judged {} = same {} + would pass {} + would drop {} + unknowable {}",
        grouped(compared.judged),
        grouped(compared.same),
        grouped(status.would.would_pass),
        grouped(status.would.would_drop),
        grouped(compared.unknowable)
    )?;
    reasons("dropped today for", &compared.would_pass, out)?;
    reasons("would be dropped for", &compared.would_drop, out)?;
    counts("rule", rules, all, out)?;
    counts("device", devices, all, out)
}

/// `by kari via sudo since 02:58 over r12: “tighten”`.
pub(super) fn sentence(status: &CandidateStatus) -> String {
    let made = &status.made;
    let why = made.message.as_ref().map(|why| format!(": “{}”", Safe(why))).unwrap_or_default();
    format!("by {} since {} over r{}{why}", Safe(&made.author), words::moment(made.time), status.over)
}

fn reasons(what: &str, counts: &BTreeMap<String, u64>, out: &mut dyn Write) -> Result<()> {
    if counts.is_empty() {
        return Ok(());
    }
    let each: Vec<String> =
        counts.iter().map(|(reason, count)| format!("{reason} {}", grouped(*count))).collect();
    Ok(writeln!(out, "  {what}: {}", each.join(" · "))?)
}

/// Those that differ most come first.
fn counts(what: &str, counts: &BTreeMap<String, WouldCount>, all: bool, out: &mut dyn Write) -> Result<()> {
    let mut sorted: Vec<_> = counts.iter().collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(count.would_pass + count.would_drop));
    let shown = if all { sorted.len() } else { SHOWN };
    for (name, count) in sorted.iter().take(shown) {
        let WouldCount { would_pass, would_drop } = count;
        writeln!(
            out,
            "  {what} {}: would pass {}, would drop {}",
            Safe(name),
            grouped(*would_pass),
            grouped(*would_drop)
        )?;
    }
    match sorted.len().saturating_sub(shown) {
        0 => Ok(()),
        more => Ok(writeln!(out, "  and {} more (--all)", grouped(more as u64))?),
    }
}
