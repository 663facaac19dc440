//! The operator's intent, valid by construction and free of YAML.
//!
//! A [`Policy`] is only made by validation, so whoever holds one may rely on: names exist,
//! addresses belong to one device, prefixes have no host bits, a device is in one segment.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;

use super::attribute::{Attribute, AttributeKey, Attributes, Source};
use super::canary::Canary;
use super::condition::{Conditions, Knowledge, Plmn, Seen, Unmet};
use super::grant::Grant;
use super::location::{Located, Location};
use super::name::Name;
use super::ports::Port;
use super::schedule::When;
use crate::few::Few;
use crate::layered::Layered;
use crate::text::Text;

/// Labels of a device, or those that a selector asks for.
pub type Labels = BTreeMap<String, String>;

/// Everything an operator wants, except what this host is (see [`super::AgentConfig`]).
#[derive(Debug, Clone, Default)]
pub struct Policy {
    pub(crate) networks: BTreeMap<Name, Network>,
    pub(crate) segments: BTreeMap<Name, Segment>,
    pub(crate) devices: Layered<Name, Arc<Device>>,
    pub(crate) destinations: BTreeMap<Name, Destination>,
    pub(crate) policies: BTreeMap<Name, PolicyRules>,
    pub(crate) grants: BTreeMap<Name, Grant>,
    /// Devices of which something is known beside their documents.
    pub(crate) observed: BTreeSet<Name>,
    /// The identifiers of all devices.
    pub(crate) identifiers: Identifiers,
}

/// IMSIs and ICCIDs, each as a number of its own.
pub(crate) type Identifiers = Layered<u128, ()>;

impl Policy {
    /// Private APNs by name.
    pub fn networks(&self) -> &BTreeMap<Name, Network> {
        &self.networks
    }

    /// Classes of devices by name.
    pub fn segments(&self) -> &BTreeMap<Name, Segment> {
        &self.segments
    }

    /// SIMs by name.
    pub fn devices(&self) -> &Layered<Name, Arc<Device>> {
        &self.devices
    }

    /// Named remote endpoints by name.
    pub fn destinations(&self) -> &BTreeMap<Name, Destination> {
        &self.destinations
    }

    /// True if a rule of it depends on time.
    pub fn is_timed(&self) -> bool {
        let mut rules = self.policies.values().flat_map(|policy| &policy.rules);
        rules.any(|rule| !rule.time.is_always())
    }

    /// Grants by name, open or not.
    pub fn grants(&self) -> &BTreeMap<Name, Grant> {
        &self.grants
    }

    /// What is written as policies: not the rules of grants.
    pub fn written(&self) -> impl Iterator<Item = &PolicyRules> {
        self.policies.values().filter(|rules| !self.grants.contains_key(&rules.name))
    }

    /// Takes the rules away from grants that are not open to anybody: they have ended, or wait for somebody.
    pub fn close_grants(&mut self, is_closed: impl Fn(&Grant) -> bool) {
        for grant in self.grants.values().filter(|grant| is_closed(grant)) {
            if let Some(rules) = self.policies.get_mut(&grant.name) {
                rules.rules.clear();
            }
        }
    }

    /// Rules by the name of the policy that holds them; the rule of a grant by the name of the grant.
    pub fn policies(&self) -> &BTreeMap<Name, PolicyRules> {
        &self.policies
    }

    /// The rules about a device that conditions close to it, as `policy/rule`, with every condition that is false.
    pub fn closed_to(&self, device: &Device) -> BTreeMap<String, Vec<Unmet>> {
        let closed = self.demanding(device).filter_map(|(policy, rule)| {
            let unmet = rule.conditions.unmet(device);
            (!unmet.is_empty()).then(|| (format!("{policy}/{}", rule.name), unmet))
        });
        closed.collect()
    }

    /// How long until something that was observed is too old for a rule that holds by it.
    pub fn ages_in(&self) -> Option<Duration> {
        let observed = self.observed.iter().filter_map(|name| self.devices.get(name));
        let ages = observed.flat_map(|device| {
            self.demanding(device).filter_map(|(_, rule)| rule.conditions.ages_in(device))
        });
        ages.min()
    }

