//! Devices that lose every rule, or are gone.

use std::collections::BTreeSet;

use bulkhead_common::abi::value::DEVICE_OBSERVES;
use bulkhead_common::abi::{DeviceId, PortRange, ProfileId};

use crate::policy::{Compiled, Name};
use crate::tables::{Callable, Touched};

/// Devices by what a change does to them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Devices {
    /// How many there are now.
    pub total: u64,
    /// Those that have rules now and would have none.
    pub ruleless: Vec<Name>,
    /// Those that would be gone.
    pub removed: Vec<Name>,
    /// How many are only observed now and would be enforced.
    pub enforced: u64,
    /// How many are enforced now and would only be observed.
    pub observed: u64,
}

impl Devices {
    /// Compares by name.
    pub fn compare(before: &Compiled, after: &Compiled) -> Self {
        Self::compare_some(before, after, || before.catalogue.devices.iter())
    }

    /// As [`Self::compare`], where nothing differs but some devices.
    pub fn compare_few(before: &Compiled, after: &Compiled, touched: &Touched) -> Self {
        let names = || touched.0.keys().filter_map(|id| Some((id, before.catalogue.devices.get(id)?)));
        Self::compare_some(before, after, names)
    }

    fn compare_some<'c, N: Iterator<Item = (&'c DeviceId, &'c Name)>>(
        before: &Compiled,
        after: &Compiled,
        names: impl Fn() -> N,
    ) -> Self {
        let (was, is) = (Ruled::of(before), Ruled::of(after));
        let gone = |name: &Name| after.catalogue.device(name).is_none();
        let loses = |id: &DeviceId, name: &Name| {
            was.has(before, *id) && !gone(name) && !is.has(after, after.catalogue.device(name))
        };
        Self {
            total: before.catalogue.devices.len() as u64,
            ruleless: names().filter(|(id, name)| loses(id, name)).map(|(_, name)| name.clone()).collect(),
            removed: names().filter(|(_, name)| gone(name)).map(|(_, name)| name.clone()).collect(),
            enforced: names().filter(|(_, name)| modes(before, after, name) == [true, false]).count() as u64,
            observed: names().filter(|(_, name)| modes(before, after, name) == [false, true]).count() as u64,
        }
    }

    /// How many of them the guard counts.
    pub fn affected(&self) -> u64 {
        (self.ruleless.len() + self.removed.len()) as u64
    }
}

/// True if not all of it is closed by conditions.
fn is_open(ports: &[PortRange]) -> bool {
    ports.iter().any(|port| port.closed_by().is_none())
}

fn opens(peer: &Callable) -> bool {
    is_open(&peer.ports) || peer.behind.iter().any(|local| is_open(&local.ports))
}

/// Whether a device is only observed, before and after; one that is not there is not.
fn modes(before: &Compiled, after: &Compiled, name: &Name) -> [bool; 2] {
    let devices = [before, after].map(|compiled| compiled.device(name).map(|(_, row)| row.flags));
    match devices {
        [Some(before), Some(after)] => [before, after].map(|flags| flags & DEVICE_OBSERVES != 0),
        [None, _] | [_, None] => [false; 2],
    }
}

/// Profiles with at least one rule, at either end.
struct Ruled(BTreeSet<ProfileId>);

impl Ruled {
    fn of(compiled: &Compiled) -> Self {
        let mut ruled = BTreeSet::new();
        for (profile, rules) in &compiled.tables.profiles {
            let mut remotes = rules.remotes();
            if remotes.any(|remote| is_open(&remote.ports)) || rules.peers.iter().any(opens) {
                ruled.insert(*profile);
            }
            // A camera that only a recorder may call has a rule, too.
            let called = rules.peers.iter().filter(|peer| opens(peer));
            ruled.extend(called.map(|called| called.profile));
        }
        Self(ruled)
    }

    fn has(&self, compiled: &Compiled, device: DeviceId) -> bool {
        compiled.tables.devices.get(&device).is_some_and(|device| self.0.contains(&device.profile))
    }
}
