//! What the program remembers of packets for moments, on the host: datagrams in pieces, and ICMP errors.

use std::cell::RefCell;
use std::collections::BTreeMap;

use bulkhead_common::abi::DeviceId;
use bulkhead_common::fragment::{Datagram, FragmentPlace, Fragments};
use bulkhead_common::icmp_error::ErrorBudgets;

/// Places of fragments by index, and error budgets by device.
#[derive(Clone, Debug, Default)]
pub struct Passing {
    places: RefCell<BTreeMap<u32, FragmentPlace>>,
    budgets: RefCell<BTreeMap<DeviceId, u64>>,
}

impl Fragments for Passing {
    type Place = u32;

    fn place(&self, index: u32) -> Option<u32> {
        Some(index)
    }

    fn progress(&self, place: u32) -> u64 {
        self.places.borrow().get(&place).map_or(0, |place| place.progress)
    }

    fn advance(&self, place: u32, seen: u64, next: u64) -> bool {
        let mut places = self.places.borrow_mut();
        let place = places.entry(place).or_default();
        let first = place.progress == seen;
        if first {
            place.progress = next;
        }
        first
    }

    fn datagram(&self, place: u32) -> Datagram {
        self.places.borrow().get(&place).map(|place| place.datagram).unwrap_or_default()
    }

    fn describe(&self, place: u32, datagram: &Datagram) {
        self.places.borrow_mut().entry(place).or_default().datagram = *datagram;
    }
}

impl ErrorBudgets for Passing {
    fn error_budget(&self, device: DeviceId) -> Option<u64> {
        Some(self.budgets.borrow().get(&device).copied().unwrap_or_default())
    }

    fn spend_error(&self, device: DeviceId, seen: u64, next: u64) -> bool {
        let first = self.error_budget(device) == Some(seen);
        if first {
            self.budgets.borrow_mut().insert(device, next);
        }
        first
    }
}

/// Passes both traits on to the field `passing` of a type.
macro_rules! passes_on {
    ($holder:ty) => {
        impl bulkhead_common::fragment::Fragments for $holder {
            type Place = u32;

            fn place(&self, index: u32) -> Option<u32> {
                bulkhead_common::fragment::Fragments::place(&self.passing, index)
            }

            fn progress(&self, place: u32) -> u64 {
                bulkhead_common::fragment::Fragments::progress(&self.passing, place)
            }

            fn advance(&self, place: u32, seen: u64, next: u64) -> bool {
                bulkhead_common::fragment::Fragments::advance(&self.passing, place, seen, next)
            }

            fn datagram(&self, place: u32) -> bulkhead_common::fragment::Datagram {
                bulkhead_common::fragment::Fragments::datagram(&self.passing, place)
            }

            fn describe(&self, place: u32, datagram: &bulkhead_common::fragment::Datagram) {
                bulkhead_common::fragment::Fragments::describe(&self.passing, place, datagram);
            }
        }

        impl bulkhead_common::icmp_error::ErrorBudgets for $holder {
            fn error_budget(&self, device: bulkhead_common::abi::DeviceId) -> Option<u64> {
                bulkhead_common::icmp_error::ErrorBudgets::error_budget(&self.passing, device)
            }

            fn spend_error(&self, device: bulkhead_common::abi::DeviceId, seen: u64, next: u64) -> bool {
                bulkhead_common::icmp_error::ErrorBudgets::spend_error(&self.passing, device, seen, next)
            }
        }
    };
}
pub(crate) use passes_on;
