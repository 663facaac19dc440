//! Where policy and packet meet: the compiled tables, as plain ordered values.
//!
//! [`Tables`] is what a policy means, without any trace of where it will lie in memory. [`Image`]
//! lays it out flat on the host and lets the engine run on it; `reconcile` lays it out in the kernel.

mod capacities;
mod flow_table;
mod host;
mod image;

pub use capacities::Capacities;
pub use flow_table::FlowTable;
pub use host::{Host, HostInterface};
pub use image::{Image, Layout};

use std::collections::BTreeMap;
use std::sync::Arc;

use bulkhead_common::abi::{Addr, AddressKey, Device, DeviceId, NetworkId, PortRange, ProfileId};
use bulkhead_common::case::{Arrival, Case, LinkType};
use bulkhead_common::decide::Flows;
use bulkhead_common::verdict::Verdict;

/// Everything the engine reads, compiled from one policy for one host.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tables {
    /// Every interface of the agent's configuration that exists, and every VLAN stack of a network on it.
    pub subinterfaces: BTreeMap<Place, PlaceFacts>,
    /// Scopes by network: sorted, disjoint; infrastructure wins over pools. [`NetworkId::NONE`] is
    /// the host itself: the pools of all networks, and the host's own addresses.
    pub networks: BTreeMap<NetworkId, Vec<Scoped>>,
    /// Devices by number.
    pub devices: BTreeMap<DeviceId, Device>,
    /// Who has an address.
    pub addresses: BTreeMap<AddressKey, DeviceId>,
    /// What a profile may do. Profiles with the same content share it.
    pub profiles: BTreeMap<ProfileId, Arc<Rules>>,
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
}

/// A range of addresses and its scope.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Scoped {
    /// First address.
    pub first: Addr,
    /// Last address, inclusive.
    pub last: Addr,
    /// One of `SCOPE_*`.
    pub scope: u32,
}

/// What devices of a profile may do; compared and stored by content.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Rules {
    /// Remotes that devices may call: sorted, disjoint.
    pub outbound: Vec<Remote>,
    /// Remotes that may call the devices: sorted, disjoint.
    pub inbound: Vec<Remote>,
    /// Profiles that devices may call, sorted by profile.
    pub peers: Vec<(ProfileId, Vec<PortRange>)>,
    /// Ports that beat every rule, sorted by (protocol, first), disjoint.
    pub never: Vec<PortRange>,
}

/// A range of remote addresses with its ports (sorted by (protocol, first), disjoint).
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
    T: bulkhead_common::decide::Tables + Flows,
{
    let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    let mut case = Case::new(tables.epoch(), Arrival { ifindex, link: LinkType::Ethernet, length });
    (bulkhead_common::judge(frame, tables, &mut case), case)
}
