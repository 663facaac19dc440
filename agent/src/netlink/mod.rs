//! Netlink: how the kernel is asked about links and routes, and told the rules of the second guard.
//!
//! A small codec of our own. What exists for nftables binds the agent to C libraries (nftnl), is under the GPL
//! (rustables), needs the `nft` program and then speaks of interfaces by name (nftables), or knows neither counters
//! nor address types (netlink-packet-netfilter).

mod around;
mod attributes;
mod chain;
mod device;
mod link;
mod route;
mod socket;

pub use around::{has_ipsec, queues, routes_by_mark};
pub use attributes::{Attributes, find, number, numbers64, read, text};
pub use chain::{BaseChain, base_chains};
pub use device::{Drivers, drivers};
pub use link::{IPSEC, Link, Vlan, links};
pub use route::{Route, routes};
pub use socket::{Message, Protocol, Reply, Socket};
