//! Which tunnel every device address came through last, on the host.

use std::cell::RefCell;
use std::collections::BTreeMap;

use bulkhead_common::tunnel::Tunnels;

/// Tunnel words by slot.
#[derive(Clone, Debug, Default)]
pub struct TunnelTable(RefCell<BTreeMap<u32, u64>>);

impl TunnelTable {
    /// Forgets which tunnel a slot's address came through.
    pub fn forget(&self, slot: u32) {
        self.0.borrow_mut().remove(&slot);
    }

    /// Every slot that came through a tunnel, with its word.
    pub fn all(&self) -> BTreeMap<u32, u64> {
        self.0.borrow().clone()
    }
}

impl Tunnels for TunnelTable {
    fn tunnel(&self, slot: u32) -> Option<u64> {
        Some(self.0.borrow().get(&slot).copied().unwrap_or_default())
    }

    fn bind(&self, slot: u32, seen: u64, word: u64) -> bool {
        let first = self.tunnel(slot) == Some(seen);
        if first {
            self.0.borrow_mut().insert(slot, word);
        }
        first
    }
}
