//! `bulkhead revisions`, `rollback`, `confirm` and `resume`: what was accepted, and the ways back.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;

use super::Format;
use super::lines::{Line, difference};
use super::settings::Settings;
use super::terms::{TermsArgs, applied, refused};
use super::words;
use crate::api::client::Client;
use crate::api::types::{
    Cause, Change, Done, Object, Origin, RevisionDetail, RevisionInfo, RevisionSummary, RollbackRequest, path,
};
use crate::sink::Safe;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    which: Option<Which>,
    /// How the answer is printed.
    #[arg(short, long, value_enum, default_value_t, global = true)]
    output: Format,
}

#[derive(Debug, clap::Subcommand)]
enum Which {
    /// Show one revision: who, when, why, and every line that it changed.
    Show {
        /// Its number.
        #[arg(value_parser = number)]
        number: u64,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct RollbackArgs {
    /// The revision whose policy is to be in force again [default: the one before, or the last confirmed one].
    #[arg(value_parser = number, value_name = "N")]
    to: Option<u64>,
    #[command(flatten)]
    terms: TermsArgs,
    /// How the answer is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, clap::Args)]
pub(super) struct DoneArgs {
    /// How the answer is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// `411` or `r411`.
fn number(text: &str) -> Result<u64, String> {
    let number = text.strip_prefix('r').unwrap_or(text).parse();
    number.map_err(|_| format!("{text:?} is no revision; write its number, as 411 or r411"))
}

pub(super) fn exec(args: &Args, settings: &Settings, out: &mut dyn Write) -> Result<ExitCode> {
    let client = Client::connect(&settings.socket()?)?;
    match &args.which {
        None => {
            let revisions: Vec<RevisionSummary> = client.get(path::REVISIONS, &())?;
            if !args.output.machine(out, &revisions)? {
                revisions.iter().try_for_each(|revision| writeln!(out, "{}", line(revision)))?;
            }
        }
        Some(Which::Show { number }) => {
            let detail: RevisionDetail = client.get(&format!("{}/{number}", path::REVISIONS), &())?;
            if !args.output.machine(out, &detail)? {
                show(&detail, out)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `r412 * 2026-12-01 02:58 kari via sudo, cli: 1 added, 0 changed, 2 removed “why”`.
fn line(summary: &RevisionSummary) -> String {
    let RevisionInfo { number, time, author, .. } = &summary.revision;
    let mark = if summary.in_force { '*' } else { ' ' };
    let [added, changed, removed] = summary.changes;
    let counts = format!("{added} added, {changed} changed, {removed} removed");
    let by = by(&summary.revision, summary.cause);
    format!("r{number} {mark} {} {author}, {by}: {counts}{}", words::moment(*time), why(&summary.revision))
}

fn by(revision: &RevisionInfo, cause: Cause) -> String {
    match cause {
        Cause::Apply => revision.origin.as_str().to_owned(),
        Cause::Rollback(to) => format!("rollback to r{to}"),
        Cause::Unconfirmed(to) => format!("not confirmed, back to r{to}"),
    }
}

fn why(revision: &RevisionInfo) -> String {
    revision.message.as_ref().map(|why| format!(" “{}”", Safe(why))).unwrap_or_default()
}

fn show(detail: &RevisionDetail, out: &mut dyn Write) -> Result<()> {
    let RevisionInfo { number, time, author, who, .. } = &detail.revision;
    let by = by(&detail.revision, detail.cause);
    writeln!(out, "r{number} {} {author}, {by}{}", words::moment(*time), why(&detail.revision))?;
    let login = who.login_uid.map(|uid| format!(", login uid {uid}")).unwrap_or_default();
    let sudo = who.sudo_user.as_ref().map(|user| format!(", sudo user {user}")).unwrap_or_default();
    writeln!(out, "  uid {}{login}{sudo}", who.uid)?;
    writeln!(out, "  sha256 {}", detail.hash)?;
    let before = if detail.previous.is_empty() { "nothing" } else { &detail.previous };
    writeln!(out, "  after  {before}")?;
    detail.changes.iter().try_for_each(|change| show_change(change, out))
}

fn show_change(change: &Change, out: &mut dyn Write) -> Result<()> {
    let text =
        |object: &Option<Arc<Object>>| object.as_ref().map(|object| object.text.clone()).unwrap_or_default();
    let mark = match (&change.before, &change.after) {
        (None, _) => '+',
        (Some(_), Some(_)) => '~',
        (Some(_), None) => '-',
    };
    let object = change.after.as_ref().or(change.before.as_ref());
    let from = object.map(|o| format!(" ({}:{}, {})", o.file, o.line, Origin::as_str(o.origin)));
    writeln!(out, "{mark} {}{}", change.label(), from.unwrap_or_default())?;
    for line in difference(&text(&change.before), &text(&change.after)) {
        match line {
            Line::Stays(text) => writeln!(out, "      {}", Safe(text))?,
            Line::Goes(text) => writeln!(out, "    - {}", Safe(text))?,
            Line::Comes(text) => writeln!(out, "    + {}", Safe(text))?,
            Line::Skipped => writeln!(out, "      …")?,
        }
    }
    Ok(())
}

pub(super) fn rollback(args: &RollbackArgs, settings: &Settings, out: &mut dyn Write) -> Result<ExitCode> {
    let request = RollbackRequest { to: args.to, terms: args.terms.terms() };
    match Client::connect(&settings.socket()?)?.ask_for(path::ROLLBACK, &request)? {
        Ok(reply) => applied(args.output, &reply, out),
        Err(refusal) => refused(args.output, &refusal, out),
    }
}

pub(super) fn confirm(args: &DoneArgs, settings: &Settings, out: &mut dyn Write) -> Result<ExitCode> {
    let said = |done: &Done| match done.unchanged {
        true => format!("UNCHANGED: r{} waits for nothing", done.revision),
        false => format!("CONFIRMED r{}", done.revision),
    };
    done(args, path::CONFIRM, settings, said, out)
}

pub(super) fn resume(args: &DoneArgs, settings: &Settings, out: &mut dyn Write) -> Result<ExitCode> {
    let said = |done: &Done| match done.unchanged {
        true => "UNCHANGED: the policy folder is not held".to_owned(),
        false => format!("RESUMED: the policy folder may change r{} again", done.revision),
    };
    done(args, path::RESUME, settings, said, out)
}

fn done(
    args: &DoneArgs,
    path: &str,
    settings: &Settings,
    said: impl Fn(&Done) -> String,
    out: &mut dyn Write,
) -> Result<ExitCode> {
    let done: Done = Client::connect(&settings.socket()?)?.post(path, &())?;
    if !args.output.machine(out, &done)? {
        writeln!(out, "{}", said(&done))?;
    }
    Ok(ExitCode::SUCCESS)
}
