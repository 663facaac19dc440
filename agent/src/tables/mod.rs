//! Where policy and packet meet: the compiled tables, as plain ordered values.
//!
//! [`Tables`] is what a policy means, without any trace of where it will lie in memory. [`Image`]
//! lays it out flat on the host and lets the engine run on it; `reconcile` lays it out in the kernel.

mod beside;
mod capacities;
mod flow_table;
mod host;
mod image;
mod passing;
mod touched;
mod tunnel_table;

pub use beside::Beside;
pub use capacities::Capacities;
pub use flow_table::FlowTable;
pub use host::{Host, HostInterface};
pub use image::{Image, Layout};
pub use passing::Passing;
pub(crate) use passing::passes_on;
pub use touched::Touched;
pub use tunnel_table::TunnelTable;

use std::collections::BTreeMap;
use std::sync::Arc;

use bulkhead_common::abi::value::{IDENTITY_BEHIND, IDENTITY_NESTED};
use bulkhead_common::abi::{
    Addr, AddressKey, Device, DeviceId, Generation, Limits, NetworkId, PortRange, ProfileId, Span,
    Subinterface, Timeouts, Window,
};
use bulkhead_common::case::{Arrival, Case, LinkType};
use bulkhead_common::engine::State;
use bulkhead_common::frame::Frame;
use bulkhead_common::verdict::Verdict;

use crate::layered::Layered;

/// Everything the engine reads, compiled from one policy for one host.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tables {
    /// Every interface of the agent's configuration that exists, and every VLAN stack of a network on it.
    pub subinterfaces: BTreeMap<Place, PlaceFacts>,
    /// Networks by number. [`NetworkId::NONE`] is the host itself: the pools of all networks, and the
    /// host's own addresses.
    pub networks: BTreeMap<NetworkId, NetworkFacts>,
    /// Devices by number.
    pub devices: Layered<DeviceId, Device>,
    /// Who has an address.
    pub addresses: Layered<AddressKey, Owner>,
    /// What a profile may do. Profiles with the same content share it.
    pub profiles: BTreeMap<ProfileId, Arc<Rules>>,
}

/// What the addresses of a network are.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NetworkFacts {
    /// `NETWORK_*` bits.
    pub flags: u32,
    /// Pools and infrastructure: sorted, disjoint; infrastructure wins over pools.
    pub scopes: Vec<Scoped>,
    /// Which prefix of a device covers an address, where the address alone does not lead to it: sorted,
    /// disjoint; the scope is the prefix's length.
    pub prefixes: Vec<Scoped>,
    /// How long its flows live.
    pub timeouts: Timeouts,
}

/// Who has an address.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Owner {
    /// The device.
    pub device: DeviceId,
    /// True if the address is not its own but lies on the LAN behind it.
    pub behind: bool,
    /// True of an IPv6 /64 in which longer prefixes of the device lie.
    pub nested: bool,
}

impl Owner {
    /// The identity that an address leads to: the device's row, and where the address lies.
    pub const fn identity(self, row: u32) -> u32 {
        let behind = if self.behind { IDENTITY_BEHIND } else { 0 };
        let nested = if self.nested { IDENTITY_NESTED } else { 0 };
        if row == 0 { 0 } else { row | behind | nested }
    }
}

/// One interface with one stack of VLAN tags; [`bulkhead_common::abi::key::VLAN_OTHER`] twice is "any other".
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Place {
    /// The kernel's number of the interface.
    pub ifindex: u32,
    /// Outer VLAN number, 0 untagged.
    pub outer_vlan: u16,
    /// Inner VLAN number, 0 if none.
    pub inner_vlan: u16,
}

/// What is known of a place.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PlaceFacts {
    /// The network seen there, or none.
    pub network: NetworkId,
    /// `ROLE_*` bits.
    pub roles: u8,
    /// One of `TRANSIT_*`.
    pub transit: u8,
    /// The host's own prefixes on the link, scope `SCOPE_LINK`: sorted, disjoint.
    pub link: Vec<Scoped>,
    /// The GTP-U tunnels that end there.
    pub tunnels: TunnelFacts,
}

/// What is known of the GTP-U tunnels that end at a place; all empty where none do.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TunnelFacts {
    /// This host's endpoints, scope `SCOPE_ENDPOINT`: sorted, disjoint.
    pub endpoints: Vec<Scoped>,
    /// Who may send to them, scope `SCOPE_ENDPOINT`: sorted, disjoint.
    pub peers: Vec<Scoped>,
    /// TEIDs as `::teid`, the scope a network's number: sorted, disjoint.
    pub teids: Vec<Scoped>,
    /// Pools of the networks seen there, the scope a network's number: sorted, disjoint.
    pub owners: Vec<Scoped>,
    /// Seconds of silence after which a device may come through another tunnel.
    pub idle: u16,
}

impl PlaceFacts {
    /// The row for these facts; `store` lays a list of ranges out and says where it lies.
    ///
    /// # Errors
    /// Those of `store`.
    pub fn row<E>(
        &self,
        since: Generation,
        mut store: impl FnMut(&[Scoped]) -> Result<Span, E>,
    ) -> Result<Subinterface, E> {
        Ok(Subinterface {
            since,
            network: self.network,
            link: store(&self.link)?,
            endpoints: store(&self.tunnels.endpoints)?,
            peers: store(&self.tunnels.peers)?,
            teids: store(&self.tunnels.teids)?,
            owners: store(&self.tunnels.owners)?,
            tunnel_idle: self.tunnels.idle,
            roles: self.roles,
            transit: self.transit,
        })
    }

