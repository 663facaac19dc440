//! What is known anew of a few devices, taken up without compiling the policy again.
//!
//! What is known chooses a device's profile and nothing else. So where every device moves to a profile that
//! somebody has, and none leaves one that nobody has then, only rows of devices differ: the rules, the names
//! and the numbers are those that [`super::compile`] would come to. Anything else is left to it.

use std::collections::BTreeMap;

use bulkhead_common::abi::{Device as Row, DeviceId, ProfileId};

use super::ids::Ids;
use super::profiles::{Roles, Signature};
use super::{Compiled, key};
use crate::policy::condition::Knowledge;
use crate::policy::model::{Device, Policy};
use crate::policy::name::Name;
use crate::tables::Touched;

impl Compiled {
    /// Takes up what is known of some devices of a policy that differs in nothing else, with the book of numbers that
    /// it was compiled by. Nothing if it has to be compiled again; then nothing was changed.
    pub fn observe(&mut self, policy: &Policy, ids: &Ids, devices: &[Name]) -> Option<Touched> {
        let Change { rows, uses, touched } = self.change(policy, ids, devices)?;
        let uses: BTreeMap<ProfileId, u32> = uses
            .into_iter()
            .map(|(profile, by)| Some((profile, self.uses.get(&profile)?.checked_add_signed(by)?)))
            .collect::<Option<_>>()?;
        if uses.values().any(|uses| *uses == 0) {
            return None;
        }
        self.uses.extend(uses);
        self.tables.devices.extend(rows);
        Some(touched)
    }

    fn change(&self, policy: &Policy, ids: &Ids, devices: &[Name]) -> Option<Change> {
        let mut sight =
            Sight { policy, compiled: self, ids, roles: Roles::of(policy), profiles: BTreeMap::new() };
        let mut change = Change::default();
        for device in devices.iter().filter_map(|name| policy.devices.get(name)) {
            let (id, row) = self.device(&device.name)?;
            let next = sight.row(device, *row)?;
            if next != *row {
                change.add(id, row, next, device);
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
    /// A device's row by what is known now; nothing if nobody has its rules yet.
    fn row(&mut self, device: &'a Device, row: Row) -> Option<Row> {
        let profile = self.profile(self.roles.signature(device, Knowledge::Fresh))?;
        let (aged, aged_at) = match self.policy.aged_at(device) {
            Some(at) => (self.profile(self.roles.signature(device, Knowledge::Aged))?, at),
            None => <(ProfileId, u64)>::default(),
        };
        Some(Row { profile, aged, aged_at, ..row })
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
    rows: BTreeMap<DeviceId, Row>,
    /// By how many devices more, or fewer, have a profile.
    uses: BTreeMap<ProfileId, i32>,
    touched: Touched,
}

impl Change {
    fn add(&mut self, id: DeviceId, before: &Row, after: Row, device: &Device) {
        for (row, by) in [(before, -1), (&after, 1)] {
            profiles(row).for_each(|profile| *self.uses.entry(profile).or_default() += by);
        }
        let keys = device.prefixes().map(|prefix| key(after.network, prefix.value));
        self.touched.0.insert(id, keys.collect());
        self.rows.insert(id, after);
    }
}

/// The profiles that a device has, now or when what is known of it is too old.
pub(super) fn profiles(row: &Row) -> impl Iterator<Item = ProfileId> {
    [row.profile, row.aged].into_iter().filter(|profile| *profile != ProfileId::default())
}
