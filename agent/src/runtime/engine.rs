//! The one owner of state and kernel: every change of what is enforced goes through here.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use bulkhead_common::abi::Generation;
use bulkhead_common::abi::counter::Counters;
use bulkhead_common::abi::value::{TRANSIT_HOST, TRANSIT_PASS};
use bulkhead_common::verdict::{DropReason, Verdict};
use jiff::Timestamp;
use tokio::sync::watch;

use super::author::Author;
use super::host;
use super::in_force::InForce;
use super::kernel::{Kernel, pins};
use crate::api::types::{
    Accepted, AcceptedInterface, ApplyReply, ApplyRequest, Changes, NamedText, Pending, Refusal, RevisionInfo,
};
use crate::datapath::Datapath;
use crate::policy::{self, AgentConfig, Diagnostic, Diagnostics, Ids, Policy, Severity, SourceFile};
use crate::state::{Found, Merged, Objects, State, Store};
use crate::tables::{Host, Tables};
use crate::telemetry::{Clock, NameTable, Telemetry, View};

/// Every how many ticks the kernel's tables are read back: once a minute.
const DRIFT_EVERY: u64 = 12;

/// Why an apply did nothing.
#[derive(Debug)]
pub enum Refused {
    /// The policy is not right; nothing was tried.
    Policy(Refusal),
    /// The host could not do it; what was in force is in force.
    Host(anyhow::Error),
}

impl Refused {
    /// The refusal as the status tells it.
    fn pending(&self) -> Pending {
        match self {
            Self::Policy(refusal) => not_applicable(&refusal.diagnostics),
            Self::Host(error) => {
                Pending { errors: 1, first: Some(format!("{error:#}")), changes: Changes::default() }
            }
        }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Policy(refusal) => write!(f, "{}", refusal.error),
            Self::Host(error) => write!(f, "{error:#}"),
        }
    }
}

/// The agent's state and what it holds of the kernel.
pub struct Engine {
    pub(super) agent: AgentConfig,
    pub(super) config: NamedText,
    store: Store,
    pub(super) accepted: Option<State>,
    pub(super) in_force: Option<Arc<InForce>>,
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
    closed: Option<Host>,
    /// What the last tick could not put right.
    pub(super) faults: Vec<String>,
    pub(super) pending: Option<Pending>,
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
        let store = Store::open(&agent.state_dir)?;
        let clock = Clock::read(Datapath::now_ns());
        let mut engine = Self {
            agent,
            config,
            store,
            accepted: None,
            in_force: None,
            kernel: None,
            telemetry: Telemetry::new(Arc::new(NameTable::default()), clock),
            names: NameTable::default(),
            stopped,
            since: Timestamp::now(),
            loss: None,
            held: None,
            closed: None,
            faults: Vec::new(),
            pending: None,
            rates: super::report::Rates::default(),
            excused: BTreeMap::new(),
            ticks: 0,
        };
        engine.restore()?;
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
    fn enforce_accepted(&mut self, mut state: State) -> Result<()> {
        let host = host::observe()?;
        let in_force = match InForce::compile(state.objects.files(), &self.agent, &host, &state.ids) {
            Ok(in_force) => in_force,
            Err(problems) => {
                let why = format!("r{} is refused on this host: {}", state.revision.number, first(&problems));
                // Kept all the same: the next apply changes it, and does not start from nothing.
                self.accepted = Some(state);
                return self.hold(&why);
            }
        };
        let generation = self.enforce(&in_force.compiled.tables)?;
        state.published(generation);
        state.ids = in_force.ids.clone();
        tracing::info!("enforcing r{} (generation {generation})", state.revision.number);
        self.accepted = Some(state);
        self.held = None;
        self.closed = None;
        self.adopt(in_force);
        Ok(())
    }

    /// No policy can be brought into force: the kernel keeps what it has, or else nothing is forwarded.
    fn hold(&mut self, why: &str) -> Result<()> {
        let host = host::observe()?;
        if self.closed.is_none() && Datapath::present(&pins(&self.agent.pin_dir)) {
            self.tell_held(format!("the kernel still enforces what it had: {why}"));
            self.open_kernel()?;
            return self.attach(&host);
        }
        self.tell_held(format!("traffic is closed until the next apply: {why}"));
        self.close(host)
    }

