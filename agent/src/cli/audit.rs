//! `bulkhead audit verify`: is the history of revisions whole? It needs the files and no agent.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use super::settings::Settings;
use super::{Format, REFUSED};
use crate::state::{Anchor, Verified, anchors_in, verify};

/// Longer than an agent takes from one rename to the next.
const BETWEEN_RENAMES: Duration = Duration::from_millis(300);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Hold every revision against its checksum, its neighbours, and what was told outside.
    Verify(VerifyArgs),
}

#[derive(Debug, clap::Args)]
struct VerifyArgs {
    /// Texts that hold anchors: the anchor file, a system log, what a web hook received
    /// [default: the anchor file of the settings].
    #[arg(long, num_args = 1.., value_name = "FILE")]
    against: Vec<PathBuf>,
    /// How the answer is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// The answer for programs.
#[derive(Serialize)]
struct Report<'a> {
    whole: bool,
    entries: usize,
    head: Option<String>,
    anchors: usize,
    vouched: Option<u64>,
    problems: &'a [String],
}

pub(super) fn exec(args: &Args, settings: &Settings, out: &mut dyn Write) -> Result<ExitCode> {
    let What::Verify(args) = &args.what;
    let agent = settings.agent()?;
    let configured = agent.anchors.file.iter().filter(|_| args.against.is_empty());
    let anchors = anchors(args.against.iter().chain(configured))?;
    let mut found = verify(&agent.state_dir, &anchors)?;
    if !found.problems.is_empty() {
        // An agent may have been at work in between.
        std::thread::sleep(BETWEEN_RENAMES);
        found = verify(&agent.state_dir, &anchors)?;
    }
    let whole = found.problems.is_empty();
    let report = Report {
        whole,
        entries: found.entries,
        head: found.head.as_ref().map(Anchor::to_string),
        anchors: found.anchors,
        vouched: found.vouched,
        problems: &found.problems,
    };
    if !args.output.machine(out, &report)? {
        print(&found, out)?;
    }
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
}

fn anchors<'a>(files: impl Iterator<Item = &'a PathBuf>) -> Result<Vec<Anchor>> {
    let mut anchors = Vec::new();
    for file in files {
        let text = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
        anchors.extend(anchors_in(&String::from_utf8_lossy(&text)));
    }
    Ok(anchors)
}

fn print(found: &Verified, out: &mut dyn Write) -> Result<()> {
    found.problems.iter().try_for_each(|problem| writeln!(out, "! {problem}"))?;
    let Some((first, last)) = found.range else {
        writeln!(
            out,
            "{}",
            if found.problems.is_empty() { "OK no revision was accepted yet" } else { "NOT WHOLE" }
        )?;
        return Ok(());
    };
    let count =
        if found.entries == 1 { "1 revision".to_owned() } else { format!("{} revisions", found.entries) };
    if !found.problems.is_empty() {
        writeln!(out, "NOT WHOLE: {} wrong in {count}, r{first} to r{last}", found.problems.len())?;
        return Ok(());
    }
    writeln!(out, "OK {count}, r{first} to r{last}, one chain")?;
    found.head.iter().try_for_each(|head| writeln!(out, "  newest {head}"))?;
    let vouched = match found.vouched {
        None => "nothing outside vouches for the newest: set `audit.anchor`, or name texts with --against"
            .to_owned(),
        Some(number) if number == last => {
            format!("r{number} is as it was told outside, and so is all before it")
        }
        Some(number) => format!("r{number} is as it was told outside; what came after it was not told"),
    };
    Ok(writeln!(out, "  {vouched}")?)
}