    /// Boot time in nanoseconds at which the kernel itself takes for too old what is known of a device; nothing if no rule
    /// holds by something that ages.
    pub(crate) fn aged_at(&self, device: &Device) -> Option<u64> {
        let holding = self.demanding(device).filter(|(_, rule)| {
            !device.observed.is_empty() && rule.conditions.closed_by(device, Knowledge::Fresh).is_none()
        });
        holding.filter_map(|(_, rule)| rule.conditions.aged_at(device)).min()
    }

    /// The rules that demand something of a device, with the policies that they stand in.
    fn demanding(&self, device: &Device) -> impl Iterator<Item = (&Name, &Rule)> {
        let about = |rules: &&PolicyRules| match &rules.subject {
            Subject::Devices(chosen) => chosen.matches(device),
            Subject::Between(ends) => ends.initiator.matches(device),
        };
        let rules = self.policies.values().filter(move |rules| about(rules));
        let rules = rules.flat_map(|rules| rules.rules.iter().map(|rule| (&rules.name, rule)));
        rules.filter(|(_, rule)| !rule.conditions.is_empty())
    }

    /// The same as documents have it, without what is known beside them.
    pub fn unobserved(&self) -> Cow<'_, Self> {
        match self.observed.is_empty() {
            true => Cow::Borrowed(self),
            false => {
                let mut bare = self.clone();
                bare.observe(BTreeMap::new());
                Cow::Owned(bare)
            }
        }
    }

    /// The same with no other devices than these.
    pub(crate) fn of_devices(&self, kept: &[&Name]) -> Self {
        let devices =
            kept.iter().filter_map(|name| Some(((*name).clone(), Arc::clone(self.devices.get(*name)?))));
        Self {
            networks: self.networks.clone(),
            segments: self.segments.clone(),
            devices: devices.collect(),
            destinations: self.destinations.clone(),
            policies: self.policies.clone(),
            grants: self.grants.clone(),
            identifiers: Identifiers::default(),
            observed: kept
                .iter()
                .filter(|name| self.observed.contains(**name))
                .map(|name| (*name).clone())
                .collect(),
        }
    }

    /// Replaces what is known of one device.
    pub fn observe_one(&mut self, name: &Name, known: Attributes) {
        let Some(device) = self.devices.get_mut(name) else { return };
        match known.is_empty() {
            true => self.observed.remove(name),
            false => self.observed.insert(name.clone()),
        };
        Arc::make_mut(device).observed = known;
    }

    /// Replaces what is known of devices beside their documents, and names those of which it differs; what is said of
    /// devices that it does not have is not used.
    pub fn observe(&mut self, mut known: BTreeMap<Name, Attributes>) -> Vec<Name> {
        let mut differ: BTreeSet<Name> = self.observed.iter().chain(known.keys()).cloned().collect();
        differ.retain(|name| {
            let known = known.remove(name).unwrap_or_default();
            let differs = self.devices.get(name).is_some_and(|device| device.observed != known);
            if differs {
                self.observe_one(name, known);
            }
            differs
        });
        differ.into_iter().collect()
    }
}

/// One private APN (3GPP: DNN, network instance): an address space of its own.
#[derive(Debug, Clone)]
pub struct Network {
    /// Its name.
    pub name: Name,
    /// Where it was written.
    pub at: Location,
    /// Where its traffic enters this host; no other network is seen there.
    pub seen_on: Vec<Located<Subinterface>>,
    /// TEIDs that belong to this network, by the GTP-U interface where they do; no other network has them there.
    pub teids: BTreeMap<Subinterface, Vec<Located<TeidRange>>>,
    /// Addresses that are devices or nothing. Disjoint.
    pub pools: Vec<Located<IpNet>>,
    /// Addresses that devices reach only by a service or a destination that says so. An address
    /// in here and in a pool is infrastructure.
    pub infrastructure: Vec<Located<IpNet>>,
    /// What every device needs, by the name that rules use.
    pub services: BTreeMap<Name, Service>,
    /// Ports that no rule opens for any device of this network.
    pub never: Vec<Port>,
    /// What happens to IP fragments from and to its devices.
    pub fragments: FragmentMode,
    /// True if its devices may send and be sent IPv4 options and IPv6 options headers.
    pub passes_options: bool,
    /// How packets of its live flows go on.
    pub forwarding: Forwarding,
    /// How long its flows live.
    pub timeouts: Timeouts,
    /// Whether what policy refuses is dropped.
    pub mode: Mode,
}

