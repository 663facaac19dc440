//! What a plan changes of a [`State`]: only what differs, so that a small change of large tables is small.

use std::collections::BTreeMap;

use bulkhead_common::abi::{
    AddressKey, DeviceId, Epoch, Generation, NetworkId, ProfileId, SubinterfaceKey, Versioned,
};

use super::op::Op;
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
    /// Devices that are gone. What the others are like the writes say themselves.
    pub(super) gone: Vec<DeviceId>,
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
    /// Takes over what was planned, and written.
    pub fn advance(&mut self, written: &[Op], next: Next) {
        let Next { epoch, bank, rule_sets, profiles, gone, addresses } = next;
        self.epoch = epoch;
        if let Some(Bank { places, networks, stale_places, stale_networks }) = bank {
            (self.places, self.networks) = (places, networks);
            (self.stale_places, self.stale_networks) = (stale_places, stale_networks);
        }
        if let Some(rule_sets) = rule_sets {
            self.rule_sets = rule_sets;
        }
        self.profiles.extend(profiles);
        for op in written {
            if let Op::Device(row, device) = op {
                // A row is one of the device's whose number is half its own.
                self.devices.set(DeviceId(row / 2), Some((*row, *device)));
            }
        }
        gone.into_iter().for_each(|id| self.devices.set(id, None));
        let gone = addresses.iter().filter(|(_, held)| held.is_none()).map(|(key, _)| key);
        let left: Vec<u32> =
            self.addresses.get_all(gone).into_iter().flatten().map(|(slot, _)| *slot).collect();
        left.into_iter().for_each(|slot| self.slots.set(slot, false));
        let taken = addresses.iter().filter_map(|(_, held)| held.as_ref());
        taken.for_each(|(slot, _)| self.slots.set(*slot, true));
        self.addresses.set_all(addresses);
    }
}
