//! Fragments on their way and ICMP error budgets behind the engine's traits.

use bulkhead_common::abi::DeviceId;
use bulkhead_common::fragment::{Datagram, FragmentPlace, Fragments};
use bulkhead_common::icmp_error::ErrorBudgets;

use crate::atomic;
use crate::maps::{ERROR_BUDGETS, FRAGMENTS, Maps};

impl Fragments for Maps {
    type Place = *mut FragmentPlace;

    #[inline(always)]
    fn place(&self, index: u32) -> Option<Self::Place> {
        FRAGMENTS.get_ptr_mut(index)
    }

    #[inline(always)]
    fn progress(&self, place: Self::Place) -> u64 {
        // SAFETY: `place` points to a live map value; the field is only named here.
        atomic::load(unsafe { &raw const (*place).progress })
    }

    #[inline(always)]
    fn advance(&self, place: Self::Place, seen: u64, next: u64) -> bool {
        // SAFETY: as in `progress`.
        atomic::replace(unsafe { &raw mut (*place).progress }, seen, next)
    }

    #[inline(always)]
    fn datagram(&self, place: Self::Place) -> Datagram {
        // SAFETY: as in `progress`; any bytes are a datagram, and the caller compares the progress word around it.
        unsafe { (&raw const (*place).datagram).read_volatile() }
    }

    #[inline(always)]
    fn describe(&self, place: Self::Place, datagram: &Datagram) {
        // SAFETY: as in `progress`; the caller has taken the place.
        unsafe { (&raw mut (*place).datagram).write_volatile(*datagram) };
    }
}

impl ErrorBudgets for Maps {
    #[inline(always)]
    fn error_budget(&self, device: DeviceId) -> Option<u64> {
        ERROR_BUDGETS.get_ptr(device.0).map(atomic::load)
    }

    #[inline(always)]
    fn spend_error(&self, device: DeviceId, seen: u64, next: u64) -> bool {
        ERROR_BUDGETS.get_ptr_mut(device.0).is_some_and(|budget| atomic::replace(budget, seen, next))
    }
}
