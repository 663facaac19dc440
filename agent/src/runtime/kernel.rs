//! The datapath with its reconciler: what is attached, and what the tables say.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, anyhow};
use nix::fcntl::{Flock, FlockArg};

use crate::datapath::{Datapath, EventRing, Sizes};
use crate::policy::AgentConfig;
use crate::reconcile::{Applied, Reconciler};
use crate::tables::{Host, Tables};

/// The kernel side while an agent runs. Telemetry shares the datapath.
pub(super) struct Kernel {
    datapath: Arc<Mutex<Datapath>>,
    reconciler: Reconciler,
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
        let mut datapath = Datapath::open(&pins, &sizes(agent))?;
        // Looking at the tables erases what an interrupted apply staged: never under an agent that applies.
        let claim = Claim::take(&pins)?;
        let reconciler = Reconciler::observe(&mut datapath)?;
        Ok(Self { datapath: Arc::new(Mutex::new(datapath)), reconciler, _claim: claim })
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

    /// Makes the kernel hold `tables`.
    pub(super) fn apply(&mut self, tables: &Tables) -> Result<Applied> {
        let mut datapath = self.datapath.lock().unwrap_or_else(PoisonError::into_inner);
        self.reconciler.apply(&mut *datapath, tables)
    }

    /// Makes exactly the configured interfaces guarded. Returns what stands in the way, interface by interface.
    pub(super) fn attach(&self, agent: &AgentConfig, host: &Host) -> Vec<String> {
        let mut problems = Vec::new();
        let mut datapath = self.datapath();
        for interface in &agent.interfaces {
            let name = &interface.name.value;
            let attached = match host.interfaces.get(name) {
                Some(found) => guard(&mut datapath, name, found.ifindex),
                None => {
                    Err(anyhow::anyhow!("the interface does not exist; it is guarded as soon as it does"))
                }
            };
            if let Err(error) = attached {
                problems.push(format!("{name} is not guarded: {error:#}"));
            }
        }
        if let Err(error) = release_others(&mut datapath, agent) {
            problems.push(format!("{error:#}"));
        }
        problems
    }
}

/// Attaches unless the program of this agent runs there already.
fn guard(datapath: &mut Datapath, name: &str, ifindex: u32) -> Result<()> {
    if datapath.is_attached(ifindex) {
        return Ok(());
    }
    let attachment = datapath.attach(name, ifindex, false)?;
    tracing::info!("attached to {name} (ifindex {ifindex}, {})", attachment.mode.as_str());
    Ok(())
}

/// Lets go of interfaces that the configuration does not name any more.
fn release_others(datapath: &mut Datapath, agent: &AgentConfig) -> Result<()> {
    let attachments = datapath.attachments().context("list the pinned links")?;
    for attachment in attachments.into_iter().filter(|attachment| !attachment.defunct) {
        if agent.interfaces.iter().any(|interface| interface.name.value == attachment.interface) {
            continue;
        }
        datapath.detach_interface(attachment.ifindex)?;
        tracing::warn!("{} is no longer configured and no longer guarded", attachment.interface);
    }
    Ok(())
}

/// Where this version keeps its pins: another layout lies beside, never on top.
pub fn pins(folder: &Path) -> std::path::PathBuf {
    folder.join(format!("v{}", bulkhead_common::abi::ABI_VERSION))
}

fn sizes(agent: &AgentConfig) -> Sizes {
    let tables = &agent.tables;
    Sizes {
        devices: tables.devices,
        addresses: tables.addresses,
        profiles: tables.profiles,
        ranges: tables.ranges,
        ports: tables.ports,
        flows: tables.flows,
    }
}
