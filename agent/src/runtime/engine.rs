//! The one owner of state and kernel: every change of what is enforced goes through here.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bulkhead_common::abi::Generation;
use bulkhead_common::abi::counter::Counters;
use bulkhead_common::abi::value::{TRANSIT_HOST, TRANSIT_PASS};
use bulkhead_common::verdict::{DropReason, Verdict};
use jiff::Timestamp;
use tokio::sync::{Notify, watch};

use super::anchor::Anchoring;
use super::attributes::{self, Watch};
use super::candidate::Trial;
use super::clock::Keeper;
use super::grants;
use super::guard::{SecondGuard, pools_of};
use super::host;
use super::in_force::InForce;
use super::kernel::{Kernel, pins};
use super::pending::{Look, not_applicable};
use super::plan::Issued;
use super::quarantine;
use super::surroundings::Surroundings;
use super::time;
use super::translation::Translation;
use super::warming;
use crate::api::types::{Accepted, AcceptedInterface, NamedText, Pending};
use crate::datapath::Datapath;
use crate::forwarding::Survey;
use crate::impact::Activity;
use crate::policy::{self, AgentConfig, Diagnostics, Ids, Policy};
use crate::reconcile::Applied;
use crate::state::{Found, Grants, Moment, Quarantines, Sayings, State, Store};
use crate::tables::{Host, Tables, Touched};
use crate::telemetry::{Clock, NameTable, Telemetry, View};

/// Every how many ticks the kernel's tables are read back: once a minute.
const DRIFT_EVERY: u64 = 12;

/// The agent's state and what it holds of the kernel.
pub struct Engine {
    pub(super) agent: AgentConfig,
    pub(super) config: NamedText,
    pub(super) store: Arc<Store>,
    pub(super) accepted: Option<State>,
    pub(super) in_force: Option<Arc<InForce>>,
    /// The generation that brought it into the kernel.
    pub(super) in_force_since: Generation,
    pub(super) kernel: Option<Kernel>,
    telemetry: Arc<Telemetry>,
    /// Names of everything that records may still refer to.
    names: NameTable,
    stopped: watch::Receiver<bool>,
    pub(super) since: Timestamp,
    /// What went wrong when the state was read.
    pub(super) loss: Option<String>,
    /// Why the accepted policy is not what the kernel holds, and what it holds instead.
    pub(super) held: Option<String>,
    /// The host for which everything is closed, if it is.
    pub(super) closed: Option<Host>,
    /// What the last tick could not put right.
    pub(super) faults: Vec<String>,
    pub(super) translation: Translation,
    /// What nobody confirmed and could not be given up.
    pub(super) stuck: Option<String>,
    pub(super) pending: Option<Pending>,
    /// What the folder was like when that was found out.
    pub(super) looked: Option<Look>,
    /// When the program was attached without flows, if it was.
    pub(super) cold_since: Option<Moment>,
    /// The revision over which the folder did not apply itself, when, and the content that it had.
    pub(super) refused_folder: Option<(u64, u64, String)>,
    /// Why it did not.
    pub(super) refused_because: Option<String>,
    pub(super) anchoring: Anchoring,
    /// Devices that are shut in.
    pub(super) quarantines: Quarantines,
    /// What became of grants.
    pub(super) grants: Grants,
    /// What was said of devices.
    pub(super) sayings: Sayings,
    pub(super) watch: Watch,
    /// What is known of time.
    pub(super) keeper: Keeper,
    /// Boot time in nanoseconds at which what the clock has shown was kept.
    pub(super) edges_kept: u64,
    /// What flows carried lately.
    pub(super) activity: Activity,
    /// Plans that were told, the newest last.
    pub(super) plans: VecDeque<Issued>,
    /// Told when there is something to wait for that was not there before.
    pub(super) wake: Arc<Notify>,
    pub(super) second_guard: SecondGuard,
    pub(super) surroundings: Surroundings,
    /// What is judged beside what is in force.
    pub(super) trial: Trial,
    /// What is forwarded by XDP, or why not.
    pub(super) forwarding: Survey,
    pub(super) rates: super::report::Rates,
    /// Packets by ifindex that found no entry before the tables followed the host: closed, and no fault.
    pub(super) excused: BTreeMap<u32, u64>,
    ticks: u64,
}

