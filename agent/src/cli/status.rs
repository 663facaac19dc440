//! `bulkhead status`: is everything enforced? Exit code 0 yes, 1 degraded, 2 no.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use bulkhead_common::verdict::{DropReason, Way};
use jiff::Timestamp;

use super::candidate;
use super::grant;
use super::quarantine::sentence;
use super::settings::Settings;
use super::words::moment;
use super::{COULD_NOT_RUN, Format, REFUSED};
use crate::api::client::{Client, Unanswered};
use crate::api::types::{
    CandidateStatus, ClockStatus, ForwardingStatus, GuardState, GuardStatus, Health, InterfaceStatus,
    Observing, Pending, Status, Waiting, path,
};
use crate::datapath::{Datapath, attachments};
use crate::runtime;
use crate::sink::{clock, grouped};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How the answer is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(super) fn exec(args: &Args, settings: &Settings, out: &mut dyn Write) -> Result<ExitCode> {
    let client = match Client::connect(&settings.socket()?) {
        Ok(client) => client,
        Err(error) if error.is::<Unanswered>() => return without_agent(&error, settings, out),
        Err(error) => return Err(error),
    };
    let status: Status = client.get(path::STATUS, &())?;
    if !args.output.machine(out, &status)? {
        print(&status, out)?;
    }
    Ok(match status.health {
        Health::Enforcing => ExitCode::SUCCESS,
        Health::Degraded | Health::Observing => ExitCode::from(REFUSED),
        Health::NotEnforcing => ExitCode::from(COULD_NOT_RUN),
    })
}

/// No agent answers: the pins tell whether the kernel enforces all the same.
fn without_agent(error: &anyhow::Error, settings: &Settings, out: &mut dyn Write) -> Result<ExitCode> {
    let pins = runtime::pins(&settings.pin_dir()?);
    if !Datapath::present(&pins) {
        writeln!(out, "NOT ENFORCING · no agent, nothing attached")?;
        writeln!(out, "  ! {error}")?;
        print_guard(&runtime::guard_without_agent(), out)?;
        return Ok(ExitCode::from(COULD_NOT_RUN));
    }
    writeln!(out, "DEGRADED · no agent; the kernel enforces the last policy it was given")?;
    writeln!(out, "  ! {error}")?;
    for attachment in attachments(&pins)? {
        let state =
            if attachment.defunct { "GONE, its interface was removed" } else { attachment.mode.as_str() };
        writeln!(out, "  {} {state}", attachment.interface)?;
    }
    print_guard(&runtime::guard_without_agent(), out)?;
    Ok(ExitCode::from(REFUSED))
}

fn print(status: &Status, out: &mut dyn Write) -> Result<()> {
    let health = match status.health {
        Health::Enforcing => "ENFORCING",
        Health::Observing => "OBSERVING",
        Health::Degraded => "DEGRADED",
        Health::NotEnforcing => "NOT ENFORCING",
    };
    let revision = match &status.revision {
        Some(revision) => {
            let why = revision.message.as_ref().map(|why| format!(" “{why}”")).unwrap_or_default();
            format!("r{} ({} ago by {}){why}", revision.number, since(revision.time), revision.author)
        }
        None => "no policy".to_owned(),
    };
    let up = since(status.agent_since);
    let confirm = status.confirm.as_ref().map(waiting).unwrap_or_default();
    writeln!(out, "{health} {revision}{confirm} · generation {} · agent {up}", status.generation)?;
    status.problems.iter().try_for_each(|problem| writeln!(out, "  ! {problem}"))?;
    if let Some(pending) = &status.pending {
        writeln!(out, "  ! {}", folder(pending))?;
    }
    if let Some(left) = status.warming_ms {
        writeln!(out, "  {}", warming(left))?;
    }
    if status.folder_held {
        writeln!(
            out,
            "  the policy folder is held since the rollback; `bulkhead resume` lets it apply itself"
        )?;
    }
    status.candidate.iter().try_for_each(|candidate| print_candidate(candidate, out))?;
    status.observing.iter().try_for_each(|observing| print_observing(observing, out))?;
    let shut = status.quarantine.iter();
    shut.map(sentence).try_for_each(|sentence| writeln!(out, "  quarantine {sentence}"))?;
    let mut grants = status.grants.iter().map(grant::sentence);
    grants.try_for_each(|sentence| writeln!(out, "  grant {sentence}"))?;
    status.interfaces.iter().try_for_each(|interface| print_interface(interface, out))?;
    print_guard(&status.second_guard, out)?;
    status.forwarding.iter().try_for_each(|forwarding| print_forwarding(forwarding, out))?;
    status.notes.iter().try_for_each(|note| writeln!(out, "    note: {note}"))?;
    if let Some(clock) = &status.clock {
        writeln!(out, "  clock {}", horizon(clock))?;
    }
    let objects: Vec<String> =
        status.objects.iter().map(|(kind, count)| format!("{kind} {}", grouped(*count as u64))).collect();
    writeln!(out, "  objects {}", if objects.is_empty() { "none".to_owned() } else { objects.join(" · ") })?;
    let (used, capacity) = (grouped(status.flows.used), grouped(status.flows.capacity));
    let events = status.events;
    let kept =
        format!("{} over budget, {} lost to a full ring", grouped(events.suppressed), grouped(events.lost));
    writeln!(out, "  flows {used}/{capacity} · events {} told, {kept}", grouped(events.sent))?;
    Ok(())
}

