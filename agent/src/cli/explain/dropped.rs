//! A drop that the agent remembers: what it was, and what would become of it under the policy in force.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use bulkhead_common::verdict::{Direction, DropReason};
use jiff::tz::TimeZone;
use serde::Serialize;

use super::explanation::Explanation;
use super::packet::{packet, reason};
use super::question::judge;
use super::remedy::{Scene, remedy};
use crate::api::client::Client;
use crate::api::types::{Refusal, path};
use crate::cli::basis::Basis;
use crate::cli::settings::Settings;
use crate::cli::{Format, REFUSED};
use crate::policy::{Name, Role, Subinterface};
use crate::sink::Text;
use crate::telemetry::{EventId, EventKind, Record};

/// The answer for programs.
#[derive(Serialize)]
struct Told {
    /// The drop as it was remembered.
    record: Record,
    /// What the policy in force would do, against what was done.
    comparison: String,
    /// The same packet under the policy in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    now: Option<Explanation>,
    /// What to do, where the packet could not be judged again.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

pub(super) fn exec(
    id: EventId,
    output: Format,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<ExitCode> {
    let client = Client::connect(&settings.socket()?)?;
    let record: Record = match client.get(&format!("{}/{id}", path::DROPS), &()) {
        Ok(record) => record,
        Err(error) => {
            let refusal: Refusal = error.downcast()?;
            anstream::eprintln!("{}; `bulkhead drops` lists them", refusal.error);
            return Ok(ExitCode::from(REFUSED));
        }
    };
    let told = tell(&Basis::in_force(&client)?, record);
    if !output.machine(out, &told)? {
        print(&told, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(basis: &Basis, record: Record) -> Told {
    let reason = reason(&record);
    let now = reason.filter(|reason| can_change(*reason)).and_then(|_| again(basis, &record));
    let comparison = comparison(basis, &record, now.as_ref());
    let advice = match (&now, reason) {
        (None, Some(reason)) => {
            Some(format!("{}\n  {}", reason.meaning(), remedy(basis, reason, &scene(basis, &record))))
        }
        _ => None,
    };
    Told { record, comparison, now, advice }
}

fn print(told: &Told, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "{}", Text::plain(TimeZone::system()).line(&told.record))?;
    writeln!(out, "{}", told.comparison)?;
    told.now.iter().try_for_each(|now| writeln!(out, "{now}"))?;
    told.advice.iter().try_for_each(|advice| writeln!(out, "  {advice}"))?;
    Ok(())
}

/// Judges the packet again, alone and with an empty flow table.
fn again(basis: &Basis, record: &Record) -> Option<Explanation> {
    Some(Explanation::of(basis, &judge(basis, packet(record)?, point(basis, record)?)))
}

/// The engine's number of where the packet was judged.
fn point(basis: &Basis, record: &Record) -> Option<u32> {
    let name = record.interface.as_deref()?;
    let found = basis.host.interfaces.get(name)?;
    let interface = basis.agent.interfaces.iter().find(|interface| interface.name.value == name)?;
    let downlink = record.direction.as_deref() == Some(Direction::Downlink.as_str());
    let leaving = interface.point(Role::Core, found.ifindex).filter(|_| downlink);
    Some(leaving.unwrap_or(found.ifindex))
}

fn comparison(basis: &Basis, record: &Record, now: Option<&Explanation>) -> String {
    let number = basis.revision.as_ref().map_or(0, |revision| revision.number);
    let then = record.revision.map_or_else(|| "An earlier policy".to_owned(), |then| format!("r{then}"));
    let same = record.revision == Some(number);
    let observed = record.event == EventKind::WouldDrop;
    let did = if observed { "only observed that it would drop it" } else { "dropped it" };
    let Some(now) = now else {
        return format!("{then} {did}, and no rule decides this");
    };
    let as_then = record.reason.as_deref() == Some(now.reason) && observed == now.observed;
    match same {
        true if now.verdict == "deny" && as_then => format!("{then} {did} and is still in force"),
        true => {
            format!("{then} {did} and is still in force; alone and now, it would {}", would(now, as_then))
        }
        false => format!("{then} {did}; r{number} is in force now and would {}", would(now, as_then)),
    }
}

/// What is done with the packet now.
fn would(now: &Explanation, as_then: bool) -> String {
    match (&now.rule, now.verdict) {
        (Some(rule), _) => format!("ALLOW it by {rule}"),
        (None, "allow") => format!("ALLOW it ({})", now.reason),
        _ if now.observed => format!("only observe that it is to be dropped as {}", now.reason),
        _ if as_then => "drop it too".to_owned(),
        _ => format!("drop it as {}", now.reason),
    }
}

/// True if policy, or what the host is, can make another verdict of it.
fn can_change(reason: DropReason) -> bool {
    use DropReason as Reason;
    matches!(
        reason,
        Reason::UnknownVlan
            | Reason::UnknownDevice
            | Reason::UnknownPeer
            | Reason::SpoofedSource
            | Reason::NoRule
            | Reason::ConditionPosture
            | Reason::ConditionPlace
            | Reason::Never
            | Reason::SegmentDenied
            | Reason::Unsolicited
            | Reason::FlowTableFull
            | Reason::ConditionTime
            | Reason::TransitDenied
    )
}

fn scene<'a>(basis: &'a Basis, record: &Record) -> Scene<'a> {
    let name = |label: &Option<crate::telemetry::Label>| label.as_deref().and_then(Name::new);
    let interface = record.interface.as_deref().unwrap_or_default().to_owned();
    let place = Subinterface {
        interface: interface.clone(),
        vlan: record.vlan.unwrap_or_default(),
        inner_vlan: record.inner_vlan.unwrap_or_default(),
    };
    Scene {
        network: name(&record.network).and_then(|name| basis.policy.networks().get(&name)),
        device: name(&record.device).and_then(|name| basis.policy.devices().get(&name)).map(Arc::as_ref),
        source: record.source,
        destination: record.destination,
        interface,
        place: place.to_string(),
        mac: record.source_mac.as_deref().map(str::to_owned),
    }
}
