//! `bulkhead check`: says whether policies would be accepted, without a kernel, an agent or root.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;

use super::census::Census;
use super::progress::{Progress, amount};
use super::settings::Settings;
use super::{COULD_NOT_RUN, Format, REFUSED, draw, sarif};
use crate::policy::{self, AgentConfig, Diagnostics, Ids, Severity, SourceFile, Timeline};
use crate::runtime::{Facts, InForce};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Files, folders, or - for standard input.
    #[arg(short, long, required = true, num_args = 1.., value_name = "PATH")]
    file: Vec<PathBuf>,
    /// How the answer is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// How the answer is printed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Text,
    /// For people, too.
    Wide,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
    /// SARIF 2.1.0, for code hosts and CI.
    Sarif,
}

impl Output {
    /// Prints a report if a program is to read it; false if people are.
    fn machine(self, out: &mut dyn Write, report: &Report<'_>) -> Result<bool> {
        let format = match self {
            Self::Text | Self::Wide => Format::Text,
            Self::Json => Format::Json,
            Self::Yaml => Format::Yaml,
            Self::Sarif => return Format::Json.machine(out, &sarif::report(report.diagnostics)),
        };
        format.machine(out, report)
    }
}

/// The answer for programs.
#[derive(Serialize)]
struct Report<'a> {
    accepted: bool,
    files: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    census: Option<Census>,
    diagnostics: &'a Diagnostics,
}

pub(super) fn exec(args: &Args, settings: &Settings, out: &mut dyn Write) -> Result<ExitCode> {
    match judge(args, settings) {
        Ok((files, candidate)) => accepted(args, files, &candidate, out),
        Err(problems) => refused(args, &problems, out),
    }
}

/// Judges for the host that the settings describe, or for one that is imagined from the policies.
fn judge(args: &Args, settings: &Settings) -> Result<(usize, InForce), Diagnostics> {
    let agent = settings.agent_if_any()?;
    let files = policy::read(&args.file)?;
    let count = files.len();
    let _shown = Progress::of(format!("check {}", amount(&files)));
    candidate(files, agent).map(|(candidate, _)| (count, candidate))
}

/// Judges policies where no agent runs.
pub(super) fn candidate(
    files: Vec<SourceFile>,
    agent: Option<AgentConfig>,
) -> Result<(InForce, AgentConfig), Diagnostics> {
    let agent = match agent {
        Some(agent) => agent,
        None => policy::assumed_agent(&policy::parse(files.clone(), None)?.policy),
    };
    let host = policy::assumed_host(&agent);
    let facts = Facts { devices: BTreeMap::new(), timeline: Timeline::from_now(), grants: BTreeMap::new() };
    let read = policy::parse(files, Some(&agent))?;
    InForce::prepare(read, (&agent, &host), &Ids::default(), facts).map(|candidate| (candidate, agent))
}

fn accepted(args: &Args, files: usize, candidate: &InForce, out: &mut dyn Write) -> Result<ExitCode> {
    let census = Census::of(&candidate.policy);
    let report =
        Report { accepted: true, files, census: Some(census.clone()), diagnostics: &candidate.notes };
    if !args.output.machine(out, &report)? {
        draw_notes(&candidate.notes, out)?;
        let files = if files == 1 { "1 file".to_owned() } else { format!("{files} files") };
        let tests = if census.tests == 0 { "; no tests, write some under `tests:`" } else { " passed" };
        writeln!(out, "OK {files}: {census}{tests}{}", warnings(&candidate.notes))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `; 2 warnings`: not in the way, and not to be overlooked.
fn warnings(notes: &Diagnostics) -> String {
    match notes.iter().filter(|note| note.severity == Severity::Warning).count() {
        0 => String::new(),
        1 => "; 1 warning".to_owned(),
        count => format!("; {count} warnings"),
    }
}

/// What was cut and what is odd belongs to the answer, so it goes where the answer goes.
pub(super) fn draw_notes(notes: &Diagnostics, out: &mut dyn Write) -> Result<()> {
    if !notes.is_empty() {
        writeln!(out, "{}", notes.render(false))?;
    }
    Ok(())
}

fn refused(args: &Args, problems: &Diagnostics, out: &mut dyn Write) -> Result<ExitCode> {
    let report = Report { accepted: false, files: args.file.len(), census: None, diagnostics: problems };
    if !args.output.machine(out, &report)? {
        return Ok(refusal(problems));
    }
    Ok(refusal_code(problems))
}

/// Draws what is wrong with policies; returns the exit code that says so.
pub(super) fn refusal(problems: &Diagnostics) -> ExitCode {
    draw(problems);
    anstream::eprintln!("{}", verdict(problems));
    refusal_code(problems)
}

fn refusal_code(problems: &Diagnostics) -> ExitCode {
    ExitCode::from(if problems.is_unreadable() { COULD_NOT_RUN } else { REFUSED })
}

/// The last line of a refusal.
pub(super) fn verdict(problems: &Diagnostics) -> String {
    let errors = problems.errors();
    format!("REFUSED: {errors} {}", if errors == 1 { "error" } else { "errors" })
}
