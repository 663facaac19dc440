//! `bulkhead device`: what is known of a device while it runs, and who says so.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};

use super::Format;
use super::identity::masked;
use super::settings::Settings;
use super::terms::{answered, refused, sudo_user};
use crate::api::client::Client;
use crate::api::types::{AttributeReport, AttributesReply, AttributesRequest, DeviceReport, path};
use crate::policy::{AttributeKey, Plmn, Source, ago};
use crate::sink::Safe;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Say what is known of a device: rules open and close by it at once.
    Set(SetArgs),
    /// Take back what was said of a device; what its document says counts again.
    Unset(UnsetArgs),
    /// Show what is known of a device, who said so and when.
    #[command(visible_alias = "show")]
    Get(GetArgs),
}

#[derive(Debug, clap::Args)]
struct SetArgs {
    /// The device.
    device: String,
    /// Labels, and plmn, trackingArea, cell, rat, imei: firmware=2.5 plmn=24201.
    #[arg(required = true, value_name = "KEY=VALUE", value_parser = AttributeKey::assigned)]
    set: Vec<(AttributeKey, String)>,
    /// On whose word.
    #[arg(long, value_enum, default_value_t = Word::Cli)]
    source: Word,
    /// How the answer is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, clap::Args)]
struct UnsetArgs {
    /// The device.
    device: String,
    /// The attributes.
    #[arg(required = true, value_name = "KEY", value_parser = AttributeKey::new)]
    unset: Vec<AttributeKey>,
    /// How the answer is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, clap::Args)]
struct GetArgs {
    /// The device.
    device: String,
    /// IMEI in full.
    #[arg(long)]
    show_identity: bool,
    /// How it is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Whose word it is.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Word {
    /// That of whoever types.
    #[default]
    Cli,
    /// That of the inventory, which is copied here.
    Inventory,
}

pub(super) fn exec(args: &Args, settings: &Settings, out: &mut dyn Write) -> Result<ExitCode> {
    match &args.what {
        What::Set(args) => set(args, settings, out),
        What::Unset(args) => {
            say(&request(&args.device, BTreeMap::new(), &args.unset), args.output, settings, out)
        }
        What::Get(args) => get(args, settings, out),
    }
}

fn set(args: &SetArgs, settings: &Settings, out: &mut dyn Write) -> Result<ExitCode> {
    let mut set = BTreeMap::new();
    for (key, value) in &args.set {
        if set.insert(key.clone(), value.clone()).is_some() {
            bail!("{key} is set twice: keep one of them");
        }
    }
    let source = match args.source {
        Word::Cli => Source::Cli,
        Word::Inventory => Source::Inventory,
    };
    let request = AttributesRequest { source, ..request(&args.device, set, &[]) };
    say(&request, args.output, settings, out)
}

fn request(device: &str, set: BTreeMap<AttributeKey, String>, unset: &[AttributeKey]) -> AttributesRequest {
    AttributesRequest {
        device: device.to_owned(),
        set,
        unset: unset.to_vec(),
        source: Source::Cli,
        sudo_user: sudo_user(),
    }
}

fn say(
    request: &AttributesRequest,
    output: Format,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<ExitCode> {
    let client = Client::connect(&settings.socket()?)?;
    let mut reply = client.ask_for::<AttributesReply>(path::ATTRIBUTES, request)?;
    if let Ok(reply) = &mut reply {
        mask(&mut reply.attributes);
    }
    answered(output, reply, out, print)
}

fn print(reply: &AttributesReply, out: &mut dyn Write) -> Result<()> {
    list(&reply.device, &reply.attributes, out)?;
    reply.opened.iter().try_for_each(|rule| writeln!(out, "OPENED {rule}"))?;
    for (rule, unmet) in &reply.closed {
        writeln!(out, "CLOSED {rule}: {}", unmet.join("; "))?;
    }
    Ok(())
}

fn get(args: &GetArgs, settings: &Settings, out: &mut dyn Write) -> Result<ExitCode> {
    let client = Client::connect(&settings.socket()?)?;
    let report: Result<DeviceReport> = client.get(&format!("{}/{}", path::DEVICES, args.device), &());
    let mut report = match report {
        Ok(report) => report,
        Err(error) => return refused(args.output, &error.downcast()?, out),
    };
    if !args.show_identity {
        mask(&mut report.attributes);
    }
    if !args.output.machine(out, &report.attributes)? {
        list(&report.name, &report.attributes, out)?;
        for (rule, unmet) in &report.closed {
            writeln!(out, "closed {rule}: {}", unmet.join("; "))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Hides whose equipment it is.
pub(super) fn mask(attributes: &mut [AttributeReport]) {
    let equipment = attributes.iter_mut().filter(|attribute| attribute.key == AttributeKey::Imei);
    equipment.for_each(|attribute| attribute.value = masked(&attribute.value));
}

fn list(device: &str, attributes: &[AttributeReport], out: &mut dyn Write) -> Result<()> {
    writeln!(out, "{device}")?;
    let width = attributes.iter().map(|attribute| attribute.key.as_str().len()).max().unwrap_or_default();
    attributes.iter().try_for_each(|attribute| {
        writeln!(out, "  {:width$}  {}", attribute.key.as_str(), sentence(attribute))
    })?;
    if attributes.is_empty() {
        writeln!(out, "  nothing is known of it")?;
    }
    Ok(())
}

/// `24201 in NO · inventory, 3h ago, by kari via sudo`.
pub(super) fn sentence(attribute: &AttributeReport) -> String {
    let AttributeReport { key, value, source, author, age_ms, .. } = attribute;
    let country = match key {
        AttributeKey::Plmn => Plmn::parse(value).ok().and_then(|plmn| plmn.country()),
        AttributeKey::TrackingArea
        | AttributeKey::Cell
        | AttributeKey::Rat
        | AttributeKey::Imei
        | AttributeKey::Label(_) => None,
    };
    let country = country.map(|country| format!(" in {country}")).unwrap_or_default();
    let age = age_ms.map(|age| format!(", {}", ago(Duration::from_millis(age)))).unwrap_or_default();
    let author = author.as_deref().map(|author| format!(", by {}", Safe(author))).unwrap_or_default();
    format!("{}{country} · {source}{age}{author}", Safe(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_told_with_who_said_it_and_when() {
        let mut report = AttributeReport {
            key: AttributeKey::Plmn,
            value: "24201".to_owned(),
            source: Source::Inventory,
            author: Some("kari via sudo".to_owned()),
            since: None,
            age_ms: Some(10_800_000),
        };
        assert_eq!(sentence(&report), "24201 in NO · inventory, 3h ago, by kari via sudo");
        report.age_ms = Some(u64::MAX);
        assert!(sentence(&report).contains("at an unknown time"));
        report.key = AttributeKey::Imei;
        report.value = "350000000000017".to_owned();
        mask(std::slice::from_mut(&mut report));
        assert_eq!(report.value, "35000…017");
    }
}
