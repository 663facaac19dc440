//! Asks the engine about packets that nobody sent: in-file tests and `explain`.
//!
//! The answer is the engine's own, from the same tables that the kernel gets; only the list of
//! rules that were considered is worked out from the policy, to say how near each one came.

mod assumed;
mod considered;
mod standin;
mod trial;

use std::cell::Cell;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use bulkhead_common::abi::RuleId;
use bulkhead_common::case::Case;
use bulkhead_common::parse::{Kind, Packet};
use bulkhead_common::verdict::Verdict;
use bulkhead_common::wire::{ether_type, icmp, ip_proto, l4};
use ipnet::IpNet;
use jiff::Timestamp;

pub use assumed::{assumed_agent, assumed_host};
pub use considered::{Considered, considered_rules};
pub use trial::run_tests;

use super::agent::{AgentConfig, Role};
use super::compile::{Compiled, places};
use super::model::{Device, Policy};
use super::name::Name;
use super::ports::Port;
use super::timeline::Timeline;
use crate::tables::{Host, Image, Place};

/// A source port as hosts choose them (RFC 6335 section 6).
const EPHEMERAL: u16 = 49_152;
/// Further apart than any flow lives, so that questions do not answer each other.
const BETWEEN_QUESTIONS_NS: u64 = 90_000 * 1_000_000_000;

/// One end of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// A device, by any of its addresses that fits the other end.
    Device(Name),
    /// A device, by this address of its own or behind it.
    At(Name, IpAddr),
    /// An address.
    Address(IpAddr),
}

/// May `from` open this port of `to`?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Who calls.
    pub from: End,
    /// Who is called.
    pub to: End,
    /// A single port, or echo.
    pub port: Port,
}

/// What the engine says, and what came near.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The verdict on the first packet.
    pub verdict: Verdict,
    /// The engine's record: network, devices, the deciding rule.
    pub case: Case,
    /// Every rule of the policies that are about these ends.
    pub considered: Vec<Considered>,
}

impl Answer {
    /// The rule that allows it.
    pub fn rule(&self) -> Option<RuleId> {
        let rule = self.case.evidence.rule;
        (self.allows() && !rule.is_none()).then_some(rule)
    }

    /// True if policy allows it, and not only lets it pass because nobody enforces that it does not.
    pub fn allows(&self) -> bool {
        self.verdict.refusal().is_none()
    }

    /// The rule that came nearest to allowing it.
    pub fn nearest(&self) -> Option<&Considered> {
        Considered::nearest(&self.considered)
    }
}

/// The engine over one compiled policy.
pub struct Bench<'a> {
    policy: &'a Policy,
    agent: &'a AgentConfig,
    host: &'a Host,
    compiled: &'a Compiled,
    image: Image,
    asked: Cell<u64>,
    boot: u64,
    moment: Option<Timestamp>,
}

impl<'a> Bench<'a> {
    /// Lays the tables out.
    pub fn new(policy: &'a Policy, agent: &'a AgentConfig, host: &'a Host, compiled: &'a Compiled) -> Self {
        Self {
            policy,
            agent,
            host,
            compiled,
            image: Image::new(&compiled.tables),
            asked: Cell::new(0),
            boot: 0,
            moment: None,
        }
    }

    /// Asks as of a boot time in nanoseconds: what ends by the clock has or has not ended then. `moment` is the same
    /// by the wall clock, if it is known.
    pub fn at(self, boot: u64, moment: Option<Timestamp>) -> Self {
        Self { boot, moment, ..self }
    }

    /// Asks as of a moment; boot time is wall time in these tables. Without one, whatever depends on time is closed.
    pub(super) fn set_moment(&mut self, moment: Option<Timestamp>) {
        (self.boot, self.moment) = (moment.map_or(0, Timeline::of_moment), moment);
    }

