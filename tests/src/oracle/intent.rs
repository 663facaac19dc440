//! What the operator wants, asked directly: every question walks the policy from its start.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bulkhead::policy::{
    AgentConfig, Between, Device, Direction, Interface, Network, Policy, PolicyRules, Port, Portless,
    Protocol, Remotes, Role, Rule, Selector, Subject, Transit,
};
use bulkhead::tables::Host;
use ipnet::IpNet;

use super::{Flaw, Refusal, is_special};

/// A policy on a host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Intent<'p> {
    pub(super) policy: &'p Policy,
    pub(super) agent: &'p AgentConfig,
    pub(super) host: &'p Host,
    pub(super) flaw: Option<Flaw>,
    /// The time by which windows are asked, if it is another.
    pub(super) later: Option<u64>,
}

/// What is called: protocol, port, or echo.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Called {
    /// TCP, UDP or SCTP with the called side's port.
    Port(u8, u16),
    /// An echo.
    Echo,
    /// A protocol without ports, by its number.
    Portless(u8),
}

/// The rule that allows something, and how long its conversations may be silent.
#[derive(Clone, Debug)]
pub(super) struct Permission {
    pub(super) rule: String,
    pub(super) idle_seconds: Option<u64>,
    /// True if it, or another that would allow it, depends on time.
    pub(super) timed: bool,
}

/// Where an IPv6 address leads behind a translator or a relay.
enum Hidden {
    /// It is what it is.
    Nothing,
    /// To an IPv4 address.
    V4(Ipv4Addr),
    /// To IPv4, and nobody said that it may.
    Unsaid,
}

/// What a rule is to a device at a moment.
#[derive(Clone, Copy)]
enum State {
    Open,
    /// It holds at other times.
    Later,
    /// A condition closes it.
    Closed(Refusal),
}

/// Candidates: how specific the prefix is, then the order in which they were found.
#[derive(Default)]
struct Best {
    open: Option<(u8, Permission)>,
    /// Among those that are open at some time, whether the best depends on it.
    ever: Option<(u8, bool)>,
    /// Rules that would allow it and are closed to the device.
    closed: Option<(u8, Refusal)>,
}

impl Best {
    /// Takes a rule if its prefix is longer than the best so far; the first of equals stays.
    fn improve(&mut self, prefix: Option<u8>, state: State, rules: &PolicyRules, rule: &Rule) {
        let Some(prefix) = prefix else { return };
        let longer = |before: Option<u8>| before.is_none_or(|longest| prefix > longest);
        if let State::Closed(why) = state {
            if longer(self.closed.as_ref().map(|(longest, _)| *longest)) {
                self.closed = Some((prefix, why));
            }
            return;
        }
        if longer(self.ever.map(|(longest, _)| longest)) {
            self.ever = Some((prefix, !rule.time.is_always()));
        }
        if matches!(state, State::Open) && longer(self.open.as_ref().map(|(longest, _)| *longest)) {
            self.open = Some((prefix, permission(rules, rule)));
        }
    }

    fn answer(self, flaw: Option<Flaw>, none: Refusal) -> Result<Permission, Refusal> {
        let timed = self.ever.is_some_and(|(_, timed)| timed);
        match (self.open, self.closed) {
            (Some((open, _)), Some((closed, why)))
                if closed > open && flaw == Some(Flaw::ClosesWhatIsOpen) =>
            {
                Err(why)
            }
            (Some((_, permission)), _) => Ok(Permission { timed, ..permission }),
            (None, _) if self.ever.is_some() => Err("condition_time"),
            (None, Some((_, why))) => Err(why),
            (None, None) => Err(none),
        }
    }
}

