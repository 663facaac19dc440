//! The control plane: from texts to a kernel that enforces them, and from one change to the next.
//!
//! Each size and form has a process of its own, so that its peak memory is its own.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bulkhead::datapath::Isolated;
use bulkhead::policy::{self, AgentConfig, Attribute, AttributeKey, Attributes, Compiled, Ids, Name};
use bulkhead::reconcile::{Next, Op, Reconciler, Rows, State, plan, plan_touched};
use bulkhead::tables::Touched;
use serde_json::{Value, json};

use super::options::{Options, Size};

/// The flag that makes this program a process of its own for one size and form.
pub(crate) const ALONE: &str = "--control";
/// What the table is called.
const TITLE: &str = "Control plane";
/// The sum of all steps until the kernel enforces.
const END_TO_END: &str = "end to end";
/// The same by the clock on the wall: some steps are several threads'.
const ELAPSED: &str = "end to end, elapsed";
/// The word that asks for it alone.
pub(crate) const WORD: &str = "control";

/// How an inventory is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    Csv,
    Yaml,
}

impl Form {
    const ALL: [(&'static str, Self); 2] = [("csv", Self::Csv), ("yaml", Self::Yaml)];
}

/// Milliseconds by step, in the order of the steps, and what was counted.
type Steps = Vec<(String, f64)>;

/// Measures every size in both forms; text, or one JSON object a row.
pub(crate) fn measure(options: &Options) -> Result<String> {
    let mut out = Vec::new();
    for size in options.control {
        for (form, _) in Form::ALL {
            let mut rounds = Vec::new();
            for _ in 0..options.control_rounds {
                rounds.push(alone(*size, form)?);
            }
            out.push(if options.json {
                json_rows(*size, form, &rounds)
            } else {
                text_rows(*size, form, &rounds)
            });
        }
    }
    Ok(out.join("\n"))
}

/// Nanoseconds from an inventory as CSV, with policies in YAML, to a kernel that enforces them.
pub(crate) fn end_to_end(size: Size) -> Result<f64> {
    let steps = alone(size, "csv")?;
    let milliseconds = steps.iter().find(|(step, _)| step == END_TO_END).context("no sum")?.1;
    Ok(milliseconds * 1e6)
}

fn alone(size: Size, form: &str) -> Result<Steps> {
    let this = std::env::current_exe().context("find this program")?;
    let output = Command::new(this).args([ALONE, form, &size.bits.to_string()]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} devices as {form}: {said}", size.name);
    let steps: Vec<(String, f64)> =
        serde_json::from_slice(&output.stdout).context("read what it measured")?;
    Ok(steps)
}

fn figures(rounds: &[Steps], step: usize) -> (f64, f64) {
    let mut samples: Vec<f64> = rounds.iter().filter_map(|steps| Some(steps.get(step)?.1)).collect();
    samples.sort_by(f64::total_cmp);
    let at = |index: usize| samples.get(index).copied().unwrap_or_default();
    (at(0), at(samples.len() / 2))
}

fn text_rows(size: Size, form: &str, rounds: &[Steps]) -> String {
    let mut out =
        format!("{TITLE}, {} devices as {form}\n{:<34} {:>11} {:>11}\n", size.name, "", "min", "median");
    for (step, (name, _)) in rounds.first().into_iter().flatten().enumerate() {
        let (minimum, median) = figures(rounds, step);
        out += &format!("{name:<34} {minimum:>11.2} {median:>11.2}\n");
    }
    out
}

fn json_rows(size: Size, form: &str, rounds: &[Steps]) -> String {
    let mut out = Vec::new();
    for (step, (name, _)) in rounds.first().into_iter().flatten().enumerate() {
        let (minimum, median) = figures(rounds, step);
        let samples: Vec<f64> = rounds.iter().filter_map(|steps| Some(steps.get(step)?.1)).collect();
        let row: Value = json!({
            "table": TITLE, "what": name, "devices": size.name, "form": form,
            "min": minimum, "median": median, "samples": samples,
        });
        out.push(row.to_string());
    }
    out.join("\n")
}

/// The process of one size and form: prints its steps.
pub(crate) fn run(arguments: &[String]) -> Result<String> {
    let [form, bits] = arguments else { bail!("{ALONE} takes a form and a number of bits") };
    let form = Form::ALL.iter().find(|(name, _)| name == form).context("csv or yaml")?.1;
    let devices = (1u32 << bits.parse::<u32>()?).min(MOST);
    // As the agent does.
    bulkhead::heap::grow_in_strides();
    Ok(serde_json::to_string(&steps(devices, form)?)?)
}

fn steps(devices: u32, form: Form) -> Result<Steps> {
    let folder = tempfile::tempdir()?;
    write(folder.path(), devices, form)?;
    let agent = policy::parse_agent(vec![policy::SourceFile::new("agent.yaml", settings(devices))])?;
    let host = policy::assumed_host(&agent);
    let mut clock = Clock::default();

    let files = clock.time("read", || policy::read(&[folder.path().to_owned()]))?;
    let bytes: usize = files.iter().map(|file| file.text().len()).sum();
    clock.time("parse", || policy::problems_alone(files.clone()));
    let mut policy = clock.time("parse and validate", || policy::parse(files, Some(&agent)))?.policy;
    let mut ids = Ids::default();
    let compiled = clock.time("compile", || policy::compile(&policy, &agent, &host, &mut ids))?;
    let mut kernel = Kernel::open(&agent)?;
    kernel.apply("all", &compiled, &mut clock)?;
    clock.sum(&["read", "parse and validate", "compile", "all: plan", "all: write", "all: take over"]);

    policy.observe_one(&name(0), firmware("1.0"));
    let compile = || policy::compile(&policy, &agent, &host, &mut ids);
    let mut compiled = clock.time("new kind: compile", compile)?;
    kernel.apply("new kind", &compiled, &mut clock)?;
    for (what, changed) in [("one", 1), ("10k", 10_000.min(devices / 2))] {
        let names: Vec<Name> = (0..changed).map(|n| name(1 + n * ((devices - 1) / changed))).collect();
        names.iter().for_each(|name| policy.observe_one(name, firmware("1.0")));
        let taken = clock.time(&format!("{what}: compile"), || compiled.observe(&policy, &ids, &names));
        kernel.apply_touched(what, &compiled, &taken.context("it was compiled again")?, &mut clock)?;
    }
    clock.note("memory at most, MiB", peak()?);
    clock.note("text, bytes a device", bytes as f64 / f64::from(devices));
    Ok(clock.steps)
}

/// Maps of the kernel that nothing else uses, and what is known of them.
struct Kernel {
    isolated: Isolated,
    state: State,
}

impl Kernel {
    fn open(agent: &AgentConfig) -> Result<Self> {
        let mut isolated = Isolated::load(&agent.tables)?;
        let state = Reconciler::observe(isolated.rows())?.state().clone();
        Ok(Self { isolated, state })
    }

    fn apply(&mut self, what: &str, compiled: &Compiled, clock: &mut Clock) -> Result<()> {
        let planned = clock.time(&format!("{what}: plan"), || plan(&self.state, &compiled.tables))?;
        self.carry_out(what, planned, clock)
    }

    fn apply_touched(
        &mut self,
        what: &str,
        compiled: &Compiled,
        touched: &Touched,
        clock: &mut Clock,
    ) -> Result<()> {
        let plan = || plan_touched(&self.state, &compiled.tables, touched);
        let planned = clock.time(&format!("{what}: plan"), plan)?;
        self.carry_out(what, planned, clock)
    }

    fn carry_out(&mut self, what: &str, (ops, next): (Vec<Op>, Next), clock: &mut Clock) -> Result<()> {
        let rows = self.isolated.rows();
        let (mut writing, mut waiting) = (Taken::default(), Duration::ZERO);
        for writes in ops.split_inclusive(|op| *op == Op::Wait) {
            let (writes, wait) = writes.split_at(writes.len() - usize::from(writes.ends_with(&[Op::Wait])));
            writing.time(|| rows.perform_all(writes))?;
            let started = Instant::now();
            rows.perform_all(wait)?;
            waiting += started.elapsed();
        }
        let waits = ops.iter().filter(|op| **op == Op::Wait).count();
        clock.took(&format!("{what}: write"), writing);
        clock.note(&format!("{what}: writes"), (ops.len() - waits) as f64);
        clock.note(&format!("{what}: grace periods"), milliseconds(waiting));
        clock.time(&format!("{what}: take over"), || self.state.advance(&ops, next));
        Ok(())
    }
}

#[derive(Default)]
struct Clock {
    steps: Steps,
    taken: Vec<(String, Taken)>,
}

/// What a step took: time of processors, and by the clock on the wall.
#[derive(Clone, Copy, Default)]
struct Taken {
    processors: Duration,
    elapsed: Duration,
}

impl Taken {
    fn time<T>(&mut self, step: impl FnOnce() -> T) -> T {
        let (processors, started) = (processor_time(), Instant::now());
        let done = step();
        self.elapsed += started.elapsed();
        self.processors += processor_time() - processors;
        done
    }
}

impl Clock {
    fn time<T>(&mut self, what: &str, step: impl FnOnce() -> T) -> T {
        let mut taken = Taken::default();
        let done = taken.time(step);
        self.took(what, taken);
        done
    }

    fn took(&mut self, what: &str, taken: Taken) {
        self.note(what, milliseconds(taken.processors));
        self.taken.push((what.to_owned(), taken));
    }

    fn note(&mut self, what: &str, figure: f64) {
        self.steps.push((what.to_owned(), figure));
    }

    /// Notes what some steps took together.
    fn sum(&mut self, steps: &[&str]) {
        let these: Vec<Taken> = self
            .taken
            .iter()
            .filter(|(name, _)| steps.contains(&name.as_str()))
            .map(|(_, taken)| *taken)
            .collect();
        self.note(END_TO_END, milliseconds(these.iter().map(|taken| taken.processors).sum()));
        self.note(ELAPSED, milliseconds(these.iter().map(|taken| taken.elapsed).sum()));
    }
}

/// Processor time of this process: whoever else is busy does not count.
fn processor_time() -> Duration {
    let clock = nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID);
    clock.map_or(Duration::ZERO, Duration::from)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn peak() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().context("read VmHWM")?;
    Ok(kib / 1024.0)
}

fn name(number: u32) -> Name {
    Name::new(&format!("meter-{number:07}")).unwrap_or_else(|| unreachable!("it keeps the rule for names"))
}

fn firmware(version: &str) -> Attributes {
    let key = AttributeKey::new("firmware").unwrap_or_else(|_| unreachable!("it names a label"));
    Attributes::from([(key, Attribute::given(version.to_owned()))])
}

/// The most devices that a table takes, with the few rows that [`settings`] has more: four million all the same.
const MOST: u32 = 4_194_304 - 16;

fn settings(devices: u32) -> String {
    format!(
        "apiVersion: bulkhead/v1\nkind: Agent\nspec:\n  interfaces: [{{name: lo, roles: [access], transit: drop}}]\n  \
         tables: {{devices: {}, addresses: {}}}\n",
        devices + 16,
        devices + 16
    )
}

/// Rows of one table: its size has a bound.
const A_TABLE: usize = 1 << 20;
/// Rows of one file of YAML: it has a bound.
const A_FILE: u32 = 16_384;

fn write(folder: &Path, devices: u32, form: Form) -> Result<()> {
    fs::write(folder.join("0-policy.yaml"), RULES)?;
    let all: Vec<u32> = (0..devices).collect();
    match form {
        Form::Csv => {
            for (number, table) in all.chunks(A_TABLE).enumerate() {
                let rows: String = table.iter().map(|number| row(*number)).collect();
                fs::write(folder.join(format!("devices-{number}.csv")), format!("{COLUMNS}\n{rows}"))?;
            }
        }
        Form::Yaml => {
            for (number, file) in all.chunks(A_FILE as usize).enumerate() {
                let documents: Vec<String> = file.iter().map(|number| document(*number)).collect();
                let text = format!("apiVersion: bulkhead/v1\n{}", documents.join("---\n"));
                fs::write(folder.join(format!("devices-{number:03}.yaml")), text)?;
            }
        }
    }
    Ok(())
}

const COLUMNS: &str = "name,network,addresses,labels.class,labels.site,labels.firmware,imsi";
/// Sites that devices stand at.
const SITES: u32 = 500;

fn row(number: u32) -> String {
    let (address, site) = (address(number), number % SITES);
    format!(
        "meter-{number:07},acme,{address},meter,site-{site},2.4.1,{:015}\n",
        242_010_000_000_000 + u64::from(number)
    )
}

fn document(number: u32) -> String {
    let (address, site) = (address(number), number % SITES);
    let imsi = 242_010_000_000_000 + u64::from(number);
    format!(
        "kind: Device\nmetadata: {{name: meter-{number:07}, labels: {{class: meter, site: site-{site}, firmware: \"2.4.1\"}}}}\n\
         spec: {{network: acme, addresses: [{address}], profiles: [{{imsi: \"{imsi:015}\"}}]}}\n"
    )
}

fn address(number: u32) -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::from_bits(0x0a40_0000 + number)
}

const RULES: &str = "\
apiVersion: bulkhead/v1
kind: Network
metadata: {name: acme}
spec:
  seenOn: [{interface: lo}]
  pools: [10.64.0.0/10]
  services: {dns: [10.0.0.53]}
---
kind: Segment
metadata: {name: meters}
spec: {members: {matchLabels: {class: meter}}}
---
kind: Destination
metadata: {name: head-end}
spec: {cidrs: [203.0.113.0/28, \"2001:db8:cafe::/64\"]}
---
kind: Policy
metadata: {name: metering}
spec:
  subject: {segment: meters}
  allow:
    - {name: base, to: {services: [dns]}}
    - {name: read, to: {destinations: [head-end]}, ports: [tcp/443, tcp/8883-8884]}
    - {name: new, to: {cidrs: [198.51.100.7]}, ports: [tcp/443], when: {labels: {firmware: {atLeast: \"2.4\"}}}}
";
