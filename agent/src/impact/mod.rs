//! What a change would take away from what is live: worked out by the engine, before it is made.
//!
//! ```text
//! tables in force ─┐
//! tables to come  ─┼─► every live flow judged by both, every device's rules by both ──► Impact
//! flow table      ─┘
//! ```

mod activity;
mod connection;
mod devices;
mod flows;

use std::collections::BTreeSet;

use bulkhead_common::abi::{AddressKey, Flow};

pub use activity::Activity;
pub use connection::{Connection, Route, routes_in, routes_in_v6};
pub use devices::Devices;
pub use flows::{Flows, Judged};

use crate::policy::{Compiled, Policy};
use crate::tables::Touched;

/// What would become of what is live.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Impact {
    /// Devices by what happens to them.
    pub devices: Devices,
    /// Live flows by what happens to them.
    pub flows: Flows,
}

impl Impact {
    /// Compares what is in force with what is to come.
    pub fn of(before: &Compiled, after: &Compiled, live: &[Flow], boot: u64) -> Self {
        Self { devices: Devices::compare(before, after), flows: Flows::judge(before, after, live, boot) }
    }

    /// As [`Self::of`], where nothing differs but some devices: no other's flows are looked at, nor counted if they could
    /// not be judged.
    pub fn of_few(
        before: (&Policy, &Compiled),
        after: (&Policy, &Compiled),
        touched: &Touched,
        live: &[Flow],
        boot: u64,
    ) -> Self {
        let ends = |flow: &Flow| [flow.key.device, flow.peer];
        // What was nobody's address may be one's now.
        let keys: BTreeSet<&AddressKey> = touched.0.values().flatten().collect();
        let is_taken = |network, address| {
            let all = [AddressKey::host(network, address), AddressKey::prefix64(network, address)];
            all.iter().any(|key| keys.contains(key))
        };
        let of_few = |flow: &&Flow| {
            let touches = ends(flow).iter().any(|device| touched.0.contains_key(device));
            touches || is_taken(flow.key.network, flow.key.remote)
        };
        let flows: Vec<Flow> = live.iter().filter(of_few).copied().collect();
        let devices: BTreeSet<_> = touched.0.keys().copied().chain(flows.iter().flat_map(ends)).collect();
        let [was, is] = [before, after].map(|(policy, compiled)| compiled.of_devices(policy, &devices));
        let judged = Flows::judge(&was, &is, &flows, boot);
        Self {
            devices: Devices::compare_few(before.1, after.1, touched),
            flows: Flows { live: live.len() as u64, ..judged },
        }
    }
}