impl Engine {
    /// Opens the state and brings the accepted policy into force, before anything is attached.
    ///
    /// # Errors
    /// The state directory is not usable, or the accepted policy cannot be enforced at all.
    pub fn start(agent: AgentConfig, config: NamedText, stopped: watch::Receiver<bool>) -> Result<Self> {
        let store = Arc::new(Store::open(&agent.state_dir)?);
        let clock = Clock::read(Datapath::now_ns());
        let anchoring = Anchoring::start(&agent.anchors);
        let keeper = time::keeper(&store, agent.trusts_clock);
        let mut engine = Self {
            agent,
            config,
            store,
            accepted: None,
            in_force: None,
            in_force_since: Generation::default(),
            kernel: None,
            telemetry: Telemetry::new(Arc::new(NameTable::default()), clock),
            names: NameTable::default(),
            stopped,
            since: Timestamp::now(),
            loss: None,
            held: None,
            closed: None,
            faults: Vec::new(),
            translation: Translation::default(),
            stuck: None,
            pending: None,
            looked: None,
            cold_since: None,
            refused_folder: None,
            refused_because: None,
            anchoring,
            quarantines: Quarantines::new(),
            grants: Grants::new(),
            sayings: Sayings::new(),
            watch: Watch::default(),
            keeper,
            edges_kept: Datapath::boot_ns(),
            activity: Activity::default(),
            plans: VecDeque::new(),
            wake: Arc::new(Notify::new()),
            second_guard: SecondGuard::default(),
            surroundings: Surroundings::default(),
            trial: Trial::default(),
            forwarding: Survey::default(),
            rates: super::report::Rates::default(),
            excused: BTreeMap::new(),
            ticks: 0,
        };
        engine.quarantines = quarantine::read(&engine.store).map_err(|error| quarantine::lost(&error))?;
        engine.grants = engine.store.grants().map_err(|error| grants::lost(&error))?;
        engine.sayings = engine.store.sayings().map_err(|error| attributes::lost(&error))?;
        engine.cold_since = warming::read(&engine.store);
        engine.recall_candidate();
        engine.restore()?;
        engine.accepted_anew();
        engine.store.newest_on_grants().into_iter().for_each(|anchor| engine.anchoring.tell(anchor));
        engine.expire();
        engine.look_at_folder();
        Ok(engine)
    }

    /// The stream of drops and flows.
    pub fn telemetry(&self) -> Arc<Telemetry> {
        Arc::clone(&self.telemetry)
    }

    /// The folder that holds the operator's policies.
    pub fn policy_folder(&self) -> PathBuf {
        self.agent.policy_folder.clone()
    }

    /// Counts minutes, in ticks.
    pub(super) const fn minute(&self) -> u64 {
        self.ticks / DRIFT_EVERY
    }

    /// True once a minute.
    pub(super) const fn is_minute(&self) -> bool {
        self.ticks.is_multiple_of(DRIFT_EVERY)
    }

