//! The datapath with its reconciler: what is attached, and what the tables say.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, anyhow};
use bulkhead_common::abi::Generation;
use bulkhead_common::abi::map::WOULD_RULE_ROWS;
use bulkhead_common::case::LinkType;
use nix::fcntl::{Flock, FlockArg};

use crate::datapath::{self, Attachment, Candidate, Datapath, EventRing, Hook, Mode};
use crate::policy::{AgentConfig, AttachMode, Downlink, Interface};
use crate::reconcile::{Applied, Reconciler};
use crate::tables::{Host, Tables, Touched};

/// The kernel side while an agent runs. Telemetry shares the datapath.
pub(super) struct Kernel {
    datapath: Arc<Mutex<Datapath>>,
    reconciler: Reconciler,
    rehearsal: Option<Rehearsal>,
    _claim: Claim,
}

/// A pin directory that nobody else changes while this value lives; it goes with the process, however that ends.
#[derive(Debug)]
pub struct Claim {
    _lock: Flock<File>,
}

impl Claim {
    /// Claims a pin directory that exists.
    ///
    /// # Errors
    /// An agent holds it.
    pub fn take(pins: &Path) -> Result<Self> {
        let folder =
            File::open(pins).with_context(|| format!("open the pin directory {}", pins.display()))?;
        let lock = Flock::lock(folder, FlockArg::LockExclusiveNonblock);
        let lock = lock.map_err(|(_, error)| {
            anyhow!("another agent holds {} ({error}): stop it first", pins.display())
        })?;
        Ok(Self { _lock: lock })
    }
}

impl Kernel {
    /// Opens the datapath and looks at what it holds.
    pub(super) fn open(agent: &AgentConfig) -> Result<Self> {
        let pins = pins(&agent.pin_dir);
        let mut datapath = Datapath::open(&pins, &agent.tables)?;
        // Looking at the tables erases what an interrupted apply staged: never under an agent that applies.
        let claim = Claim::take(&pins)?;
        let reconciler = Reconciler::observe(datapath.rows())?;
        Ok(Self { datapath: Arc::new(Mutex::new(datapath)), reconciler, rehearsal: None, _claim: claim })
    }

    /// The datapath, shared with telemetry.
    pub(super) fn shared(&self) -> Arc<Mutex<Datapath>> {
        Arc::clone(&self.datapath)
    }

    pub(super) fn events(&self) -> Result<EventRing> {
        self.datapath().events()
    }

    pub(super) fn datapath(&self) -> MutexGuard<'_, Datapath> {
        // A panic while the lock was held leaves kernel objects, not broken memory.
        self.datapath.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the kernel hold `tables`. A candidate is out of the way from before the first change: until it follows, it
    /// would be told apart from a policy that it does not know.
    pub(super) fn apply(&mut self, tables: &Tables) -> Result<Applied> {
        if self.rehearses() && !self.reconciler.holds(tables) {
            self.suspend_rehearsal()?;
        }
        let mut datapath = self.datapath.lock().unwrap_or_else(PoisonError::into_inner);
        self.reconciler.apply(datapath.rows(), tables)
    }

    /// Makes the kernel hold `tables`, in which nothing differs from those of a generation but the rows of some devices.
    pub(super) fn apply_touched(
        &mut self,
        tables: &Tables,
        touched: &Touched,
        since: Generation,
    ) -> Result<Applied> {
        self.suspend_rehearsal()?;
        let mut datapath = self.datapath.lock().unwrap_or_else(PoisonError::into_inner);
        self.reconciler.apply_touched(datapath.rows(), tables, touched, since)
    }

    /// The candidate, if there is one.
    pub(super) fn rehearsed(&self) -> Option<&Candidate> {
        self.rehearsal.as_ref().map(|rehearsal| &rehearsal.candidate)
    }

    /// True if packets are handed on to a candidate.
    pub(super) fn rehearses(&self) -> bool {
        self.rehearsal.as_ref().is_some_and(|rehearsal| rehearsal.engaged)
    }

