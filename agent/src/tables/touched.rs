//! A change of tables in which everything else is as it was.

use std::collections::BTreeMap;

use bulkhead_common::abi::{AddressKey, DeviceId};

/// Devices whose rows differ, with the addresses that lead to them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Touched(pub BTreeMap<DeviceId, Vec<AddressKey>>);