    /// The facts of a row; `read` fetches the ranges of a span.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn of_row<E>(row: &Subinterface, read: impl Fn(Span) -> Result<Vec<Scoped>, E>) -> Result<Self, E> {
        Ok(Self {
            network: row.network,
            roles: row.roles,
            transit: row.transit,
            link: read(row.link)?,
            tunnels: TunnelFacts {
                endpoints: read(row.endpoints)?,
                peers: read(row.peers)?,
                teids: read(row.teids)?,
                owners: read(row.owners)?,
                idle: row.tunnel_idle,
            },
        })
    }

    /// How many ranges the place needs.
    pub fn ranges(&self) -> usize {
        let TunnelFacts { endpoints, peers, teids, owners, .. } = &self.tunnels;
        [&self.link, endpoints, peers, teids, owners].into_iter().map(Vec::len).sum()
    }
}

/// A range of addresses and its scope.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Scoped {
    /// First address.
    pub first: Addr,
    /// Last address, inclusive.
    pub last: Addr,
    /// One of `SCOPE_*`, or the length of a prefix.
    pub scope: u32,
}

/// What devices of a profile may do; compared and stored by content.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Rules {
    /// Remotes that devices may call: sorted, disjoint.
    pub outbound: Vec<Remote>,
    /// Remotes that may call the devices' own addresses: sorted, disjoint.
    pub inbound: Vec<Remote>,
    /// Who may call what lies behind the devices: sorted, disjoint.
    pub behind: Vec<Behind>,
    /// Whom devices may call, sorted by profile.
    pub peers: Vec<Callable>,
    /// Ports that beat every rule, sorted by (protocol, first), disjoint.
    pub never: Vec<PortRange>,
    /// Remotes that devices in quarantine may call if that is granted to them: sorted, disjoint.
    pub repair: Vec<Remote>,
    /// What each device may do.
    pub limits: Limits,
    /// When ports are open that are not always: each run sorted, disjoint.
    pub windows: Vec<Window>,
}

impl Rules {
    /// Every list of remotes, whatever it is for.
    pub fn remotes(&self) -> impl Iterator<Item = &Remote> {
        let behind = self.behind.iter().flat_map(|local| &local.callers);
        let peers = self.peers.iter().flat_map(|peer| &peer.behind);
        self.outbound.iter().chain(&self.inbound).chain(behind).chain(peers).chain(&self.repair)
    }

    /// How many rows of ranges they take.
    pub fn range_rows(&self) -> usize {
        self.remotes().count() + self.behind.len()
    }

    /// Every list of ports, equal ones as often as they occur.
    pub fn port_lists(&self) -> impl Iterator<Item = &Vec<PortRange>> {
        let peers = self.peers.iter().map(|peer| &peer.ports);
        self.remotes().map(|remote| &remote.ports).chain(peers).chain([&self.never])
    }

    /// As [`Self::port_lists`], and to be changed.
    pub fn port_lists_mut(&mut self) -> impl Iterator<Item = &mut Vec<PortRange>> {
        let behind = self.behind.iter_mut().flat_map(|local| &mut local.callers);
        let remotes = self.outbound.iter_mut().chain(&mut self.inbound).chain(behind).chain(&mut self.repair);
        let peers = self.peers.iter_mut().flat_map(|peer| {
            let behind = peer.behind.iter_mut().map(|remote| &mut remote.ports);
            behind.chain([&mut peer.ports])
        });
        remotes.map(|remote| &mut remote.ports).chain(peers).chain([&mut self.never])
    }
}

/// A range of addresses on the LANs behind devices, and who may call there.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Behind {
    /// First address.
    pub first: Addr,
    /// Last address, inclusive.
    pub last: Addr,
    /// Remotes that may call: sorted, disjoint.
    pub callers: Vec<Remote>,
}

/// A profile that devices may call.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Callable {
    /// The profile of those who are called.
    pub profile: ProfileId,
    /// Open ports of their own addresses.
    pub ports: Vec<PortRange>,
    /// What is open behind them, by address: sorted, disjoint.
    pub behind: Vec<Remote>,
}

/// A range of addresses with its ports (sorted by (protocol, first), disjoint).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Remote {
    /// First address.
    pub first: Addr,
    /// Last address, inclusive.
    pub last: Addr,
    /// Open ports.
    pub ports: Vec<PortRange>,
}

/// Parses and judges a frame that enters by an interface, as the XDP program does.
pub fn judge<T>(tables: &T, frame: &[u8], ifindex: u32) -> (Verdict, Case)
where
    T: State,
{
    judge_frame(tables, frame, ifindex, LinkType::Ethernet)
}

/// As [`judge`], for a frame of any form and link type.
pub fn judge_frame<T, F>(tables: &T, frame: &F, ifindex: u32, link: LinkType) -> (Verdict, Case)
where
    T: State,
    F: Frame + ?Sized,
{
    let mut case = Case::new(tables.epoch(), Arrival::of(ifindex, link, frame.len()));
    (bulkhead_common::judge(frame, tables, &mut case), case)
}
