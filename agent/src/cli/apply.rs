//! `bulkhead apply` and `bulkhead diff`: the same question, with and without consequences.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use super::progress::{Progress, amount};
use super::settings::Settings;
use super::terms::{TermsArgs, applied, list, refused};
use super::{Format, REFUSED};
use crate::api::client::Client;
use crate::api::types::{ApplyReply, ApplyRequest, NamedText, Origin, Refusal, Terms, path};
use crate::policy::{self, SourceFile};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    change: ChangeArgs,
    /// Have it judged beside what is in force, and change nothing: see `bulkhead candidate`.
    #[arg(long)]
    candidate: bool,
    #[command(flatten)]
    terms: TermsArgs,
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
    /// Remove what came from here before and is not in the files.
    #[arg(long)]
    prune: bool,
    /// How the answer is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(super) fn exec(args: &Args, settings: &Settings, out: &mut dyn Write) -> Result<ExitCode> {
    match ask(&args.change, args.candidate, args.terms.terms(), settings)? {
        Ok(reply) => applied(args.change.output, &reply, out),
        Err(refusal) => refused(args.change.output, &refusal, out),
    }
}

pub(super) fn diff(args: &DiffArgs, settings: &Settings, out: &mut dyn Write) -> Result<ExitCode> {
    match ask(&args.change, false, Terms { dry_run: true, ..Terms::default() }, settings)? {
        Ok(reply) => {
            if !args.change.output.machine(out, &reply)? {
                list(&reply.changes, out)?;
            }
            let same = reply.changes.is_empty();
            Ok(if same { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
        }
        Err(refusal) => refused(args.change.output, &refusal, out),
    }
}

/// The agent's answer; a refusal is one.
fn ask(
    change: &ChangeArgs,
    candidate: bool,
    terms: Terms,
    settings: &Settings,
) -> Result<Result<ApplyReply, Refusal>> {
    let files = policy::read(&change.file)?;
    let _shown =
        Progress::of(format!("{} {}", if terms.dry_run { "compare" } else { "apply" }, amount(&files)));
    let named = |file: &SourceFile| NamedText { name: file.name().to_owned(), text: file.text().to_owned() };
    let request = ApplyRequest {
        files: files.iter().map(named).collect(),
        prune: change.prune,
        origin: origin(&change.file, settings),
        candidate,
        terms,
    };
    Client::connect(&settings.socket()?)?.ask_for(path::APPLY, &request)
}

/// What lies in the policy folder belongs to the folder, also if somebody applies it by hand.
fn origin(paths: &[PathBuf], settings: &Settings) -> Origin {
    let agent = settings.agent_if_any().ok().flatten();
    let folder = agent.and_then(|agent| agent.policy_folder.canonicalize().ok());
    let lies_there = |path: &PathBuf| {
        let path = path.canonicalize().ok();
        path.is_some_and(|path| Some(&*path) == folder.as_deref() || path.parent() == folder.as_deref())
    };
    if folder.is_some() && paths.iter().all(lies_there) { Origin::Folder } else { Origin::Cli }
}
