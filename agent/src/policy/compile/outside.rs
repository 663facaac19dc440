//! What devices may call outside their networks, and what outside may call them.

use std::collections::BTreeMap;
use std::rc::Rc;

use bulkhead_common::abi::RuleId;
use ipnet::IpNet;

use super::behind;
use super::calendar::Calendar;
use super::catalogue::Catalogue;
use super::ground::{Ground, meant};
use super::ports::Opening;
use super::profiles::{Closed, Signature, State};
use super::remotes::{Claim, resolve};
use crate::policy::address::AddressRange;
use crate::policy::model::{Destination, Direction, Policy, Remotes, Rule};
use crate::policy::name::Name;
use crate::tables::{Behind, Remote};

/// Remotes of one network's devices under the same policies.
#[derive(Debug)]
pub(super) struct Reach {
    pub(super) outbound: Vec<Remote>,
    pub(super) inbound: Vec<Remote>,
    pub(super) behind: Vec<Behind>,
}

/// Works out [`Reach`]es, each once.
pub(super) struct Outside<'a> {
    policy: &'a Policy,
    ground: &'a Ground<'a>,
    catalogue: &'a Catalogue,
    reaches: BTreeMap<Whose<'a>, Rc<Reach>>,
    calendar: &'a Calendar<'a>,
    destinations: BTreeMap<(&'a Name, &'a Name), Rc<Vec<Piece>>>,
}

/// Whose reach it is: a network, the policies about its devices, and the rules that are closed to them.
type Whose<'a> = (&'a Name, Vec<&'a Name>, Vec<Closed<'a>>);

/// What is open of one prefix: a range, and the prefix's length in 128 bits.
type Piece = (AddressRange, u8);

impl<'a> Outside<'a> {
    pub(super) fn new(
        policy: &'a Policy,
        ground: &'a Ground<'a>,
        catalogue: &'a Catalogue,
        calendar: &'a Calendar<'a>,
    ) -> Self {
        Self { policy, ground, catalogue, calendar, reaches: BTreeMap::new(), destinations: BTreeMap::new() }
    }

    /// What the devices of a signature may call and be called by.
    pub(super) fn reach(&mut self, signature: &Signature<'a>) -> Rc<Reach> {
        let policies = signature.policies();
        let closed = signature.closed_of(&policies);
        let key = (signature.network, policies, closed);
        if let Some(known) = self.reaches.get(&key) {
            return Rc::clone(known);
        }
        let mut out = Claims::default();
        let mut inward = Claims::default();
        let mut behind = Claims::default();
        for name in &key.1 {
            let Some(rules) = self.policy.policies.get(*name) else { continue };
            for rule in &rules.rules {
                let number = self.catalogue.rule(&rules.name, &rule.name);
                let number = (number, signature.state(&rules.name, rule));
                match &rule.direction {
                    Direction::Outbound(remotes) => self.claim(&mut out, key.0, number, rule, remotes),
                    Direction::Inbound(remotes) if rule.behind.is_empty() => {
                        self.claim(&mut inward, key.0, number, rule, remotes);
                    }
                    Direction::Inbound(remotes) => self.claim(&mut behind, key.0, number, rule, remotes),
                    Direction::Peer => {}
                }
            }
        }
        let reach = Rc::new(Reach {
            outbound: resolve(&out.claims, &out.openings, self.calendar),
            inbound: resolve(&inward.claims, &inward.openings, self.calendar),
            behind: behind::pieces(&behind.local, &behind.claims, &behind.openings, self.calendar),
        });
        self.reaches.insert(key, Rc::clone(&reach));
        reach
    }

    /// What devices of a network and segment may call from quarantine.
    pub(super) fn repair(&mut self, network: &'a Name, segment: Option<&'a Name>) -> Vec<Remote> {
        let segment = segment.and_then(|name| self.policy.segments.get(name));
        let Some((segment, rule)) = segment.and_then(|segment| Some((segment, segment.repair.as_ref()?)))
        else {
            return Vec::new();
        };
        let mut claims = Claims::default();
        if let Direction::Outbound(remotes) = &rule.direction {
            let number = (self.catalogue.repair(&segment.name), State::Open);
            self.claim(&mut claims, network, number, rule, remotes);
        }
        resolve(&claims.claims, &claims.openings, self.calendar)
    }

    fn claim(
        &mut self,
        to: &mut Claims<'a>,
        network: &'a Name,
        (number, state): (RuleId, State),
        rule: &'a Rule,
        remotes: &'a Remotes,
    ) {
        let idle = rule.idle.map_or(0, |idle| u32::try_from(idle.as_secs()).unwrap_or(u32::MAX));
        let hours = self.calendar.hours(number, &rule.time);
        let opening =
            to.open(Opening { rule: number, ports: &rule.ports, idle, state, hours: hours.clone() });
        for prefix in &rule.behind {
            to.local.extend(meant(prefix.value).ranges().iter().map(|range| (*range, opening)));
        }
        for destination in &remotes.destinations {
            if let Some(destination) = self.policy.destinations.get(&destination.value) {
                to.add(opening, &self.destination(destination, network));
            }
        }
        for cidr in &remotes.cidrs {
            to.add(opening, &pieces(self.ground.open(cidr.value).ranges(), cidr.value));
        }
        let services = self.policy.networks.get(network).map(|network| &network.services);
        for service in &remotes.services {
            let Some(service) = services.and_then(|services| services.get(&service.value)) else { continue };
            let opening =
                to.open(Opening { rule: number, ports: &service.ports, idle, state, hours: hours.clone() });
            for address in &service.addresses {
                let prefix = IpNet::from(address.value);
                to.add(opening, &pieces(self.ground.open_inside(prefix, network).ranges(), prefix));
            }
        }
    }

    fn destination(&mut self, destination: &'a Destination, network: &'a Name) -> Rc<Vec<Piece>> {
        let ground = self.ground;
        let made = self.destinations.entry((&destination.name, network)).or_insert_with(|| {
            let open = |prefix| match destination.reaches_infrastructure {
                true => ground.open_inside(prefix, network),
                false => ground.open(prefix),
            };
            let cidrs = destination.cidrs.iter().map(|cidr| cidr.value);
            Rc::new(cidrs.flat_map(|cidr| pieces(open(cidr).ranges(), cidr)).collect())
        });
        Rc::clone(made)
    }
}

fn pieces(ranges: &[AddressRange], prefix: IpNet) -> Vec<Piece> {
    let family = if prefix.addr().is_ipv4() { 96 } else { 0 };
    ranges.iter().map(|range| (*range, prefix.prefix_len() + family)).collect()
}

#[derive(Default)]
struct Claims<'a> {
    openings: Vec<Opening<'a>>,
    claims: Vec<Claim>,
    /// The addresses behind devices that openings are about.
    local: Vec<(AddressRange, usize)>,
}

impl<'a> Claims<'a> {
    fn open(&mut self, opening: Opening<'a>) -> usize {
        self.openings.push(opening);
        self.openings.len() - 1
    }

    fn add(&mut self, opening: usize, pieces: &[Piece]) {
        let claims = pieces.iter().map(|(range, length)| Claim { range: *range, length: *length, opening });
        self.claims.extend(claims);
    }
}
