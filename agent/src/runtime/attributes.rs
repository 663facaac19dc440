//! What is known of devices while they run: it opens and closes rules, and is no policy.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use jiff::Timestamp;
use serde::Serialize;

use super::apply::Refused;
use super::author::Author;
use super::clock;
use super::engine::Engine;
use super::in_force::InForce;
use crate::api::types::{AttributeReport, AttributesReply, AttributesRequest};
use crate::datapath::Datapath;
use crate::policy::{AttributeKey, Attributes, Device, Name, Source, Unmet};
use crate::state::{Moment, Saying, Sayings, known};

/// Most attributes that are kept of one device.
const PER_DEVICE: usize = 64;

/// What was known when rules were last opened and closed by it.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Boot time in nanoseconds at which something becomes too old.
    ages_at: Option<u64>,
    /// Whether the wall clock could be believed.
    trusted: bool,
}

impl Engine {
    /// Takes up what somebody says of a device; rules follow at once, and live flows with their next packet.
    ///
    /// # Errors
    /// [`Refused`]; nothing was changed.
    pub fn say(&mut self, request: &AttributesRequest, author: Author) -> Result<AttributesReply, Refused> {
        if matches!(request.source, Source::Policy | Source::Given) {
            let why =
                format!("source {} is kept for what documents and questions say; use api", request.source);
            return Err(Refused::because(why));
        }
        let name = self.device_with_attributes(&request.device)?;
        let mut list = self.sayings.clone();
        let said = list.entry(name.clone()).or_default();
        for key in &request.unset {
            if said.remove(key).is_none() {
                return Err(Refused::because(format!(
                    "nobody has set {key} of {name} (see `bulkhead device get {name}`)"
                )));
            }
        }
        let author = author.describe(request.sudo_user.as_deref());
        for (key, value) in &request.set {
            let value = key.normal(value).map_err(Refused::because)?;
            let saying =
                Saying { value, source: request.source, author: author.clone(), since: Moment::now() };
            said.insert(key.clone(), saying);
        }
        if said.len() > PER_DEVICE {
            return Err(Refused::because(format!(
                "{PER_DEVICE} attributes are kept of a device, and {name} would have more"
            )));
        }
        list.retain(|_, said| !said.is_empty());
        let before = self.closed_to(&name);
        self.change_sayings(list).map_err(Refused::Host)?;
        tracing::info!("{}", told(&name, request, &author));
        self.record(request, author);
        Ok(self.reply_about(&name, &before))
    }

    /// Puts on the record who said what; it is in force whether that succeeds or not.
    fn record(&self, request: &AttributesRequest, author: String) {
        let entry = Recorded {
            time: Timestamp::now(),
            device: &request.device,
            set: &request.set,
            unset: &request.unset,
            source: request.source,
            author,
        };
        if let Err(error) = self.store.record_saying(&entry) {
            tracing::error!("who said what of {} is not on the record: {error:#}", request.device);
        }
    }

    /// All that is known of a device of the policy in force.
    pub(super) fn attributes_of(&self, device: &Device) -> Vec<AttributeReport> {
        let said = self.sayings.get(&device.name);
        let (now, trusted) = (Moment::now(), clock::is_synchronised());
        let written = device.written().filter(|(key, _)| !said.is_some_and(|said| said.contains_key(key)));
        let written = written.map(|(key, value)| AttributeReport {
            key,
            value: value.to_owned(),
            source: Source::Policy,
            author: None,
            since: None,
            age_ms: None,
        });
        let said = said.into_iter().flatten().map(|(key, saying)| report(key, saying, &now, trusted));
        said.chain(written).collect()
    }

    /// What was said of devices, for whoever compiles the policy elsewhere.
    pub(super) fn said(&self) -> BTreeMap<Name, Vec<AttributeReport>> {
        let (now, trusted) = (Moment::now(), clock::is_synchronised());
        let reports = |said: &BTreeMap<AttributeKey, Saying>| {
            said.iter().map(|(key, saying)| report(key, saying, &now, trusted)).collect()
        };
        self.sayings.iter().map(|(name, said)| (name.clone(), reports(said))).collect()
    }

    /// What rules may rely on now.
    pub(super) fn known(&self) -> BTreeMap<Name, Attributes> {
        known(&self.sayings, &Moment::now(), clock::is_synchronised())
    }

    /// How long until something is too old for a rule that holds by it.
    pub(super) fn attributes_age_in(&self) -> Option<Duration> {
        let boot = Datapath::boot_ns();
        self.watch.ages_at.map(|at| Duration::from_nanos(at.saturating_sub(boot)))
    }

    /// Notes when something becomes too old, in what has come into force.
    pub(super) fn watch_ages(&mut self, in_force: &InForce) {
        let left = in_force.policy.ages_in().and_then(|left| u64::try_from(left.as_nanos()).ok());
        let ages_at = left.map(|left| Datapath::boot_ns().saturating_add(left));
        self.watch = Watch { ages_at, trusted: clock::is_synchronised() };
        self.wake.notify_one();
    }