    /// Has packets judged by `tables` too, in which rules have numbers below `rules`; `anew`: counters begin again.
    pub(super) fn rehearse(&mut self, tables: &Tables, rules: u32, anew: bool) -> Result<()> {
        let small = |rehearsal: &Rehearsal| rehearsal.candidate.rule_rows() < rules as usize;
        if anew && self.rehearsal.as_ref().is_some_and(small) {
            self.end_rehearsal()?;
        }
        let datapath = self.datapath.lock().unwrap_or_else(PoisonError::into_inner);
        let rehearsal = match &mut self.rehearsal {
            Some(rehearsal) => rehearsal,
            none => none.insert(Rehearsal::open(&datapath, rules)?),
        };
        datapath.covered_by(&mut rehearsal.candidate)?;
        rehearsal.follow(tables, anew)
    }

    /// Hands no packet on to the candidate until it follows.
    pub(super) fn suspend_rehearsal(&mut self) -> Result<()> {
        self.rehearsal.as_mut().map_or(Ok(()), Rehearsal::suspend)
    }

    /// Removes the candidate, also one that an earlier agent left.
    pub(super) fn end_rehearsal(&mut self) -> Result<()> {
        self.datapath().remove_candidate()?;
        self.rehearsal = None;
        Ok(())
    }

    /// Lets go of interfaces that the configuration does not name any more; before their rows go, or they would drop
    /// everything.
    pub(super) fn release_others(&self, agent: &AgentConfig, host: &Host) -> Result<()> {
        release_others(&mut self.datapath(), agent, host)
    }

    /// Looks at the kernel's tables again: somebody else may have written there.
    pub(super) fn observe_again(&mut self) -> Result<()> {
        let mut datapath = self.datapath.lock().unwrap_or_else(PoisonError::into_inner);
        self.reconciler = Reconciler::observe(datapath.rows())?;
        Ok(())
    }

    /// Guards the configured interfaces. Returns what stands in the way, interface by interface.
    pub(super) fn attach(&self, agent: &AgentConfig, host: &Host) -> Vec<String> {
        let mut problems = Vec::new();
        let mut datapath = self.datapath();
        for interface in &agent.interfaces {
            let name = &interface.name.value;
            let attached = match host.interfaces.get(name) {
                Some(found) => guard_all(&mut datapath, interface, found.ifindex),
                None => {
                    Err(anyhow::anyhow!("the interface does not exist; it is guarded as soon as it does"))
                }
            };
            if let Err(error) = attached {
                problems.push(format!("{name} is not guarded as it should be: {error:#}"));
            }
        }
        problems
    }
}

/// A candidate with its reconciler.
struct Rehearsal {
    candidate: Candidate,
    reconciler: Reconciler,
    engaged: bool,
}

impl Rehearsal {
    fn open(datapath: &Datapath, rules: u32) -> Result<Self> {
        // Room for rules to come, so that few changes need another table.
        let mut candidate = datapath.candidate(rules.max(WOULD_RULE_ROWS).next_power_of_two())?;
        // The one that an earlier agent left may be engaged: what is staged next must not be seen half.
        let reconciler = Reconciler::observe(candidate.rows())?;
        Ok(Self { candidate, reconciler, engaged: false })
    }

    fn follow(&mut self, tables: &Tables, anew: bool) -> Result<()> {
        if anew {
            self.suspend()?;
            self.candidate.forget()?;
        }
        self.reconciler.apply(self.candidate.rows(), tables)?;
        self.candidate.engage()?;
        self.engaged = true;
        Ok(())
    }

    fn suspend(&mut self) -> Result<()> {
        self.candidate.disengage()?;
        self.engaged = false;
        Ok(())
    }
}

/// Guards every point of an interface.
fn guard_all(datapath: &mut Datapath, interface: &Interface, ifindex: u32) -> Result<()> {
    let name = &interface.name.value;
    let link = datapath::link_type(name)?;
    // Before the first packet; and a link that cannot do it is guarded all the same.
    let tags = if link == LinkType::Ethernet { keep_vlan_tags(name) } else { Ok(()) };
    let modes = modes(interface, link);
    let guarded = modes.into_iter().try_for_each(|mode| guard(datapath, name, ifindex, Hook { link, mode }));
    guarded.and(tags)
}

