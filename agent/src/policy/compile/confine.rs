//! Devices in quarantine: a change of their rows alone, whatever policy says.

use bulkhead_common::abi::Device as Row;
use bulkhead_common::abi::value::{DEVICE_REPAIR, QUARANTINE_OPEN_END};

use super::{Compiled, key};
use crate::policy::model::Policy;
use crate::policy::name::Name;
use crate::tables::Touched;

/// How a device is shut in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Confinement {
    /// Boot time in nanoseconds at which it ends by itself; none if somebody has to end it.
    pub until: Option<u64>,
    /// True if it may still call what its segment names for its repair.
    pub repair: bool,
}

impl Compiled {
    /// Shuts devices in. Those that the policy does not have are not there to be shut in.
    pub fn confine(&mut self, devices: impl IntoIterator<Item = (Name, Confinement)>) {
        for (name, confinement) in devices {
            let number = self.catalogue.device(&name);
            self.tables.devices.get_mut(&number).into_iter().for_each(|row| shut_in(row, Some(confinement)));
        }
    }

    /// Shuts devices in, or lets them out, in tables that are in force; returns which rows differ.
    pub fn confine_anew(
        &mut self,
        policy: &Policy,
        devices: impl IntoIterator<Item = (Name, Option<Confinement>)>,
    ) -> Touched {
        let mut touched = Touched::default();
        for (name, confinement) in devices {
            let number = self.catalogue.device(&name);
            let (Some(row), Some(device)) = (self.tables.devices.get_mut(&number), policy.devices.get(&name))
            else {
                continue;
            };
            shut_in(row, confinement);
            let keys = device.prefixes().map(|prefix| key(row.network, prefix.value));
            touched.0.insert(number, keys.collect());
        }
        touched
    }
}

fn shut_in(row: &mut Row, confinement: Option<Confinement>) {
    // Boot time 0 is no end: it would say "not in quarantine".
    let until = |until: Option<u64>| until.map_or(QUARANTINE_OPEN_END, |until| until.max(1));
    row.quarantine = confinement.map_or(0, |confinement| until(confinement.until));
    row.flags &= !DEVICE_REPAIR;
    if confinement.is_some_and(|confinement| confinement.repair) {
        row.flags |= DEVICE_REPAIR;
    }
}
