//! Policy → tables: pure, ordered, the same output for the same input.
//!
//! ```text
//! ground     what addresses are before any rule            → scopes of networks
//! places     interfaces and VLANs                          → subinterfaces
//! profiles   devices that are treated alike                → devices, addresses
//! prefixes   which prefix of a device covers an address    → networks
//! outside    rules about the world, overlaps resolved      ↘
//! behind     rules about what lies behind devices          →
//! peers      device to device, by profile                  → rule sets, each content once
//! calendar   when they are open, in boot time              ↗
//! ```

mod again;
mod behind;
mod calendar;
mod capacity;
mod catalogue;
mod confine;
mod cuts;
pub(in crate::policy) mod ground;
mod ids;
mod judging;
mod limits;
mod outside;
mod peers;
pub(in crate::policy) mod places;
mod ports;
mod prefixes;
mod profiles;
pub(in crate::policy) mod ranges;
mod remotes;
mod translations;
mod unlisted;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bulkhead_common::abi::key::VLAN_OTHER;
use bulkhead_common::abi::value::{DEVICE_MAC_BOUND, DEVICE_OBSERVES};
use bulkhead_common::abi::{AddressKey, Device as Row, DeviceId, NetworkId, PortRange, ProfileId};
use ipnet::IpNet;

pub use catalogue::{Catalogue, ProfileName, RuleName};
pub use confine::Confinement;
pub use ground::device_ranges;
pub use ids::Ids;
pub(crate) use ids::Renumbered;
pub use judging::{CLOSE_THE_GAP, LateralGap, lateral_gaps};
pub use ranges::merged;

use super::address::AddressRange;
use super::agent::AgentConfig;
use super::condition::Knowledge;
use super::diagnostic::Diagnostics;
use super::model::{Binding, Device, Mode, Policy};
use super::ports::Port;
use super::timeline::Timeline;
use crate::processors;
use crate::tables::{Host, Owner, Rules, Tables};
use calendar::Calendar;
use ground::Ground;
use ids::{Book, Books};
use outside::Outside;
use peers::Peers;
use profiles::{Roles, Signature};

/// The number of an interface that does not exist: a device bound to it can enter nowhere.
const NO_INTERFACE: u32 = u32::MAX;

/// A policy, ready to be enforced on one host.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// What the engine reads.
    pub tables: Tables,
    /// What its numbers stand for.
    pub catalogue: Catalogue,
    /// Warnings and notes: what was cut from destinations, interfaces that do not exist.
    pub notes: Diagnostics,
    /// How many devices have each profile, now or when what is known of them is too old.
    uses: BTreeMap<ProfileId, u32>,
}

/// Compiles a policy for a host whose clock is not known: rules that depend on time are closed.
///
/// # Errors
/// As [`compile_at`].
pub fn compile(
    policy: &Policy,
    agent: &AgentConfig,
    host: &Host,
    ids: &mut Ids,
) -> Result<Compiled, Diagnostics> {
    compile_at(policy, agent, host, ids, &Timeline::Unknown)
}

/// Compiles a policy for a host and for its clock.
///
/// `ids` is the book of numbers from earlier compilations; it changes only on success.
///
/// # Errors
/// What cannot be enforced on this host, or does not fit, all at once.
pub fn compile_at(
    policy: &Policy,
    agent: &AgentConfig,
    host: &Host,
    ids: &mut Ids,
    timeline: &Timeline,
) -> Result<Compiled, Diagnostics> {
    let mut problems = Diagnostics::default();
    let mut book = ids.clone();
    book.begin();
    book.bound(capacity::device_numbers(policy, &agent.tables), agent.tables.profiles);
    let roles = Roles::of(policy);
    let (mut catalogue, grouped) = numbers(policy, &roles, &mut book, &mut problems);
    let mut links = Diagnostics::default();
    let (ground, ()) = processors::both(
        || Ground::of(policy, agent, host),
        || unlisted::warn(policy, agent, host, &mut links),
    );
    cuts::report(policy, &ground, &mut problems);
    problems.append(links);
    judging::check(policy, agent, host, &mut problems);
    let subinterfaces = places::compile(&ground, agent, host, |name| catalogue.network(name), &mut problems);
    let calendar = Calendar::new(timeline);
    let sources = Sources { policy, ground: &ground, catalogue: &catalogue, calendar: &calendar };
    let profiles = rules(&sources, &grouped.profiles, &mut problems);
    let mut tables = Tables {
        subinterfaces,
        networks: ground.networks(|name| catalogue.network(name)),
        profiles,
        ..Tables::default()
    };
    let mut taken = Diagnostics::default();
    processors::both(
        || add_devices(&mut tables, policy, host, &catalogue, &grouped),
        || refuse_host_addresses(policy, &ground, &mut taken),
    );
    problems.append(taken);
    capacity::check(&tables, &agent.tables, &mut problems);
    catalogue.profiles = grouped.profiles.iter().map(|(id, signature)| (*id, named(signature))).collect();
    let notes = problems.finish();
    if notes.has_errors() {
        return Err(notes);
    }
    book.end();
    *ids = book;
    let uses = uses(&grouped.members);
    Ok(Compiled { tables, catalogue, notes, uses })
}

