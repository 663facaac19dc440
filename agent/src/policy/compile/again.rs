//! A few devices that are other than before, or of which something is known anew, taken up without compiling the policy
//! again.
//!
//! A device chooses its profile, and no device changes what a profile may do. So where every device moves to a profile
//! that somebody has, and none leaves one that nobody has then, only rows and addresses of devices differ: the rules
//! and their numbers are those that [`super::compile`] would come to. Anything else is left to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bulkhead_common::abi::value::DEVICE_REPAIR;
use bulkhead_common::abi::{AddressKey, Device as Row, DeviceId, ProfileId};

use super::ground::Ground;
use super::ids::Ids;
use super::profiles::{Roles, Signature};
use super::{Compiled, Member, key, owned, refuse_host_addresses, row};
use crate::policy::agent::AgentConfig;
use crate::policy::condition::Knowledge;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::model::{Device, Policy};
use crate::policy::name::Name;
use crate::tables::{Host, Owner, Tables, Touched};

impl Compiled {
    /// Takes up what is known of some devices of a policy that differs in nothing else, with the book of numbers that
    /// it was compiled by. Nothing if it has to be compiled again; then nothing was changed.
    pub fn observe(&mut self, policy: &Policy, ids: &Ids, devices: &[Name]) -> Option<Touched> {
        let change = self.change(policy, ids, devices)?;
        self.take_up(change)
    }

    /// Takes up devices that differ between two policies that differ in nothing else. Nothing if the policy has to be
    /// compiled again; then nothing was changed.
    pub fn amend<'n>(
        &mut self,
        (before, after): (&Policy, &Policy),
        ids: &mut Ids,
        devices: &'n [Name],
        (agent, host): (&AgentConfig, &Host),
    ) -> Option<Touched> {
        let few = after.of_devices(&devices.iter().collect::<Vec<_>>());
        let mut problems = Diagnostics::default();
        refuse_host_addresses(&few, &Ground::of(&few, agent, host), &mut problems);
        let mut numbered = ids.clone();
        let number = |name: &'n Name| {
            let known = match after.devices.contains_key(name) {
                true => numbered.give_device(name),
                false => numbered.devices.known(name.as_str()),
            };
            Some((name, DeviceId(known?)))
        };
        let numbers: Vec<(&Name, DeviceId)> = devices.iter().map(number).collect::<Option<_>>()?;
        let change = self.difference((before, after), &numbered, &numbers, host)?;
        let room = agent.tables.devices.saturating_sub(1) as usize;
        let fits = self.tables.devices.len() + devices.len() <= room
            && self.tables.addresses.len() + change.addresses.len() <= agent.tables.addresses as usize;
        if problems.has_errors() || !fits {
            return None;
        }
        let touched = self.take_up(change)?;
        *ids = numbered;
        for (name, id) in numbers {
            let is_there = after.devices.contains_key(name);
            self.catalogue.name_device(name, id, is_there);
            if !is_there {
                ids.leave_device(name);
            }
        }
        Some(touched)
    }

    /// The same with no other devices than these, in the tables that the engine reads.
    pub fn of_devices(&self, policy: &Policy, devices: &BTreeSet<DeviceId>) -> Self {
        let names = devices.iter().filter_map(|id| self.catalogue.devices.get(id));
        let known = names.filter_map(|name| policy.devices.get(name));
        let keys = known.flat_map(|device| {
            let network = self.catalogue.network(&device.network.value);
            device.prefixes().map(move |prefix| key(network, prefix.value))
        });
        let (rows, addresses) = (&self.tables.devices, &self.tables.addresses);
        let tables = Tables {
            devices: devices.iter().filter_map(|id| Some((*id, *rows.get(id)?))).collect(),
            addresses: keys.filter_map(|key| Some((key, *addresses.get(&key)?))).collect(),
            subinterfaces: self.tables.subinterfaces.clone(),
            networks: self.tables.networks.clone(),
            profiles: self.tables.profiles.clone(),
        };
        Self { tables, ..self.clone() }
    }

    fn take_up(&mut self, Change { rows, uses, addresses, touched }: Change) -> Option<Touched> {
        let uses: BTreeMap<ProfileId, u32> = uses
            .into_iter()
            .map(|(profile, by)| Some((profile, self.uses.get(&profile)?.checked_add_signed(by)?)))
            .collect::<Option<_>>()?;
        if uses.values().any(|uses| *uses == 0) {
            return None;
        }
        self.uses.extend(uses);
        self.tables.devices.set_all(rows);
        self.tables.addresses.set_all(addresses);
        Some(touched)
    }

    /// What differs between two policies.
    fn difference(
        &self,
        (before, after): (&Policy, &Policy),
        ids: &Ids,
        devices: &[(&Name, DeviceId)],
        host: &Host,
    ) -> Option<Change> {
        let network = |device: &Device| self.catalogue.network(&device.network.value);
        let mut sight = Sight::of(after, self, ids);
        let mut change = Change::default();
        for (name, id) in devices {
            if let Some(device) = before.devices.get(*name) {
                change.leave(*id, owned(device, (*id, network(device))));
            }
        }
        for (name, id) in devices {
            let held = self.tables.devices.get(id);
            let mut next = None;
            if let Some(device) = after.devices.get(*name) {
                let member = sight.member(device)?;
                next = Some(confined(row(after, device, host, (*id, network(device)), member), held));
                change.take(*id, owned(device, (*id, network(device))));
            }
            change.add(*id, held, next);
        }
        Some(change)
    }

    fn change(&self, policy: &Policy, ids: &Ids, devices: &[Name]) -> Option<Change> {
        let mut sight = Sight::of(policy, self, ids);
        let mut change = Change::default();
        let devices: Vec<&Arc<Device>> = policy.devices.get_all(devices).into_iter().flatten().collect();
        let ids = self.catalogue.numbers_of(devices.iter().map(|device| &device.name));
        let rows = self.tables.devices.get_all(&ids);
        for ((device, id), row) in devices.into_iter().zip(ids).zip(rows) {
            let row = row?;
            let Member { profile, aged: (aged, aged_at) } = sight.member(device)?;
            let next = Row { profile, aged, aged_at, ..*row };
            if next != *row {
                change.add(id, Some(row), Some(next));
                let keys = device.prefixes().map(|prefix| key(row.network, prefix.value));
                change.touched.0.entry(id).or_default().extend(keys);
            }
        }
        Some(change)
    }
}

