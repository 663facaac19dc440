//! A host, its settings, and a policy that is valid for it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bulkhead::policy::{
    self, AgentConfig, Anchor, Compiled, Confinement, Device, Diagnostics, Ids, Name, Pair, Policy,
    SourceFile, Timeline, compile_at,
};
use bulkhead::tables::{Host, HostInterface};
use bulkhead_common::abi::Limits;
use bulkhead_common::abi::value::DEVICE_REPAIR;
use bulkhead_common::case::LinkType;

use super::Random;
use super::known;
use super::policy as text;
use super::{SLEPT, STARTED};

/// Everything that a judgement depends on, besides the frames.
#[derive(Debug)]
pub struct World {
    /// The policy as an operator would have written it.
    pub text: String,
    /// The policy.
    pub policy: Policy,
    /// The host's settings.
    pub agent: AgentConfig,
    /// What the host has.
    pub host: Host,
    /// The policy, compiled for the host.
    pub compiled: Compiled,
    /// Devices in quarantine.
    pub shut: Vec<Shut>,
    ids: Ids,
}

/// A device in quarantine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Shut {
    /// Which one.
    pub device: String,
    /// Monotonic time in nanoseconds at which it ends, for a host that does not sleep meanwhile.
    pub until: Option<u64>,
    /// True if its segment's `repair` is left to it.
    pub repair: bool,
}

/// Interfaces of every world with their numbers, roles and addresses.
pub(super) const INTERFACES: [(&str, u32, &str, &[&str]); 10] = [
    ("acc0", 11, "access", &["10.45.0.1/16", "fe80::1/64"]),
    ("acc1", 12, "access", &["10.46.0.1/24", "fd00:46::1/64"]),
    ("core0", 21, "core", &["192.0.2.1/24", "2001:db8:1::1/64", "10.99.0.1/24"]),
    ("mix0", 31, "access, core", &["198.18.0.1/24"]),
    ("n3", 51, "access", &["10.3.0.10/24", "fd03::10/64"]),
    ("s1u", 52, "access, core", &["10.4.0.10/24"]),
    ("tun0", WITNESS, "witness", &["10.45.0.1/16", "172.16.1.1/24"]),
    ("wg0", LEAVING, "access", &["10.47.0.1/16", "fd00:47::1/32"]),
    ("acc0.101", 13, "", &["10.45.128.1/17"]),
    ("eth9", 41, "", &["172.16.0.1/24"]),
];

/// The interface where what others have judged is only looked at.
pub(super) const WITNESS: u32 = 61;
/// The interface where what leaves to devices is judged too.
pub(super) const LEAVING: u32 = 62;

impl World {
    /// Draws a host and a policy for it.
    ///
    /// # Panics
    /// If twenty policies in a row are refused: the generator writes nonsense then.
    pub fn draw(random: &mut Random) -> Self {
        let (agent, host) = (agent(random), host());
        let mut refused = String::new();
        for _ in 0..20 {
            let text = text::draw(random);
            let mut ids = Ids::default();
            match read(&text, &agent, &host, &mut ids, Some(random)) {
                Ok((policy, compiled)) => {
                    let world = Self { text, policy, agent, host, compiled, shut: Vec::new(), ids };
                    return world.shut_some(random);
                }
                Err(problems) => refused = format!("{problems}\n{text}"),
            }
        }
        panic!("every generated policy was refused: {refused}");
    }

    /// Takes a policy that a person wrote, on the same host.
    ///
    /// # Panics
    /// If it is refused.
    pub fn written(text: &str) -> Self {
        Self::written_where(text, |_| true)
    }

    /// Takes a policy that a person wrote, on a host with settings as wanted.
    ///
    /// # Panics
    /// If it is refused, or a hundred settings are not as wanted.
    pub fn written_where(text: &str, wanted: impl Fn(&AgentConfig) -> bool) -> Self {
        let mut agents = (0..100).map(|seed| agent(&mut Random::new(seed)));
        let agent = agents.find(|agent| wanted(agent)).expect("settings as wanted");
        let host = host();
        let mut ids = Ids::default();
        let (policy, compiled) =
            read(text, &agent, &host, &mut ids, None).unwrap_or_else(|problems| panic!("{problems}"));
        Self { text: text.to_owned(), policy, agent, host, compiled, shut: Vec::new(), ids }
    }

