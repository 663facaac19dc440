//! A device that stands in for any of a segment: a test with `like` is about the segment, not about one of its members.

use std::net::IpAddr;
use std::sync::Arc;

use bulkhead_common::abi::Addr;
use ipnet::IpNet;

use crate::few::Few;
use crate::policy::address::{AddressRange, IPV4, address};
use crate::policy::agent::AgentConfig;
use crate::policy::attribute::Attributes;
use crate::policy::compile::ground::Ground;
use crate::policy::location::Located;
use crate::policy::model::{Device, Labels, Like, Network, Policy, Test, TestRemote, carries};
use crate::policy::name::Name;
use crate::tables::Host;

/// Makes a device that has what membership in the segment takes, what the test says, and nothing else.
///
/// `others` are the devices that the test is about beside it: they keep their addresses.
///
/// # Errors
/// A sentence that says why there can be no such device.
pub(super) fn made(
    policy: &Policy,
    on: (&AgentConfig, &Host),
    (test, like): (&Test, &Like),
    others: &Policy,
) -> Result<Device, String> {
    let labels = labels(policy, like)?;
    let network = network(policy, test, like)?;
    if let Some(local) = &test.local
        && let Some(holder) = others.devices.values().find(|device| device.holds(local.value))
    {
        return Err(format!("{} is an address of {}", local.value, holder.name));
    }
    let here = |net: IpNet| Located::new(net, test.at.clone());
    let addresses = free(network, on, test, others);
    if addresses.is_empty() {
        return Err(format!("no address is free in the pools of network {}", network.name));
    }
    Ok(Device {
        name: nobody_s_name(policy)?,
        at: test.at.clone(),
        network: Located::new(network.name.clone(), test.at.clone()),
        segment: Some(like.segment.value.clone()),
        labels: Arc::new(labels),
        addresses: addresses.into_iter().map(|address| here(address.into())).collect(),
        teid: None,
        framed_routes: test.local.iter().map(|local| here(local.value.into())).collect(),
        binding: None,
        profiles: Few::default(),
        imei: None,
        observed: Attributes::new(),
    })
}

/// The labels that make a member, and those that the test adds.
fn labels(policy: &Policy, like: &Like) -> Result<Labels, String> {
    let segment = &like.segment.value;
    let members = policy.segments.get(segment).map(|segment| segment.members.clone()).unwrap_or_default();
    let mut labels = like.labels.clone();
    for (key, value) in members {
        if let Some(said) = labels.insert(key.clone(), value.clone())
            && said != value
        {
            return Err(format!("a member of segment {segment} has {key}: {value}, and not {said}"));
        }
    }
    let mut others = policy.segments.values().filter(|other| other.name != *segment);
    match others.find(|other| carries(&labels, &other.members)) {
        Some(other) => Err(format!("such a device would be in segment {} too ({})", other.name, other.at)),
        None => Ok(labels),
    }
}

/// Where members are; a segment that has none goes with the other end, or with the only network.
fn network<'a>(policy: &'a Policy, test: &Test, like: &Like) -> Result<&'a Network, String> {
    let member = policy.devices.values().find(|device| device.segment.as_ref() == Some(&like.segment.value));
    let remote = match &test.remote {
        TestRemote::Device(name) => policy.devices.get(&name.value),
        TestRemote::Address(_) => None,
    };
    let device = member.or(remote);
    let only = || policy.networks.values().next().filter(|_| policy.networks.len() == 1);
    let found = device.map_or_else(only, |device| policy.networks.get(&device.network.value));
    found.ok_or_else(|| {
        format!("segment {} has no members, so nobody knows which network is meant", like.segment.value)
    })
}

/// An address of each family of the pools that nobody else of the test has.
fn free(
    network: &Network,
    (agent, host): (&AgentConfig, &Host),
    test: &Test,
    others: &Policy,
) -> Vec<IpAddr> {
    let ground = Ground::of(others, agent, host);
    let prefixes =
        others.devices.values().flat_map(|device| device.prefixes()).map(|prefix| prefix.value.into());
    let remote = match &test.remote {
        TestRemote::Address(address) => Some(address.value),
        TestRemote::Device(_) => None,
    };
    let said = remote.into_iter().chain(test.local.iter().map(|local| local.value)).map(AddressRange::from);
    let taken = prefixes.chain(said).collect();
    let pools = ground.pools_of(&network.name).map(|pools| pools.without(&taken)).unwrap_or_default();
    let (v4, v6): (Vec<AddressRange>, Vec<AddressRange>) =
        pools.ranges().iter().partition(|range| IPV4.contains(**range));
    [v4, v6].iter().filter_map(|ranges| within(ranges)).collect()
}

/// An address in the first range that has one between its ends: the ends of a pool are not hosts on every link.
fn within(ranges: &[AddressRange]) -> Option<IpAddr> {
    let inner = ranges.iter().find(|range| range.last - range.first >= 2).map(|range| range.first + 1);
    let any = ranges.first().map(|range| range.first);
    let usable = |number: &u128| !Addr::from_bits(*number).is_martian();
    inner.or(any).filter(usable).map(address)
}

/// A name that no device has, so that no policy is about it by name.
fn nobody_s_name(policy: &Policy) -> Result<Name, String> {
    let names = (0..=policy.devices.len()).filter_map(|n| Name::new(&format!("like-{n}")));
    let mut free = names.filter(|name| !policy.devices.contains_key(name));
    free.next().ok_or_else(|| "every name for it is a device's".to_owned())
}