impl<'p> Intent<'p> {
    /// The configured interface with this number.
    pub(super) fn interface(&self, ifindex: u32) -> Option<&'p Interface> {
        let (name, _) = self.host.interfaces.iter().find(|(_, found)| found.ifindex == ifindex)?;
        self.agent.interfaces.iter().find(|interface| interface.name.value == *name)
    }

    /// The network that is seen on an interface with these tags.
    pub(super) fn network(&self, interface: &str, vlans: (u16, u16)) -> Option<&'p Network> {
        self.policy.networks().values().find(|network| {
            let here = |place: &bulkhead::policy::Subinterface| {
                place.interface == interface && (place.vlan, place.inner_vlan) == vlans
            };
            network.seen_on.iter().any(|place| here(&place.value))
        })
    }

    /// The prefixes that the host itself has on a link.
    pub(super) fn link(&self, interface: &str, vlans: (u16, u16)) -> Vec<IpNet> {
        let name = match vlans {
            (0, 0) => interface.to_owned(),
            (outer, 0) => format!("{interface}.{outer}"),
            (outer, inner) => format!("{interface}.{outer}.{inner}"),
        };
        self.host.interfaces.get(&name).map(|found| found.addresses.clone()).unwrap_or_default()
    }

    /// True for an address of the host that others can send to.
    pub(super) fn is_host(&self, address: IpAddr) -> bool {
        let mut all = self.host.interfaces.values().flat_map(|interface| &interface.addresses);
        let endpoint = self.agent.endpoints().any(|local| local.value == address);
        endpoint || !is_special(address) && all.any(|net| net.addr() == address)
    }

    /// True for an address of the operator's machines in a network.
    pub(super) fn is_infrastructure(&self, network: &Network, address: IpAddr) -> bool {
        self.is_host(address) || network.infrastructure.iter().any(|net| self.holds(net.value, address))
    }

    /// True for an address that is a device or nobody in a network.
    pub(super) fn is_pool(&self, network: &Network, address: IpAddr) -> bool {
        let lans = self.policy.devices().values().filter(|device| device.network.value == network.name);
        let mut lans = lans.flat_map(|device| &device.framed_routes);
        let routed = self.flaw != Some(Flaw::ForgetsLans) && lans.any(|lan| lan.value.contains(&address));
        (routed || network.pools.iter().any(|net| self.holds(net.value, address)))
            && !self.is_infrastructure(network, address)
    }

    /// True if any network calls the address a pool's.
    pub(super) fn is_pool_anywhere(&self, address: IpAddr) -> bool {
        self.policy.networks().values().any(|network| self.is_pool(network, address))
    }

    /// The device that has an address.
    pub(super) fn device(&self, network: &Network, address: IpAddr) -> Option<&'p Device> {
        self.policy.devices().values().map(Arc::as_ref).find(|device| {
            let here = device.network.value == network.name || self.flaw == Some(Flaw::MixesNetworks);
            let lan = self.flaw != Some(Flaw::ForgetsLans);
            let mut own = device.addresses.iter().chain(device.framed_routes.iter().filter(|_| lan));
            here && own.any(|net| net.value.contains(&address))
        })
    }

    /// True if a device has an address not itself but on the LAN behind it: the narrower prefix says.
    pub(super) fn is_behind(&self, device: &Device, address: IpAddr) -> bool {
        let mut narrowest = (0, false);
        let own = device.addresses.iter().map(|net| (net, false));
        for (net, behind) in own.chain(device.framed_routes.iter().map(|net| (net, true))) {
            let length = net.value.prefix_len() + 1;
            if net.value.contains(&address) && length > narrowest.0 {
                narrowest = (length, behind);
            }
        }
        narrowest.1
    }

    /// True if a rule is about this address of the device that is called.
    fn concerns(&self, rule: &Rule, called: &Device, local: IpAddr) -> bool {
        match (self.is_behind(called, local), rule.behind.is_empty()) {
            (true, true) => self.flaw == Some(Flaw::OpensLans),
            (true, false) => rule.behind.iter().any(|net| net.value.contains(&local)),
            (false, plain) => plain || self.flaw == Some(Flaw::OpensDeviceToo),
        }
    }

    /// True if a never list of the device's network or segment names what is called.
    pub(super) fn is_never(&self, device: &Device, called: Called) -> bool {
        if self.flaw == Some(Flaw::ForgetsNever) {
            return false;
        }
        let network = self.policy.networks().get(&device.network.value).map(|network| &network.never);
        let segment = device.segment.as_ref().and_then(|name| self.policy.segments().get(name));
        let mut all = network.into_iter().chain(segment.map(|segment| &segment.never)).flatten();
        all.any(|port| self.spans(*port, called))
    }

    /// What allows the device to call an address outside.
    pub(super) fn outbound(
        &self,
        device: &Device,
        remote: IpAddr,
        called: Called,
        now: u64,
    ) -> Result<Permission, Refusal> {
        let mut best = Best::default();
        for (rules, rule) in self.rules_about(device) {
            let Direction::Outbound(remotes) = &rule.direction else { continue };
            let state = self.state(rule, device, now);
            if rule.ports.iter().any(|port| self.names(*port, called)) {
                best.improve(self.reach(remotes, device, remote), state, rules, rule);
            }
            best.improve(self.serves(remotes, device, remote, called), state, rules, rule);
        }
        best.answer(self.flaw, "no_rule")
    }

    /// What the device's segment leaves to it in quarantine.
    pub(super) fn repair(&self, device: &Device, remote: IpAddr, called: Called) -> Option<Permission> {
        let segment = self.policy.segments().get(device.segment.as_ref()?)?;
        let rule = segment.repair.as_ref()?;
        let Direction::Outbound(remotes) = &rule.direction else { return None };
        let plain = rule.ports.iter().any(|port| self.names(*port, called));
        let reached = plain && self.reach(remotes, device, remote).is_some();
        let open = reached || self.serves(remotes, device, remote, called).is_some();
        open.then(|| Permission {
            rule: format!("{}/repair", segment.name),
            idle_seconds: None,
            timed: false,
        })
    }

    /// What allows an address outside to call the device.
    pub(super) fn inbound(
        &self,
        device: &Device,
        [local, remote]: [IpAddr; 2],
        called: Called,
        now: u64,
    ) -> Result<Permission, Refusal> {
        let mut best = Best::default();
        if self.flaw == Some(Flaw::ForgetsInbound) {
            return Err("unsolicited");
        }
        for (rules, rule) in self.rules_about(device) {
            let Direction::Inbound(remotes) = &rule.direction else { continue };
            if !self.concerns(rule, device, local) {
                continue;
            }
            if rule.ports.iter().any(|port| self.names(*port, called)) {
                best.improve(self.reach(remotes, device, remote), self.state(rule, device, now), rules, rule);
            }
        }
        best.answer(self.flaw, "unsolicited")
    }

    /// What allows one device to call another.
    pub(super) fn between(
        &self,
        caller: &Device,
        called: (&Device, IpAddr),
        what: Called,
        now: u64,
    ) -> Result<Permission, Refusal> {
        let (called, address) = called;
        let mut best = Best::default();
        for rules in self.policy.policies().values() {
            let Subject::Between(between) = &rules.subject else { continue };
            let swapped = self.flaw == Some(Flaw::SwapsEnds) && self.joins(between, called, caller);
            if !swapped && !self.joins(between, caller, called) {
                continue;
            }
            let open = |rule: &&Rule| {
                self.concerns(rule, called, address) && rule.ports.iter().any(|port| self.names(*port, what))
            };
            for rule in rules.rules.iter().filter(open) {
                best.improve(Some(0), self.state(rule, caller, now), rules, rule);
            }
        }
        best.answer(self.flaw, "segment_denied")
    }

    fn state(&self, rule: &Rule, device: &Device, now: u64) -> State {
        match self.closed(rule, device, now) {
            Some(why) => State::Closed(why),
            None if self.is_open(rule, now) => State::Open,
            None => State::Later,
        }
    }

    fn joins(&self, between: &Between, caller: &Device, called: &Device) -> bool {
        let same = |label: &String| {
            caller.labels.contains_key(label) && caller.labels.get(label) == called.labels.get(label)
        };
        chooses(&between.initiator, caller)
            && chooses(&between.responder, called)
            && (between.same_labels.iter().all(same) || self.flaw == Some(Flaw::ForgetsSameLabels))
    }

    fn rules_about(&self, device: &'p Device) -> impl Iterator<Item = (&'p PolicyRules, &'p Rule)> {
        let about = move |rules: &&PolicyRules| match &rules.subject {
            Subject::Devices(selector) => chooses(selector, device),
            Subject::Between(_) => false,
        };
        let policies = self.policy.policies().values().filter(about);
        policies.flat_map(|rules| rules.rules.iter().map(move |rule| (rules, rule)))
    }

    /// The longest prefix of the rule's destinations and cidrs that reaches an address.
    fn reach(&self, remotes: &Remotes, device: &Device, address: IpAddr) -> Option<u8> {
        let named = remotes.destinations.iter().filter_map(|name| {
            let destination = self.policy.destinations().get(&name.value)?;
            Some((&destination.cidrs, destination.reaches_infrastructure))
        });
        let prefixes = named.chain([(&remotes.cidrs, false)]);
        let prefixes =
            prefixes.flat_map(|(cidrs, inside)| cidrs.iter().map(move |prefix| (prefix.value, inside)));
        let open = |address, inside| match inside {
            true => self.is_inside(device, address),
            false => self.is_plain(address),
        };
        let reaching = prefixes.filter(|(prefix, inside)| {
            let hidden = match self.hidden(*prefix, address) {
                Hidden::Nothing => true,
                Hidden::V4(v4) => open(v4.into(), *inside),
                Hidden::Unsaid => self.flaw == Some(Flaw::ForgetsTranslators),
            };
            self.holds(*prefix, address) && open(address, *inside) && hidden
        });
        reaching.map(|(prefix, _)| prefix.prefix_len()).max()
    }

    /// The IPv4 address that an IPv6 address leads to, if the prefix is about such addresses.
    fn hidden(&self, prefix: IpNet, address: IpAddr) -> Hidden {
        let IpAddr::V6(v6) = address else { return Hidden::Nothing };
        if self.flaw == Some(Flaw::ForgetsTranslators) {
            return Hidden::Nothing;
        }
        let length = prefix.prefix_len();
        let (said, [a, b]) = match v6.segments() {
            [0x2001, 0, ..] => return Hidden::Unsaid,
            [0x2002, a, b, ..] => (length >= 16, [a, b]),
            [0x64, 0xff9b, 1, _, _, _, a, b] => (length >= 96, [a, b]),
            [0x64, 0xff9b, 0, 0, 0, 0, a, b] => (length >= 96, [a, b]),
            [0, 0, 0, 0, 0, 0, a, b] => (length >= 96, [a, b]),
            [0, 0, 0, 0, 0xffff, 0, a, b] => (length >= 96, [a, b]),
            _ => return Hidden::Nothing,
        };
        let v4 = Ipv4Addr::from_bits(u32::from(a) << 16 | u32::from(b));
        if said { Hidden::V4(v4) } else { Hidden::Unsaid }
    }

    /// The service that the rule names and that has the address and port.
    fn serves(&self, remotes: &Remotes, device: &Device, address: IpAddr, called: Called) -> Option<u8> {
        let network = self.policy.networks().get(&device.network.value)?;
        let services = remotes.services.iter().filter_map(|name| network.services.get(&name.value));
        let mut serving = services.filter(|service| {
            let here = service.addresses.iter().any(|server| server.value == address);
            here && service.ports.iter().any(|port| self.names(*port, called))
        });
        let hidden = match self.hidden(IpNet::from(address), address) {
            Hidden::Nothing => true,
            Hidden::V4(v4) => self.is_inside(device, v4.into()),
            Hidden::Unsaid => false,
        };
        let found = serving.next().is_some() && self.is_inside(device, address) && hidden;
        found.then_some(if address.is_ipv4() { 32 } else { 128 })
    }

    /// True where rules reach without saying more: neither pool nor infrastructure nor special.
    fn is_plain(&self, address: IpAddr) -> bool {
        let mut networks = self.policy.networks().values();
        let taken = networks
            .any(|network| self.is_pool(network, address) || self.is_infrastructure(network, address));
        let taken = taken || self.is_host(address) || self.is_everybody(address) || is_special(address);
        self.flaw == Some(Flaw::ForgetsCuts) || !taken
    }

    /// True for what a link of the host calls all of its hosts, the host among them.
    fn is_everybody(&self, address: IpAddr) -> bool {
        let mut links = self.host.interfaces.values().flat_map(|interface| &interface.addresses);
        let everybody = links.any(|link| match (link, address) {
            (IpNet::V4(link), IpAddr::V4(v4)) => {
                link.prefix_len() <= 30 && (link.broadcast() == v4 || link.network() == v4)
            }
            (IpNet::V6(link), IpAddr::V6(v6)) => link.prefix_len() <= 126 && link.network() == v6,
            _ => false,
        });
        everybody && !self.is_host(address) && self.flaw != Some(Flaw::ForgetsBroadcasts)
    }

    /// True where rules reach that name a service, or a destination inside infrastructure.
    fn is_inside(&self, device: &Device, address: IpAddr) -> bool {
        let network = self.policy.networks().get(&device.network.value);
        let own = network.is_some_and(|network| self.is_infrastructure(network, address));
        !is_special(address) && !self.is_everybody(address) && (own || !self.is_pool_anywhere(address))
    }

    fn holds(&self, prefix: IpNet, address: IpAddr) -> bool {
        let early = self.flaw == Some(Flaw::EndsPrefixesEarly) && prefix.prefix_len() < 31;
        prefix.contains(&address) && !(early && prefix.broadcast() == address)
    }

    /// True if a rule's entry opens what is called: what carries other packets only if it says exactly that.
    fn names(&self, port: Port, called: Called) -> bool {
        let carries = match called {
            Called::Portless(_) => true,
            Called::Port(17, port) => matches!(port, 1701 | 3544 | 4789 | 6081 | 8472),
            Called::Port(..) | Called::Echo => false,
        };
        let exact = match port {
            Port::Range { first, last, .. } => first == last,
            Port::Portless(_) => true,
            Port::Any | Port::Echo => false,
        };
        self.spans(port, called) && (exact || !carries || self.flaw == Some(Flaw::OpensTunnels))
    }

    /// True if an entry covers what is called.
    fn spans(&self, port: Port, called: Called) -> bool {
        let number = |protocol| match protocol {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        };
        match (port, called) {
            (Port::Any, _) | (Port::Echo, Called::Echo) => true,
            (Port::Range { protocol, first, last }, Called::Port(wanted, port)) => {
                let early = self.flaw == Some(Flaw::EndsRangesEarly) && first != last && port == last;
                number(protocol) == wanted && first <= port && port <= last && !early
            }
            (Port::Portless(protocol), Called::Portless(wanted)) => portless(protocol) == wanted,
            (Port::Range { .. } | Port::Echo | Port::Portless(_), _) => false,
        }
    }
}

