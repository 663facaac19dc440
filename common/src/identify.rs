//! Packet → network, device and peer; spoof and martian checks, on every packet, flow hits included.
//!
//! Addresses mean something only inside a network, and the network comes from where the frame
//! entered. A source that cannot be where it came from is a drop, whatever any flow says.

use crate::abi::key::VLAN_OTHER;
use crate::abi::map::NETWORK_CAPACITY;
use crate::abi::value::{
    DEVICE_MAC_BOUND, ROLE_ACCESS, ROLE_CORE, SCOPE_INFRASTRUCTURE, SCOPE_POOL, TRANSIT_HOST, TRANSIT_PASS,
};
use crate::abi::{
    Addr, AddressKey, Device, DeviceId, Epoch, Generation, Network, NetworkId, ProfileId, Subinterface,
    SubinterfaceKey,
};
use crate::decide::Tables;
use crate::neighbour;
use crate::parse::{Kind, Packet};
use crate::search;
use crate::verdict::{Direction, DropReason, Evidence, Pass};
use crate::wire::ip_proto;

/// A device as the packet's generation sees it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Party {
    /// Who.
    pub device: DeviceId,
    /// What applies to it.
    pub profile: ProfileId,
    /// Row of its rule set, 0 if it has none.
    pub rule_set: u32,
}

/// Both ends as far as they are devices, and how new the newest fact about them is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Identity {
    /// The device the packet is about: its sender, or on the way down its receiver.
    pub device: Party,
    /// The device at the other end, if it is one.
    pub peer: Party,
    /// The greatest `since` of everything read: a flow stamped earlier must be judged again.
    pub latest: Generation,
}

/// What is to be done with an identified packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Course {
    /// It passes without touching a device.
    Pass(Pass),
    /// From a device to the outside.
    Uplink,
    /// From the outside to a device.
    Downlink,
    /// From device to device, at the sender's access interface.
    Lateral,
    /// From device to device, coming back from the core: passes only on a live flow.
    Returning,
}

/// Finds out who the packet is from and for.
#[inline(always)]
pub fn identify<T: Tables>(
    tables: &T,
    packet: &Packet,
    epoch: Epoch,
    identity: &mut Identity,
    evidence: &mut Evidence,
) -> Result<Course, DropReason> {
    let place = Place::find(tables, packet, epoch)?;
    evidence.network = place.subinterface.network;
    identity.latest = newest(place.subinterface.since, place.network.since);
    match packet.kind {
        Kind::LinkControl => place.link_control().map(Course::Pass),
        Kind::Arp | Kind::Neighbour | Kind::RouterSolicitation | Kind::RouterOnly => {
            neighbour::judge(tables, packet, epoch, &place, evidence).map(Course::Pass)
        }
        Kind::Ports
        | Kind::EchoRequest
        | Kind::EchoReply
        | Kind::IcmpError
        | Kind::IcmpOther
        | Kind::Fragment
        | Kind::OtherProtocol => place.route(tables, packet, epoch, identity, evidence),
    }
}

/// Where the packet entered, and what is known of it.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The row of the interface and VLAN stack.
    pub subinterface: Subinterface,
    /// The network seen there; the host's own row if there is none.
    pub network: Network,
}

impl Place {
    #[inline(always)]
    fn find<T: Tables>(tables: &T, packet: &Packet, epoch: Epoch) -> Result<Self, DropReason> {
        let ifindex = tables.interface();
        let exact = SubinterfaceKey::new(epoch.bank, ifindex, packet.outer_vlan, packet.inner_vlan);
        let subinterface = match tables.subinterface(&exact) {
            Some(row) => row,
            None => tables
                .subinterface(&SubinterfaceKey::other(epoch.bank, ifindex))
                .ok_or(DropReason::InternalInterface)?,
        };
        let network = network_row(tables, epoch, subinterface.network)?;
        Ok(Self { subinterface, network })
    }

    /// True if frames from devices may enter here.
    #[inline(always)]
    pub const fn is_access(&self) -> bool {
        self.subinterface.roles & ROLE_ACCESS != 0
    }

    /// True if frames from the data network may enter here.
    #[inline(always)]
    pub const fn is_core(&self) -> bool {
        self.subinterface.roles & ROLE_CORE != 0
    }

