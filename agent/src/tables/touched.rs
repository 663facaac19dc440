//! A change of tables in which everything else is as it was.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_common::abi::{AddressKey, DeviceId};

/// Devices whose rows or addresses differ, with the addresses that lead to them, before or after.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Touched(pub BTreeMap<DeviceId, BTreeSet<AddressKey>>);
