//! `bulkhead describe`: all that is known of one object.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use serde::Serialize;

use super::basis::{Basis, missing};
use super::device;
use super::get::{Kind, names};
use super::identity::masked;
use super::quarantine;
use super::settings::Settings;
use super::words::{self, far_end, labels, list, list_or_dash, prefixes, subject};
use super::{Format, REFUSED};
use crate::api::client::Client;
use crate::api::types::{DeviceReport, path};
use crate::policy::{
    Destination, Device, Direction, Name, Network, Policy, PolicyRules, Rule, Segment, Source,
};
use crate::sink::grouped;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The kind: device, network, segment, destination or policy.
    #[arg(value_name = "KIND")]
    kind: Kind,
    /// The name.
    name: String,
    /// IMSI and IMEI in full.
    #[arg(long)]
    show_identity: bool,
    /// How it is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// What is said of an object: a line each, after its first.
#[derive(Debug, Serialize)]
struct Description {
    kind: &'static str,
    name: String,
    written: String,
    revision: u64,
    facts: Vec<Fact>,
}

#[derive(Debug, Serialize)]
struct Fact {
    about: String,
    is: String,
}

pub(super) fn exec(args: &Args, settings: &Settings, out: &mut dyn Write) -> Result<ExitCode> {
    let client = Client::connect(&settings.socket()?)?;
    let basis = Basis::in_force(&client)?;
    let told = match args.kind == Kind::Devices {
        true => basis.device_named(&args.name).map(|device| report(args, &client, &basis, device, out)),
        false => describe(&basis, args.kind, &args.name).map(|description| tell(args, &description, out)),
    };
    match told {
        Ok(told) => told.map(|()| ExitCode::SUCCESS),
        Err(missing) => {
            anstream::eprintln!("{missing}");
            Ok(ExitCode::from(REFUSED))
        }
    }
}

fn tell(args: &Args, description: &Description, out: &mut dyn Write) -> Result<()> {
    if args.output.machine(out, description)? { Ok(()) } else { print(description, out) }
}

fn describe(basis: &Basis, kind: Kind, name: &str) -> Result<Description, String> {
    let policy = &basis.policy;
    let typed = Name::new(name);
    let typed = typed.as_ref();
    let found = match kind {
        Kind::Networks => typed.and_then(|name| policy.networks().get(name)).map(|n| network(policy, n)),
        Kind::Segments => typed.and_then(|name| policy.segments().get(name)).map(|s| segment(policy, s)),
        Kind::Destinations => {
            typed.and_then(|name| policy.destinations().get(name)).map(|d| destination(policy, d))
        }
        Kind::Policies | Kind::Grants => {
            typed.and_then(|name| policy.policies().get(name)).map(|p| rules(basis, p))
        }
        Kind::Devices | Kind::All => {
            return Err("name a kind: network, segment, device, destination or policy".to_owned());
        }
    };
    let (written, facts) = found.ok_or_else(|| missing(kind.singular(), name, &names(basis, kind)))?;
    let revision = basis.revision.as_ref().map_or(0, |revision| revision.number);
    Ok(Description { kind: kind.singular(), name: name.to_owned(), written, revision, facts })
}

fn print(description: &Description, out: &mut dyn Write) -> Result<()> {
    let Description { kind, name, written, revision, facts } = description;
    writeln!(out, "{kind} {name} · {written} · r{revision}")?;
    let width = facts.iter().map(|fact| fact.about.len()).max().unwrap_or_default();
    facts.iter().try_for_each(|Fact { about, is }| writeln!(out, "  {about:width$}  {is}"))?;
    Ok(())
}

type Found = (String, Vec<Fact>);

fn fact(about: impl Into<String>, is: impl Into<String>) -> Fact {
    Fact { about: about.into(), is: is.into() }
}

fn network(policy: &Policy, network: &Network) -> Found {
    let devices = policy.devices().values().filter(|device| device.network.value == network.name);
    let mut facts = vec![
        fact("seen on", list(network.seen_on.iter().map(|seen| &seen.value))),
        fact("pools", prefixes(&network.pools)),
        fact("infrastructure", prefixes(&network.infrastructure)),
    ];
    facts.extend(network.services.iter().map(|(name, service)| {
        let addresses = list(service.addresses.iter().map(|address| address.value));
        fact(format!("service {name}"), format!("{addresses} · {}", list(&service.ports)))
    }));
    facts.push(fact("mode", network.mode.as_str()));
    facts.push(fact("never", list_or_dash(&network.never)));
    facts.push(fact("devices", grouped(devices.count() as u64)));
    (network.at.to_string(), facts)
}