/// How packets of live flows go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarding {
    /// Through the kernel's stack.
    Kernel,
    /// Past it by XDP, where that changes nothing that is known of.
    Xdp,
}

/// What becomes of a packet that policy refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It is dropped.
    Enforce,
    /// It passes, and is told as one that would have been dropped. Nothing that policy has no say in
    /// passes for that: spoofed, malformed, into another network.
    Observe,
}

impl Mode {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
        }
    }
}

/// How long flows live without a packet of their device; what is `None` is left to the engine.
#[derive(Debug, Clone, Default)]
pub struct Timeouts {
    /// TCP that nobody answered yet.
    pub tcp_half_open: Option<Duration>,
    /// TCP that was answered.
    pub tcp_established: Option<Duration>,
    /// TCP that both sides have closed, or that was reset.
    pub tcp_closing: Option<Duration>,
    /// UDP that was answered.
    pub udp: Option<Duration>,
    /// UDP that nobody answered yet.
    pub udp_unanswered: Option<Duration>,
    /// SCTP.
    pub sctp: Option<Duration>,
    /// ICMP echo.
    pub icmp: Option<Duration>,
    /// Protocols without ports.
    pub portless: Option<Duration>,
}

impl Timeouts {
    /// As the engine reads them.
    pub fn row(&self) -> bulkhead_common::abi::Timeouts {
        // A day at most, so seconds fit.
        let seconds = |time: Option<Duration>| time.map_or(0, |time| time.as_secs() as u32);
        bulkhead_common::abi::Timeouts {
            tcp_half_open: seconds(self.tcp_half_open),
            tcp_established: seconds(self.tcp_established),
            tcp_closing: seconds(self.tcp_closing),
            udp: seconds(self.udp),
            udp_unanswered: seconds(self.udp_unanswered),
            sctp: seconds(self.sctp),
            icmp: seconds(self.icmp),
            portless: seconds(self.portless),
        }
    }
}

/// What happens to IP fragments from and to devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FragmentMode {
    /// In order and without overlap they are judged by their first one.
    Track,
    /// They are dropped.
    Drop,
}

/// Where frames enter: an interface and up to two VLAN tags.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subinterface {
    /// The kernel's name of the interface.
    pub interface: String,
    /// Outer VLAN, 1–4094; 0 stands for untagged.
    pub vlan: u16,
    /// Inner VLAN of QinQ, 1–4094; 0 stands for none.
    pub inner_vlan: u16,
}

impl std::fmt::Display for Subinterface {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.interface)?;
        match (self.vlan, self.inner_vlan) {
            (0, _) => Ok(()),
            (outer, 0) => write!(f, " vlan {outer}"),
            (outer, inner) => write!(f, " vlan {outer}.{inner}"),
        }
    }
}

/// A stretch of GTP-U tunnel endpoint identifiers, both ends included; never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TeidRange {
    /// The first.
    pub first: u32,
    /// The last.
    pub last: u32,
}

impl std::fmt::Display for TeidRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.first == self.last {
            true => write!(f, "{:#x}", self.first),
            false => write!(f, "{:#x}-{:#x}", self.first, self.last),
        }
    }
}

/// Addresses and ports that rules name together.
#[derive(Debug, Clone)]
pub struct Service {
    /// Where it was written.
    pub at: Location,
    /// The servers.
    pub addresses: Vec<Located<IpAddr>>,
    /// The ports that a rule naming this service opens.
    pub ports: Vec<Port>,
}