    /// LACP and LLDP keep the link itself alive; they follow `transit` and never come from devices alone.
    #[inline(always)]
    fn link_control(&self) -> Result<Pass, DropReason> {
        if self.is_core() && self.subinterface.transit != 0 {
            Ok(Pass::LinkControl)
        } else {
            Err(DropReason::UnsupportedEthertype)
        }
    }

    #[inline(always)]
    fn route<T: Tables>(
        &self,
        tables: &T,
        packet: &Packet,
        epoch: Epoch,
        identity: &mut Identity,
        evidence: &mut Evidence,
    ) -> Result<Course, DropReason> {
        let scopes = self.network.scopes;
        let from_pool = search::scope(tables, scopes, packet.source)? == SCOPE_POOL;
        let to_pool = search::scope(tables, scopes, packet.destination)? == SCOPE_POOL;
        if self.subinterface.network.is_none() && (from_pool || to_pool) {
            return Err(DropReason::UnknownVlan);
        }
        if from_pool {
            evidence.direction = Direction::Uplink;
            return self.from_device(tables, packet, epoch, identity, evidence, to_pool);
        }
        if to_pool {
            evidence.direction = Direction::Downlink;
            return self.to_device(tables, packet, epoch, identity, evidence);
        }
        self.transit(tables, packet, epoch).map(Course::Pass)
    }

    #[inline(always)]
    fn from_device<T: Tables>(
        &self,
        tables: &T,
        packet: &Packet,
        epoch: Epoch,
        identity: &mut Identity,
        evidence: &mut Evidence,
        to_pool: bool,
    ) -> Result<Course, DropReason> {
        let network = self.subinterface.network;
        let sender = party(tables, epoch, network, packet.source, &mut identity.latest)?;
        let (device, row) = sender.ok_or(if self.is_access() {
            DropReason::UnknownDevice
        } else {
            DropReason::SpoofedSource
        })?;
        identity.device = device;
        evidence.device = device.device;
        if self.is_access() && !bound_here(row, packet, tables.interface()) {
            return Err(DropReason::SpoofedSource);
        }
        if let Some(reason) = unreachable(packet.destination) {
            return Err(reason);
        }
        if !to_pool {
            // A pool address that comes in from the core is somebody else's claim to it.
            return if self.is_access() { Ok(Course::Uplink) } else { Err(DropReason::SpoofedSource) };
        }
        let receiver = party(tables, epoch, network, packet.destination, &mut identity.latest)?;
        let (peer, _) = receiver.ok_or(DropReason::UnknownPeer)?;
        identity.peer = peer;
        evidence.peer = peer.device;
        Ok(if self.is_access() { Course::Lateral } else { Course::Returning })
    }

    #[inline(always)]
    fn to_device<T: Tables>(
        &self,
        tables: &T,
        packet: &Packet,
        epoch: Epoch,
        identity: &mut Identity,
        evidence: &mut Evidence,
    ) -> Result<Course, DropReason> {
        if !self.is_core() {
            return Err(DropReason::SpoofedSource);
        }
        if packet.source.is_martian() {
            return Err(DropReason::MartianSource);
        }
        // On an interface that carries several networks, another network's device must not come in as "the outside".
        if in_any_pool(tables, epoch, packet.source)? {
            return Err(DropReason::SpoofedSource);
        }
        let network = self.subinterface.network;
        let receiver = party(tables, epoch, network, packet.destination, &mut identity.latest)?;
        let (device, _) = receiver.ok_or(DropReason::UnknownDevice)?;
        identity.device = device;
        evidence.device = device.device;
        Ok(Course::Downlink)
    }

    /// Traffic of no device: the interface's setting decides, but never with an address of any pool.
    #[inline(always)]
    fn transit<T: Tables>(&self, tables: &T, packet: &Packet, epoch: Epoch) -> Result<Pass, DropReason> {
        let host = network_row(tables, epoch, NetworkId::NONE)?;
        if search::scope(tables, host.scopes, packet.source)? == SCOPE_POOL {
            return Err(DropReason::SpoofedSource);
        }
        let destination = search::scope(tables, host.scopes, packet.destination)?;
        if destination == SCOPE_POOL {
            return Err(DropReason::UnknownVlan);
        }
        match self.subinterface.transit {
            TRANSIT_PASS => Ok(Pass::Transit),
            TRANSIT_HOST if destination == SCOPE_INFRASTRUCTURE => Ok(Pass::Transit),
            _ => Err(self.refused_transit(packet)),
        }
    }

