//! `bulkhead guard load`: closes the accepted policy's pools before there is any interface.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Result, anyhow};

use super::settings::Settings;
use crate::guard::{Guard, Layer, Pools, Wanted};
use crate::policy::{self, AgentConfig, device_ranges};
use crate::state;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Close the pools of the accepted policy on every interface until the agent has attached; for a unit that runs
    /// before the network.
    Load,
}

pub(super) fn exec(args: &Args, settings: &Settings, out: &mut dyn Write) -> Result<ExitCode> {
    match args.command {
        Command::Load => load(&settings.agent()?, out)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn load(agent: &AgentConfig, out: &mut dyn Write) -> Result<()> {
    if !agent.second_guard {
        return Ok(writeln!(out, "nothing was loaded: {} says secondGuard: off", agent.at.file())?);
    }
    let Some(accepted) = accepted(agent)? else {
        return Ok(writeln!(out, "nothing was loaded: no policy was accepted yet")?);
    };
    let guard = Guard::open()?;
    let found = guard.observe(Layer::Routed)?;
    // An agent may run: what it lets through stays.
    let (known, held) = found.as_ref().map(|f| (f.pools.clone(), f.held.clone())).unwrap_or_default();
    let wanted =
        Wanted { pools: known.with(&accepted), held, local_output: agent.local_output, layer: Layer::Routed };
    guard.make(found.as_ref(), &wanted)?;
    let switched = guard.observe(Layer::Switched)?;
    let bridges = Wanted { layer: Layer::Switched, ..wanted.clone() };
    if let Err(error) = guard.make(switched.as_ref(), &bridges) {
        writeln!(out, "what bridges pass from port to port is not closed: {error:#}")?;
    }
    let (pools, held) = (wanted.pools.len(), wanted.held.len());
    Ok(writeln!(
        out,
        "{pools} pools are closed on every interface but {held}; the agent opens those that it guards"
    )?)
}

/// Where the accepted policy says that devices are.
///
/// Only networks are read, and devices with something behind them: there may be a million others.
fn accepted(agent: &AgentConfig) -> Result<Option<Pools>> {
    let Some(state) = state::peek(&agent.state_dir)? else { return Ok(None) };
    let said = state.objects.filtered(|object| match object.kind.as_str() {
        "Network" => true,
        "Device" => object.text.contains("framedRoutes"),
        _ => false,
    });
    let files = said.files();
    if files.is_empty() {
        return Ok(Some(Pools::default()));
    }
    let loaded = policy::parse(files, None).map_err(|problems| anyhow!(problems.render(false)))?;
    Ok(Some(Pools::new(&device_ranges(&loaded.policy))))
}