/// A class of devices that are treated alike.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Its name.
    pub name: Name,
    /// Where it was written.
    pub at: Location,
    /// Labels that make a device a member; never empty.
    pub members: Labels,
    /// Ports that no rule opens for its devices.
    pub never: Vec<Port>,
    /// What its devices may still call from quarantine, if whoever puts them there says so.
    pub repair: Option<Rule>,
    /// As [`Network::mode`], for its devices; `None` is their network's. Never looser than that.
    pub mode: Option<Located<Mode>>,
    /// Which of its devices are enforced first, while the others are observed.
    pub canary: Option<Canary>,
    /// What each of its devices may do.
    pub limits: Limits,
}

/// What each device of a segment may do, each way apart; what is `None` is not limited.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// Where they were written.
    pub at: Option<Location>,
    /// Packets in a second.
    pub packets_per_second: Option<u32>,
    /// Bits in a second, of whole frames.
    pub bits_per_second: Option<u64>,
    /// Flows that may be opened in a second.
    pub new_flows_per_second: Option<u32>,
    /// Flows at once.
    pub flows: Option<u32>,
}

impl Limits {
    /// Those that are written, by name and as they are written.
    pub fn written(&self) -> impl Iterator<Item = (&'static str, String)> {
        let number = |limit: Option<u32>| limit.map(|limit| limit.to_string());
        [
            ("packetsPerSecond", number(self.packets_per_second)),
            ("rate", self.bits_per_second.map(|bits| format!("{}kbit", bits / 1000))),
            ("newFlowsPerSecond", number(self.new_flows_per_second)),
            ("flows", number(self.flows)),
        ]
        .into_iter()
        .filter_map(|(name, limit)| Some((name, limit?)))
    }
}

/// As they are written, `-` without any.
impl fmt::Display for Limits {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written: Vec<String> = self.written().map(|(name, limit)| format!("{name} {limit}")).collect();
        if written.is_empty() { formatter.write_str("-") } else { formatter.write_str(&written.join(", ")) }
    }
}

/// One SIM.
#[derive(Debug, Clone)]
pub struct Device {
    /// Its name.
    pub name: Name,
    /// Where it was written.
    pub at: Location,
    /// The network it belongs to.
    pub network: Located<Name>,
    /// The one segment whose selector matches it, if any.
    pub segment: Option<Name>,
    /// Labels, for selectors. Most devices share those of others.
    pub labels: Arc<Labels>,
    /// Its own addresses and prefixes: inside the network's pools, and nobody else's.
    pub addresses: Few<Located<IpNet>>,
    /// The TEID that its packets must come with (TS 29.281: the one its UPF or PGW gave its session).
    pub teid: Option<Located<u32>>,
    /// The LAN behind it (framed routes, RFC 2865 section 5.22): nobody else's either, and in no
    /// pool by necessity. Where one lies in another or in an address, the longest prefix says what
    /// an address is.
    pub framed_routes: Vec<Located<IpNet>>,
    /// Where its frames must enter. Few devices have one, so it takes no room in the others.
    pub binding: Option<Box<Binding>>,
    /// Its SIM profiles (several on an eSIM).
    pub profiles: Few<SimProfile>,
    /// IMEI of the equipment, 14–16 digits.
    pub imei: Option<Box<Located<String>>>,
    /// What is known of it beside this document. No policy: empty until somebody puts it in.
    pub observed: Attributes,
}

impl Device {
    /// Every prefix that the device speaks for: its own, and those behind it.
    pub fn prefixes(&self) -> impl Iterator<Item = &Located<IpNet>> {
        self.addresses.iter().chain(&self.framed_routes)
    }