    fn tell_held(&mut self, held: String) {
        if self.held.as_ref() != Some(&held) {
            tracing::error!("{held}");
        }
        self.held = Some(held);
    }

    /// Forwards nothing, and leaves the host itself reachable.
    fn close(&mut self, host: Host) -> Result<()> {
        if self.closed.as_ref() == Some(&host) {
            return self.attach(&host);
        }
        let tables = closed_tables(&self.agent, &host);
        let tables = tables.map_err(|problems| anyhow::anyhow!(problems.render(false)))?;
        self.enforce(&tables)?;
        self.closed = Some(host);
        Ok(())
    }

    /// Makes the kernel hold `tables` and guards the interfaces; returns the generation in force.
    fn enforce(&mut self, tables: &Tables) -> Result<u32> {
        self.open_kernel()?;
        let kernel = self.kernel.as_mut().context("the datapath is not open")?;
        kernel.release_others(&self.agent, &host::observe()?)?;
        let applied = kernel.apply(tables)?;
        let host = host::observe()?;
        self.attach(&host)?;
        self.excuse();
        Ok(applied.generation.0)
    }

    fn excuse(&mut self) {
        let counters = self.kernel.as_ref().and_then(|kernel| kernel.datapath().counters().ok());
        let internal = |counters: Counters| counters.of(Verdict::Drop(DropReason::InternalInterface)).packets;
        self.excused = counters.into_iter().flatten().map(|(ifindex, c)| (ifindex, internal(c))).collect();
    }

    /// Guards the interfaces; tells only what it did not tell before.
    fn attach(&mut self, host: &Host) -> Result<()> {
        let kernel = self.kernel.as_ref().context("the datapath is not open")?;
        let faults = kernel.attach(&self.agent, host);
        let new = faults.iter().filter(|fault| !self.faults.contains(fault));
        new.for_each(|fault| tracing::error!("{fault}"));
        self.faults = faults;
        Ok(())
    }

    fn open_kernel(&mut self) -> Result<()> {
        if self.kernel.is_some() {
            return Ok(());
        }
        let kernel = Kernel::open(&self.agent)?;
        let source = crate::telemetry::Kernel::new(kernel.events()?, kernel.shared());
        let mut stopped = self.stopped.clone();
        let running = Arc::clone(&self.telemetry).run(source, async move {
            let _ = stopped.wait_for(|stopped| *stopped).await;
        });
        tokio::runtime::Handle::current().spawn(running);
        self.kernel = Some(kernel);
        Ok(())
    }

    fn adopt(&mut self, in_force: InForce) {
        let mut names = NameTable::of(&in_force.compiled, &in_force.host);
        let generations = self.accepted.iter().flat_map(|state| &state.generations);
        names.revisions =
            generations.map(|(generation, revision)| (Generation(*generation), *revision)).collect();
        names.inherit(&self.names);
        self.names = names.clone();
        let view = View::new(names, Arc::new(in_force.policy.clone()), in_force.host.clone());
        self.telemetry.rename(Arc::new(view));
        self.in_force = Some(Arc::new(in_force));
    }

    /// Checks a change of policy and, unless only asked, brings it into force and accepts it.
    ///
    /// # Errors
    /// [`Refused`]; what was in force is in force.
    pub fn apply(&mut self, request: &ApplyRequest, author: Author) -> Result<ApplyReply, Refused> {
        let started = Instant::now();
        let host = host::observe().map_err(Refused::Host)?;
        let merged = self.merge(request)?;
        let ids = self.accepted.as_ref().map_or_else(Ids::default, |state| state.ids.clone());
        let in_force = InForce::prepare(merged.objects.files(), &self.agent, &host, &ids)
            .map_err(|problems| self.refused("the policy is refused", problems))?;
        whole(&merged.objects, &in_force).map_err(Refused::Host)?;
        let mut reply = ApplyReply {
            revision: self.accepted.as_ref().map_or(0, |state| state.revision.number),
            generation: self.kernel.as_ref().map_or(0, |kernel| kernel.datapath().epoch().generation.0),
            unchanged: merged.changes.is_empty() && self.in_force.is_some() && !self.is_troubled(),
            dry_run: request.dry_run,
            changes: merged.changes,
            writes: 0,
            elapsed_ms: 0,
            notes: in_force.notes.clone(),
            tests: in_force.tests,
        };
        if !request.dry_run && !reply.unchanged {
            let revision = self.next_revision(request, author);
            self.accept(merged.objects, in_force, revision, &mut reply).map_err(Refused::Host)?;
        }
        reply.elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(reply)
    }

