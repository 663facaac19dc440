//! What a plan changes of a [`State`]: only what differs, so that a small change of large tables is small.

use std::collections::BTreeMap;

use bulkhead_common::abi::{
    AddressKey, Device, DeviceId, Epoch, Generation, NetworkId, ProfileId, SubinterfaceKey, Versioned,
};

use super::state::{State, Stored};
use crate::tables::{NetworkFacts, Place, PlaceFacts};

/// A change of a [`State`], to be taken over when its writes are done.
#[derive(Clone, Debug, Default)]
pub struct Next {
    pub(super) epoch: Epoch,
    /// The small tables, if they are written anew.
    pub(super) bank: Option<Bank>,
    /// All rule sets, if there are others.
    pub(super) rule_sets: Option<BTreeMap<u32, Stored>>,
    pub(super) profiles: Vec<(ProfileId, Versioned)>,
    /// Devices with their rows, and those that are gone; by number.
    pub(super) devices: Vec<(DeviceId, Option<(u32, Device)>)>,
    /// Addresses with slots and words, and those that are gone.
    pub(super) addresses: Vec<(AddressKey, Option<(u32, Versioned)>)>,
}

/// The tables that are double-buffered whole.
#[derive(Clone, Debug, Default)]
pub(super) struct Bank {
    pub(super) places: BTreeMap<Place, (Generation, PlaceFacts)>,
    pub(super) networks: BTreeMap<NetworkId, (Generation, NetworkFacts)>,
    pub(super) stale_places: Vec<SubinterfaceKey>,
    pub(super) stale_networks: Vec<u32>,
}

impl State {
    /// Takes over what was written.
    pub fn advance(&mut self, next: Next) {
        let Next { epoch, bank, rule_sets, profiles, devices, addresses } = next;
        self.epoch = epoch;
        if let Some(Bank { places, networks, stale_places, stale_networks }) = bank {
            (self.places, self.networks) = (places, networks);
            (self.stale_places, self.stale_networks) = (stale_places, stale_networks);
        }
        if let Some(rule_sets) = rule_sets {
            self.rule_sets = rule_sets;
        }
        self.profiles.extend(profiles);
        devices.into_iter().for_each(|(id, held)| self.devices.set(id, held));
        for (key, held) in &addresses {
            let slot = held.or_else(|| self.addresses.get(key).copied()).map(|(slot, _)| slot);
            slot.into_iter().for_each(|slot| self.slots.set(slot, held.is_some()));
        }
        self.addresses.set_all(addresses);
    }
}