    /// What is known of it: what was observed, or else what its document says.
    ///
    /// The network follows from the tracking area or the cell where nobody names it.
    pub fn attribute(&self, key: &AttributeKey) -> Option<Seen<'_>> {
        if let Some(observed) = self.observed.get(key) {
            let Attribute { value, source, age, said_ms } = observed;
            return Some(Seen { value, source: *source, age: *age, said_ms: *said_ms });
        }
        let written = match key {
            AttributeKey::Label(name) => self.labels.get(name),
            AttributeKey::Imei => self.imei.as_ref().map(|imei| &imei.value),
            AttributeKey::Plmn => {
                return self
                    .network_of(&AttributeKey::TrackingArea)
                    .or_else(|| self.network_of(&AttributeKey::Cell));
            }
            AttributeKey::TrackingArea | AttributeKey::Cell | AttributeKey::Rat => None,
        };
        written.map(|value| Seen { value, source: Source::Policy, age: None, said_ms: None })
    }

    /// What its document says of it.
    pub fn written(&self) -> impl Iterator<Item = (AttributeKey, &str)> {
        let labels =
            self.labels.iter().map(|(name, value)| (AttributeKey::Label(name.clone()), value.as_str()));
        labels.chain(self.imei.iter().map(|imei| (AttributeKey::Imei, imei.value.as_str())))
    }

    fn network_of(&self, place: &AttributeKey) -> Option<Seen<'_>> {
        let seen = self.attribute(place)?;
        Some(Seen { value: Plmn::of_place(seen.value), ..seen })
    }

    /// True if the device speaks for an address.
    pub fn holds(&self, address: IpAddr) -> bool {
        self.prefixes().any(|prefix| prefix.value.contains(&address))
    }

    /// True if an address that it speaks for lies behind it and is not its own.
    pub fn is_behind(&self, address: IpAddr) -> bool {
        let longest = |prefixes: &[Located<IpNet>]| {
            let covering = prefixes.iter().filter(|prefix| prefix.value.contains(&address));
            covering.map(|prefix| prefix.value.prefix_len()).max()
        };
        longest(&self.framed_routes) > longest(&self.addresses)
    }
}

/// Where a device's frames must enter; what is `None` is not checked. At least one is set.
#[derive(Debug, Clone)]
pub struct Binding {
    /// Where it was written.
    pub at: Location,
    /// Interface.
    pub interface: Option<String>,
    /// Outer VLAN, 1–4094.
    pub vlan: Option<u16>,
    /// Inner VLAN, 1–4094.
    pub inner_vlan: Option<u16>,
    /// Source MAC address.
    pub mac: Option<[u8; 6]>,
}

/// One profile on a SIM; at least one of the two is known.
#[derive(Debug, Clone, Default)]
pub struct SimProfile {
    /// ICCID, 18–22 digits.
    pub iccid: Option<Located<Text>>,
    /// IMSI, 6–15 digits.
    pub imsi: Option<Located<Text>>,
}

/// A named set of remote endpoints.
#[derive(Debug, Clone)]
pub struct Destination {
    /// Its name.
    pub name: Name,
    /// Where it was written.
    pub at: Location,
    /// The addresses.
    pub cidrs: Vec<Located<IpNet>>,
    /// True if it is meant to reach infrastructure and lies wholly inside it. Otherwise pools,
    /// infrastructure and special addresses are cut from it.
    pub reaches_infrastructure: bool,
}

/// One `kind: Policy` document.
#[derive(Debug, Clone)]
pub struct PolicyRules {
    /// Its name.
    pub name: Name,
    /// Where it was written; a rule to allow more goes here.
    pub at: Location,
    /// Which devices its rules are about.
    pub subject: Subject,
    /// The rules; names are unique in here.
    pub rules: Vec<Rule>,
    /// What must hold before the policy is applied.
    pub tests: Vec<Test>,
}

impl PolicyRules {
    /// True if its rules are about a device, at either end.
    pub fn is_about(&self, device: &Device) -> bool {
        match &self.subject {
            Subject::Devices(chosen) => chosen.matches(device),
            Subject::Between(ends) => ends.initiator.matches(device) || ends.responder.matches(device),
        }
    }
}

/// Whom the rules of a policy are about.
#[derive(Debug, Clone)]
pub enum Subject {
    /// Devices, and the world outside.
    Devices(Selector),
    /// Device to device; both ends are named.
    Between(Between),
}

/// Both ends of device-to-device rules.
#[derive(Debug, Clone)]
pub struct Between {
    /// Who may open a flow.
    pub initiator: Selector,
    /// Who may be called.
    pub responder: Selector,
    /// Labels that must be present and equal on both.
    pub same_labels: Vec<String>,
}

