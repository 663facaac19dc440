//! Packet → network, device and peer; spoof and martian checks, on every packet, flow hits included.
//!
//! Addresses mean something only inside a network, and the network comes from where the frame
//! entered. A source that cannot be where it came from is a drop, whatever any flow says.

use crate::abi::key::VLAN_OTHER;
use crate::abi::map::NETWORK_CAPACITY;
use crate::abi::value::{
    DEVICE_MAC_BOUND, DEVICE_OBSERVES, DEVICE_REPAIR, IDENTITY_BEHIND, IDENTITY_NESTED, IDENTITY_ROW,
    NETWORK_PASSES_OPTIONS, OWNER_BY_TEID, ROLE_ACCESS, ROLE_CORE, ROLE_HOST_PASSES, ROLE_WITNESS,
    SCOPE_ENDPOINT, SCOPE_INFRASTRUCTURE, SCOPE_POOL, TRANSIT_DROP, TRANSIT_HOST, TRANSIT_PASS,
};
use crate::abi::{
    Addr, AddressKey, Device, Epoch, Generation, Network, NetworkId, ProfileId, Subinterface, SubinterfaceKey,
};
use crate::case::{Case, Confined, Course, Party};
use crate::decide::{self, Tables};
use crate::engine::Step;
use crate::fragment;
use crate::neighbour;
use crate::parse::{Kind, Packet};
use crate::search;
use crate::tunnel::{self, Binding, Tunnels};
use crate::verdict::{Direction, DropReason, Pass};
use crate::wire::{icmp, ip_proto};

/// Finds the row of the interface and VLAN stack that the frame entered by.
#[inline(always)]
pub fn locate<T: Tables>(tables: &T, case: &mut Case) -> Result<(), DropReason> {
    let place = Place::find(tables, case)?;
    case.evidence.network = place.subinterface.network;
    case.identity.latest = newest(place.subinterface.since, place.network.since);
    case.place = place;
    Ok(())
}

/// Finds out who the packet is from and for; what touches no device passes here.
#[inline(always)]
pub fn identify<T: Tables + Tunnels>(tables: &T, case: &mut Case) -> Step {
    let place = case.place;
    match case.packet.kind {
        Kind::LinkControl => place.link_control().map(Some),
        Kind::Arp | Kind::Neighbour | Kind::RouterSolicitation | Kind::RouterOnly => {
            neighbour::judge(tables, case, &place).map(Some)
        }
        Kind::Ports
        | Kind::EchoRequest
        | Kind::EchoReply
        | Kind::IcmpError
        | Kind::IcmpOther
        | Kind::Fragment
        | Kind::Portless
        | Kind::OtherProtocol => place.route(tables, case),
    }
}

/// Where the packet entered, and what is known of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct Place {
    /// The row of the interface and VLAN stack.
    pub subinterface: Subinterface,
    /// The network seen there; the host's own row if there is none.
    pub network: Network,
}

impl Place {
    /// Not found yet: no role, no network, no transit.
    pub const NOWHERE: Self = Self { subinterface: Subinterface::NOWHERE, network: Network::NOBODY };

    #[inline(always)]
    fn find<T: Tables>(tables: &T, case: &Case) -> Result<Self, DropReason> {
        let Case { packet, epoch, arrival, .. } = case;
        let exact = SubinterfaceKey::new(epoch.bank, arrival.ifindex, packet.outer_vlan, packet.inner_vlan);
        let subinterface = match tables.subinterface(&exact) {
            Some(row) => row,
            None => tables
                .subinterface(&SubinterfaceKey::other(epoch.bank, arrival.ifindex))
                .ok_or(DropReason::InternalInterface)?,
        };
        Self { subinterface: *subinterface, network: Network::NOBODY }.entered(tables, packet, *epoch)
    }