    /// The most telling reason for refused transit.
    #[inline(always)]
    fn refused_transit(&self, packet: &Packet) -> DropReason {
        if !self.is_access() || self.is_core() {
            return DropReason::TransitDenied;
        }
        if is_dhcp(packet) {
            return DropReason::Dhcp;
        }
        if packet.destination.is_multicast() {
            return DropReason::Multicast;
        }
        if packet.source.is_martian() { DropReason::MartianSource } else { DropReason::SpoofedSource }
    }
}

/// The row of a network in the packet's bank.
#[inline(always)]
pub fn network_row<T: Tables>(tables: &T, epoch: Epoch, network: NetworkId) -> Result<Network, DropReason> {
    let index = (epoch.bank & 1) * NETWORK_CAPACITY + network.0;
    tables.network(index).copied().ok_or(DropReason::InternalTable)
}

/// True if any network has the address in a pool.
#[inline(always)]
fn in_any_pool<T: Tables>(tables: &T, epoch: Epoch, address: Addr) -> Result<bool, DropReason> {
    let host = network_row(tables, epoch, NetworkId::NONE)?;
    Ok(search::scope(tables, host.scopes, address)? == SCOPE_POOL)
}

/// The device that holds an address, with its row.
#[inline(always)]
pub fn party<'t, T: Tables>(
    tables: &'t T,
    epoch: Epoch,
    network: NetworkId,
    address: Addr,
    latest: &mut Generation,
) -> Result<Option<(Party, &'t Device)>, DropReason> {
    let mut found = tables.address(&AddressKey::host(network, address)).map(|row| row.at(epoch.generation));
    if found.is_none_or(|(_, row)| row == 0) && !address.is_v4() {
        *latest = newest(*latest, found.map_or(Generation::NONE, |(since, _)| since));
        found = tables.address(&AddressKey::prefix64(network, address)).map(|row| row.at(epoch.generation));
    }
    let Some((since, row)) = found else { return Ok(None) };
    *latest = newest(*latest, since);
    if row == 0 {
        return Ok(None);
    }
    let device = tables.device(row).ok_or(DropReason::InternalTable)?;
    let profile = tables.profile(device.profile.0).ok_or(DropReason::InternalTable)?;
    let (since, rule_set) = profile.at(epoch.generation);
    *latest = newest(*latest, since);
    Ok(Some((Party { device: device.device, profile: device.profile, rule_set }, device)))
}

/// True if the device's frames may enter like this one did.
#[inline(always)]
pub fn bound_here(device: &Device, packet: &Packet, ifindex: u32) -> bool {
    (device.ifindex == 0 || device.ifindex == ifindex)
        && (device.outer_vlan == VLAN_OTHER || device.outer_vlan == packet.outer_vlan)
        && (device.inner_vlan == VLAN_OTHER || device.inner_vlan == packet.inner_vlan)
        && (device.flags & DEVICE_MAC_BOUND == 0 || device.mac == packet.source_mac)
}

/// Why no device may send there, whatever its policy.
#[inline(always)]
fn unreachable(destination: Addr) -> Option<DropReason> {
    if destination.is_multicast() {
        Some(DropReason::Multicast)
    } else if destination.is_v4() && destination.v4_bits() == u32::MAX {
        Some(DropReason::Broadcast)
    } else if destination.is_martian() {
        Some(DropReason::MartianDestination)
    } else {
        None
    }
}

/// DHCP (RFC 2131) and DHCPv6 (RFC 8415) clients, by their ports.
#[inline(always)]
fn is_dhcp(packet: &Packet) -> bool {
    matches!(packet.kind, Kind::Ports)
        && packet.protocol == ip_proto::UDP
        && matches!((packet.source_port, packet.destination_port), (68, 67) | (546, 547))
}

#[inline(always)]
const fn newest(a: Generation, b: Generation) -> Generation {
    if a.0 >= b.0 { a } else { b }
}
