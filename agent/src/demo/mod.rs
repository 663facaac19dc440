//! `bulkhead demo`: the real agent, the real CLI and real traffic, in a lab of network namespaces.
//!
//! Every case is performed twice, without Bulkhead and with it, so that "nothing arrived" means something. What was
//! observed comes from both ends: what the client saw, what the receiver's kernel counted, and what the agent said.

pub mod agent;
mod candidate;
mod case;
mod crash;
pub mod files;
mod judge;
mod keep;
mod perform;
mod push;
mod report;
mod story;
mod tail;
mod unconfirmed;
mod visit;
mod window;

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::lab::{Lab, Topology};
use agent::Agent;
use case::Case;
use files::Files;
use report::Row;
use story::Story;
use tail::Tails;

pub use report::Output;

/// What was typed after `bulkhead demo`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// Leave the lab and its agent up, and say how to enter and remove it.
    #[arg(long)]
    pub keep: bool,
    /// Remove labs that an earlier `--keep` left up, and do nothing else.
    #[arg(long, conflicts_with = "keep")]
    pub clean: bool,
    /// Run the servers of a kept lab; `--keep` starts this by itself.
    #[arg(long, hide = true, value_name = "PREFIX")]
    pub serve: Option<String>,
    /// How the result is printed.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// Exit code where an observation differs from its expectation.
const DIFFERS: u8 = 1;

/// Runs the demo. It blocks: call it outside an async runtime.
pub fn exec(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    if args.clean {
        return keep::clean(out);
    }
    if let Some(prefix) = &args.serve {
        return keep::serve(prefix);
    }
    let lab = Lab::new(&Topology::demo()).context("create the lab")?;
    let holds = tell(&lab, args, out)?;
    if args.keep {
        // Objects for a machine stay alone on their stream.
        match args.output {
            Output::Text => keep::keep(lab, out)?,
            Output::Json => keep::keep(lab, &mut std::io::stderr())?,
        }
    }
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::from(DIFFERS) })
}

fn tell(lab: &Lab, args: &Args, out: &mut dyn Write) -> Result<bool> {
    let rows = {
        let mut story = Story::new(&mut *out, args.output == Output::Json);
        story.say(&format!(
            "lab {}: {} devices, ran, core, dn, outside",
            lab.prefix(),
            lab.topology().devices.len()
        ))?;
        run(lab, &mut story)?
    };
    report::print(&rows, args.output, out)
}

fn run(lab: &Lab, story: &mut Story<'_>) -> Result<Vec<Row>> {
    lab.mount_bpffs()?;
    let files = Files::write(lab)?;
    let _servers = perform::start_servers(lab)?;
    let cases = case::cases(lab.topology());
    story.say("→ without Bulkhead: every attempt once, to see that it would succeed")?;
    let without = judge::baseline(lab, &cases)?;
    story.say("→ bulkhead run, bulkhead apply -f policies/")?;
    let agent = Agent::start(lab, &files)?;
    story.quote(&agent.apply(&[])?)?;
    story.follow(Some(Tails::start(&agent)?));
    let mut rows = judge_all(lab, &cases, &without, story)?;
    rows.extend(push::push(lab, &agent, &files, story)?);
    rows.extend(unconfirmed::unconfirmed(lab, &agent, &files, story)?);
    rows.extend(candidate::candidate(lab, &agent, &files, story)?);
    rows.extend(window::window(lab, &agent, &files, story)?);
    rows.extend(visit::visit(lab, &agent, story)?);
    let (_agent, crash) = crash::crash(lab, agent, &files, story)?;
    rows.extend(crash);
    Ok(rows)
}

fn judge_all(
    lab: &Lab,
    cases: &[Case],
    without: &[perform::Observation],
    story: &mut Story<'_>,
) -> Result<Vec<Row>> {
    cases.iter().zip(without).map(|(case, without)| judge::judge(lab, case, without, story)).collect()
}