    /// How long until the agent has something to do by the clock.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let deadlines =
            [self.expires_in(), self.quarantine_ends_in(), self.attributes_age_in(), self.edge_in()];
        deadlines.into_iter().flatten().filter(|left| !left.is_zero()).min()
    }

    /// Told when [`Self::next_deadline`] has changed.
    pub(super) fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    fn restore(&mut self) -> Result<()> {
        match self.store.load()? {
            Found::Accepted(state, passed_over) => {
                let newest = |why| {
                    format!("the newest state could not be read, r{} is used: {why}", state.revision.number)
                };
                self.loss = passed_over.map(newest);
                self.enforce_accepted(*state)
            }
            Found::Lost(why) => self.hold(&format!("the accepted policy is lost: {why}")),
            Found::Nothing if Datapath::present(&pins(&self.agent.pin_dir)) => {
                let folder = self.agent.state_dir.display().to_string();
                self.hold(&format!(
                    "the accepted policy is lost: {folder} holds none, and the kernel has one"
                ))
            }
            Found::Nothing => {
                tracing::warn!(
                    "no policy was ever accepted here: nothing is attached until `bulkhead apply`"
                );
                Ok(())
            }
        }
    }

    /// Brings the accepted state into force; what it no longer says for this host is held back.
    pub(super) fn enforce_accepted(&mut self, state: State) -> Result<()> {
        let host = host::observe()?;
        let compile = |read| InForce::compile(read, (&self.agent, &host), &state.ids, self.facts());
        let mut in_force = match self.read(&state.objects).and_then(compile) {
            Ok(in_force) => in_force,
            Err(problems) => {
                let why = format!("r{} is refused on this host: {}", state.revision.number, first(&problems));
                // Kept all the same: the next apply changes it, and does not start from nothing.
                self.accepted = Some(state);
                return self.hold(&why);
            }
        };
        self.confine(&mut in_force);
        let generation = self.enforce(&in_force.compiled.tables, Some(&in_force.policy))?;
        tracing::info!("enforcing r{} (generation {generation})", state.revision.number);
        self.accepted_at(state, &in_force, generation);
        self.held = None;
        self.closed = None;
        self.adopt(in_force, generation);
        self.settle(&host);
        Ok(())
    }

    /// No policy can be brought into force: the kernel keeps what it has, or else nothing is forwarded.
    fn hold(&mut self, why: &str) -> Result<()> {
        let host = host::observe()?;
        if self.closed.is_none() && Datapath::present(&pins(&self.agent.pin_dir)) {
            self.tell_held(format!("the kernel still enforces what it had: {why}"));
            self.open_kernel()?;
            self.shut(None, &host);
            self.attach(&host)?;
        } else {
            self.tell_held(format!("traffic is closed until the next apply: {why}"));
            self.close(host.clone())?;
        }
        self.settle(&host);
        Ok(())
    }

    fn tell_held(&mut self, held: String) {
        if self.held.as_ref() != Some(&held) {
            tracing::error!("{held}");
        }
        self.held = Some(held);
    }

    /// Forwards nothing, and leaves the host itself reachable.
    pub(super) fn close(&mut self, host: Host) -> Result<()> {
        if self.closed.as_ref() == Some(&host) {
            return self.attach(&host);
        }
        let tables = closed_tables(&self.agent, &host);
        let tables = tables.map_err(|problems| anyhow::anyhow!(problems.render(false)))?;
        self.enforce(&tables, None)?;
        self.closed = Some(host);
        Ok(())
    }

    /// Makes the kernel hold `tables` and guards the interfaces; returns the generation in force.
    ///
    /// The second guard is closed for `policy` before anything else; whoever calls lets it settle behind.
    pub(super) fn enforce(&mut self, tables: &Tables, policy: Option<&Policy>) -> Result<u32> {
        self.enforce_by(policy, |kernel| kernel.apply(tables))
    }

    /// As [`Self::enforce`], where nothing differs from what is in force but the rows of some devices.
    pub(super) fn enforce_touched(&mut self, next: &InForce, touched: &Touched) -> Result<u32> {
        let since = self.in_force_since;
        let apply = |kernel: &mut Kernel| kernel.apply_touched(&next.compiled.tables, touched, since);
        // Devices have no pools of their own: what is to be closed is closed.
        self.enforce_by(None, apply)
    }

    fn enforce_by(
        &mut self,
        policy: Option<&Policy>,
        apply: impl FnOnce(&mut Kernel) -> Result<Applied>,
    ) -> Result<u32> {
        self.open_kernel()?;
        let host = host::observe()?;
        self.shut(policy, &host);
        let kernel = self.kernel.as_mut().context("the datapath is not open")?;
        kernel.release_others(&self.agent, &host)?;
        let applied = apply(kernel)?;
        self.attach(&host)?;
        self.excuse();
        Ok(applied.generation.0)
    }

    pub(super) fn excuse(&mut self) {
        let counters = self.kernel.as_ref().and_then(|kernel| kernel.datapath().counters().ok());
        let internal = |counters: Counters| counters.of(Verdict::Drop(DropReason::InternalInterface)).packets;
        self.excused = counters.into_iter().flatten().map(|(ifindex, c)| (ifindex, internal(c))).collect();
    }

    /// Guards the interfaces; tells only what it did not tell before.
    pub(super) fn attach(&mut self, host: &Host) -> Result<()> {
        let kernel = self.kernel.as_ref().context("the datapath is not open")?;
        let faults = kernel.attach(&self.agent, host);
        let new = faults.iter().filter(|fault| !self.faults.contains(fault));
        new.for_each(|fault| tracing::error!("{fault}"));
        self.faults = faults;
        Ok(())
    }

    pub(super) fn open_kernel(&mut self) -> Result<()> {
        if self.kernel.is_some() {
            return Ok(());
        }
        let cold = !Datapath::present(&pins(&self.agent.pin_dir));
        let kernel = Kernel::open(&self.agent)?;
        let source = crate::telemetry::Kernel::new(kernel.events()?, kernel.shared());
        let mut stopped = self.stopped.clone();
        let running = Arc::clone(&self.telemetry).run(source, async move {
            let _ = stopped.wait_for(|stopped| *stopped).await;
        });
        tokio::runtime::Handle::current().spawn(running);
        self.kernel = Some(kernel);
        if cold {
            self.attached_cold();
        }
        Ok(())
    }

    /// Takes over what the kernel holds since `generation`.
    pub(super) fn adopt(&mut self, in_force: InForce, generation: u32) {
        let mut names = NameTable::of(&in_force.compiled, &in_force.host);
        names.inherit(&self.names);
        self.second_guard.pools = Some(pools_of(&in_force.policy));
        self.adopt_named(in_force, names, generation);
    }

    /// As [`Self::adopt`], where nothing differs from what was in force but some devices.
    pub(super) fn adopt_few(&mut self, in_force: InForce, touched: &Touched, generation: u32) {
        let mut names = self.names.clone();
        names.take_up(&in_force.compiled, touched);
        self.adopt_named(in_force, names, generation);
    }

    fn adopt_named(&mut self, in_force: InForce, mut names: NameTable, generation: u32) {
        self.in_force_since = Generation(generation);
        let generations = self.accepted.iter().flat_map(|state| &state.generations);
        names
            .revisions
            .extend(generations.map(|(generation, revision)| (Generation(*generation), *revision)));
        self.names = names.clone();
        let view =
            View::new(names, Arc::new(in_force.policy.clone()), self.agent.clone(), in_force.host.clone());
        self.telemetry.rename(Arc::new(view));
        self.watch_ages(&in_force);
        self.in_force = Some(Arc::new(in_force));
        self.settle_grants();
        self.follow_in_force();
    }

    /// Compares kernel and host with what they should be, and puts right what differs; then looks at the folder.
    pub fn tick(&mut self) {
        self.ticks = self.ticks.wrapping_add(1);
        self.look_at_clock();
        self.look_for_translation();
        if self.is_minute()
            && let Err(error) = self.repair_drift()
        {
            self.tell_unrepaired(&error);
        }
        self.settle_grants();
        if let Err(error) = self.forget_quarantines() {
            tracing::error!("quarantines that are over could not be forgotten: {error:#}");
        }
        if let Err(error) = self.age_attributes() {
            tracing::error!("what is too old could not close rules: {error:#}");
        }
        self.expire();
        if self.candidate_waits() {
            self.follow_in_force();
        }
        self.look_at_folder();
        let waits = self.accepted.as_ref().is_some_and(|state| state.folder_held || state.confirm.is_some());
        if self.agent.auto_apply && !waits {
            self.apply_folder();
        }
    }

    /// Compares the host with what it should be, and puts right what differs.
    pub fn look_at_host(&mut self) {
        if let Err(error) = self.reconcile() {
            self.tell_unrepaired(&error);
        }
        // Whatever could not be repaired: what is added to the host's rules meanwhile is not to be gone round.
        self.look_at_forwarding();
    }

    fn tell_unrepaired(&mut self, error: &anyhow::Error) {
        let fault = format!("what was to be repaired could not be: {error:#}");
        if !self.faults.contains(&fault) {
            tracing::error!("{fault}");
            self.faults.push(fault);
        }
    }

    fn reconcile(&mut self) -> Result<()> {
        let host = host::observe()?;
        let timeline = self.keeper.timeline();
        let fits = self.in_force.as_ref().is_some_and(|in_force| in_force.fits(&host, &timeline));
        match self.accepted.clone().filter(|_| !fits) {
            Some(state) => {
                tracing::debug!("the host's interfaces, its addresses or its clock changed");
                self.enforce_accepted(state)?;
            }
            None if self.closed.is_some() => self.close(host.clone())?,
            None if self.kernel.is_some() => self.attach(&host)?,
            None => {}
        }
        self.settle(&host);
        self.look_around(&host);
        if let Some(kernel) = &self.kernel {
            self.rates.observe(&kernel.datapath().counters().unwrap_or_default());
            let now = Datapath::now_ns();
            if self.activity.is_due(now) {
                self.activity.look(now, &kernel.datapath().flows());
            }
        }
        Ok(())
    }

    /// Reads the kernel's tables back and writes what is not as it should be.
    fn repair_drift(&mut self) -> Result<()> {
        let (Some(kernel), Some(in_force)) = (self.kernel.as_mut(), self.in_force.as_ref()) else {
            return Ok(());
        };
        kernel.observe_again()?;
        let applied = kernel.apply(&in_force.compiled.tables)?;
        if applied.changed > 0 {
            tracing::error!(
                "somebody wrote to the kernel's tables: {} writes put them right",
                applied.changed
            );
        }
        Ok(())
    }

    /// Everything that `explain` needs, if a policy was accepted.
    pub fn accepted(&self) -> Option<Accepted> {
        let (state, in_force) = (self.accepted.as_ref()?, self.in_force.as_ref()?);
        let files = state.objects.files();
        let interfaces = in_force.host.interfaces.iter().map(|(name, interface)| {
            let known =
                AcceptedInterface { ifindex: interface.ifindex, addresses: interface.addresses.clone() };
            (name.clone(), known)
        });
        Some(Accepted {
            revision: state.revision.clone(),
            agent: self.config.clone(),
            files: files
                .iter()
                .map(|f| NamedText { name: f.name().to_owned(), text: f.text().to_owned() })
                .collect(),
            interfaces: interfaces.collect::<BTreeMap<_, _>>(),
            quarantine: self.quarantined(),
            attributes: self.said(),
            closed_grants: self.closed_grants(),
            clock: self.keeper.anchor(),
        })
    }
}