    /// Judges the first packet of a conversation.
    ///
    /// # Errors
    /// A sentence that says why the question makes no sense on this host.
    pub fn ask(&self, question: &Question) -> Result<Answer, String> {
        let (place, packet) = self.first_packet(question)?;
        self.asked.set(self.asked.get() + 1);
        self.image.set_now(self.asked.get().wrapping_mul(BETWEEN_QUESTIONS_NS), self.boot);
        // No question uses up what the next one may.
        self.image.forget_flows();
        let (verdict, case) = self.image.judge_packet(packet, place.ifindex);
        if let (None, Some(network)) = (verdict.refusal(), self.elsewhere(question)) {
            return Err(format!(
                "the one called is in network {network}, and its address means another machine here"
            ));
        }
        let ends = [self.known(&question.from), self.known(&question.to).or(self.peer(&case))];
        let considered = considered_rules(self.policy, (self.agent, self.host), &packet, ends, self.moment);
        Ok(Answer { verdict, case, considered })
    }

    fn known(&self, end: &End) -> Option<&'a Device> {
        match end {
            End::Device(name) | End::At(name, _) => self.policy.devices().get(name).map(Arc::as_ref),
            End::Address(_) => None,
        }
    }

    /// The network of the called device, if the caller is a device of another one.
    fn elsewhere(&self, question: &Question) -> Option<&'a Name> {
        let (from, to) = (self.known(&question.from)?, self.known(&question.to)?);
        (from.network.value != to.network.value).then_some(&to.network.value)
    }

    /// The device that the engine found behind the address that was called.
    fn peer(&self, case: &Case) -> Option<&'a Device> {
        let name = self.compiled.catalogue.devices.get(&case.evidence.peer)?;
        self.policy.devices().get(name).map(Arc::as_ref)
    }

    fn first_packet(&self, question: &Question) -> Result<(Place, Packet), String> {
        let (from, to) = self.addresses(question)?;
        let (place, mac) = match (&question.from, &question.to) {
            (End::Device(name) | End::At(name, _), _) => {
                let device = self.device(name)?;
                let mac = device.binding.as_ref().and_then(|binding| binding.mac);
                (self.access(device)?, mac.unwrap_or_default())
            }
            (End::Address(_), End::Device(name) | End::At(name, _)) => {
                (self.core(self.device(name)?)?, [0; 6])
            }
            (End::Address(_), End::Address(_)) => {
                return Err("neither end is a device; name one".to_owned());
            }
        };
        let mut packet = first_packet(from, to, question.port)?;
        packet.outer_vlan = place.outer_vlan;
        packet.inner_vlan = place.inner_vlan;
        packet.source_mac = mac;
        if let End::Device(name) = &question.from {
            packet.teid = self.teid(self.device(name)?);
        }
        Ok((place, packet))
    }

    /// The tunnel that the device's packets come through: its own, or one that nobody else has; 0 without tunnels.
    fn teid(&self, device: &Device) -> u32 {
        let Some((seen, interface)) = self.seen(device, Role::Access, |seen| is_bound(device, seen)) else {
            return 0;
        };
        if interface.gtpu.is_none() {
            return 0;
        }
        let network = self.policy.networks().get(&device.network.value);
        let listed = network.and_then(|network| network.teids.get(seen)?.first());
        let any = listed.map_or(u32::MAX, |range| range.value.first);
        device.teid.as_ref().map_or(any, |teid| teid.value)
    }

    fn device(&self, name: &Name) -> Result<&'a Device, String> {
        let device = self.policy.devices().get(name).map(Arc::as_ref);
        device.ok_or_else(|| format!("there is no device {name}"))
    }

    /// Addresses of one family for both ends.
    fn addresses(&self, question: &Question) -> Result<(IpAddr, IpAddr), String> {
        let of = |end: &End| match end {
            End::Address(address) | End::At(_, address) => Ok(vec![*address]),
            End::Device(name) => {
                self.device(name).map(|device| device.addresses.iter().map(|a| host(a.value)).collect())
            }
        };
        let (from, to): (Vec<IpAddr>, Vec<IpAddr>) = (of(&question.from)?, of(&question.to)?);
        let pairs = from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to)));
        pairs
            .into_iter()
            .find(|(from, to)| from.is_ipv4() == to.is_ipv4())
            .ok_or_else(|| "the two ends have no address family in common".to_owned())
    }

    /// Where the device's frames enter.
    fn access(&self, device: &Device) -> Result<Place, String> {
        self.place(device, Role::Access, |seen| is_bound(device, seen))
            .ok_or_else(|| format!("no access interface shows network {}", device.network.value))
    }

    /// Where frames for the device enter.
    fn core(&self, device: &Device) -> Result<Place, String> {
        self.place(device, Role::Core, |_| true)
            .ok_or_else(|| format!("no core interface shows network {}", device.network.value))
    }

    fn place(
        &self,
        device: &Device,
        role: Role,
        fits: impl Fn(&super::Subinterface) -> bool,
    ) -> Option<Place> {
        let (seen, interface) = self.seen(device, role, fits)?;
        let place = places::place(self.host, seen)?;
        Some(Place { ifindex: interface.point(role, place.ifindex)?, ..place })
    }

    /// The first place of the device's network with this role that exists.
    fn seen(
        &self,
        device: &Device,
        role: Role,
        fits: impl Fn(&super::Subinterface) -> bool,
    ) -> Option<(&'a super::Subinterface, &'a super::Interface)> {
        let seen_on = &self.policy.networks().get(&device.network.value)?.seen_on;
        seen_on.iter().map(|seen| &seen.value).find_map(|seen| {
            let interface = self.agent.interface(&seen.interface)?;
            let found = interface.point(role, 0).is_some() && fits(seen);
            (found && places::place(self.host, seen).is_some()).then_some((seen, interface))
        })
    }
}