/// Numbers for everything that a policy names, and for the profiles of its devices.
fn numbers<'a>(
    policy: &'a Policy,
    roles: &Roles<'a>,
    book: &mut Ids,
    problems: &mut Diagnostics,
) -> (Catalogue, Grouped<'a>) {
    let Ids { networks, devices, profiles, rules, .. } = book;
    let books = Books { networks, devices, rules };
    let mut of_profiles = Diagnostics::default();
    let numbers = processors::both(
        || Catalogue::of(policy, books, problems),
        || Grouped::of(policy, roles, profiles, &mut of_profiles),
    );
    problems.append(of_profiles);
    numbers
}

fn uses(members: &[Member]) -> BTreeMap<ProfileId, u32> {
    let mut uses = BTreeMap::new();
    let profiles = |member: &Member| [member.profile, member.aged.0];
    // Neighbours are treated alike mostly.
    for alike in members.chunk_by(|a, b| profiles(a) == profiles(b)) {
        let used = alike.first().into_iter().flat_map(profiles);
        let used = used.filter(|profile| *profile != ProfileId::default());
        used.for_each(|profile| *uses.entry(profile).or_default() += alike.len() as u32);
    }
    uses
}

/// Devices by profile.
struct Grouped<'a> {
    profiles: BTreeMap<ProfileId, Signature<'a>>,
    /// What applies to each device, in the order of their names.
    members: Vec<Member>,
}

/// What applies to a device.
#[derive(Clone, Copy)]
struct Member {
    profile: ProfileId,
    /// What applies to it when what is known of it is too old, and from when.
    aged: (ProfileId, u64),
}

impl<'a> Grouped<'a> {
    fn of(policy: &'a Policy, roles: &Roles<'a>, book: &mut Book, problems: &mut Diagnostics) -> Self {
        let mut profiles = Profiles { known: BTreeMap::new(), book, problems };
        let mut alike = HashMap::new();
        let mut member = |device| {
            let profile = profiles.number(roles.signature(device, Knowledge::Fresh));
            let aged = policy.aged_at(device).map(|at| (roles.signature(device, Knowledge::Aged), at));
            let aged = aged.map(|(signature, at)| (profiles.number(signature), at)).unwrap_or_default();
            Member { profile, aged }
        };
        let members = policy.devices.values().map(|device| match roles.alike(device) {
            Some(kind) => *alike.entry(kind).or_insert_with(|| member(device)),
            None => member(device),
        });
        let members = members.collect();
        let profiles = profiles.known.into_iter().map(|(signature, id)| (id, signature)).collect();
        Self { profiles, members }
    }
}

/// Numbers of signatures.
struct Profiles<'a, 'p> {
    known: BTreeMap<Signature<'a>, ProfileId>,
    book: &'p mut Book,
    problems: &'p mut Diagnostics,
}

impl<'a> Profiles<'a, '_> {
    fn number(&mut self, signature: Signature<'a>) -> ProfileId {
        if let Some(profile) = self.known.get(&signature) {
            return *profile;
        }
        let number = self.book.number(&signature.name());
        let profile = ProfileId(catalogue::numbered(number, "profiles", self.problems));
        self.known.insert(signature, profile);
        profile
    }
}

/// What rule sets are made of.
struct Sources<'a> {
    policy: &'a Policy,
    ground: &'a Ground<'a>,
    catalogue: &'a Catalogue,
    calendar: &'a Calendar<'a>,
}

fn rules<'a>(
    sources: &Sources<'a>,
    profiles: &'a BTreeMap<ProfileId, Signature<'a>>,
    problems: &mut Diagnostics,
) -> BTreeMap<ProfileId, Arc<Rules>> {
    let Sources { policy, ground, catalogue, calendar } = *sources;
    let mut outside = Outside::new(policy, ground, catalogue, calendar);
    let mut peers = Peers::of(policy, catalogue, calendar, profiles);
    peers.refuse_too_many(profiles.values(), problems);
    if problems.has_errors() {
        return BTreeMap::new();
    }
    let mut stored: BTreeSet<Arc<Rules>> = BTreeSet::new();
    let mut compiled = BTreeMap::new();
    for (profile, signature) in profiles {
        let reach = outside.reach(signature);
        let mut rules = Rules {
            outbound: reach.outbound.clone(),
            inbound: reach.inbound.clone(),
            behind: reach.behind.clone(),
            peers: peers.callable(signature),
            never: never(policy, signature),
            repair: outside.repair(signature.network, signature.segment),
            limits: limits::of(policy, signature),
            windows: Vec::new(),
        };
        calendar.place(&mut rules);
        let rules = match stored.get(&rules) {
            Some(same) => Arc::clone(same),
            None => {
                let rules = Arc::new(rules);
                stored.insert(Arc::clone(&rules));
                rules
            }
        };
        compiled.insert(*profile, rules);
    }
    compiled
}

