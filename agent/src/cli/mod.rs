//! The command line: what was typed → a plan → what is printed and the exit code.
//!
//! Exit codes: 0 done, 1 refused or differs, 2 could not run. Errors go to standard error with
//! their whole chain. A reader that closes the pipe has seen enough: that is success.

mod apply;
mod audit;
mod basis;
mod candidate;
mod census;
mod check;
mod completions;
mod describe;
mod detach;
mod device;
mod explain;
mod format;
mod get;
mod grant;
mod guard;
mod identity;
mod lines;
mod out;
mod progress;
mod quarantine;
mod replay;
mod revisions;
mod run;
mod sarif;
mod schema;
mod settings;
mod status;
mod table;
mod tail;
mod terms;
mod words;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

pub use format::Format;
pub use out::Out;

use crate::policy::Diagnostics;
use settings::Settings;

/// Exit code of "refused" and "differs".
pub(crate) const REFUSED: u8 = 1;
/// Exit code of "could not run", and of a status that says "not enforcing".
pub(crate) const COULD_NOT_RUN: u8 = 2;

/// What was typed.
#[derive(Debug, Parser)]
#[command(
    name = "bulkhead",
    version,
    about = "Default-deny, explainable allowlists for every SIM, on the host that carries its traffic",
    after_help = "Exit codes: 0 done, 1 refused or differs, 2 could not run.",
    max_term_width = 100
)]
pub struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent: enforce what was accepted, answer on the socket.
    Run(run::Args),
    /// Check policies, and bring them into force if nothing is wrong with them.
    Apply(apply::Args),
    /// Say what a candidate (apply --candidate) would do otherwise, or give it up.
    Candidate(candidate::Args),
    /// Bring the candidate into force, as an apply does.
    Promote(candidate::PromoteArgs),
    /// Say what an apply would change; exit code 1 if it would change anything.
    Diff(apply::DiffArgs),
    /// Keep a revision that was applied with --confirm-within.
    Confirm(revisions::DoneArgs),
    /// Bring the policy of an earlier revision back, as a new one; the policy folder is held until `resume`.
    Rollback(revisions::RollbackArgs),
    /// Let the policy folder apply itself again after a rollback.
    Resume(revisions::DoneArgs),
    /// List what was accepted, or show one revision.
    Revisions(revisions::Args),
    /// Verify the history of revisions.
    Audit(audit::Args),
    /// Say whether everything is enforced; exit code 1 if degraded, 2 if not.
    Status(status::Args),
    /// Shut a device in: nothing from it or to it passes, whatever policy says.
    Quarantine(quarantine::Args),
    /// Let a device out of quarantine.
    Release(quarantine::ReleaseArgs),
    /// Let somebody in from outside: to one device, for a while, on the record.
    Grant(grant::Args),
    /// Say or show what is known of a device: labels, where it is, what it is.
    Device(device::Args),
    /// List the objects in force.
    Get(get::Args),
    /// Tell all that is known of one object.
    Describe(describe::Args),
    /// Say which rule decides a packet, or why none does and which came nearest.
    Explain(explain::Args),
    /// Judge every packet of a capture by the XDP program, without an agent.
    Replay(replay::Args),
    /// List live flows, or follow them with -f.
    Flows(tail::Args),
    /// List remembered drops, or follow them with -f.
    Drops(tail::Args),
    /// Take the datapath out of the kernel: nothing is enforced any more.
    Detach(detach::Args),
    /// Close device pools before the network comes up.
    Guard(guard::Args),
    /// Check policies without a kernel, an agent or root.
    Check(check::Args),
    /// Print the language as a JSON Schema, for editors.
    Schema(schema::Args),
    /// Show the demonstration: a lab, the real agent, real traffic.
    Demo(crate::demo::Args),
    /// Print the completion script of a shell.
    Completions(completions::Args),
}

/// Parses the command line, runs it, and says how it went.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let mut out = Out::stdout();
    let done = run(cli, &mut out).and_then(|code| out.finish().map(|()| code));
    match done {
        Ok(code) => code,
        // Whoever reads has seen enough.
        Err(_) if out.is_closed() => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(COULD_NOT_RUN)
        }
    }
}

/// Help and version are answers, anything else is a mistake; neither may fail on a closed pipe.
fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    match error.use_stderr() {
        true => ExitCode::from(COULD_NOT_RUN),
        false => ExitCode::SUCCESS,
    }
}

fn run(cli: Cli, out: &mut Out) -> Result<ExitCode> {
    let settings = &cli.settings;
    match cli.command {
        Command::Run(args) => run::exec(&args, settings),
        Command::Apply(args) => apply::exec(&args, settings, out),
        Command::Candidate(args) => candidate::exec(&args, settings, out),
        Command::Promote(args) => candidate::promote(&args, settings, out),
        Command::Diff(args) => apply::diff(&args, settings, out),
        Command::Confirm(args) => revisions::confirm(&args, settings, out),
        Command::Rollback(args) => revisions::rollback(&args, settings, out),
        Command::Resume(args) => revisions::resume(&args, settings, out),
        Command::Revisions(args) => revisions::exec(&args, settings, out),
        Command::Audit(args) => audit::exec(&args, settings, out),
        Command::Status(args) => status::exec(&args, settings, out),
        Command::Quarantine(args) => quarantine::exec(&args, settings, out),
        Command::Release(args) => quarantine::release(&args, settings, out),
        Command::Grant(args) => grant::exec(&args, settings, out),
        Command::Device(args) => device::exec(&args, settings, out),
        Command::Get(args) => get::exec(&args, settings, out),
        Command::Describe(args) => describe::exec(&args, settings, out),
        Command::Explain(args) => explain::exec(&args, settings, out),
        Command::Replay(args) => replay::exec(&args, settings, out),
        Command::Flows(args) => tail::exec(&args, tail::Kind::Flows, settings, out),
        Command::Drops(args) => tail::exec(&args, tail::Kind::Drops, settings, out),
        Command::Detach(args) => detach::exec(&args, settings, out),
        Command::Guard(args) => guard::exec(&args, settings, out),
        Command::Check(args) => check::exec(&args, settings, out),
        Command::Schema(args) => schema::exec(&args, out),
        Command::Demo(args) => crate::demo::exec(&args, out),
        Command::Completions(args) => completions::exec(&args, out),
    }
}

/// Writes an error and everything that led to it, one line; problems of a file are drawn.
fn complain(error: &anyhow::Error) {
    match error.downcast_ref::<Diagnostics>() {
        Some(problems) => draw(problems),
        None => anstream::eprintln!("error: {error:#}"),
    }
}

/// Draws problems on standard error; the stream drops the colour where nobody sees it.
fn draw(problems: &Diagnostics) {
    anstream::eprint!("{}", problems.render(true));
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn settings_may_stand_behind_the_command() {
        let typed = ["bulkhead", "check", "-f", "a.yaml", "--socket", "/tmp/s", "-c", "/tmp/agent.yaml"];
        let cli = Cli::try_parse_from(typed).unwrap();
        assert_eq!(cli.settings.socket.as_deref(), Some(std::path::Path::new("/tmp/s")));
    }
}