/// True if the device's frames may enter there.
fn is_bound(device: &Device, seen: &super::Subinterface) -> bool {
    device.binding.as_ref().is_none_or(|binding| {
        binding.interface.as_ref().is_none_or(|name| *name == seen.interface)
            && binding.vlan.is_none_or(|vlan| vlan == seen.vlan)
            && binding.inner_vlan.is_none_or(|vlan| vlan == seen.inner_vlan)
    })
}

/// A host inside a device's prefix: the address itself, or `::1` of a /64.
pub(crate) fn host(net: IpNet) -> IpAddr {
    match net {
        IpNet::V6(v6) if v6.prefix_len() < 128 => IpAddr::V6(Ipv6Addr::from_bits(v6.network().to_bits() | 1)),
        IpNet::V4(_) | IpNet::V6(_) => net.addr(),
    }
}

/// The first packet of a conversation, untagged and from no particular MAC address.
pub(crate) fn first_packet(from: IpAddr, to: IpAddr, port: Port) -> Result<Packet, String> {
    let packet = Packet {
        source: from.into(),
        destination: to.into(),
        length: 64,
        ether_type: if from.is_ipv4() { ether_type::IPV4 } else { ether_type::IPV6 },
        source_port: EPHEMERAL,
        ..Packet::EMPTY
    };
    match port {
        Port::Range { protocol, first, last } if first == last => Ok(Packet {
            kind: Kind::Ports,
            protocol: protocol.number(),
            destination_port: first,
            detail: if protocol.number() == ip_proto::TCP { l4::TCP_SYN } else { 0 },
            ..packet
        }),
        Port::Echo => {
            let (protocol, detail) = match from {
                IpAddr::V4(_) => (ip_proto::ICMP, icmp::ECHO_REQUEST_V4),
                IpAddr::V6(_) => (ip_proto::ICMPV6, icmp::ECHO_REQUEST_V6),
            };
            Ok(Packet { kind: Kind::EchoRequest, protocol, destination_port: EPHEMERAL, detail, ..packet })
        }
        Port::Portless(portless) => {
            Ok(Packet { kind: Kind::Portless, protocol: portless.number(), source_port: 0, ..packet })
        }
        Port::Any | Port::Range { .. } => Err(format!("{port} is not a single port; name one like tcp/443")),
    }
}