/// How the program is to be hooked in; the driver has no say where there is no Ethernet header.
fn modes(interface: &Interface, link: LinkType) -> Vec<Mode> {
    let entering = match (link, interface.attach_mode) {
        (LinkType::Ethernet, AttachMode::Native) => Mode::Native,
        (LinkType::Ethernet, AttachMode::Generic) | (LinkType::RawIp, _) => Mode::Generic,
    };
    let leaving = (interface.downlink != Downlink::Ingress).then_some(Mode::Tcx);
    std::iter::once(entering).chain(leaving).collect()
}

/// Attaches unless the program of this agent runs there already.
fn guard(datapath: &mut Datapath, name: &str, ifindex: u32, hook: Hook) -> Result<()> {
    let point = hook.mode.point(ifindex);
    if !datapath.is_attached(point) {
        let attachment = datapath.attach(name, ifindex, hook)?;
        tracing::info!("attached to {name} (ifindex {ifindex}, {})", attachment.mode.as_str());
    }
    match datapath.mode(point) {
        Some(mode) if mode != hook.mode => Err(keeps_its_mode(mode, hook.mode)),
        Some(_) | None => Ok(()),
    }
}

/// To change it, the program must be let go of first.
fn keeps_its_mode(mode: Mode, wanted: Mode) -> anyhow::Error {
    let (mode, wanted) = (mode.as_str(), wanted.as_str());
    anyhow!(
        "it is judged in {mode} mode, as it was before agent.yaml asked for {wanted}: a change would leave the interface \
         open for a moment. When that may be, stop the agent, run `bulkhead detach` and start it again"
    )
}

/// Looked at on every tick: a driver may bring its offloads back with a reset.
fn keep_vlan_tags(name: &str) -> Result<()> {
    let switched = datapath::keep_vlan_tags(name)?;
    if !switched.is_empty() {
        let switched = switched.join(", ");
        tracing::warn!("switched {switched} of {name} off: it hides VLAN tags from the program");
    }
    Ok(())
}

/// Lets go of interfaces that the configuration does not name any more.
fn release_others(datapath: &mut Datapath, agent: &AgentConfig, host: &Host) -> Result<()> {
    let attachments = datapath.attachments().context("list the pinned links")?;
    for attachment in attachments.into_iter().filter(|attachment| !attachment.defunct) {
        if is_configured(&attachment, agent, host) {
            continue;
        }
        datapath.detach_point(attachment.point())?;
        tracing::warn!("{} is no longer configured and no longer guarded", attachment.interface);
    }
    Ok(())
}

/// By name, and by number too: an interface that was renamed is still pinned under its old name.
fn is_configured(attachment: &Attachment, agent: &AgentConfig, host: &Host) -> bool {
    agent.interfaces.iter().any(|interface| {
        let name = &interface.name.value;
        let same = *name == attachment.interface
            || host.interfaces.get(name).is_some_and(|found| found.ifindex == attachment.ifindex);
        same && (attachment.mode != Mode::Tcx || interface.downlink != Downlink::Ingress)
    })
}

/// Where this version keeps its pins: another layout lies beside, never on top.
pub fn pins(folder: &Path) -> std::path::PathBuf {
    folder.join(format!("v{}", bulkhead_common::abi::ABI_VERSION))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{SourceFile, parse_agent};
    use crate::tables::HostInterface;

    #[test]
    fn a_renamed_interface_stays_guarded_under_its_new_name() {
        let text = "apiVersion: bulkhead/v1\nkind: Agent\nmetadata: {name: core}\n\
                    spec: {interfaces: [{name: wan0, roles: [core], transit: pass}]}\n";
        let agent = parse_agent(vec![SourceFile::new("agent.yaml", text)]).unwrap();
        let mut host = Host::default();
        host.interfaces.insert("wan0".into(), HostInterface { ifindex: 7, ..HostInterface::default() });
        let pinned = |interface: &str, ifindex| Attachment {
            interface: interface.into(),
            ifindex,
            mode: Mode::Native,
            defunct: false,
        };
        assert!(is_configured(&pinned("eth0", 7), &agent, &host));
        assert!(is_configured(&pinned("wan0", 7), &agent, &host));
        assert!(!is_configured(&pinned("eth0", 8), &agent, &host));
    }
}
