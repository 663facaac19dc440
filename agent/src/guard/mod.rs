//! The second guard: an nftables table that closes every way to and from device pools but the guarded interfaces.
//!
//! ```text
//! inet prerouting, before connection tracking and before fragments are put together
//!   entered by an interface in `held`  → none of its business: XDP judged it there
//!   from or to an address in `pools`   → counted, dropped
//! bridge forward                       the same, for what a bridge passes from port to port
//! ```
//!
//! It needs no agent: what is not in `held` stays closed, and only an agent adds to `held`, an interface by its
//! number, after its XDP link was verified. An interface that is made anew has another number, so it is closed too.
//! The host's own addresses are never matched, and neither is what a network lists as infrastructure.

mod expression;
mod found;
mod messages;
mod plan;
mod pools;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

pub use found::Found;
pub use plan::{Step, plan};
pub use pools::Pools;

use crate::netlink::{Protocol, Socket};
use crate::policy::LocalOutput;

/// The table's name, in families `inet` and `bridge`.
pub const TABLE: &str = "bulkhead";

/// What a table looks at. Each has its own, with the same sets.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Layer {
    /// What the host routes, and what it gets itself: family `inet`.
    #[default]
    Routed,
    /// What a bridge passes from port to port without routing it: family `bridge`.
    Switched,
}

impl Layer {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Routed, Self::Switched];

    /// The family's number.
    const fn family(self) -> u8 {
        match self {
            Self::Routed => libc::NFPROTO_INET as u8,
            Self::Switched => libc::NFPROTO_BRIDGE as u8,
        }
    }
}

/// What the table is to hold.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Wanted {
    /// What it looks at.
    pub layer: Layer,
    /// Where devices are.
    pub pools: Pools,
    /// Interfaces whose packets XDP has judged.
    pub held: BTreeSet<u32>,
    /// What the host itself sends to devices.
    pub local_output: LocalOutput,
}

/// What was dropped, by direction and family.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Dropped {
    /// Packets by counter: `from_ipv4`, `to_ipv4`, `from_ipv6`, `to_ipv6`, `output_ipv4`, `output_ipv6` of what is
    /// routed; `switched_ipv4`, `switched_ipv6`.
    pub packets: BTreeMap<String, u64>,
}

/// The guard of this thread's network namespace.
#[derive(Debug)]
pub struct Guard {
    socket: Socket,
}

impl Guard {
    /// Opens the way to nftables.
    ///
    /// # Errors
    /// The kernel has none.
    pub fn open() -> Result<Self> {
        let socket =
            Socket::open(Protocol::Netfilter).context("reach nftables: is CONFIG_NF_TABLES there?")?;
        Ok(Self { socket })
    }

    /// What the kernel holds; nothing if there is no such table.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn observe(&self, layer: Layer) -> Result<Option<Found>> {
        found::observe(&self.socket, layer).map_err(|error| explain(error, "read the nftables table"))
    }

    /// Makes the table what is wanted, in one transaction. Returns how many steps that took.
    ///
    /// # Errors
    /// The kernel refuses; the table is as it was.
    pub fn make(&self, found: Option<&Found>, wanted: &Wanted) -> Result<usize> {
        let steps = plan(found, wanted);
        if !steps.is_empty() {
            let messages: Vec<_> = steps.iter().flat_map(|step| messages::of(step, wanted)).collect();
            let done = self.socket.transact(&messages);
            done.map_err(|error| explain(error, "write the nftables table"))?;
        }
        Ok(steps.len())
    }

    /// Removes the tables; false if there were none.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn remove(&self) -> Result<bool> {
        let mut messages = Vec::new();
        for layer in Layer::ALL {
            if self.observe(layer)?.is_some() {
                messages.extend(messages::of(&Step::Remove, &Wanted { layer, ..Wanted::default() }));
            }
        }
        if messages.is_empty() {
            return Ok(false);
        }
        let removed = self.socket.transact(&messages);
        removed.map_err(|error| explain(error, "remove the nftables table")).map(|()| true)
    }
}

/// What the kernel's refusal means.
fn explain(error: io::Error, act: &str) -> anyhow::Error {
    let hint = match error.raw_os_error() {
        Some(libc::EPERM) => ": it takes CAP_NET_ADMIN",
        Some(libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT | libc::EINVAL) => {
            ": this kernel has no nftables, or lacks a part of it (CONFIG_NF_TABLES_INET, CONFIG_NFT_FIB_INET, CONFIG_XFRM; CONFIG_NF_TABLES_BRIDGE where there are bridges)"
        }
        _ => "",
    };
    anyhow::Error::new(error).context(format!("{act} {TABLE}{hint}"))
}