    /// What a policy that a person wrote becomes on the same host, or why it is refused.
    ///
    /// # Errors
    /// Whatever is wrong with it.
    pub fn read(text: &str) -> Result<Compiled, Diagnostics> {
        let (agent, host) = (agent(&mut Random::new(0)), host());
        read(text, &agent, &host, &mut Ids::default(), None).map(|(_, compiled)| compiled)
    }

    /// The same host, networks and devices under other rules; numbers stay with their names.
    ///
    /// # Panics
    /// If twenty policies in a row are refused.
    pub fn redrawn(&self, random: &mut Random) -> Self {
        for _ in 0..20 {
            let text = text::redraw(random, &self.text, &self.policy);
            let (agent, host, mut ids) = (self.agent.clone(), self.host.clone(), self.ids.clone());
            if let Ok((policy, compiled)) = read(&text, &agent, &host, &mut ids, Some(random)) {
                let world = Self { text, policy, agent, host, compiled, shut: Vec::new(), ids };
                return world.shut_some(random);
            }
        }
        panic!("every other policy was refused");
    }

    /// The same with a crowd of devices alike, and with somebody from outside who is let in; some of it is closed again.
    ///
    /// # Panics
    /// If twenty policies in a row are refused.
    pub fn crowded(&self, random: &mut Random) -> Self {
        for _ in 0..20 {
            let text = text::crowd(random, &self.text, &self.policy);
            let mut ids = self.ids.clone();
            if let Ok((mut policy, _)) = read(&text, &self.agent, &self.host, &mut ids, Some(random)) {
                let ended: BTreeSet<Name> =
                    policy.grants().keys().filter(|_| random.chance(20)).cloned().collect();
                policy.close_grants(|grant| ended.contains(&grant.name));
                return self.recompiled(text, policy);
            }
        }
        panic!("every crowd was refused");
    }

    /// The same, but that something else is known of one or two devices, compiled again whole; and which they are.
    ///
    /// # Panics
    /// If what is known makes a policy that was accepted one that is not.
    pub fn known_anew(&self, random: &mut Random) -> (Self, Vec<Name>) {
        let names: Vec<Name> = self.policy.devices().keys().cloned().collect();
        let chosen = (0..1 + random.below(2)).map(|_| random.pick(&names).clone()).collect::<BTreeSet<_>>();
        let mut policy = self.policy.clone();
        for device in &chosen {
            // Often what is known of another, which may have the same rules then.
            let Some(of) = self.policy.devices().get(device) else { continue };
            let kind = |device: &Device| (device.network.value.clone(), device.segment.clone());
            let others = self.policy.devices().values();
            let alike: Vec<_> = others.filter(|other| kind(other) == kind(of)).collect();
            let other = random.pick(&alike).observed.clone();
            let known = if random.chance(80) { other } else { known::of_one(random) };
            policy.observe_one(device, known);
        }
        (self.recompiled(self.text.clone(), policy), chosen.into_iter().collect())
    }

    /// The same host, and whoever is in quarantine, with another policy of the same devices.
    fn recompiled(&self, text: String, policy: Policy) -> Self {
        let mut ids = self.ids.clone();
        let compiled = compile_at(&policy, &self.agent, &self.host, &mut ids, &timeline());
        let mut compiled = compiled.unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        for (number, before) in &self.compiled.tables.devices {
            if let Some(device) = compiled.tables.devices.get_mut(number) {
                (device.quarantine, device.flags) = (before.quarantine, before.flags);
            }
        }
        let (agent, host, shut) = (self.agent.clone(), self.host.clone(), self.shut.clone());
        Self { text, policy, agent, host, compiled, shut, ids }
    }

    /// The book of numbers that it was compiled by.
    pub const fn ids(&self) -> &Ids {
        &self.ids
    }
}

impl World {
    /// The same with nobody in quarantine.
    pub fn released(mut self) -> Self {
        for device in self.compiled.tables.devices.values_mut() {
            (device.quarantine, device.flags) = (0, device.flags & !DEVICE_REPAIR);
        }
        self.shut.clear();
        self
    }

    /// The same with nothing known that gets too old, where the boot clock is the machine's own.
    pub fn ageless(mut self) -> Self {
        self.compiled.tables.devices.values_mut().for_each(|device| device.aged_at = 0);
        self
    }

