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

use bulkhead_common::abi::Flow;

pub use activity::Activity;
pub use connection::{Connection, Route, routes_in, routes_in_v6};
pub use devices::Devices;
pub use flows::{Flows, Judged};

use crate::policy::Compiled;

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
}