/// IANA's numbers.
fn portless(protocol: Portless) -> u8 {
    match protocol {
        Portless::Ipip => 4,
        Portless::SixInFour => 41,
        Portless::Gre => 47,
        Portless::Esp => 50,
        Portless::Ah => 51,
        Portless::EtherIp => 97,
        Portless::L2tp => 115,
    }
}

/// True if frames from devices enter by the interface.
pub(super) fn is_access(interface: &Interface) -> bool {
    interface.roles.contains(&Role::Access)
}

/// True if frames from the data network enter by the interface.
pub(super) fn is_core(interface: &Interface) -> bool {
    interface.roles.contains(&Role::Core)
}

/// True if traffic of no device may go on.
pub(super) fn is_transit(interface: &Interface) -> bool {
    interface.transit == Transit::Pass
}

pub(super) fn chooses(selector: &Selector, device: &Device) -> bool {
    match selector {
        Selector::Segment(name) => device.segment.as_ref() == Some(&name.value),
        Selector::Device(name) => device.name == name.value,
        Selector::Labels(wanted) => {
            wanted.value.iter().all(|(key, value)| device.labels.get(key) == Some(value))
        }
    }
}

fn permission(rules: &PolicyRules, rule: &Rule) -> Permission {
    Permission {
        rule: format!("{}/{}", rules.name, rule.name),
        idle_seconds: rule.idle.map(|idle| idle.as_secs()),
        timed: false,
    }
}