    /// The same with no limits, for devices that say the same again and again.
    pub fn unlimited(mut self) -> Self {
        for rules in self.compiled.tables.profiles.values_mut() {
            Arc::make_mut(rules).limits = Limits::default();
        }
        self
    }

    /// The same with any number of flows at once: when the room of a dead one is free again, is the kernel's own timer's to say.
    pub fn without_quotas(mut self) -> Self {
        for rules in self.compiled.tables.profiles.values_mut() {
            Arc::make_mut(rules).limits.flows = 0;
        }
        self
    }

    /// Puts some devices into quarantine.
    fn shut_some(mut self, random: &mut Random) -> Self {
        let devices: Vec<Name> = self.policy.devices().keys().cloned().collect();
        for device in devices {
            if random.chance(15) {
                let until = random.chance(60).then(|| (1 + random.below(4_000) as u64) * 1_000_000_000);
                let repair = random.chance(50);
                self = self.shut_in(&device, until, repair);
            }
        }
        self
    }

    /// Puts a device into quarantine until a time, or for good; `repair` leaves its segment's repair to it.
    pub fn shut_in(mut self, device: &Name, until: Option<u64>, repair: bool) -> Self {
        let confinement = Confinement { until: until.map(|until| until + SLEPT), repair };
        self.compiled.confine([(device.clone(), confinement)]);
        self.shut.push(Shut { device: device.to_string(), until, repair });
        self
    }
}

fn read(
    text: &str,
    agent: &AgentConfig,
    host: &Host,
    ids: &mut Ids,
    random: Option<&mut Random>,
) -> Result<(Policy, Compiled), Diagnostics> {
    let file = SourceFile::new("generated.yaml", text);
    let mut policy = policy::parse(vec![file], Some(agent))?.policy;
    if let Some(random) = random {
        let known = known::draw(random, &policy);
        policy.observe(known);
    }
    let compiled = compile_at(&policy, agent, host, ids, &timeline())?;
    Ok((policy, compiled))
}

/// The clocks when the first frame comes.
fn timeline() -> Timeline {
    let wall = STARTED.parse().expect("a moment");
    Timeline::Known(Anchor::new(Pair { wall, boot: SLEPT }))
}

fn agent(random: &mut Random) -> AgentConfig {
    let mut text = "apiVersion: bulkhead/v1\nkind: Agent\nspec:\n  interfaces:\n".to_owned();
    for (name, _, roles, _) in INTERFACES.iter().filter(|(_, _, roles, _)| !roles.is_empty()) {
        let transit = match *roles {
            "witness" => "",
            _ => random.pick(&[", transit: pass", ", transit: drop"]),
        };
        let more = if *name == "wg0" { leaving(random) } else { tunnels(name).to_owned() };
        text += &format!("    - {{name: {name}, roles: [{roles}]{transit}{more}}}\n");
    }
    let file = SourceFile::new("agent.yaml", text);
    policy::parse_agent(vec![file]).unwrap_or_else(|problems| panic!("agent.yaml: {problems}"))
}

/// The GTP-U endpoint of an interface, if it has one.
fn tunnels(interface: &str) -> &'static str {
    match interface {
        "n3" => ", gtpu: {local: [10.3.0.10, \"fd03::10\"], peers: [10.3.0.0/26, \"fd03::/64\"]}",
        "s1u" => ", gtpu: {local: [10.4.0.10], peers: [10.4.0.21], idle: 2m}",
        _ => "",
    }
}

/// What the settings say of an interface where what leaves is judged, and of the packet core behind it.
fn leaving(random: &mut Random) -> String {
    let host = random.pick(&["", ", fromHost: judge", ", fromHost: pass", ", fromHost: pass"]);
    let hairpin = random.pick(&["", ", hairpin: none", ", hairpin: inside"]);
    format!(", downlink: egress{host}{hairpin}")
}

fn host() -> Host {
    let interface = |ifindex, addresses: &[&str]| HostInterface {
        ifindex,
        addresses: addresses.iter().map(|net| net.parse().expect("a prefix")).collect(),
        link: if matches!(ifindex, WITNESS | LEAVING) { LinkType::RawIp } else { LinkType::Ethernet },
    };
    let all = INTERFACES.iter();
    let interfaces =
        all.map(|(name, ifindex, _, addresses)| (String::from(*name), interface(*ifindex, addresses)));
    Host { interfaces: interfaces.collect() }
}