fn first(problems: &Diagnostics) -> String {
    not_applicable(&problems.iter().cloned().collect::<Vec<_>>()).first.unwrap_or_default()
}

/// Tables that forward nothing and leave the host itself reachable, where it was reachable before.
///
/// Without a policy there are no pools, so a device's packet looks like anybody's: where the
/// configuration lets no transit pass, the host must not be opened to it now.
fn closed_tables(agent: &AgentConfig, host: &Host) -> Result<Tables, Diagnostics> {
    let compiled = policy::compile(&Policy::default(), agent, host, &mut Ids::default())?;
    let mut tables = compiled.tables;
    let passing = tables.subinterfaces.values_mut().filter(|facts| facts.transit == TRANSIT_PASS);
    passing.for_each(|facts| facts.transit = TRANSIT_HOST);
    Ok(tables)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::SourceFile;
    use crate::tables::{HostInterface, Image};
    use bulkhead_common::parse::{Kind, Packet};
    use bulkhead_common::verdict::Pass;

    #[test]
    fn a_host_that_lost_its_policy_is_open_to_the_operator_and_not_to_devices() {
        let text = "apiVersion: bulkhead/v1\nkind: Agent\nmetadata: {name: core}\nspec:\n  interfaces:\n  \
                    - {name: acc0, roles: [access], transit: drop}\n  - {name: n6, roles: [core], transit: pass}\n";
        let agent = policy::parse_agent(vec![SourceFile::new("agent.yaml", text)]).unwrap();
        let mut host = Host::default();
        for (name, ifindex, address) in [("acc0", 3, "10.45.0.1/16"), ("n6", 4, "192.0.2.1/24")] {
            let addresses = vec![address.parse().unwrap()];
            host.interfaces
                .insert(name.to_owned(), HostInterface { ifindex, addresses, ..HostInterface::default() });
        }
        let image = Image::new(&closed_tables(&agent, &host).unwrap());
        let ssh = |source: [u8; 4], destination: [u8; 4], ifindex| {
            let packet = Packet {
                source: bulkhead_common::abi::Addr::from_v4(source),
                destination: bulkhead_common::abi::Addr::from_v4(destination),
                source_port: 50_000,
                destination_port: 22,
                kind: Kind::Ports,
                protocol: 6,
                detail: 2,
                ..Packet::EMPTY
            };
            image.judge_packet(packet, ifindex).0
        };
        assert_eq!(ssh([192, 0, 2, 9], [192, 0, 2, 1], 4), Verdict::Pass(Pass::Transit));
        assert_eq!(ssh([192, 0, 2, 9], [10, 45, 0, 17], 4), Verdict::Drop(DropReason::TransitDenied));
        assert_eq!(ssh([10, 45, 0, 17], [10, 45, 0, 1], 3), Verdict::Drop(DropReason::SpoofedSource));
    }
}