/// A choice of devices.
#[derive(Debug, Clone)]
pub enum Selector {
    /// The members of a segment.
    Segment(Located<Name>),
    /// One device.
    Device(Located<Name>),
    /// Every device with these labels; never empty.
    Labels(Located<Labels>),
}

impl Selector {
    /// True if a device is chosen.
    pub fn matches(&self, device: &Device) -> bool {
        match self {
            Self::Segment(name) => device.segment.as_ref() == Some(&name.value),
            Self::Device(name) => device.name == name.value,
            Self::Labels(labels) => carries(&device.labels, &labels.value),
        }
    }
}

/// True if `labels` has every pair of `wanted`.
pub fn carries(labels: &Labels, wanted: &Labels) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// One permission.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its name, unique in its policy.
    pub name: Name,
    /// Where it was written.
    pub at: Location,
    /// Which way, and to or from whom.
    pub direction: Direction,
    /// The ports of the side that is called. Empty only if the rule names nothing but services,
    /// which bring their own.
    pub ports: Vec<Port>,
    /// The addresses behind the called device that it opens. Empty: the device's own addresses and
    /// nothing behind it. Never of an outbound rule.
    pub behind: Vec<Located<IpNet>>,
    /// How long a flow lives without a packet, 1 s to 24 h; `None` leaves it to the engine.
    pub idle: Option<Duration>,
    /// What must be true of the device that it is about; in `between`, of the one that calls.
    pub conditions: Conditions,
    /// When it holds.
    pub time: When,
}

impl Rule {
    /// True if it is about this address of the device that is called.
    pub fn opens_at(&self, called: &Device, address: IpAddr) -> bool {
        match called.is_behind(address) {
            true => self.behind.iter().any(|prefix| prefix.value.contains(&address)),
            false => self.behind.is_empty(),
        }
    }
}

/// Who calls whom.
#[derive(Debug, Clone)]
pub enum Direction {
    /// The device calls out.
    Outbound(Remotes),
    /// The outside calls the device.
    Inbound(Remotes),
    /// The initiator of [`Subject::Between`] calls the responder.
    Peer,
}

/// The far end of a rule.
#[derive(Debug, Clone, Default)]
pub struct Remotes {
    /// Destinations by name.
    pub destinations: Vec<Located<Name>>,
    /// Services by name, of the subject's own network. Outbound only.
    pub services: Vec<Located<Name>>,
    /// Prefixes written in place.
    pub cidrs: Vec<Located<IpNet>>,
}

/// One expectation, judged by the engine before a policy is applied.
#[derive(Debug, Clone)]
pub struct Test {
    /// Where it was written.
    pub at: Location,
    /// The device that calls, or is called if `inbound`.
    pub device: TestDevice,
    /// The address of that device, or behind it, that is meant; else any of its own.
    pub local: Option<Located<IpAddr>>,
    /// The other end.
    pub remote: TestRemote,
    /// True if the remote end calls.
    pub inbound: bool,
    /// The port that is called; never [`Port::Any`], and a single port.
    pub port: Port,
    /// What is assumed to be known of the device, instead of what is.
    pub given: Attributes,
    /// True if it must be allowed.
    pub allow: bool,
    /// The moment that is meant; a rule that depends on time needs one.
    pub when: Option<Timestamp>,
    /// The rule that must be the one to allow it: `rule` of this policy, or `policy/rule`.
    pub rule: Option<Located<String>>,
}

/// Which device a test is about.
#[derive(Debug, Clone)]
pub enum TestDevice {
    /// This one.
    Named(Located<Name>),
    /// One that is made up for the test.
    Like(Like),
}

/// A device that nobody has: what every member of a segment is, and no more.
#[derive(Debug, Clone)]
pub struct Like {
    /// The segment.
    pub segment: Located<Name>,
    /// Labels that it has beside those that make it a member.
    pub labels: Labels,
}

/// The far end of a test.
#[derive(Debug, Clone)]
pub enum TestRemote {
    /// An address.
    Address(Located<IpAddr>),
    /// A device; its first address of the caller's family is taken.
    Device(Located<Name>),
}
