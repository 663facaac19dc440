//! Somebody sets the clock of the machine: what the agent makes of it, and what the program does, which reads the boot
//! clock itself.
//!
//! No host has its clock set for a test, so this runs in the guests of `cargo xtask vm`.

#[path = "clock/agent.rs"]
mod agent;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bulkhead::datapath::Datapath;
use bulkhead::policy::{Ids, compile_at};
use bulkhead::runtime::{Keeper, Reading, Steps};
use bulkhead::tables::Image;
use jiff::{SignedDuration, Timestamp};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};
use tests::frame::{SYN, eth};
use tests::generate::World;
use tests::kernel::{Kernel, XDP_DROP, XDP_PASS, privilege};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// `BPF_PROG_TEST_RUN` lets frames enter by the loopback interface.
const LOOPBACK: u32 = 1;
/// In which the agent has to be told of a step, on an emulated processor.
const TOLD: Duration = Duration::from_secs(10);

#[test]
fn a_step_of_the_clock_closes_what_is_over_and_a_step_back_reopens_nothing() -> Result<()> {
    if !may_run() {
        return Ok(());
    }
    let mut machine = Machine::new(hours(1))?;
    ensure!(machine.answer()? == XDP_PASS, "the rule is open for an hour");
    machine.step(hours(-1))?;
    ensure!(machine.answer()? == XDP_PASS, "a step back closes nothing that is open");
    ensure!(machine.closes_in() <= hours(1), "nor does it prolong anything: {}", machine.closes_in());
    machine.step(hours(2) + minutes(1))?;
    ensure!(machine.answer()? == XDP_DROP, "the rule is over by the clock as it is now");
    machine.step(hours(-2))?;
    ensure!(machine.answer()? == XDP_DROP, "a closed edge never reopens");
    machine.restart()?;
    ensure!(machine.answer()? == XDP_DROP, "nor by the next agent");
    Ok(())
}

/// Says why not where a test may not set the clock.
fn may_run() -> bool {
    if std::env::var_os("BULKHEAD_OWNS_CLOCK").is_none() {
        eprintln!("skipped: sets the clock of the machine, which `cargo xtask vm` has guests for");
        return false;
    }
    privilege::granted()
}

/// Sets the clock of the machine.
fn set_clock(by: SignedDuration) -> Result<()> {
    let to = (Timestamp::now() + by).as_duration();
    clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::new(to.as_secs(), to.subsec_nanos().into()))?;
    Ok(())
}

/// A kernel with a rule in force, and what an agent knows of time.
struct Machine {
    kernel: Kernel,
    world: World,
    keeper: Keeper,
    steps: Steps,
    runtime: Runtime,
    /// Boot time at which the rule is closed; 0 if it is.
    closes: u64,
}

impl Machine {
    /// The rule ends by the clock as it is, after so long.
    fn new(open: SignedDuration) -> Result<Self> {
        let mut kernel = Kernel::load_attached(16)?;
        kernel.count_on(LOOPBACK)?;
        let mut world = World::written(&policy(Timestamp::now() + open));
        world.host.interfaces.get_mut("acc0").context("there is no acc0")?.ifindex = LOOPBACK;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let steps = runtime.block_on(async { Steps::start() });
        let keeper = Keeper::new(true, None);
        let mut machine = Self { kernel, world, keeper, steps, runtime, closes: 0 };
        machine.look()?;
        Ok(machine)
    }

    /// Sets the clock, and does what the agent does when it is told.
    fn step(&mut self, by: SignedDuration) -> Result<()> {
        set_clock(by)?;
        let Self { runtime, steps, .. } = self;
        let told = runtime.block_on(async { timeout(TOLD, steps.next()).await });
        told.context("nobody is told that the clock was set")?;
        self.look()
    }

    /// The next agent knows what was kept.
    fn restart(&mut self) -> Result<()> {
        self.keeper = Keeper::new(true, self.keeper.kept().cloned());
        self.look()
    }

    fn look(&mut self) -> Result<()> {
        self.keeper.look(&Reading::now());
        let World { policy, agent, host, .. } = &self.world;
        let compiled = compile_at(policy, agent, host, &mut Ids::default(), &self.keeper.timeline())
            .map_err(|problems| anyhow::anyhow!("{problems}"))?;
        let windows = compiled.tables.profiles.values().flat_map(|rules| &rules.windows);
        let open = windows.filter(|window| window.close < u64::MAX);
        self.closes = open.map(|window| window.close).max().unwrap_or_default();
        self.kernel.fill(Image::new(&compiled.tables).layout())
    }

    fn closes_in(&self) -> SignedDuration {
        SignedDuration::from_nanos(self.closes.saturating_sub(Datapath::boot_ns()).cast_signed())
    }

    /// What XDP answers to the device's first packet, by the clock that it reads itself.
    fn answer(&self) -> Result<u32> {
        let frame = eth().ip([10, 45, 0, 17], [203, 0, 113, 10]).tcp(50_000, 443).flags(SYN).payload(b"?");
        self.kernel.runner()?.run(&frame.build())
    }
}

fn policy(end: Timestamp) -> String {
    format!(
        "apiVersion: bulkhead/v1\nkind: Network\nmetadata: {{name: acme}}\n\
         spec: {{seenOn: [{{interface: acc0}}, {{interface: core0}}], pools: [10.45.0.0/16]}}\n---\n\
         kind: Device\nmetadata: {{name: charger}}\nspec: {{network: acme, addresses: [10.45.0.17]}}\n---\n\
         kind: Policy\nmetadata: {{name: ev}}\nspec:\n  subject: {{device: charger}}\n  allow:\n    \
         - {{name: visit, to: {{cidrs: [203.0.113.10]}}, ports: [tcp/443], notAfter: \"{end}\"}}\n"
    )
}

const fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

const fn minutes(minutes: i64) -> SignedDuration {
    SignedDuration::from_mins(minutes)
}
