//! `bulkhead flows` and `bulkhead drops`: what is and was, or with `-f` what comes.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use jiff::tz::TimeZone;
use serde::Serialize;

use super::Format;
use super::settings::Settings;
use crate::api::client::{Client, Lines};
use crate::api::types::path;
use crate::sink::{Sink, Text};
use crate::telemetry::{Filter, Label, Record, Since};

/// Which records.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Flows,
    Drops,
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Go on with what comes, until Ctrl-C.
    #[arg(short, long)]
    follow: bool,
    /// Only this device, at either end.
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// Only devices of this segment.
    #[arg(long, value_name = "NAME")]
    segment: Option<String>,
    /// Only this network.
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
    /// Only this reason, like no_rule.
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// Only this rule, as POLICY/RULE, or all of a policy.
    #[arg(long, value_name = "RULE")]
    rule: Option<String>,
    /// Only this way: up, down or transit.
    #[arg(long, value_name = "WAY")]
    direction: Option<String>,
    /// Nothing older: a time, or how long ago, like 10m.
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// At most so many remembered records.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    limit: usize,
    /// How records are printed; json is one object a line.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Query parameters of a listing.
#[derive(Serialize)]
struct Listing<'a> {
    #[serde(flatten)]
    filter: &'a Filter,
    limit: usize,
}

/// Query parameters of a stream.
#[derive(Serialize)]
struct Stream<'a> {
    #[serde(flatten)]
    filter: &'a Filter,
    events: Kind,
}

pub(super) fn exec(args: &Args, kind: Kind, settings: &Settings, out: &mut dyn Write) -> Result<ExitCode> {
    let filter = args.filter()?;
    let client = Client::connect(&settings.socket()?)?;
    let sink = args.sink();
    let mut print = |lines: Lines<'_>| -> Result<()> {
        for line in lines.iter() {
            let record: Record = serde_json::from_slice(line).context("read a record of the agent")?;
            sink.write(out, &record)?;
        }
        // Whoever reads along wants each line now.
        Ok(out.flush()?)
    };
    if args.follow {
        client.lines(path::FOLLOW, &Stream { filter: &filter, events: kind }, &mut print)?;
        return Ok(ExitCode::SUCCESS);
    }
    let listed = match kind {
        Kind::Flows => path::FLOWS,
        Kind::Drops => path::DROPS,
    };
    client.lines(listed, &Listing { filter: &filter, limit: args.limit }, &mut print)?;
    Ok(ExitCode::SUCCESS)
}

impl Args {
    fn filter(&self) -> Result<Filter> {
        let label = |text: &Option<String>| text.as_deref().map(Label::from);
        let since = self.since.as_deref().map(str::parse::<Since>).transpose();
        Ok(Filter {
            device: label(&self.device),
            segment: label(&self.segment),
            network: label(&self.network),
            reason: label(&self.reason),
            rule: label(&self.rule),
            direction: label(&self.direction),
            verdict: None,
            since: since.map_err(|error| anyhow::anyhow!("--since: {error}"))?,
        })
    }

    fn sink(&self) -> Sink {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        match self.output {
            Format::Text | Format::Wide => {
                Sink::Text(Text { zone: TimeZone::system(), colour, wide: self.output == Format::Wide })
            }
            // One object a line either way: YAML has no such form, and JSON is YAML.
            Format::Json | Format::Yaml => Sink::Json,
        }
    }
}
