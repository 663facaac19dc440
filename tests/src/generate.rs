//! Random policies, hosts and traffic: the same for the same seed.
//!
//! Nothing is uniform. Addresses, ports and places come from a small world whose parts meet often:
//! neighbours of devices, edges of prefixes and port ranges, addresses that two networks share.

mod known;
mod policy;
mod random;
mod traffic;
mod world;

pub use random::{Random, seed, volume};
pub use traffic::{SLEPT, STARTED, Shot, Traffic};
pub use world::{Shut, World};
