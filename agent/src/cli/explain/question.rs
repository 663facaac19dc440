//! What was typed → a packet → the engine's answer.

use std::net::IpAddr;
use std::sync::Arc;

use bulkhead_common::parse::Packet;
use bulkhead_common::verdict::Direction;

use crate::cli::basis::Basis;
use crate::cli::words::list;
use crate::policy::{
    Answer, Bench, Device, End, Name, Network, Port, Question, Role, considered_rules, first_packet, host_in,
};
use crate::tables::Image;

/// One end as it was typed.
struct Typed<'a> {
    /// The address, if it was one.
    address: Option<IpAddr>,
    /// The device of that name, or every device that has the address: one in each network.
    devices: Vec<&'a Device>,
}

/// Asks the engine whether `from` may open `port` of `to`.
pub(super) fn ask(basis: &Basis, from: &str, to: &str, port: Port) -> Result<Answer, String> {
    let (from, to) = (Typed::read(basis, from)?, Typed::read(basis, to)?);
    let (caller, called) = (from.device_beside(&to)?, to.device_beside(&from)?);
    let question = match (caller, called, from.address, to.address) {
        (Some(caller), _, _, Some(address)) => {
            Question { from: from.end(caller), to: End::Address(address), port }
        }
        (Some(caller), Some(called), Some(address), None) => {
            let to = End::Address(address_like(called, address)?);
            Question { from: from.end(caller), to, port }
        }
        (Some(caller), Some(called), None, None) => {
            Question { from: from.end(caller), to: to.end(called), port }
        }
        (None, Some(called), Some(address), _) if pool(basis, address).is_none() => {
            Question { from: End::Address(address), to: to.end(called), port }
        }
        _ => return stranger(basis, &from, &to, port),
    };
    Bench::new(&basis.policy, &basis.agent, &basis.host, &basis.compiled)
        .at(basis.moment.boot, basis.wall())
        .ask(&question)
}

/// The device that the rules are about: the one that calls, or else the one that is called.
pub(super) fn subject(basis: &Basis, from: &str, to: &str) -> Result<Name, String> {
    let (from, to) = (Typed::read(basis, from)?, Typed::read(basis, to)?);
    let device = from.device_beside(&to)?.or(to.device_beside(&from)?);
    device
        .map(|device| device.name.clone())
        .ok_or_else(|| "--given is about a device, and neither end is one".to_owned())
}

/// Asks the engine about one packet that enters by an interface.
pub(super) fn judge(basis: &Basis, packet: Packet, ifindex: u32) -> Answer {
    let image = Image::new(&basis.compiled.tables);
    image.set_now(0, basis.moment.boot);
    let (verdict, case) = image.judge_packet(packet, ifindex);
    let (device, peer) = (basis.device(case.evidence.device), basis.device(case.evidence.peer));
    let ends = match case.evidence.direction {
        Direction::Uplink => [device, peer],
        Direction::Downlink => [None, device],
        Direction::Transit => [None, None],
    };
    let considered =
        considered_rules(&basis.policy, (&basis.agent, &basis.host), &packet, ends, basis.wall());
    Answer { verdict, case, considered }
}

impl<'a> Typed<'a> {
    fn read(basis: &'a Basis, text: &str) -> Result<Self, String> {
        let Ok(address) = text.parse::<IpAddr>() else {
            return Ok(Self { address: None, devices: vec![basis.device_named(text)?] });
        };
        let devices =
            basis.policy.devices().values().filter(|device| device.holds(address)).map(Arc::as_ref).collect();
        Ok(Self { address: Some(address), devices })
    }

    /// This end, which is the device: by the address that was typed, or by any.
    fn end(&self, device: &Device) -> End {
        match self.address {
            Some(address) => End::At(device.name.clone(), address),
            None => End::Device(device.name.clone()),
        }
    }

    /// The device, if this end is one; of several with the address the one in the other end's network.
    fn device_beside(&self, other: &Self) -> Result<Option<&'a Device>, String> {
        if self.devices.len() < 2 {
            return Ok(self.devices.first().copied());
        }
        let beside =
            |device: &&&Device| other.devices.iter().any(|o| o.network.value == device.network.value);
        match self.devices.iter().filter(beside).collect::<Vec<_>>().as_slice() {
            [only] => Ok(Some(only)),
            _ => {
                let each = self.devices.iter().map(|d| format!("{} in network {}", d.name, d.network.value));
                Err(format!("more than one device has this address ({}): name the device", list(each)))
            }
        }
    }
}

/// The device's address of the family that the other end has.
fn address_like(device: &Device, other: IpAddr) -> Result<IpAddr, String> {
    let mut addresses = device.addresses.iter().map(|address| host_in(address.value));
    let found = addresses.find(|address| address.is_ipv4() == other.is_ipv4());
    found.ok_or_else(|| {
        let family = if other.is_ipv4() { "IPv4" } else { "IPv6" };
        format!("{} has no {family} address, and {other} has no other", device.name)
    })
}

/// A caller or a called one that lies in a pool and is no device.
fn stranger(basis: &Basis, from: &Typed<'_>, to: &Typed<'_>, port: Port) -> Result<Answer, String> {
    let Some(source) = from.address else {
        return Err("name the device that calls, or its address, with --from".to_owned());
    };
    let destination = match (to.address, to.devices.first()) {
        (Some(address), _) => address,
        (None, Some(device)) => address_like(device, source)?,
        (None, None) => return Err("name who is called with --to".to_owned()),
    };
    let (network, role) = match (pool(basis, source), pool(basis, destination)) {
        (Some(network), _) => (network, Role::Access),
        (None, Some(network)) => (network, Role::Core),
        (None, None) => {
            return Err(format!(
                "neither {source} nor {destination} is a device or lies in a pool, and Bulkhead judges traffic of \
                 devices: name one (`bulkhead get devices`)"
            ));
        }
    };
    let (ifindex, vlans) = entrance(basis, network, role)
        .ok_or_else(|| format!("no {role} interface shows network {}", network.name, role = word(role)))?;
    let packet = first_packet(source, destination, port)?;
    Ok(judge(basis, Packet { outer_vlan: vlans[0], inner_vlan: vlans[1], ..packet }, ifindex))
}

/// The network in whose pools an address lies.
pub(super) fn pool(basis: &Basis, address: IpAddr) -> Option<&Network> {
    let holds = |network: &&Network| network.pools.iter().any(|pool| pool.value.contains(&address));
    basis.policy.networks().values().find(holds)
}

/// Where a network's frames enter from one side.
fn entrance(basis: &Basis, network: &Network, role: Role) -> Option<(u32, [u16; 2])> {
    network.seen_on.iter().map(|seen| &seen.value).find_map(|seen| {
        let mut interfaces = basis.agent.interfaces.iter();
        let interface = interfaces.find(|interface| interface.name.value == seen.interface)?;
        let found = basis.host.interfaces.get(&seen.interface)?;
        Some((interface.point(role, found.ifindex)?, [seen.vlan, seen.inner_vlan]))
    })
}

fn word(role: Role) -> &'static str {
    match role {
        Role::Access => "access",
        Role::Core => "core",
        Role::Witness => "witness",
    }
}
