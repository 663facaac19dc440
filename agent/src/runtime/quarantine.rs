//! Devices that are shut in, whatever policy says of them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use super::apply::Refused;
use super::author::Author;
use super::clock;
use super::engine::Engine;
use super::in_force::InForce;
use crate::api::types::{QuarantineReport, QuarantineRequest, ReleaseRequest};
use crate::policy::Name;
use crate::state::{Moment, Quarantine, Quarantines, Store};

/// Longest reason that is kept.
const REASON_BYTES: usize = 500;
/// Longest time: a year; beyond that, none at all is meant.
const LONGEST_MS: u64 = 366 * 86_400_000;

/// Reads who is in quarantine, with deadlines by the clock of this boot.
pub(super) fn read(store: &Store) -> Result<Quarantines> {
    let kept = store.quarantines()?;
    let mut list = kept.clone();
    let (now, trusted) = (Moment::now(), clock::is_synchronised());
    list.values_mut().for_each(|quarantine| quarantine.settle(&now, trusted));
    if list == kept {
        return Ok(list);
    }
    if let Err(error) = store.keep_quarantines(&list) {
        // A full disk must not keep the agent down. The old file stays: the next start reckons again from it.
        tracing::warn!(
            "when quarantines end in this boot could not be kept: {error:#}; they are in force all the same"
        );
    }
    Ok(list)
}

impl Engine {
    /// Shuts a device in: its next packet is dropped, and so is the next one to it.
    ///
    /// # Errors
    /// [`Refused`]; nothing was changed.
    pub fn quarantine(
        &mut self,
        request: &QuarantineRequest,
        author: Author,
    ) -> Result<QuarantineReport, Refused> {
        let name = self.device_named(&request.device)?;
        if request.reason.trim().is_empty() || request.reason.len() > REASON_BYTES {
            let why = format!("say why with --reason, in at most {REASON_BYTES} bytes");
            return Err(Refused::because(why));
        }
        if request.for_ms.is_some_and(|time| time == 0 || time > LONGEST_MS) {
            return Err(Refused::because("a quarantine that ends by itself lasts from 1s to 366d"));
        }
        if request.allow_repair {
            self.has_repair(&name)?;
        }
        let quarantine = Quarantine::begin(
            request.reason.clone(),
            author.describe(request.sudo_user.as_deref()),
            request.for_ms,
            request.allow_repair,
            Moment::now(),
        );
        let mut list = self.quarantines.clone();
        list.insert(name.clone(), quarantine.clone());
        self.change_quarantines(list).map_err(Refused::Host)?;
        tracing::warn!("{name} is in quarantine, by {}: {}", quarantine.author, quarantine.reason);
        Ok(report(&name, &quarantine))
    }

    /// Lets a device out.
    ///
    /// # Errors
    /// [`Refused`]; it is in no quarantine, or stays in it.
    pub fn release(&mut self, request: &ReleaseRequest, author: Author) -> Result<QuarantineReport, Refused> {
        let mut list = self.quarantines.clone();
        let removed = Name::new(&request.device).and_then(|name| list.remove_entry(&name));
        let Some((name, quarantine)) = removed else {
            let why = format!("{} is in no quarantine (see `bulkhead status`)", request.device);
            return Err(Refused::because(why));
        };
        self.change_quarantines(list).map_err(Refused::Host)?;
        tracing::warn!("{name} is out of quarantine, by {}", author.describe(request.sudo_user.as_deref()));
        Ok(report(&name, &quarantine))
    }

    /// Every device in quarantine.
    pub fn quarantined(&self) -> Vec<QuarantineReport> {
        let now = Moment::now();
        let live = self.quarantines.iter().filter(|(_, quarantine)| !quarantine.is_over(&now));
        live.map(|(name, quarantine)| report(name, quarantine)).collect()
    }

    /// Forgets quarantines whose time is over; the kernel has ended them already.
    pub(super) fn forget_quarantines(&mut self) -> Result<()> {
        let now = Moment::now();
        let mut list = self.quarantines.clone();
        list.retain(|_, quarantine| !quarantine.is_over(&now));
        if list.len() == self.quarantines.len() {
            return Ok(());
        }
        for (name, _) in self.quarantines.iter().filter(|(name, _)| !list.contains_key(*name)) {
            tracing::warn!("{name} is out of quarantine: its time is over");
        }
        self.change_quarantines(list)
    }

