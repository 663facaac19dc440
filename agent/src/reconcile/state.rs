//! What the kernel holds, as a value.

use std::collections::BTreeMap;
use std::sync::Arc;

use bulkhead_common::abi::{
    AddressKey, Device, Epoch, Generation, NetworkId, ProfileId, Span, SubinterfaceKey, Versioned,
};

use super::by_device::ByDevice;
use super::op::Capacity;
use super::slots::Slots;
use crate::layered::Layered;
use crate::tables::{NetworkFacts, Place, PlaceFacts, Rules};

/// The published tables and where they lie.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct State {
    /// The epoch in force.
    pub epoch: Epoch,
    /// How many rows there are.
    pub capacity: Capacity,
    /// The bank in force: since when each place has its facts.
    pub places: BTreeMap<Place, (Generation, PlaceFacts)>,
    /// The bank in force: since when each network has its facts.
    pub networks: BTreeMap<NetworkId, (Generation, NetworkFacts)>,
    /// What the other bank still holds, to be removed before it is used.
    pub stale_places: Vec<SubinterfaceKey>,
    /// Network rows that the other bank still holds.
    pub stale_networks: Vec<u32>,
    /// Every address: its slot and the slot's words.
    pub addresses: Layered<AddressKey, (u32, Versioned)>,
    /// The slots that they have.
    pub slots: Slots,
    /// Every published device: its row.
    pub devices: ByDevice<(u32, Device)>,
    /// Every profile that ever had a rule set: its words.
    pub profiles: BTreeMap<ProfileId, Versioned>,
    /// Every rule set that a profile refers to, by row.
    pub rule_sets: BTreeMap<u32, Stored>,
}

/// A rule set and the rows that it occupies.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stored {
    /// Its content.
    pub rules: Arc<Rules>,
    /// Its rows in `RANGES`.
    pub ranges: Span,
    /// Its rows in `PEERS`.
    pub peers: Span,
    /// Its rows in `PORTS`.
    pub ports: Span,
    /// Its rows in `WINDOWS`.
    pub windows: Span,
}
