//! `bulkhead grant`: let somebody in from outside, to one device, for a while, on the record.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Subcommand;
use jiff::Timestamp;

use super::quarantine::lasting;
use super::settings::Settings;
use super::table::Table;
use super::terms::{answered, millis, refused, sudo_user};
use super::{Format, words};
use crate::api::client::Client;
use crate::api::types::{
    Act, Carried, EndCause, Ended, GrantAct, GrantReport, GrantRequest, GrantState, Origin, Refusal, Visit,
    path,
};
use crate::sink::{Safe, grouped};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    act: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Open a device to somebody from now on, for a while.
    Create(Box<CreateArgs>),
    /// List grants: those to come, those that are open, those that ended.
    List(ListArgs),
    /// Tell all there is to say of a grant: who asked, who approved, when it was open, what it carried.
    Show(NameArgs),
    /// Agree to a grant that somebody else asked for.
    Approve(NameArgs),
    /// Let a grant last longer.
    Extend(ExtendArgs),
    /// Close a grant for good, and what is live under it.
    Revoke(NameArgs),
}

#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// Who comes.
    #[arg(long, value_name = "PERSON")]
    who: String,
    /// Whom the person works for.
    #[arg(long, value_name = "TEXT")]
    organisation: Option<String>,
    /// How to reach the person.
    #[arg(long, value_name = "TEXT")]
    contact: Option<String>,
    /// Where the visitor comes from: an address, or a small prefix.
    #[arg(long, required = true, num_args = 1.., value_name = "ADDRESS")]
    from: Vec<String>,
    /// What is visited.
    #[arg(long)]
    device: String,
    /// What lies behind the device and is opened instead of it.
    #[arg(long, num_args = 1.., value_name = "ADDRESS")]
    behind: Vec<String>,
    /// What is opened, as tcp/22.
    #[arg(long, required = true, num_args = 1.., value_name = "PORT")]
    port: Vec<String>,
    /// For how long, from now, as 90s, 30m or 2h.
    #[arg(long = "for", value_name = "TIME", value_parser = lasting)]
    lasts: Duration,
    /// Where it was asked for.
    #[arg(long)]
    ticket: Option<String>,
    /// Who agreed to it, for the record.
    #[arg(long, value_name = "PERSON")]
    approved_by: Option<String>,
    /// What the grant is called [default: made from the ticket].
    #[arg(long)]
    name: Option<String>,
    /// How the answer is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Those that have ended, too.
    #[arg(short, long)]
    all: bool,
    /// How the answer is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, clap::Args)]
struct NameArgs {
    /// The grant.
    name: String,
    /// How the answer is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, clap::Args)]
struct ExtendArgs {
    /// The grant.
    name: String,
    /// How much longer, as 30m or 2h.
    #[arg(long = "for", value_name = "TIME", value_parser = lasting)]
    lasts: Duration,
    /// How the answer is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(super) fn exec(args: &Args, settings: &Settings, out: &mut dyn Write) -> Result<ExitCode> {
    let client = Client::connect(&settings.socket()?)?;
    match &args.act {
        What::Create(args) => create(args, &client, out),
        What::List(args) => list(args, &client, out),
        What::Show(args) => show(args, &client, out),
        What::Approve(args) => act("approve", ("APPROVED", args), Duration::ZERO, &client, out),
        What::Revoke(args) => act("revoke", ("REVOKED", args), Duration::ZERO, &client, out),
        What::Extend(ExtendArgs { name, lasts, output }) => {
            let args = NameArgs { name: name.clone(), output: *output };
            act("extend", ("EXTENDED", &args), *lasts, &client, out)
        }
    }
}

fn create(args: &CreateArgs, client: &Client, out: &mut dyn Write) -> Result<ExitCode> {
    let visit = Visit {
        person: args.who.clone(),
        organisation: args.organisation.clone(),
        contact: args.contact.clone(),
        ticket: args.ticket.clone(),
        approved_by: args.approved_by.clone(),
        from: args.from.clone(),
        device: args.device.clone(),
        behind: args.behind.clone(),
        ports: args.port.clone(),
    };
    let request = GrantRequest {
        name: args.name.clone(),
        visit,
        for_ms: millis(args.lasts),
        origin: Origin::Cli,
        sudo_user: sudo_user(),
    };
    let reply = client.ask_for(path::GRANTS, &request)?;
    answered(args.output, reply, out, |report, out| told("GRANTED", report, out))
}

fn act(
    what: &str,
    (done, args): (&str, &NameArgs),
    lasts: Duration,
    client: &Client,
    out: &mut dyn Write,
) -> Result<ExitCode> {
    let request = GrantAct { for_ms: millis(lasts), origin: Origin::Cli, sudo_user: sudo_user() };
    let path = format!("{}/{}/{what}", path::GRANTS, args.name);
    answered(args.output, client.ask_for(&path, &request)?, out, |report, out| told(done, report, out))
}

fn told(done: &str, report: &GrantReport, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "{done} {}", sentence(report))?;
    match report.state {
        GrantState::Waiting => {
            let name = &report.name;
            writeln!(out, "  it opens when somebody else says `bulkhead grant approve {name}`")?;
        }
        GrantState::Ended => print(report, out)?,
        GrantState::Planned | GrantState::Open | GrantState::Suspended => {}
    }
    Ok(())
}