/// What devices are looked at by.
struct Sight<'a> {
    policy: &'a Policy,
    compiled: &'a Compiled,
    ids: &'a Ids,
    roles: Roles<'a>,
    /// Those that were looked for: many devices change alike.
    profiles: BTreeMap<Signature<'a>, Option<ProfileId>>,
}

impl<'a> Sight<'a> {
    fn of(policy: &'a Policy, compiled: &'a Compiled, ids: &'a Ids) -> Self {
        Self { policy, compiled, ids, roles: Roles::of(policy), profiles: BTreeMap::new() }
    }

    /// What applies to a device by what is known now; nothing if nobody has its rules yet.
    fn member(&mut self, device: &'a Device) -> Option<Member> {
        let profile = self.profile(self.roles.signature(device, Knowledge::Fresh))?;
        let aged = match self.policy.aged_at(device) {
            Some(at) => (self.profile(self.roles.signature(device, Knowledge::Aged))?, at),
            None => <(ProfileId, u64)>::default(),
        };
        Some(Member { profile, aged })
    }

    fn profile(&mut self, signature: Signature<'a>) -> Option<ProfileId> {
        let (ids, profiles) = (self.ids, &self.compiled.tables.profiles);
        let known = self.profiles.entry(signature);
        *known.or_insert_with_key(|signature| {
            let profile = ProfileId(ids.profiles.known(&signature.name())?);
            profiles.contains_key(&profile).then_some(profile)
        })
    }
}

#[derive(Default)]
struct Change {
    /// Rows as they are to be, or none any more.
    rows: BTreeMap<DeviceId, Option<Row>>,
    /// By how many devices more, or fewer, have a profile.
    uses: BTreeMap<ProfileId, i32>,
    /// Who is to have an address that somebody else has, or nobody.
    addresses: BTreeMap<AddressKey, Option<Owner>>,
    touched: Touched,
}

impl Change {
    /// Addresses that a device had; somebody else may take them.
    fn leave(&mut self, id: DeviceId, had: impl Iterator<Item = (AddressKey, Owner)>) {
        let touched = self.touched.0.entry(id).or_default();
        for (key, _) in had {
            touched.insert(key);
            self.addresses.entry(key).or_insert(None);
        }
    }

    fn take(&mut self, id: DeviceId, has: impl Iterator<Item = (AddressKey, Owner)>) {
        let touched = self.touched.0.entry(id).or_default();
        for (key, owner) in has {
            touched.insert(key);
            self.addresses.insert(key, Some(owner));
        }
    }

    fn add(&mut self, id: DeviceId, before: Option<&Row>, after: Option<Row>) {
        for (row, by) in [(before, -1), (after.as_ref(), 1)] {
            let profiles = row.into_iter().flat_map(profiles);
            profiles.for_each(|profile| *self.uses.entry(profile).or_default() += by);
        }
        self.rows.insert(id, after);
    }
}

/// A row with what quarantine says of the device, which is no policy.
fn confined(row: Row, held: Option<&Row>) -> Row {
    let (quarantine, repair) = held.map_or((0, 0), |held| (held.quarantine, held.flags & DEVICE_REPAIR));
    Row { quarantine, flags: row.flags | repair, ..row }
}

/// The profiles that a device has, now or when what is known of it is too old.
pub(super) fn profiles(row: &Row) -> impl Iterator<Item = ProfileId> {
    [row.profile, row.aged].into_iter().filter(|profile| *profile != ProfileId::default())
}