    /// An apply of what is accepted already settles a loss: the operator has seen it.
    const fn is_troubled(&self) -> bool {
        self.loss.is_some() || self.held.is_some()
    }

    /// The request's files alone first, so that their own mistakes are told in their own terms.
    fn merge(&self, request: &ApplyRequest) -> Result<Merged, Refused> {
        let files: Vec<SourceFile> =
            request.files.iter().map(|file| SourceFile::new(file.name.clone(), file.text.clone())).collect();
        let change = Objects::of(&request.files);
        let before = self.accepted.as_ref().map(|state| state.objects.clone()).unwrap_or_default();
        let merged = before.merged(&change, request.prune);
        // A document that cannot be read has no kind or name, so no merge would notice it.
        let problems = if request.prune || self.accepted.is_none() {
            policy::parse(files, Some(&self.agent)).err().unwrap_or_default()
        } else {
            policy::problems_alone(files)
        };
        if problems.has_errors() {
            return Err(self.refused("the policy is refused", problems));
        }
        Ok(merged)
    }

    fn refused(&self, error: &str, problems: Diagnostics) -> Refused {
        let kept = self.accepted.as_ref().map_or_else(
            || "nothing is enforced yet".to_owned(),
            |state| format!("r{} stays in force", state.revision.number),
        );
        Refused::Policy(Refusal {
            error: format!("{error}; {kept}"),
            diagnostics: problems.iter().cloned().collect(),
        })
    }

    fn next_revision(&self, request: &ApplyRequest, author: Author) -> RevisionInfo {
        RevisionInfo {
            number: self.accepted.as_ref().map_or(0, |state| state.revision.number) + 1,
            time: Timestamp::now(),
            author: author.describe(request.sudo_user.as_deref()),
            message: request.message.clone(),
        }
    }

    /// Disk, kernel, disk: a full disk refuses before the kernel is touched, and the rename comes last.
    fn accept(
        &mut self,
        objects: Objects,
        in_force: InForce,
        revision: RevisionInfo,
        reply: &mut ApplyReply,
    ) -> Result<()> {
        let generations = self.accepted.as_ref().map(|state| state.generations.clone()).unwrap_or_default();
        let mut state = State { revision, objects, ids: in_force.ids.clone(), generations };
        self.open_kernel()?;
        let kernel = self.kernel.as_mut().context("the datapath is not open")?;
        // If nothing has to change in the kernel, the generation stays and the next one is this revision's too.
        state.published(kernel.datapath().epoch().generation.0 + 1);
        let staged = self.store.stage(&state).context("keep the policy on disk; nothing was changed")?;
        let applied = match kernel.apply(&in_force.compiled.tables) {
            Ok(applied) => applied,
            Err(error) => {
                // It may have failed behind the flip: what is not accepted must not stay in force.
                self.undo();
                return Err(error);
            }
        };
        if let Err(error) = staged.commit() {
            self.undo();
            return Err(error).context("accept the policy; what was in force is in force again");
        }
        reply.revision = state.revision.number;
        reply.generation = applied.generation.0;
        reply.writes = applied.changed;
        tracing::info!(
            "r{} by {} is in force (generation {})",
            state.revision.number,
            state.revision.author,
            applied.generation.0
        );
        self.accepted = Some(state);
        (self.loss, self.held, self.closed) = (None, None, None);
        self.attach(&in_force.host)?;
        self.excuse();
        self.adopt(in_force);
        self.look_at_folder();
        Ok(())
    }

