//! How many entries each kernel table is made for.

use bulkhead_common::abi::map;

/// Entries of each kernel table. What does not fit is refused before anything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacities {
    /// Devices.
    pub devices: u32,
    /// Device addresses.
    pub addresses: u32,
    /// Profiles: distinct treatments of devices.
    pub profiles: u32,
    /// Remote ranges of all rule sets together.
    pub ranges: u32,
    /// Port ranges of all rule sets together.
    pub ports: u32,
    /// Live flows.
    pub flows: u32,
}

impl Default for Capacities {
    /// As large as the program was built for.
    fn default() -> Self {
        Self {
            devices: map::DEVICE_CAPACITY,
            addresses: map::ADDRESS_CAPACITY,
            profiles: map::PROFILE_CAPACITY,
            ranges: map::RANGE_CAPACITY,
            ports: map::PORT_CAPACITY,
            flows: map::FLOW_CAPACITY,
        }
    }
}