fn print_interface(interface: &InterfaceStatus, out: &mut dyn Write) -> Result<()> {
    let InterfaceStatus { name, received, passed, dropped, packets_per_second, .. } = interface;
    let mode = mode(interface);
    let roles = interface.roles.join("+");
    let counts =
        format!("in {} = passed {} + dropped {}", grouped(*received), grouped(*passed), grouped(*dropped));
    writeln!(
        out,
        "  {name} {roles} {mode} transit {} · {packets_per_second:.0} pps · {counts}",
        interface.transit
    )?;
    if !interface.reasons.is_empty() {
        writeln!(out, "    {}", most_first(&interface.reasons))?;
    }
    if !interface.would_drop.is_empty() {
        let would: u64 = interface.would_drop.values().sum();
        let reasons = most_first(&interface.would_drop);
        writeln!(out, "    of what passed, {} would drop: {reasons}", grouped(would))?;
    }
    if !interface.ways.is_empty() {
        writeln!(out, "    of what passed, {}", ways(&interface.ways))?;
    }
    if interface.reasons.contains_key(DropReason::GtpuOuterFragment.as_str()) {
        writeln!(out, "    {PIECES}")?;
    }
    Ok(())
}

/// `1,204 forwarded by XDP · 3 by the stack: no_neighbour 2 · confirm 1`
fn ways(ways: &BTreeMap<String, u64>) -> String {
    let mut others = ways.clone();
    let fast = others.remove(Way::Fast.as_str()).unwrap_or_default();
    let fast = format!("{} forwarded by XDP", grouped(fast));
    match others.values().sum() {
        0 => fast,
        stack => format!("{fast} · {} by the stack: {}", grouped(stack), most_first(&others)),
    }
}

fn print_forwarding(forwarding: &ForwardingStatus, out: &mut dyn Write) -> Result<()> {
    let ForwardingStatus { networks, enters, leaves, obstacles, notes } = forwarding;
    let networks = networks.join(", ");
    if obstacles.is_empty() {
        let named = |names: &[String]| if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
        let (enters, leaves) = (named(enters), named(leaves));
        writeln!(out, "  forwarding by XDP for {networks} · enters {enters} · leaves {leaves}")?;
    } else {
        writeln!(out, "  forwarding by the kernel, although {networks} asks for XDP, which would go round:")?;
        obstacles.iter().try_for_each(|obstacle| writeln!(out, "    {obstacle}"))?;
    }
    notes.iter().try_for_each(|note| writeln!(out, "    note: {note}"))?;
    Ok(())
}

/// `no_rule 14 · unsolicited 2`
fn most_first(counts: &BTreeMap<String, u64>) -> String {
    let mut counts: Vec<_> = counts.iter().collect();
    counts.sort_by(|a, b| b.1.cmp(a.1));
    let each = counts.iter().map(|(reason, count)| format!("{reason} {}", grouped(**count)));
    each.collect::<Vec<_>>().join(" · ")
}

fn print_candidate(candidate: &CandidateStatus, out: &mut dyn Write) -> Result<()> {
    let CandidateStatus { judged, would, unknowable, .. } = candidate;
    let [judged, pass, drop, unknowable] =
        [*judged, would.would_pass, would.would_drop, *unknowable].map(grouped);
    writeln!(
        out,
        "  candidate {} · of {judged} packets would pass {pass}, would drop {drop}, unknowable {unknowable}",
        candidate::sentence(candidate)
    )?;
    Ok(candidate.problem.iter().try_for_each(|problem| writeln!(out, "    ! {problem}"))?)
}

