//! `bulkhead explain`: which rule decides a packet, or why nothing matched and what came nearest.
//!
//! The verdict is the engine's own, from the tables that the kernel gets; the agent is only asked
//! for the policy in force and for drops that it remembers.

mod allow;
mod dropped;
mod explanation;
mod packet;
mod question;
mod remedy;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, anyhow};
use jiff::Timestamp;

use super::basis::Basis;
use super::settings::Settings;
use super::{Format, check};
use crate::api::client::Client;
use crate::policy::{Attribute, AttributeKey, Port};
use crate::telemetry::EventId;
use explanation::Explanation;

#[derive(Debug, clap::Args)]
#[command(
    override_usage = "bulkhead explain ID\n       \
                      bulkhead explain --from WHO --to WHO --port PORT [-f PATH...]",
    after_help = "WHO is a device by name, or an IP address; one of the two must be a device or lie in a pool.\n\
                  Exit codes: 0 explained, whatever the verdict; 1 no such drop, or the policy in -f is refused; \
                  2 could not run."
)]
pub(super) struct Args {
    /// The id of a drop, like d7kq2, from `bulkhead drops`.
    #[arg(required_unless_present = "from", conflicts_with_all = ["from", "to", "port", "at", "file"])]
    id: Option<EventId>,
    /// Who calls.
    #[arg(long, value_name = "WHO", requires = "to", requires = "port")]
    from: Option<String>,
    /// Who is called.
    #[arg(long, value_name = "WHO", requires = "from")]
    to: Option<String>,
    /// The port that is called, like tcp/443, udp/53 or icmp/echo.
    #[arg(long, value_name = "PORT", requires = "from")]
    port: Option<Port>,
    /// What to assume of the device, as firmware=2.5 or plmn=24201; of the one that calls, if both are devices.
    #[arg(long, num_args = 1.., value_name = "KEY=VALUE", requires = "from", value_parser = AttributeKey::assigned)]
    given: Vec<(AttributeKey, String)>,
    /// The moment that is asked about, like 2026-12-01T10:00:00+01:00; now, if nobody says.
    #[arg(long, value_name = "TIME", requires = "from")]
    at: Option<Timestamp>,
    /// Explain by these files or folders, and not by what is in force; needs no agent.
    #[arg(short, long, num_args = 1.., value_name = "PATH")]
    file: Vec<PathBuf>,
    /// How the answer is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(super) fn exec(args: &Args, settings: &Settings, out: &mut dyn Write) -> Result<ExitCode> {
    if let Some(id) = args.id {
        return dropped::exec(id, args.output, settings, out);
    }
    let (Some(from), Some(to), Some(port)) = (&args.from, &args.to, args.port) else {
        return Err(anyhow!("name both ends and the port: --from WHO --to WHO --port tcp/443"));
    };
    let mut basis = match args.file.is_empty() {
        true => Basis::in_force(&Client::connect(&settings.socket()?)?)?,
        false => match Basis::written(&args.file, settings) {
            Ok(basis) => basis,
            Err(problems) => return Ok(check::refusal(&problems)),
        },
    };
    if let Some(moment) = args.at {
        basis.set_moment(moment)?;
    }
    if !args.given.is_empty() {
        let subject = question::subject(&basis, from, to).map_err(|why| anyhow!(why))?;
        let given = args.given.iter().map(|(key, value)| (key.clone(), Attribute::given(value.clone())));
        basis.assume(&subject, given)?;
    }
    let answer = question::ask(&basis, from, to, port).map_err(|why| anyhow!(why))?;
    let explanation = Explanation::of(&basis, &answer);
    if !args.output.machine(out, &explanation)? {
        writeln!(out, "{explanation}")?;
    }
    Ok(ExitCode::SUCCESS)
}