    /// What the place is to a packet of a tunnel, and to one of none: where tunnels end, only those bring devices.
    #[inline(always)]
    fn entered<T: Tables>(mut self, tables: &T, packet: &Packet, epoch: Epoch) -> Result<Self, DropReason> {
        let row = &mut self.subinterface;
        if packet.teid != 0 {
            // `transit` is about what else is on the wire: in a tunnel there are devices only.
            (row.roles, row.transit) = (ROLE_ACCESS, TRANSIT_DROP);
        } else if row.endpoints.len != 0 {
            row.roles &= !ROLE_ACCESS;
        }
        if row.network.is_none() && (row.teids.len | row.owners.len) != 0 {
            row.network = owner(tables, row, packet)?;
        }
        self.network = network_row(tables, epoch, row.network)?;
        Ok(self)
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

    /// True if GTP-U tunnels end here.
    #[inline(always)]
    pub const fn ends_tunnels(&self) -> bool {
        self.subinterface.endpoints.len != 0
    }

    /// True if packets are judged elsewhere and only looked at here.
    #[inline(always)]
    pub const fn is_witness(&self) -> bool {
        self.subinterface.roles & ROLE_WITNESS != 0
    }

    /// True if what the host itself sends passes here.
    #[inline(always)]
    pub const fn passes_host(&self) -> bool {
        self.subinterface.roles & ROLE_HOST_PASSES != 0
    }

    /// True if nobody but devices is on the link.
    #[inline(always)]
    pub const fn is_access_alone(&self) -> bool {
        self.is_access() && !self.is_core()
    }

    /// LACP and LLDP keep the link itself alive; they follow `transit` and never come from devices alone.
    #[inline(always)]
    fn link_control(&self) -> Result<Pass, DropReason> {
        if !self.is_access_alone() && self.subinterface.transit != 0 {
            Ok(Pass::LinkControl)
        } else {
            Err(DropReason::UnsupportedEthertype)
        }
    }

    #[inline(always)]
    fn route<T: Tables + Tunnels>(&self, tables: &T, case: &mut Case) -> Step {
        if is_redirect(&case.packet) && self.is_access() {
            return Err(DropReason::NeighbourRole);
        }
        if tunnel::is_nested(&case.packet) {
            return Err(DropReason::GtpuNested);
        }
        if self.subinterface.network.is_none() && case.packet.teid != 0 {
            return Err(DropReason::UnknownTunnel);
        }
        let scopes = self.network.scopes;
        let source = search::scope_of_few(tables, scopes, case.packet.source)?;
        let destination = search::scope_of_few(tables, scopes, case.packet.destination)?;
        let (from_pool, to_pool) = (source == SCOPE_POOL, destination == SCOPE_POOL);
        if self.subinterface.network.is_none() && (from_pool || to_pool) {
            return Err(DropReason::UnknownVlan);
        }
        if from_pool {
            case.evidence.direction = Direction::Uplink;
            case.course = self.sent_by_device(tables, case, destination)?;
            return self.go_on(case);
        }
        if to_pool {
            case.evidence.direction = Direction::Downlink;
            case.course = self.sent_to_device(tables, case, source)?;
            return self.go_on(case);
        }
        self.transit(tables, case, source, destination).map(Some)
    }

    /// What is of a device is decided on next; of nobody there is nothing more to ask.
    #[inline(always)]
    fn go_on(&self, case: &Case) -> Step {
        self.refuse_options(&case.packet)?;
        Ok(if case.would == 0 { None } else { Some(Pass::Transit) })
    }

    /// Options steer routers and firewalls on the way; devices have no use for them unless their network says so.
    #[inline(always)]
    fn refuse_options(&self, packet: &Packet) -> Result<(), DropReason> {
        let refused = packet.options != 0 && self.network.flags & NETWORK_PASSES_OPTIONS == 0;
        if refused { Err(DropReason::IpOptions) } else { Ok(()) }
    }

    #[inline(always)]
    fn sent_by_device<T: Tables + Tunnels>(
        &self,
        tables: &T,
        case: &mut Case,
        destination: u32,
    ) -> Result<Course, DropReason> {
        let Some((device, row, slot)) = party(tables, case, case.packet.source)? else {
            // A pool address that comes in from the core is somebody else's claim to it.
            return if self.is_access() {
                self.sent_by_nobody(tables, case, destination)
            } else {
                Err(DropReason::SpoofedSource)
            };
        };
        case.identity.device = device;
        case.evidence.device = device.device;
        if self.is_access() {
            if !bound_here(row, case) {
                return Err(DropReason::SpoofedSource);
            }
            if !tunnel::bound_here(tables, case, slot, row) {
                return Err(DropReason::SpoofedTunnel);
            }
            case.tunnel = Binding::of(row, slot, case.epoch.generation);
        }
        if let Some(reason) = unreachable(case.packet.destination) {
            return Err(reason);
        }
        if destination != SCOPE_POOL {
            self.stay_in_network(tables, case, destination)?;
            return if self.is_access() { Ok(Course::Uplink) } else { Err(DropReason::SpoofedSource) };
        }
        let Some((peer, ..)) = party(tables, case, case.packet.destination)? else {
            // What comes back from the core takes a flow to tell that a device has sent it.
            return if self.is_access() {
                self.sent_to_nobody(case, DropReason::UnknownPeer).map(|()| Course::Lateral)
            } else {
                Err(DropReason::UnknownPeer)
            };
        };
        case.identity.peer = peer;
        case.evidence.peer = peer.device;
        Ok(if self.is_access() { Course::Lateral } else { Course::Returning })
    }

    #[inline(always)]
    fn sent_to_device<T: Tables>(
        &self,
        tables: &T,
        case: &mut Case,
        source: u32,
    ) -> Result<Course, DropReason> {
        if !self.is_core() {
            return Err(DropReason::SpoofedSource);
        }
        if case.packet.source.is_martian() {
            return Err(DropReason::MartianSource);
        }
        // Where several networks share an interface, another network's device must not come in as "the outside".
        if host_scope(tables, case.epoch, source, case.packet.source)? == SCOPE_POOL {
            return Err(DropReason::SpoofedSource);
        }
        let Some((device, ..)) = party(tables, case, case.packet.destination)? else {
            return self.sent_to_nobody(case, DropReason::UnknownDevice).map(|()| Course::Downlink);
        };
        case.identity.device = device;
        case.evidence.device = device.device;
        Ok(Course::Downlink)
    }

    /// Into another network nothing is only observed.
    #[inline(always)]
    fn stay_in_network<T: Tables>(
        &self,
        tables: &T,
        case: &mut Case,
        destination: u32,
    ) -> Result<(), DropReason> {
        let observed = case.identity.device.observes != 0;
        if observed && host_scope(tables, case.epoch, destination, case.packet.destination)? == SCOPE_POOL {
            case.identity.device.observes = 0;
        }
        Ok(())
    }

    /// From an address that no device has, on the devices' side: passes where its network only observes, and
    /// then no more than a device may send.
    #[inline(always)]
    fn sent_by_nobody<T: Tables>(
        &self,
        tables: &T,
        case: &mut Case,
        destination: u32,
    ) -> Result<Course, DropReason> {
        case.refuse(DropReason::UnknownDevice)?;
        if let Some(reason) = unreachable(case.packet.destination) {
            return Err(reason);
        }
        if destination == SCOPE_POOL {
            self.meet_peer(tables, case)?;
        } else {
            match host_scope(tables, case.epoch, destination, case.packet.destination)? {
                SCOPE_POOL => return Err(DropReason::UnknownDevice),
                SCOPE_ENDPOINT => tunnel::past_its_interface(&case.packet)?,
                _ => {}
            }
        }
        let packet = &case.packet;
        if matches!(packet.kind, Kind::Ports) {
            decide::not_control(packet.protocol, packet.destination_port)?;
        }
        self.understood(packet).map(|()| Course::Uplink)
    }

    /// A device that enforces does so against nobody, too.
    #[inline(always)]
    fn meet_peer<T: Tables>(&self, tables: &T, case: &mut Case) -> Result<(), DropReason> {
        if let Some((peer, ..)) = party(tables, case, case.packet.destination)? {
            case.identity.peer = peer;
            case.evidence.peer = peer.device;
        }
        case.refuse(DropReason::UnknownDevice)
    }

    /// To an address of the pool that no device has: as above.
    #[inline(always)]
    fn sent_to_nobody(&self, case: &mut Case, reason: DropReason) -> Result<(), DropReason> {
        case.refuse(reason)?;
        self.understood(&case.packet)
    }

    /// Refuses what nobody can decide on. Without a device there is nothing to put fragments in order by.
    #[inline(always)]
    fn understood(&self, packet: &Packet) -> Result<(), DropReason> {
        if packet.piece.is_fragment() {
            return fragment::refuse_unfit(self.network.flags, packet);
        }
        if matches!(packet.kind, Kind::IcmpError) { Ok(()) } else { decide::decidable(packet.kind) }
    }

    /// Traffic of no device: the interface's setting decides, but never with an address of any pool.
    #[inline(always)]
    fn transit<T: Tables>(
        &self,
        tables: &T,
        case: &Case,
        source: u32,
        destination: u32,
    ) -> Result<Pass, DropReason> {
        if host_scope(tables, case.epoch, source, case.packet.source)? == SCOPE_POOL {
            return Err(DropReason::SpoofedSource);
        }
        let destination = host_scope(tables, case.epoch, destination, case.packet.destination)?;
        if destination == SCOPE_POOL {
            return Err(DropReason::UnknownVlan);
        }
        if destination == SCOPE_ENDPOINT {
            tunnel::past_its_interface(&case.packet)?;
        }
        match self.subinterface.transit {
            TRANSIT_PASS => Ok(Pass::Transit),
            TRANSIT_HOST if matches!(destination, SCOPE_INFRASTRUCTURE | SCOPE_ENDPOINT) => Ok(Pass::Transit),
            _ => Err(self.refused_transit(&case.packet)),
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

/// The network of a packet where several are seen: by its tunnel, or by the address that a device has.
#[inline(always)]
fn owner<T: Tables>(tables: &T, row: &Subinterface, packet: &Packet) -> Result<NetworkId, DropReason> {
    if packet.teid == 0 {
        let device = if row.roles & ROLE_WITNESS != 0 { packet.source } else { packet.destination };
        if row.roles & (ROLE_CORE | ROLE_WITNESS) == 0 {
            return Ok(NetworkId::NONE);
        }
        let owner = search::scope(tables, row.owners, device)?;
        return Ok(NetworkId(owner & !OWNER_BY_TEID));
    }
    owner_by_tunnel(tables, row, packet.teid, packet.source)
}

/// As [`owner`], of a device's packet in a tunnel.
#[inline(always)]
pub fn owner_by_tunnel<T: Tables>(
    tables: &T,
    row: &Subinterface,
    teid: u32,
    source: Addr,
) -> Result<NetworkId, DropReason> {
    let told = search::scope(tables, row.teids, Addr::from_halves(0, teid as u64))?;
    if told != 0 {
        return Ok(NetworkId(told));
    }
    let owner = search::scope(tables, row.owners, source)?;
    Ok(if owner & OWNER_BY_TEID == 0 { NetworkId(owner) } else { NetworkId::NONE })
}

/// What an address is to the whole host, given its scope in the packet's own network.
///
/// A network's infrastructure is never another network's device there, even where that network's
/// pools cover the same addresses.
#[inline(always)]
fn host_scope<T: Tables>(tables: &T, epoch: Epoch, own: u32, address: Addr) -> Result<u32, DropReason> {
    let host = network_row(tables, epoch, NetworkId::NONE)?;
    let scope = search::scope(tables, host.scopes, address)?;
    Ok(if own == SCOPE_INFRASTRUCTURE && scope == SCOPE_POOL { 0 } else { scope })
}

/// The row of a network in the packet's bank.
#[inline(always)]
pub fn network_row<T: Tables>(tables: &T, epoch: Epoch, network: NetworkId) -> Result<Network, DropReason> {
    tables.network(network_index(epoch, network)).copied().ok_or(DropReason::InternalTable)
}

/// The index of that row.
#[inline(always)]
pub const fn network_index(epoch: Epoch, network: NetworkId) -> u32 {
    (epoch.bank & 1) * NETWORK_CAPACITY + network.0
}

/// True if an answer from an address that the packet's device may reach would not be refused for where it comes from.
#[inline(always)]
pub fn may_answer<T: Tables>(tables: &T, case: &Case, address: Addr) -> Result<bool, DropReason> {
    let own = search::scope(tables, case.place.network.scopes, address)?;
    Ok(own != SCOPE_POOL && host_scope(tables, case.epoch, own, address)? != SCOPE_POOL)
}

/// The device that holds an address, with its row and the address's slot; notes how new what it read is.
#[inline(always)]
pub fn party<'t, T: Tables>(
    tables: &'t T,
    case: &mut Case,
    address: Addr,
) -> Result<Option<(Party, &'t Device, u32)>, DropReason> {
    let (slot, identity) = identity(tables, case, address)?;
    let (row, behind) = (identity & IDENTITY_ROW, identity & IDENTITY_BEHIND);
    if row == 0 {
        return Ok(None);
    }
    let device = tables.device(row).ok_or(DropReason::InternalTable)?;
    let profile = profile(tables, device);
    let versions = tables.profile(profile.0).ok_or(DropReason::InternalTable)?;
    let (since, rule_set) = versions.at(case.epoch.generation);
    case.identity.latest = newest(case.identity.latest, since);
    let confined = confined(tables, device);
    let observes = (device.flags & DEVICE_OBSERVES) as u32;
    let steady = is_steady(device) as u32;
    let party = Party { device: device.device, profile, rule_set, behind, confined, observes, steady };
    Ok(Some((party, device, slot)))
}

/// True if neither a clock nor a MAC address has a say in what applies to a device.
#[inline(always)]
pub(crate) const fn is_steady(device: &Device) -> bool {
    device.flags & DEVICE_MAC_BOUND == 0 && device.aged_at == 0 && device.quarantine == 0
}

/// What applies to a device now; the clock is read for those only of which something known gets too old.
#[inline(always)]
fn profile<T: Tables>(tables: &T, device: &Device) -> ProfileId {
    if device.aged_at == 0 || tables.boot_now() < device.aged_at { device.profile } else { device.aged }
}

/// Whether a device is in quarantine now; the clock is read for those only that were put into one.
#[inline(always)]
fn confined<T: Tables>(tables: &T, device: &Device) -> Confined {
    if device.quarantine == 0 || tables.boot_now() >= device.quarantine {
        Confined::No
    } else if device.flags & DEVICE_REPAIR == 0 {
        Confined::Whole
    } else {
        Confined::Repair
    }
}

/// The slot of an address and the identity in it, 0 if nobody has the address. Single addresses and
/// IPv6 /64s are found by themselves; which prefix of another length covers an address is searched
/// only where neither is, or where the /64 says that longer ones lie in it.
#[inline(always)]
fn identity<T: Tables>(tables: &T, case: &mut Case, address: Addr) -> Result<(u32, u32), DropReason> {
    let network = case.evidence.network;
    let mut found = held(tables, case, &AddressKey::host(network, address));
    if found.1 == 0 && !address.is_v4() {
        found = held(tables, case, &AddressKey::prefix64(network, address));
    }
    if found.1 == 0 || found.1 & IDENTITY_NESTED != 0 {
        let length = search::scope(tables, case.place.network.prefixes, address)?;
        if length != 0 && (found.1 == 0 || length > 64) {
            found = held(tables, case, &AddressKey::prefix(network, address, length));
        }
    }
    Ok(found)
}

#[inline(always)]
fn held<T: Tables>(tables: &T, case: &mut Case, key: &AddressKey) -> (u32, u32) {
    let Some(slot) = tables.address(key) else { return (0, 0) };
    let Some(versioned) = tables.identity(slot) else { return (0, 0) };
    let (since, identity) = versioned.at(case.epoch.generation);
    case.identity.latest = newest(case.identity.latest, since);
    (slot, identity)
}

/// True if the device's frames may enter like this one did.
#[inline(always)]
pub fn bound_here(device: &Device, case: &Case) -> bool {
    let packet = &case.packet;
    enters_at(device, case.arrival.ifindex, packet.outer_vlan, packet.inner_vlan)
        && (device.flags & DEVICE_MAC_BOUND == 0 || device.mac == packet.source_mac)
}

/// True if the device's frames may enter by an interface with these VLAN numbers.
#[inline(always)]
pub(crate) const fn enters_at(device: &Device, ifindex: u32, outer_vlan: u16, inner_vlan: u16) -> bool {
    (device.ifindex == 0 || device.ifindex == ifindex)
        && (device.outer_vlan == VLAN_OTHER || device.outer_vlan == outer_vlan)
        && (device.inner_vlan == VLAN_OTHER || device.inner_vlan == inner_vlan)
}

/// Why no device may send there, whatever its policy.
#[inline(always)]
pub(crate) fn unreachable(destination: Addr) -> Option<DropReason> {
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

/// A redirect (RFC 792) is a router's order to hosts, so never a device's; ICMPv6 has it among neighbour discovery.
#[inline(always)]
fn is_redirect(packet: &Packet) -> bool {
    matches!(packet.kind, Kind::IcmpOther)
        && packet.protocol == ip_proto::ICMP
        && packet.detail == icmp::REDIRECT_V4
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
