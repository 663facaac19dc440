//! The policy that a question is about: written in files, or in force in the agent.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use bulkhead_common::abi::DeviceId;
use bulkhead_common::abi::key::EGRESS;
use jiff::Timestamp;

use super::settings::Settings;
use crate::api::client::Client;
use crate::api::types::{
    Accepted, AcceptedInterface, AttributeReport, NamedText, QuarantineReport, RevisionInfo, path,
};
use crate::datapath::Datapath;
use crate::policy::{
    self, AgentConfig, Anchor, Attribute, AttributeKey, Attributes, Compiled, Confinement, Device,
    Diagnostics, Ids, Name, Pair, Policy, SourceFile, Timeline, nearest_name,
};
use crate::tables::{Host, HostInterface};

/// A policy, the host it is compiled for, and what the engine makes of both.
#[derive(Debug)]
pub(super) struct Basis {
    /// The host's settings.
    pub(super) agent: AgentConfig,
    /// The policy.
    pub(super) policy: Policy,
    /// Interfaces and their addresses.
    pub(super) host: Host,
    /// The engine's tables.
    pub(super) compiled: Compiled,
    /// The revision; none if the policy is only written.
    pub(super) revision: Option<RevisionInfo>,
    /// Devices in quarantine.
    pub(super) quarantine: Vec<QuarantineReport>,
    /// What is known of the clock.
    pub(super) timeline: Timeline,
    /// The moment that is asked about.
    pub(super) moment: Pair,
}

impl Basis {
    /// Takes what is written, for the host that is described among it or by the settings, or for one imagined
    /// from the policies.
    ///
    /// In-file tests are not run: whoever asks may be looking for why one fails.
    pub(super) fn written(paths: &[PathBuf], settings: &Settings) -> Result<Self, Diagnostics> {
        let (loaded, agent) = policy::parse_beside_agent(policy::read(paths)?, settings.agent_if_any()?)?;
        let agent = agent.unwrap_or_else(|| policy::assumed_agent(&loaded.policy));
        let host = policy::assumed_host(&agent);
        let moment = Pair::of(Timestamp::now());
        Self::compile(loaded.policy, (agent, host), None, (Timeline::of(moment.wall), moment))
    }

    /// Asks the agent for what it enforces, and compiles it again here.
    pub(super) fn in_force(client: &Client) -> Result<Self> {
        let Accepted { revision, agent, files, interfaces, quarantine, attributes, closed_grants, clock } =
            client.get(path::ACCEPTED, &())?;
        let agent = policy::parse_agent(vec![source(agent)])?;
        let interfaces = interfaces.into_iter().map(|(name, AcceptedInterface { ifindex, addresses })| {
            (name, HostInterface { ifindex, addresses, ..HostInterface::default() })
        });
        let host = Host { interfaces: interfaces.collect() };
        let files = files.into_iter().map(source).collect();
        let mut policy = policy::parse(files, Some(&agent))?.policy;
        policy.observe(attributes.into_iter().map(|(name, known)| (name, observed(&known))).collect());
        policy.close_grants(|grant| closed_grants.contains(&grant.name));
        let moment = Pair { wall: Timestamp::now(), boot: Datapath::boot_ns() };
        let timeline = clock.map_or(Timeline::Unknown, Timeline::Known);
        let mut basis = Self::compile(policy, (agent, host), Some(revision), (timeline, moment))?;
        basis.quarantine = quarantine;
        basis.shut();
        Ok(basis)
    }

    /// Shuts in who is in quarantine.
    fn shut(&mut self) {
        let shut = self.quarantine.iter().map(|report| {
            (report.device.clone(), Confinement { until: report.until_boot_ns, repair: report.allow_repair })
        });
        self.compiled.confine(shut);
    }

    /// Assumes something of a device, beside what is known of it.
    pub(super) fn assume(
        &mut self,
        device: &Name,
        given: impl IntoIterator<Item = (AttributeKey, Attribute)>,
    ) -> Result<(), Diagnostics> {
        if let Some(device) = self.policy.devices.get_mut(device) {
            Arc::make_mut(device).observed.extend(given);
        }
        self.compile_again()
    }

    /// Asks about another moment. Where the agent does not believe the clock, as if it did.
    ///
    /// # Errors
    /// The host was not up at that moment, so nothing of it is known.
    pub(super) fn set_moment(&mut self, wall: Timestamp) -> Result<()> {
        let (clock, seen) = match (&self.timeline, &self.revision) {
            (Timeline::Known(anchor), Some(_)) => (anchor.now, anchor.seen),
            (Timeline::Unknown | Timeline::Moments(_), Some(_)) => (self.moment, self.moment),
            (_, None) => (Pair::of(wall), Pair::of(wall)),
        };
        let moment = Pair { wall, boot: clock.boot_at(wall) };
        if moment.boot == 0 && self.revision.is_some() {
            bail!("{wall} was before this host's last boot: ask about files, with -f");
        }
        self.timeline = Timeline::Known(Anchor { seen, ..Anchor::new(moment) });
        self.moment = moment;
        Ok(self.compile_again()?)
    }

    fn compile_again(&mut self) -> Result<(), Diagnostics> {
        let Self { policy, agent, host, timeline, .. } = &*self;
        self.compiled = policy::compile_at(policy, agent, host, &mut Ids::default(), timeline)?;
        self.shut();
        Ok(())
    }

    /// The moment that is asked about, if rules can go by it.
    pub(super) fn wall(&self) -> Option<Timestamp> {
        (self.timeline != Timeline::Unknown).then_some(self.moment.wall)
    }

    fn compile(
        policy: Policy,
        (agent, host): (AgentConfig, Host),
        revision: Option<RevisionInfo>,
        (timeline, moment): (Timeline, Pair),
    ) -> Result<Self, Diagnostics> {
        let compiled = policy::compile_at(&policy, &agent, &host, &mut Ids::default(), &timeline)?;
        Ok(Self { agent, policy, host, compiled, revision, quarantine: Vec::new(), timeline, moment })
    }

    /// The device behind a number of the tables.
    pub(super) fn device(&self, id: DeviceId) -> Option<&Device> {
        self.policy.devices().get(self.compiled.catalogue.devices.get(&id)?).map(Arc::as_ref)
    }

    /// The device with a name that was typed.
    pub(super) fn device_named(&self, typed: &str) -> Result<&Device, String> {
        let found = Name::new(typed).and_then(|name| self.policy.devices().get(&name));
        found.map(Arc::as_ref).ok_or_else(|| missing("device", typed, self.policy.devices().keys()))
    }

    /// The name of an interface by the kernel's number.
    pub(super) fn interface(&self, ifindex: u32) -> Option<&str> {
        let mut interfaces = self.host.interfaces.iter();
        let number = ifindex & !EGRESS;
        interfaces.find(|(_, interface)| interface.ifindex == number).map(|(name, _)| name.as_str())
    }
}

/// Says that there is no such thing, and what was probably meant.
pub(super) fn missing<'a>(kind: &str, typed: &str, names: impl IntoIterator<Item = &'a Name>) -> String {
    let nearest = nearest_name(typed, names.into_iter().map(Name::as_str));
    let help = match nearest {
        Some(nearest) => format!("did you mean {nearest}?"),
        None => format!("`bulkhead get {kind}` lists what is in force"),
    };
    format!("there is no {kind} {typed:?}; {help}")
}

fn observed(known: &[AttributeReport]) -> Attributes {
    known.iter().map(|report| (report.key.clone(), report.attribute())).collect()
}

fn source(text: NamedText) -> SourceFile {
    SourceFile::accepted(text.name, text.text)
}