/// What network and segment forbid beyond all rules.
fn never(policy: &Policy, signature: &Signature<'_>) -> Vec<PortRange> {
    let network = policy.networks.get(signature.network).map(|network| &network.never);
    let segment = signature.segment.and_then(|name| policy.segments.get(name));
    let segment = segment.map(|segment| &segment.never);
    let all: Vec<Port> = network.into_iter().chain(segment).flatten().copied().collect();
    ports::forbidden(&all)
}

fn add_devices(
    tables: &mut Tables,
    policy: &Policy,
    host: &Host,
    catalogue: &Catalogue,
    grouped: &Grouped<'_>,
) {
    let numbered = || policy.devices.values().zip(catalogue.device_numbers());
    let named = |device: &Device, number| (number, catalogue.network(&device.network.value));
    // Whole maps are built faster than grown.
    let rows = || {
        let members = numbered().zip(&grouped.members);
        let row = |((device, number), member): ((&Arc<Device>, _), &Member)| {
            (number, row(policy, device, host, named(device, number), *member))
        };
        members.map(row).collect()
    };
    let addresses = || {
        let mut addresses = Vec::with_capacity(policy.devices.len());
        let owned = numbered().flat_map(|(device, number)| owned(device, named(device, number)));
        owned.for_each(|address| addresses.push(address));
        addresses.into_iter().collect()
    };
    (tables.devices, tables.addresses) = processors::both(rows, addresses);
    prefixes::add(tables);
}

/// A device as the engine sees it.
fn row(
    policy: &Policy,
    device: &Device,
    host: &Host,
    (number, network): (DeviceId, NetworkId),
    member: Member,
) -> Row {
    let teid = device.teid.as_ref().map_or(0, |teid| teid.value);
    let (aged, aged_at) = member.aged;
    let row = Row { teid, aged, aged_at, ..Row::unbound(number, network, member.profile) };
    let mut row = device.binding.as_ref().map_or(row, |binding| bound(row, binding, host));
    if policy.mode_of(device) == Mode::Observe {
        row.flags |= DEVICE_OBSERVES;
    }
    row
}

/// The addresses that a device has. Its own last: a device's own word about an address counts.
fn owned(
    device: &Device,
    (number, network): (DeviceId, NetworkId),
) -> impl Iterator<Item = (AddressKey, Owner)> {
    let all = [(&*device.framed_routes, true), (&*device.addresses, false)];
    all.into_iter().flat_map(move |(prefixes, behind)| {
        let owner = Owner { device: number, behind, nested: false };
        prefixes.iter().map(move |net| (key(network, net.value), owner))
    })
}

pub(in crate::policy) fn key(network: NetworkId, net: IpNet) -> AddressKey {
    AddressKey::prefix(network, net.network().into(), length(net))
}

/// The length of a prefix, counted in 128 bits.
fn length(net: IpNet) -> u32 {
    u32::from(net.prefix_len()) + if net.addr().is_ipv4() { 96 } else { 0 }
}

fn bound(row: Row, binding: &Binding, host: &Host) -> Row {
    let ifindex = |name| host.interfaces.get(name).map_or(NO_INTERFACE, |found| found.ifindex);
    Row {
        ifindex: binding.interface.as_ref().map_or(0, ifindex),
        outer_vlan: binding.vlan.unwrap_or(VLAN_OTHER),
        inner_vlan: binding.inner_vlan.unwrap_or(VLAN_OTHER),
        mac: binding.mac.unwrap_or_default(),
        flags: if binding.mac.is_some() { DEVICE_MAC_BOUND } else { 0 },
        ..row
    }
}

/// This host's addresses are infrastructure, so a device that has one would never be heard.
fn refuse_host_addresses(policy: &Policy, ground: &Ground<'_>, problems: &mut Diagnostics) {
    for device in policy.devices.values() {
        for address in device.prefixes() {
            let range = AddressRange::from(address.value);
            if ground.host.touches(range) {
                let problem =
                    format!("this host has an address in {} of device {}", address.value, device.name);
                problems.error(&address.at, problem, "give the device or the host another address");
            }
        }
    }
}

fn named(signature: &Signature<'_>) -> ProfileName {
    let policies: BTreeSet<_> = signature.roles.iter().map(|role| role.policy.clone()).collect();
    ProfileName {
        network: signature.network.clone(),
        segment: signature.segment.cloned(),
        policies: policies.into_iter().collect(),
    }
}

impl Compiled {
    /// The device row of a name, if the policy has it.
    pub fn device(&self, name: &super::Name) -> Option<(DeviceId, &Row)> {
        let number = self.catalogue.device(name);
        self.tables.devices.get(&number).map(|row| (number, row))
    }
}