fn segment(policy: &Policy, segment: &Segment) -> Found {
    let member = |device: &&Device| device.segment.as_ref() == Some(&segment.name);
    let members: Vec<&Device> = policy.devices().values().map(Arc::as_ref).filter(member).collect();
    let about = policy.policies().values();
    let about = about.filter(|rules| members.iter().any(|device| rules.is_about(device)));
    let facts = vec![
        fact("members", labels(&segment.members)),
        fact("mode", mode(segment)),
        fact("devices", some_of(members.iter().map(|device| &device.name))),
        fact("policies", list_or_dash(about.map(|rules| &rules.name))),
        fact("never", list_or_dash(&segment.never)),
        fact("limits", segment.limits.to_string()),
        fact("repair", segment.repair.as_ref().map_or_else(|| "-".to_owned(), |rule| repair(policy, rule))),
    ];
    (segment.at.to_string(), facts)
}

/// What is said of enforcing its devices, and which go first.
fn mode(segment: &Segment) -> String {
    let mode = segment.mode.as_ref().map_or("its network's", |mode| mode.value.as_str());
    let Some(canary) = &segment.canary else { return mode.to_owned() };
    let share = canary.share.as_ref().map(|share| share.value.to_string());
    let chosen = canary.labels.as_ref().map(|chosen| labels(&chosen.value));
    let first: Vec<String> = share.into_iter().chain(chosen).collect();
    format!("{mode}, enforced first {}", first.join(" and "))
}

/// What its devices may still call from quarantine.
fn repair(policy: &Policy, rule: &Rule) -> String {
    let to = match &rule.direction {
        Direction::Outbound(remotes) | Direction::Inbound(remotes) => words::remotes(policy, remotes),
        Direction::Peer => String::new(),
    };
    format!("to {to} · {}", words::opens(rule, None))
}

fn destination(policy: &Policy, destination: &Destination) -> Found {
    let names = |rule: &&Rule| match &rule.direction {
        Direction::Outbound(remotes) | Direction::Inbound(remotes) => {
            remotes.destinations.iter().any(|name| name.value == destination.name)
        }
        Direction::Peer => false,
    };
    let used = policy.policies().values().flat_map(|rules| {
        rules.rules.iter().filter(names).map(|rule| format!("{}/{}", rules.name, rule.name))
    });
    let facts = vec![
        fact("addresses", prefixes(&destination.cidrs)),
        fact(
            "reaches",
            if destination.reaches_infrastructure { "infrastructure" } else { "the outside only" },
        ),
        fact("used by", list_or_dash(used)),
    ];
    (destination.at.to_string(), facts)
}

fn rules(basis: &Basis, rules: &PolicyRules) -> Found {
    let policy = &basis.policy;
    let devices = policy.devices().values().filter(|device| rules.is_about(device));
    let mut facts = vec![
        fact("about", subject(&rules.subject)),
        fact("devices", some_of(devices.map(|device| &device.name))),
    ];
    facts.extend(rules.rules.iter().map(|rule| {
        let idle = rule.idle.map(|idle| format!(" · idle {}s", idle.as_secs())).unwrap_or_default();
        let opens = words::opens(rule, None);
        let hours = words::hours(&rule.time, basis.wall());
        let hours = hours.map(|hours| format!(" · {hours}")).unwrap_or_default();
        let far = match &rule.direction {
            Direction::Peer => String::new(),
            Direction::Outbound(_) | Direction::Inbound(_) => far_end(policy, rule, &rules.subject) + " · ",
        };
        let when = rule.conditions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
        let when = if when.is_empty() { when } else { format!(" · when {when}") };
        fact(format!("rule {}", rule.name), format!("{far}{opens}{idle}{when}{hours} · {}", rule.at))
    }));
    facts.push(fact("tests", rules.tests.len().to_string()));
    (rules.at.to_string(), facts)
}