fn print_observing(observing: &Observing, out: &mut dyn Write) -> Result<()> {
    let Observing { network, observed, enforced } = observing;
    let enforced = match enforced {
        0 => String::new(),
        some => format!(", {} enforced", grouped(*some)),
    };
    writeln!(
        out,
        "  ! {network} only observes: what policy refuses passes, of {} devices and of unknown ones{enforced}",
        grouped(*observed)
    )?;
    Ok(())
}

/// A tunnel adds up to 80 bytes: IPv6, UDP, GTP-U with its options and one extension header.
const PIECES: &str = "! pieces of tunnelled packets cannot be judged: make the MTU between base station and here 80 bytes \
                      larger than the devices' MTU, or lower that of the sessions";

/// ` · confirm in 3:12 or back to r411`.
fn waiting(waiting: &Waiting) -> String {
    format!(" · confirm in {} or back to r{}", clock(waiting.seconds), waiting.back_to)
}

/// Drops of a few minutes that are not what they seem.
fn warming(left_ms: u64) -> String {
    format!(
        "warming for {}: flows that were live before it was attached are unknown until their device sends, and what \
         comes to it drops as unsolicited",
        clock(left_ms.div_ceil(1000))
    )
}

fn print_guard(guard: &GuardStatus, out: &mut dyn Write) -> Result<()> {
    let line = match guard.state {
        GuardState::On => {
            let held = if guard.held.is_empty() { "no interface".to_owned() } else { guard.held.join(", ") };
            format!("on · {} pools closed but for {held} · dropped {}", guard.pools, dropped(guard))
        }
        GuardState::Off => "off · interfaces that are not listed are open".to_owned(),
        GuardState::Missing => "MISSING · interfaces that are not listed are open".to_owned(),
        GuardState::Idle => "idle · nothing to close".to_owned(),
    };
    writeln!(out, "  second guard {line}")?;
    if let Some(last) = guard.repaired {
        writeln!(
            out,
            "    note: somebody changed its table {} times, last {} ago; it was put right each time",
            guard.repairs,
            since(last)
        )?;
    }
    Ok(())
}

/// `14 = from devices 12 + to devices 2`
fn dropped(guard: &GuardStatus) -> String {
    let of = |start: &str| -> u64 {
        guard.dropped.iter().filter(|(name, _)| name.starts_with(start)).map(|(_, packets)| packets).sum()
    };
    let parts = [
        ("from devices", of("from")),
        ("to devices", of("to")),
        ("sent by this host", of("output")),
        ("between ports of bridges", of("switched")),
    ];
    let each: Vec<String> =
        parts.iter().filter(|(_, n)| *n > 0).map(|(what, n)| format!("{what} {}", grouped(*n))).collect();
    let total: u64 = guard.dropped.values().sum();
    match each.is_empty() {
        true => "0".to_owned(),
        false => format!("{} = {}", grouped(total), each.join(" + ")),
    }
}

/// How the program is attached, and why it is not faster.
fn mode(interface: &InterfaceStatus) -> String {
    let mode = interface.mode.as_deref().unwrap_or("NOT ATTACHED");
    match (mode, interface.link.as_deref()) {
        ("generic", Some("raw_ip")) => "generic (a raw IP device has no native XDP)".to_owned(),
        ("generic", _) => "generic (slower; attachMode: native where the driver can)".to_owned(),
        _ => mode.to_owned(),
    }
}

fn folder(pending: &Pending) -> String {
    match &pending.first {
        Some(first) => {
            format!("the policy folder cannot be applied, {} errors; first {first}", pending.errors)
        }
        None => {
            let [added, changed, removed] = pending.changes.counts();
            format!(
                "the policy folder differs: {added} added, {changed} changed, {removed} removed; apply it with --prune"
            )
        }
    }
}

/// What the kernel knows of time, if the agent dies now.
fn horizon(status: &ClockStatus) -> String {
    match status.horizon {
        Some(end) => {
            let edges = if status.windows == 1 { "1 edge" } else { &format!("{} edges", status.windows) };
            format!("believed · {edges} until {}, kept without the agent, too", moment(end))
        }
        None => "NOT BELIEVED · what depends on time is closed".to_owned(),
    }
}

/// How long ago, in the largest unit that fits.
fn since(then: Timestamp) -> String {
    let seconds = Timestamp::now().duration_since(then).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}min", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}
