//! `bulkhead apply` and `bulkhead diff`: the same question, with and without consequences.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use super::check::draw_notes;
use super::settings::Settings;
use super::{Format, REFUSED};
use crate::api::client::Client;
use crate::api::types::{ApplyReply, ApplyRequest, Changes, NamedText, Refusal, path};
use crate::policy::{self, Diagnostics};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    change: ChangeArgs,
    /// Why, for the record.
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Say what would happen, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct DiffArgs {
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Debug, clap::Args)]
struct ChangeArgs {
    /// Files, folders, or - for standard input.
    #[arg(short, long, required = true, num_args = 1.., value_name = "PATH")]
    file: Vec<PathBuf>,
    /// Remove what is in force and not in the files.
    #[arg(long)]
    prune: bool,
    /// How the answer is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(super) fn exec(args: &Args, settings: &Settings, out: &mut dyn Write) -> Result<ExitCode> {
    let message = args.message.clone();
    match ask(&args.change, args.dry_run, message, settings)? {
        Ok(reply) => {
            applied(&args.change, &reply, out)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(refusal) => refused(&args.change, &refusal, out),
    }
}

pub(super) fn diff(args: &DiffArgs, settings: &Settings, out: &mut dyn Write) -> Result<ExitCode> {
    match ask(&args.change, true, None, settings)? {
        Ok(reply) => {
            if !args.change.output.machine(out, &reply)? {
                list(&reply.changes, out)?;
            }
            let same = reply.changes.is_empty();
            Ok(if same { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
        }
        Err(refusal) => refused(&args.change, &refusal, out),
    }
}

/// The agent's answer; a refusal is one.
fn ask(
    change: &ChangeArgs,
    dry_run: bool,
    message: Option<String>,
    settings: &Settings,
) -> Result<Result<ApplyReply, Refusal>> {
    let files = policy::read(&change.file)?;
    let request = ApplyRequest {
        files: files
            .iter()
            .map(|f| NamedText { name: f.name().to_owned(), text: f.text().to_owned() })
            .collect(),
        prune: change.prune,
        dry_run,
        message,
        sudo_user: std::env::var("SUDO_USER").ok(),
    };
    match Client::connect(&settings.socket()?)?.post(path::APPLY, &request) {
        Ok(reply) => Ok(Ok(reply)),
        Err(error) => error.downcast().map(Err),
    }
}

fn applied(change: &ChangeArgs, reply: &ApplyReply, out: &mut dyn Write) -> Result<()> {
    if change.output.machine(out, reply)? {
        return Ok(());
    }
    draw_notes(&reply.notes, out)?;
    let ApplyReply { revision, generation, writes, elapsed_ms, tests, .. } = reply;
    let counts = counts(&reply.changes);
    if reply.dry_run {
        list(&reply.changes, out)?;
        writeln!(out, "WOULD APPLY over r{revision}: {counts}, {tests} tests passed; nothing was done")?;
    } else if reply.unchanged {
        writeln!(out, "UNCHANGED: r{revision} holds just this")?;
    } else {
        let effort = format!("generation {generation}, {writes} writes, {elapsed_ms} ms");
        writeln!(out, "APPLIED r{revision}: {counts}, {tests} tests passed; {effort}")?;
    }
    Ok(())
}

fn counts(changes: &Changes) -> String {
    let Changes { added, changed, removed } = changes;
    format!("{} added, {} changed, {} removed", added.len(), changed.len(), removed.len())
}

fn list(changes: &Changes, out: &mut dyn Write) -> Result<()> {
    for (mark, names) in [('+', &changes.added), ('~', &changes.changed), ('-', &changes.removed)] {
        for name in names {
            writeln!(out, "{mark} {name}")?;
        }
    }
    Ok(())
}

fn refused(change: &ChangeArgs, refusal: &Refusal, out: &mut dyn Write) -> Result<ExitCode> {
    if !change.output.machine(out, refusal)? {
        let mut problems = Diagnostics::default();
        refusal.diagnostics.iter().for_each(|problem| problems.push(problem.clone()));
        super::draw(&problems);
        anstream::eprintln!("REFUSED: {}", refusal.error);
    }
    Ok(ExitCode::from(REFUSED))
}
