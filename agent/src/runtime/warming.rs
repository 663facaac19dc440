//! After the program is attached to a host that has traffic already, live flows are unknown until their device sends.

use std::time::Duration;

use super::engine::Engine;
use crate::state::{Moment, Store, warms_for};

/// How long a NAT on the way keeps a silent flow (RFC 4787, REQ-5), where no network says how long it is here: a device
/// that wants to be reached sends within that time.
const UDP: Duration = Duration::from_secs(300);

/// Reads when the program was attached without flows.
pub(super) fn read(store: &Store) -> Option<Moment> {
    store.attached_cold().unwrap_or_else(|error| {
        tracing::warn!("whether flows still have to show themselves is lost: {error:#}");
        None
    })
}

impl Engine {
    /// From now on flows have to show themselves.
    pub(super) fn attached_cold(&mut self) {
        let now = Moment::now();
        if let Err(error) = self.store.keep_attached_cold(&now) {
            tracing::warn!("a restart will not know that flows still have to show themselves: {error:#}");
        }
        self.cold_since = Some(now);
    }

    /// How long flows that were live before may still be unknown; nothing if they are known.
    pub(super) fn warming(&self) -> Option<Duration> {
        let networks = &self.in_force.as_ref()?.policy.networks;
        let longest = networks.values().map(|network| network.timeouts.udp.unwrap_or(UDP)).max()?;
        let left = warms_for(self.cold_since.as_ref()?, longest, &Moment::now());
        (!left.is_zero()).then_some(left)
    }
}