    /// Closes rules to devices of which too much is too old, and opens them where the clock can be believed again.
    pub(super) fn age_attributes(&mut self) -> Result<()> {
        let aged = self.attributes_age_in().is_some_and(|left| left.is_zero());
        let turned = !self.sayings.is_empty() && self.watch.trusted != clock::is_synchronised();
        if aged || turned { self.observe_devices() } else { Ok(()) }
    }

    /// Disk first: what the kernel does must survive a restart.
    fn change_sayings(&mut self, list: Sayings) -> Result<()> {
        self.store
            .keep_sayings(&list)
            .context("keep what is known of devices on disk; nothing was changed")?;
        let before = std::mem::replace(&mut self.sayings, list);
        if let Err(error) = self.observe_devices() {
            self.sayings = before;
            self.store.keep_sayings(&self.sayings).context("put back what was known of devices")?;
            return Err(error);
        }
        Ok(())
    }

    /// Brings the policy in force into force anew, by what is known now; no text is read and no test run again.
    fn observe_devices(&mut self) -> Result<()> {
        let (Some(in_force), Some(state)) = (self.in_force.clone(), self.accepted.clone()) else {
            return Ok(());
        };
        if self.held.is_some() {
            // What is in force is not what was accepted: whatever brings that back asks again what is known.
            return Ok(());
        }
        let mut next = InForce::clone(&in_force);
        let touched = next.observe(&self.agent, self.known(), self.keeper.timeline());
        if let Some(touched) = touched.map_err(|problems| anyhow!(problems.render(false)))? {
            return self.enforce_few(next, &touched);
        }
        self.confine(&mut next);
        let generation = self.enforce(&next.compiled.tables, Some(&next.policy))?;
        self.accepted_at(state, &next, generation);
        let host = next.host.clone();
        self.adopt(next, generation);
        self.settle(&host);
        Ok(())
    }

    /// A device of the policy in force, or one that something is known of.
    fn device_with_attributes(&self, typed: &str) -> Result<Name, Refused> {
        let known = Name::new(typed).filter(|name| self.sayings.contains_key(name));
        known.map_or_else(|| self.device_named(typed), Ok)
    }

    fn closed_to(&self, name: &Name) -> BTreeMap<String, Vec<Unmet>> {
        let policy = self.in_force.as_ref().map(|in_force| &in_force.policy);
        let closed = policy.and_then(|policy| Some(policy.closed_to(policy.devices().get(name)?)));
        closed.unwrap_or_default()
    }

    fn reply_about(&self, name: &Name, before: &BTreeMap<String, Vec<Unmet>>) -> AttributesReply {
        let after = self.closed_to(name);
        let device = self.in_force.as_ref().and_then(|in_force| in_force.policy.devices().get(name));
        let (was, is): (BTreeSet<_>, BTreeSet<_>) = (before.keys().collect(), after.keys().collect());
        let closed = is.difference(&was).map(|rule| ((*rule).clone(), sentences(&after[*rule])));
        AttributesReply {
            device: name.to_string(),
            attributes: device.map(|device| self.attributes_of(device)).unwrap_or_default(),
            opened: was.difference(&is).map(|rule| (*rule).clone()).collect(),
            closed: closed.collect(),
        }
    }
}

/// An entry of the record.
#[derive(Serialize)]
struct Recorded<'a> {
    time: Timestamp,
    device: &'a str,
    set: &'a BTreeMap<AttributeKey, String>,
    unset: &'a [AttributeKey],
    source: Source,
    author: String,
}

/// Conditions that are false, as sentences.
pub(super) fn sentences(unmet: &[Unmet]) -> Vec<String> {
    unmet.iter().map(ToString::to_string).collect()
}

fn report(key: &AttributeKey, saying: &Saying, now: &Moment, trusted: bool) -> AttributeReport {
    AttributeReport {
        key: key.clone(),
        value: saying.value.clone(),
        source: saying.source,
        author: Some(saying.author.clone()),
        since: Some(saying.since.wall),
        age_ms: Some(u64::try_from(saying.age(now, trusted).as_millis()).unwrap_or(u64::MAX)),
    }
}

/// One line for the log: who said what. Whose equipment it is stays out of it.
fn told(name: &Name, request: &AttributesRequest, author: &str) -> String {
    let set = request.set.iter().map(|(key, value)| format!("{key}={}", key.shown(value)));
    let unset = request.unset.iter().map(|key| format!("{key} unset"));
    let said: Vec<String> = set.chain(unset).collect();
    format!("{name}: {} ({}, by {author})", said.join(" "), request.source)
}

/// Why nothing can be brought into force while nobody knows what was said of devices.
pub(super) fn lost(error: &anyhow::Error) -> anyhow::Error {
    anyhow!(
        "what is known of devices is lost: {error:#}; put the file back, or remove it so that only their documents count"
    )
}