/// The first few of many names, and how many there are.
fn some_of<'a>(names: impl Iterator<Item = &'a Name>) -> String {
    const SHOWN: usize = 5;
    let names: Vec<&Name> = names.collect();
    let more = names.len().saturating_sub(SHOWN);
    let shown = list_or_dash(names.iter().take(SHOWN));
    if more == 0 { shown } else { format!("{shown} and {} more", grouped(more as u64)) }
}

/// A device has a life beside its document: flows and drops.
fn report(args: &Args, client: &Client, basis: &Basis, device: &Device, out: &mut dyn Write) -> Result<()> {
    let mut report: DeviceReport = client.get(&format!("{}/{}", path::DEVICES, device.name), &())?;
    if !args.show_identity {
        report.imsis.iter_mut().chain(&mut report.imei).for_each(|number| *number = masked(number));
        device::mask(&mut report.attributes);
    }
    if !args.output.machine(out, &report)? {
        print_device(&report, basis, device, out)?;
    }
    Ok(())
}

fn print_device(report: &DeviceReport, basis: &Basis, device: &Device, out: &mut dyn Write) -> Result<()> {
    let identity = report.imsis.iter().map(|imsi| format!(" · imsi {imsi}"));
    let identity: String = identity.chain(report.imei.iter().map(|imei| format!(" · imei {imei}"))).collect();
    writeln!(out, "{} · {} · {}{identity}", report.name, report.network, prefixes(&device.addresses))?;
    if !device.framed_routes.is_empty() {
        writeln!(out, "  behind it {}", prefixes(&device.framed_routes))?;
    }
    let segment = report.segment.as_deref().unwrap_or("no segment");
    let mode = report.mode.to_uppercase();
    writeln!(out, "  {segment} {mode} · {} · written {}", labels(&report.labels), report.written)?;
    writeln!(out, "  enters by {}", entrance(basis, device))?;
    let rules = if report.rules.is_empty() {
        "none: everything is denied".to_owned()
    } else {
        report.rules.join(" ")
    };
    writeln!(out, "  rules {rules} · r{}", report.revision)?;
    for (rule, hours) in timed(basis, device) {
        writeln!(out, "  time {rule}: {hours}")?;
    }
    for (rule, unmet) in &report.closed {
        writeln!(out, "  closed {rule}: {}", unmet.join("; "))?;
    }
    for known in report.attributes.iter().filter(|known| known.source != Source::Policy) {
        writeln!(out, "  {} {}", known.key, device::sentence(known))?;
    }
    if let Some(quarantine) = &report.quarantine {
        writeln!(out, "  QUARANTINE {}", quarantine::sentence(quarantine))?;
    }
    let drops = by_reason(&report.drops);
    if !report.would_drop.is_empty() {
        writeln!(out, "  passed and would have been dropped: {}", by_reason(&report.would_drop))?;
    }
    let most = device.segment.as_ref().and_then(|name| basis.policy.segments().get(name));
    let most = most.and_then(|segment| segment.limits.flows).map(|most| format!("/{most}"));
    let last = report.last_drop.as_ref().map(|id| format!(" · last #{id}: bulkhead explain {id}"));
    writeln!(
        out,
        "  flows {}{} · drops remembered: {drops}{}",
        grouped(report.flows),
        most.unwrap_or_default(),
        last.unwrap_or_default()
    )?;
    Ok(())
}

fn by_reason(counts: &BTreeMap<String, u64>) -> String {
    let each: Vec<String> =
        counts.iter().map(|(reason, count)| format!("{reason} {}", grouped(*count))).collect();
    if each.is_empty() { "none".to_owned() } else { each.join(", ") }
}

/// Rules about a device that depend on time, and when they open or close next.
fn timed(basis: &Basis, device: &Device) -> Vec<(String, String)> {
    let about = basis.policy.policies().values().filter(|rules| rules.is_about(device));
    let each = about.flat_map(|rules| rules.rules.iter().map(move |rule| (rules, rule)));
    each.filter_map(|(rules, rule)| {
        let hours = words::hours(&rule.time, basis.wall())?;
        Some((format!("{}/{}", rules.name, rule.name), hours))
    })
    .collect()
}

fn entrance(basis: &Basis, device: &Device) -> String {
    match (&device.binding, basis.policy.networks().get(&device.network.value)) {
        (Some(binding), _) => words::binding(binding),
        (None, Some(network)) => {
            format!("any access interface of {}", network.name)
        }
        (None, None) => "nowhere".to_owned(),
    }
}