    /// How long until the next one ends by itself.
    pub(super) fn quarantine_ends_in(&self) -> Option<Duration> {
        let boot = crate::datapath::Datapath::boot_ns();
        let ends = self.quarantines.values().filter_map(|quarantine| quarantine.confinement().until);
        ends.map(|at| Duration::from_nanos(at.saturating_sub(boot).max(1))).min()
    }

    /// Shuts in whom the list names, in tables that are on their way into force.
    pub(super) fn confine(&self, in_force: &mut InForce) {
        self.confine_some(in_force, |_| true);
    }

    /// As [`Self::confine`], of some devices.
    pub(super) fn confine_some(&self, in_force: &mut InForce, wanted: impl Fn(&Name) -> bool) {
        let list = self.quarantines.iter().filter(|(name, _)| wanted(name));
        in_force.compiled.confine(list.map(|(name, quarantine)| (name.clone(), quarantine.confinement())));
    }

    /// Disk first: what the kernel does must survive a restart.
    fn change_quarantines(&mut self, list: Quarantines) -> Result<()> {
        self.store.keep_quarantines(&list).context("keep the quarantines on disk; nothing was changed")?;
        let before = std::mem::replace(&mut self.quarantines, list);
        if let Err(error) = self.enforce_quarantines(&before) {
            self.quarantines = before;
            self.store.keep_quarantines(&self.quarantines).context("put the list of quarantines back")?;
            return Err(error);
        }
        Ok(())
    }

    /// Brings into force what differs from an earlier list.
    fn enforce_quarantines(&mut self, before: &Quarantines) -> Result<()> {
        let Some(state) = self.accepted.clone() else { return Ok(()) };
        let in_force = self.in_force.clone().filter(|_| self.held.is_none() && self.closed.is_none());
        let Some(in_force) = in_force else { return self.enforce_accepted(state) };
        let of = |list: &Quarantines, name: &Name| list.get(name).map(Quarantine::confinement);
        let names = before.keys().chain(self.quarantines.keys());
        let differ = names.filter(|name| of(before, name) != of(&self.quarantines, name));
        let differ: BTreeMap<_, _> = differ.map(|name| (name.clone(), of(&self.quarantines, name))).collect();
        let mut next = InForce::clone(&in_force);
        let touched = next.compiled.confine_anew(&next.policy, differ);
        self.enforce_few(next, &touched)
    }

    pub(super) fn device_named(&self, typed: &str) -> Result<Name, Refused> {
        let known = self.in_force.as_ref().map(|in_force| in_force.policy.devices());
        let name = Name::new(typed).filter(|name| known.is_some_and(|known| known.contains_key(name)));
        name.ok_or_else(|| {
            Refused::because(format!(
                "there is no device {typed:?} in the policy in force (see `bulkhead get devices`)"
            ))
        })
    }

    fn has_repair(&self, device: &Name) -> Result<(), Refused> {
        let repair = self.in_force.as_ref().and_then(|in_force| {
            let segment = in_force.policy.devices().get(device)?.segment.as_ref()?;
            in_force.policy.segments().get(segment)?.repair.as_ref()
        });
        repair.map(|_| ()).ok_or_else(|| {
            Refused::because(format!(
                "the segment of {device} names no `repair`: add it, or leave --allow-repair out"
            ))
        })
    }
}

/// As others are told of it.
fn report(name: &Name, quarantine: &Quarantine) -> QuarantineReport {
    QuarantineReport {
        device: name.clone(),
        reason: quarantine.reason.clone(),
        author: quarantine.author.clone(),
        since: quarantine.since.wall,
        until: quarantine.ends(&Moment::now()),
        until_boot_ns: quarantine.confinement().until,
        allow_repair: quarantine.allow_repair,
    }
}

/// Why nothing can be brought into force while nobody knows who is in quarantine.
pub(super) fn lost(error: &anyhow::Error) -> anyhow::Error {
    anyhow!(
        "who is in quarantine is lost: {error:#}; put the file back, or remove it to lift every quarantine"
    )
}
