//! `bulkhead replay`: what the XDP program says of every packet of a capture.
//!
//! The real program runs on maps of its own: no interface is touched, nothing is pinned, no agent is asked.

mod input;
mod interrupt;
mod json;
mod text;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;

use super::basis::Basis;
use super::settings::Settings;
use super::{Format, check};
use crate::datapath::require_capabilities;
use crate::policy::STANDARD_INPUT;
use crate::replay::{Capture, Interfaces, Judge, Mapping, Replay, Summary, Teller};
use crate::telemetry::{NameTable, View};
use input::Input;
use json::Json;
use text::Lines;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Interfaces of a pcapng stand for those of the agent by their names. A classic capture has no name: say \
                  --interface NAME.\n\
                  Exit codes: 0 replayed, whatever the verdicts; 1 the policy is refused; 2 could not run, or the \
                  capture is damaged."
)]
pub(super) struct Args {
    /// Policies, and maybe the host's kind Agent: files, folders, or - for standard input.
    #[arg(short, long, required = true, num_args = 1.., value_name = "PATH")]
    file: Vec<PathBuf>,
    /// The capture, pcap or pcapng; - for standard input.
    #[arg(long = "in", required = true, value_name = "FILE")]
    input: PathBuf,
    /// The agent's interface on which all was captured, or CAPTURED=NAME for one of the capture.
    #[arg(long, value_name = "[CAPTURED=]NAME")]
    interface: Vec<String>,
    /// How packets are printed; json is one object a line.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(super) fn exec(args: &Args, settings: &Settings, out: &mut dyn Write) -> Result<ExitCode> {
    ensure!(!args.shares_standard_input(), "standard input is either the policy or the capture");
    let mut basis = match Basis::written(&args.file, settings) {
        Ok(basis) => basis,
        Err(problems) => return Ok(check::refusal(&problems)),
    };
    let mut interfaces = Interfaces::new(guarded(&basis), Mapping::parse(&args.interface)?)?;
    let (mut capture, is_live) = args.open(&mut interfaces).with_context(|| args.named())?;
    let Some(capture) = &mut capture else {
        return finish(&args.printer(), &Summary { complete: true, ..Summary::default() }, out);
    };
    // Rules hold or not by the capture's time, two weeks on from its first packet.
    if let Some(first) = capture.packet().time {
        basis.set_moment(Timestamp::from_nanosecond(first.into()).unwrap_or(Timestamp::MAX))?;
    }
    let judge = load(&basis)?;
    let replay = Replay::new(interfaces, judge, teller(&basis));
    let mut run = Run { replay, printer: args.printer(), summary: Summary::default(), is_live };
    run.run(capture, out).with_context(|| args.named())
}

/// Numbers of the interfaces that the program would guard, by name.
fn guarded(basis: &Basis) -> std::collections::BTreeMap<String, u32> {
    let names = basis.agent.interfaces.iter().map(|interface| &interface.name.value);
    names.filter_map(|name| Some((name.clone(), basis.host.interfaces.get(name)?.ifindex))).collect()
}

fn load(basis: &Basis) -> Result<Judge<'_>> {
    require_capabilities("replay runs the XDP program in the kernel, on maps of its own")?;
    Judge::load(&basis.compiled.tables, &basis.agent.tables)
}

fn teller(basis: &Basis) -> Teller {
    let names = NameTable::of(&basis.compiled, &basis.host);
    let Basis { policy, agent, host, .. } = basis;
    Teller::new(View::new(names, Arc::new(policy.clone()), agent.clone(), host.clone()))
}

impl Args {
    fn shares_standard_input(&self) -> bool {
        let is_standard = |path: &PathBuf| path.as_os_str() == STANDARD_INPUT;
        is_standard(&self.input) && self.file.iter().any(is_standard)
    }

    fn named(&self) -> String {
        self.input.display().to_string()
    }

    /// The capture at its first packet, if it has one, and whether it is live.
    ///
    /// Its interfaces are looked at before anything is loaded: to refuse them takes no privilege.
    fn open(&self, interfaces: &mut Interfaces) -> Result<(Option<Capture<Input>>, bool)> {
        let input = Input::open(&self.input)?;
        let is_live = input.is_live();
        let mut capture = Capture::open(input)?;
        let has_packets = capture.advance()?;
        if has_packets {
            interfaces.learn(capture.interfaces())?;
        }
        Ok((has_packets.then_some(capture), is_live))
    }

    fn printer(&self) -> Printer {
        match self.output {
            Format::Text | Format::Wide => Printer::Text(Lines::new(self.output == Format::Wide)),
            // One object a line either way: YAML has no such form, and JSON is YAML.
            Format::Json | Format::Yaml => Printer::Json(Json),
        }
    }
}

/// For people or for programs.
enum Printer {
    Text(Lines),
    Json(Json),
}

/// A replay under way.
struct Run<'a> {
    replay: Replay<'a>,
    printer: Printer,
    summary: Summary,
    /// Somebody writes the capture at this moment, and wants to see each line at once.
    is_live: bool,
}

impl Run<'_> {
    /// Judges what is left of the capture. Whatever ends it, lines are whole and the summary comes last.
    fn run(&mut self, capture: &mut Capture<Input>, out: &mut dyn Write) -> Result<ExitCode> {
        let interrupt = interrupt::Watch::begin(self.is_live)?;
        let ended = self.packets(capture, &interrupt, out);
        self.summary.complete = matches!(ended, Ok(End::Whole));
        let code = finish(&self.printer, &self.summary, out)?;
        Ok(match ended? {
            End::Whole => code,
            End::Interrupted => ExitCode::from(interrupt::INTERRUPTED),
        })
    }

    fn packets(
        &mut self,
        capture: &mut Capture<Input>,
        interrupt: &interrupt::Watch,
        out: &mut dyn Write,
    ) -> Result<End> {
        loop {
            let told = self.replay.judge(capture)?;
            match &self.printer {
                Printer::Text(lines) => lines.packet(&told, out)?,
                Printer::Json(json) => json.packet(&told, out)?,
            }
            self.summary.add(&told);
            if self.is_live {
                out.flush()?;
            }
            if interrupt.has_come() {
                return Ok(End::Interrupted);
            }
            if !capture.advance()? {
                return Ok(End::Whole);
            }
        }
    }
}

/// How a replay ended.
enum End {
    Whole,
    Interrupted,
}

fn finish(printer: &Printer, summary: &Summary, out: &mut dyn Write) -> Result<ExitCode> {
    match printer {
        Printer::Text(lines) => lines.summary(summary, out)?,
        Printer::Json(json) => json.summary(summary, out)?,
    }
    Ok(ExitCode::SUCCESS)
}