    /// Puts the old tables back after a change that could not be kept on disk.
    fn undo(&mut self) {
        let undone = match (self.in_force.clone(), self.closed.take()) {
            (Some(in_force), _) => self.enforce(&in_force.compiled.tables).map(|_| ()),
            (None, Some(host)) => self.close(host),
            // Nothing was attached, so nothing was in force.
            (None, None) => Ok(()),
        };
        if let Err(error) = undone {
            tracing::error!("the old policy could not be put back: {error:#}");
        }
    }

    /// Compares kernel and host with what they should be, and puts right what differs.
    pub fn tick(&mut self) {
        if let Err(error) = self.reconcile() {
            let fault = format!("what was to be repaired could not be: {error:#}");
            if !self.faults.contains(&fault) {
                tracing::error!("{fault}");
                self.faults.push(fault);
            }
        }
        self.look_at_folder();
        if self.agent.auto_apply {
            self.apply_folder();
        }
    }

    fn reconcile(&mut self) -> Result<()> {
        let host = host::observe()?;
        let fits = self.in_force.as_ref().is_some_and(|in_force| in_force.host == host);
        match self.accepted.clone().filter(|_| !fits) {
            Some(state) => {
                tracing::debug!("the host's interfaces or addresses changed");
                self.enforce_accepted(state)?;
            }
            None if self.closed.is_some() => self.close(host)?,
            None if self.kernel.is_some() => self.attach(&host)?,
            None => return Ok(()),
        }
        if let Some(kernel) = &self.kernel {
            self.rates.observe(&kernel.datapath().counters().unwrap_or_default());
        }
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks.is_multiple_of(DRIFT_EVERY) {
            self.repair_drift()?;
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

    /// What the folder would change.
    fn look_at_folder(&mut self) {
        self.pending = match self.folder_request() {
            Ok(request) => request.and_then(|request| self.pending_of(&request)),
            Err(problems) => Some(not_applicable(&problems.iter().cloned().collect::<Vec<_>>())),
        };
    }

    /// The whole folder as a request; nothing if there is none or it is empty.
    fn folder_request(&self) -> Result<Option<ApplyRequest>, Diagnostics> {
        let folder = &self.agent.policy_folder;
        let has_files = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
        if !has_files {
            return Ok(None);
        }
        let files = policy::read(std::slice::from_ref(folder))?;
        let files = files
            .iter()
            .map(|f| NamedText { name: f.name().to_owned(), text: f.text().to_owned() })
            .collect();
        let message = Some(format!("from {}", folder.display()));
        Ok(Some(ApplyRequest { files, prune: true, message, ..ApplyRequest::default() }))
    }

    fn pending_of(&self, request: &ApplyRequest) -> Option<Pending> {
        let merged = match self.merge(request) {
            Ok(merged) => merged,
            Err(why) => return Some(why.pending()),
        };
        if merged.changes.is_empty() {
            return None;
        }
        let host = host::observe().unwrap_or_default();
        let ids = self.accepted.as_ref().map_or_else(Ids::default, |state| state.ids.clone());
        match InForce::prepare(merged.objects.files(), &self.agent, &host, &ids) {
            Ok(_) => Some(Pending { changes: merged.changes, ..Pending::default() }),
            Err(problems) => Some(self.refused("", problems).pending()),
        }
    }

    fn apply_folder(&mut self) {
        let clean = self.pending.as_ref().is_some_and(|pending| pending.errors == 0);
        let Ok(Some(request)) = self.folder_request() else { return };
        if !clean {
            return;
        }
        if let Err(refused) = self.apply(&request, Author::default()) {
            tracing::error!("the policy folder was not applied: {refused}");
        }
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
        })
    }
}

/// Makes sure that what will be kept is what was checked, document by document.
fn whole(objects: &Objects, in_force: &InForce) -> Result<()> {
    let (kept, checked) = (objects.iter().count(), in_force.documents());
    anyhow::ensure!(
        kept == checked,
        "{checked} documents were checked and {kept} would be kept: this is a fault of Bulkhead"
    );
    Ok(())
}

fn not_applicable(problems: &[Diagnostic]) -> Pending {
    let errors = || problems.iter().filter(|problem| problem.severity == Severity::Error);
    Pending {
        errors: errors().count(),
        first: errors().next().map(ToString::to_string),
        changes: Changes::default(),
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
            host.interfaces.insert(name.to_owned(), HostInterface { ifindex, addresses });
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
