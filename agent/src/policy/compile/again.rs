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
        let roles = Roles::of(policy);
        let mut change = Change::default();
        for device in devices.iter().filter_map(|name| policy.devices.get(name)) {
            let (id, row) = self.device(&device.name)?;
            let next = self.row(policy, ids, &roles, device, *row)?;
            if next != *row {
                change.add(id, row, next, device);
            }
        }
        let Change { rows, uses, touched } = change;
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

    /// A device's row by what is known now; nothing if nobody has its rules yet.
    fn row<'a>(
        &self,
        policy: &'a Policy,
        ids: &Ids,
        roles: &Roles<'a>,
        device: &'a Device,
        row: Row,
    ) -> Option<Row> {
        let profile = self.profile(ids, &roles.signature(device, Knowledge::Fresh))?;
        let (aged, aged_at) = match policy.aged_at(device) {
            Some(at) => (self.profile(ids, &roles.signature(device, Knowledge::Aged))?, at),
            None => <(ProfileId, u64)>::default(),
        };
        Some(Row { profile, aged, aged_at, ..row })
    }

    fn profile(&self, ids: &Ids, signature: &Signature<'_>) -> Option<ProfileId> {
        let profile = ProfileId(ids.profiles.known(&signature.name())?);
        self.tables.profiles.contains_key(&profile).then_some(profile)
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
