//! `bulkhead get`: the objects in force, as a table or as written.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Serialize;

use super::basis::{Basis, missing};
use super::identity::masked_in;
use super::settings::Settings;
use super::table::Table;
use super::{Format, REFUSED};
use crate::api::client::Client;
use crate::api::types::{Object, path};
use crate::policy::{self, Name};

/// Kinds of objects.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Kind {
    /// Private APNs.
    #[value(alias = "network")]
    Networks,
    /// Classes of devices.
    #[value(alias = "segment")]
    Segments,
    /// SIMs.
    #[value(alias = "device")]
    Devices,
    /// Named remote addresses.
    #[value(alias = "destination")]
    Destinations,
    /// Rules.
    #[value(alias = "policy")]
    Policies,
    /// Visits from outside.
    #[value(alias = "grant")]
    Grants,
    /// Everything.
    All,
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to list.
    #[arg(value_name = "KIND")]
    kind: Kind,
    /// Only the one of this name.
    name: Option<String>,
    /// IMSI, IMEI and ICCID in full.
    #[arg(long)]
    show_identity: bool,
    /// How objects are printed; yaml is each document as it was written.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// An object for programs.
#[derive(Serialize)]
struct Listed<'a> {
    file: &'a str,
    line: u32,
    #[serde(flatten)]
    document: serde_json::Value,
}

impl Kind {
    const EACH: [Self; 6] =
        [Self::Networks, Self::Segments, Self::Devices, Self::Destinations, Self::Policies, Self::Grants];

    /// The kind as documents name it.
    fn document(self) -> &'static str {
        match self {
            Self::Networks => "Network",
            Self::Segments => "Segment",
            Self::Devices => "Device",
            Self::Destinations => "Destination",
            Self::Policies => "Policy",
            Self::Grants => "Grant",
            Self::All => "",
        }
    }

    /// The kind in a sentence.
    pub(super) fn singular(self) -> &'static str {
        match self {
            Self::Networks => "network",
            Self::Segments => "segment",
            Self::Devices => "device",
            Self::Destinations => "destination",
            Self::Policies => "policy",
            Self::Grants => "grant",
            Self::All => "object",
        }
    }

    fn holds(self, object: &Object) -> bool {
        self == Self::All || object.kind == self.document()
    }
}

pub(super) fn exec(args: &Args, settings: &Settings, out: &mut dyn Write) -> Result<ExitCode> {
    let client = Client::connect(&settings.socket()?)?;
    let basis = Basis::in_force(&client)?;
    let wanted = |name: &str| args.name.as_deref().is_none_or(|wanted| wanted == name);
    let objects: Vec<Object> = client.get(path::OBJECTS, &())?;
    let mut objects: Vec<Object> =
        objects.into_iter().filter(|object| args.kind.holds(object) && wanted(&object.name)).collect();
    if let (Some(name), true) = (&args.name, objects.is_empty()) {
        anstream::eprintln!("{}", missing(args.kind.singular(), name, &names(&basis, args.kind)));
        return Ok(ExitCode::from(REFUSED));
    }
    if !args.show_identity {
        objects.iter_mut().for_each(|object| mask(&basis, object));
    }
    match args.output {
        Format::Text | Format::Wide => tables(args, &basis, out)?,
        Format::Yaml => documents(&objects, out)?,
        Format::Json => json(args, &objects, out)?,
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn names(basis: &Basis, kind: Kind) -> Vec<Name> {
    let policy = &basis.policy;
    match kind {
        Kind::Networks => policy.networks().keys().cloned().collect(),
        Kind::Segments => policy.segments().keys().cloned().collect(),
        Kind::Devices => policy.devices().keys().cloned().collect(),
        Kind::Destinations => policy.destinations().keys().cloned().collect(),
        Kind::Policies => policy.written().map(|rules| rules.name.clone()).collect(),
        Kind::Grants => policy.grants().keys().cloned().collect(),
        Kind::All => Kind::EACH.into_iter().flat_map(|kind| names(basis, kind)).collect(),
    }
}

fn mask(basis: &Basis, object: &mut Object) {
    let device = Name::new(&object.name).filter(|_| Kind::Devices.holds(object));
    if let Some(device) = device.and_then(|name| basis.policy.devices().get(&name)) {
        object.text = masked_in(&object.text, device);
    }
}

fn tables(args: &Args, basis: &Basis, out: &mut dyn Write) -> Result<()> {
    let wide = args.output == Format::Wide;
    let wanted = |name: &Name| args.name.as_deref().is_none_or(|wanted| wanted == name.as_str());
    if args.kind != Kind::All {
        let table = Table::of(args.kind, &basis.policy, wide, &wanted);
        return Ok(writeln!(out, "{}", if table.is_empty() { none(args.kind) } else { table.to_string() })?);
    }
    let each = Kind::EACH.into_iter().map(|kind| (kind, Table::of(kind, &basis.policy, wide, &wanted)));
    let each = each.filter(|(_, table)| !table.is_empty());
    let texts: Vec<String> =
        each.map(|(kind, table)| format!("{}\n{table}", kind.document().to_uppercase())).collect();
    Ok(writeln!(out, "{}", texts.join("\n\n"))?)
}

fn none(kind: Kind) -> String {
    format!("no {} in force", kind.singular())
}

fn documents(objects: &[Object], out: &mut dyn Write) -> Result<()> {
    for (index, object) in objects.iter().enumerate() {
        let marker = if index == 0 { "" } else { "---\n" };
        writeln!(out, "{marker}{}", policy::as_document(&object.file, &object.text).trim_end())?;
    }
    Ok(())
}

/// One object if one was named, else a list.
fn json(args: &Args, objects: &[Object], out: &mut dyn Write) -> Result<()> {
    let listed = objects.iter().map(|object| {
        let document = serde_yaml::from_str(&policy::as_document(&object.file, &object.text))
            .with_context(|| format!("read {} {} again", object.kind, object.name))?;
        Ok(Listed { file: &object.file, line: object.line, document })
    });
    let listed = listed.collect::<Result<Vec<_>>>()?;
    match (args.name.is_some(), listed.as_slice()) {
        (true, [only]) => Format::Json.machine(out, only)?,
        _ => Format::Json.machine(out, &listed)?,
    };
    Ok(())
}
