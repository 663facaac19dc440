//! `bulkhead audit verify`: are the history of revisions and the record of grants whole? It needs the files and no
//! agent.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use super::settings::Settings;
use super::{Format, REFUSED};
use crate::state::{Anchor, Chain, Verified, anchors_in, verify, verify_grants};

/// Longer than an agent takes from one rename to the next.
const BETWEEN_RENAMES: Duration = Duration::from_millis(300);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Hold every revision and every entry on grants against its checksum, its neighbours, and what was told outside.
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

/// The answer for programs: of revisions, and in `grants` the same of what was done with grants.
#[derive(Serialize)]
struct Report<'a> {
    whole: bool,
    #[serde(flatten)]
    revisions: Part<'a>,
    grants: Part<'a>,
}

/// What is told of one chain.
#[derive(Serialize)]
struct Part<'a> {
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
    let look =
        || anyhow::Ok([verify(&agent.state_dir, &anchors)?, verify_grants(&agent.state_dir, &anchors)?]);
    let is_whole = |found: &[Verified]| found.iter().all(|found| found.problems.is_empty());
    let mut found = look()?;
    if !is_whole(&found) {
        // An agent may have been at work in between.
        std::thread::sleep(BETWEEN_RENAMES);
        found = look()?;
    }
    let (whole, [revisions, grants]) = (is_whole(&found), found.each_ref().map(part));
    if !args.output.machine(out, &Report { whole, revisions, grants })? {
        found.iter().try_for_each(|found| print(found, out))?;
    }
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
}

fn part(found: &Verified) -> Part<'_> {
    Part {
        entries: found.entries,
        head: found.head.as_ref().map(Anchor::to_string),
        anchors: found.anchors,
        vouched: found.vouched,
        problems: &found.problems,
    }
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
    if found.unsealed > 0 {
        let older = if found.unsealed == 1 { "line" } else { "lines" };
        writeln!(
            out,
            "  {} {older} on grants of an older version, which nothing vouches for",
            found.unsealed
        )?;
    }
    let Some((first, last)) = found.range else { return print_empty(found, out) };
    let range = format!(
        "{}, {letter}{first} to {letter}{last}",
        found.chain.counted(found.entries),
        letter = found.chain.letter()
    );
    if !found.problems.is_empty() {
        writeln!(out, "NOT WHOLE: {} wrong in {range}", found.problems.len())?;
        return Ok(());
    }
    writeln!(out, "OK {range}, one chain")?;
    found.head.iter().try_for_each(|head| writeln!(out, "  newest {head}"))?;
    let entry = |number: u64| format!("{}{number}", found.chain.letter());
    let vouched = match found.vouched {
        None => "nothing outside vouches for the newest: set `audit.anchor`, or name texts with --against"
            .to_owned(),
        Some(number) if number == last => {
            format!("{} is as it was told outside, and so is all before it", entry(number))
        }
        Some(number) => {
            format!("{} is as it was told outside; what came after it was not told", entry(number))
        }
    };
    Ok(writeln!(out, "  {vouched}")?)
}

/// There may be no grants; a host without a revision is worth a word.
fn print_empty(found: &Verified, out: &mut dyn Write) -> Result<()> {
    match (found.problems.is_empty(), found.chain) {
        (false, _) => writeln!(out, "NOT WHOLE")?,
        (true, Chain::Revisions) => writeln!(out, "OK no revision was accepted yet")?,
        (true, Chain::Grants) => {}
    }
    Ok(())
}