/// `visit-4711 open until 10:00:00: Kari (Vendor AS) from 192.0.2.44 to pump-0003 tcp/22, CHG-4711`.
pub(super) fn sentence(report: &GrantReport) -> String {
    let GrantReport { name, state, terms, .. } = report;
    let ticket = terms.visit.ticket.as_ref().map(|ticket| format!(", {}", Safe(ticket))).unwrap_or_default();
    let until = if *state == GrantState::Ended { "at" } else { "until" };
    let (state, end) = (state.as_str(), words::moment(over(report)));
    format!("{name} {state} {until} {end}: {} {}{ticket}", visitor(&terms.visit), opens(&terms.visit))
}

/// When it is over, or was.
fn over(report: &GrantReport) -> Timestamp {
    report.closed.as_ref().map_or(report.terms.end, |closed| closed.at)
}

/// `Kari (Vendor AS)`.
fn visitor(visit: &Visit) -> String {
    let of = visit.organisation.as_ref().map(|of| format!(" ({})", Safe(of))).unwrap_or_default();
    format!("{}{of}", Safe(&visit.person))
}

/// `from 192.0.2.44 to pump-0003 tcp/22`.
fn opens(visit: &Visit) -> String {
    let behind = match visit.behind.is_empty() {
        true => String::new(),
        false => format!(" behind it {}", visit.behind.join(", ")),
    };
    format!("from {} to {}{behind} {}", visit.from.join(", "), visit.device, visit.ports.join(", "))
}

fn list(args: &ListArgs, client: &Client, out: &mut dyn Write) -> Result<ExitCode> {
    let mut all: Vec<GrantReport> = client.get(path::GRANTS, &())?;
    all.retain(|report| args.all || report.state != GrantState::Ended);
    if args.output.machine(out, &all)? {
        return Ok(ExitCode::SUCCESS);
    }
    match all.is_empty() {
        true => writeln!(out, "no grants; `--all` lists those that have ended, too")?,
        false => writeln!(out, "{}", table(&all))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn table(all: &[GrantReport]) -> Table {
    let ticket =
        |grant: &GrantReport| grant.terms.visit.ticket.as_ref().map(|ticket| Safe(ticket).to_string());
    Table::build(
        all.iter(),
        &[
            ("NAME", &|grant| grant.name.to_string()),
            ("STATE", &|grant| grant.state.as_str().to_owned()),
            ("UNTIL", &|grant| words::moment(over(grant))),
            ("WHO", &|grant| visitor(&grant.terms.visit)),
            ("WHAT", &|grant| opens(&grant.terms.visit)),
            ("TICKET", &|grant| words::or_dash(ticket(grant).unwrap_or_default())),
        ],
    )
}

fn show(args: &NameArgs, client: &Client, out: &mut dyn Write) -> Result<ExitCode> {
    let all: Vec<GrantReport> = client.get(path::GRANTS, &())?;
    let Some(report) = all.into_iter().find(|report| report.name.as_str() == args.name) else {
        let error = format!("there is no grant {:?} (see `bulkhead grant list --all`)", args.name);
        let refusal = Refusal { error, ..Refusal::default() };
        return refused(args.output, &refusal, out);
    };
    if !args.output.machine(out, &report)? {
        writeln!(out, "{}", sentence(&report))?;
        print(&report, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The report.
fn print(report: &GrantReport, out: &mut dyn Write) -> Result<()> {
    let GrantReport { terms, asked, revision, origin, .. } = report;
    let contact =
        terms.visit.contact.as_ref().map(|contact| format!(", {}", Safe(contact))).unwrap_or_default();
    writeln!(out, "  who       {}{contact}", visitor(&terms.visit))?;
    writeln!(out, "  what      {}", opens(&terms.visit))?;
    writeln!(out, "  asked     {} (r{revision}, {})", acted(asked), origin.as_str())?;
    if let Some(by) = &terms.visit.approved_by {
        writeln!(out, "  approved  by {}, as the grant says", Safe(by))?;
    }
    if let Some(act) = &report.approved {
        writeln!(out, "  approved  {}", acted(act))?;
    }
    for extension in &report.extended {
        writeln!(out, "  extended  {} until {}", acted(&extension.act), words::moment(extension.end))?;
    }
    let opened = report.opened.map_or_else(|| "never".to_owned(), words::moment);
    writeln!(out, "  opened    {opened}")?;
    if let Some(ended) = &report.closed {
        writeln!(out, "  closed    {}", closed(ended))?;
    }
    let Carried { flows, packets_up, bytes_up, packets_down, bytes_down } = report.carried;
    let flows = if flows == 1 { "1 flow".to_owned() } else { format!("{} flows", grouped(flows)) };
    let [up, up_bytes, down, down_bytes] = [packets_up, bytes_up, packets_down, bytes_down].map(grouped);
    writeln!(
        out,
        "  carried   {flows} · from the device {up} packets, {up_bytes} B · to it {down} packets, {down_bytes} B"
    )?;
    Ok(())
}

/// `2026-12-01 08:00:00 by kari via sudo`.
fn acted(act: &Act) -> String {
    format!("{} by {}", words::moment(act.at), Safe(&act.by))
}

fn closed(ended: &Ended) -> String {
    let by = ended.by.as_ref().map(|by| format!(" by {}", Safe(by))).unwrap_or_default();
    let why = match ended.cause {
        EndCause::Time => "its time was over",
        EndCause::Revoked => "revoked",
        EndCause::Removed => "taken out of the policy",
    };
    format!("{}: {why}{by}", words::moment(ended.at))
}
