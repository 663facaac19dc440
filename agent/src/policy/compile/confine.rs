//! Devices in quarantine: a change of their rows alone, whatever policy says.

use bulkhead_common::abi::value::{DEVICE_REPAIR, QUARANTINE_OPEN_END};

use super::Compiled;
use crate::policy::name::Name;

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
            let Some(row) = self.tables.devices.get_mut(&number) else { continue };
            // Boot time 0 is no end: it would say "not in quarantine".
            row.quarantine = confinement.until.map_or(QUARANTINE_OPEN_END, |until| until.max(1));
            if confinement.repair {
                row.flags |= DEVICE_REPAIR;
            }
        }
    }
}
