//! The decision engine and the ABI: one `no_std` crate, run by the XDP program and by the host alike.
//!
//! The packet stream in ten lines:
//!
//! ```text
//! frame    bytes, read only through [`frame::Frame::load`]
//! parse    Frame → Packet, or the reason why it is dropped            (parse.rs, wire/)
//! identify Packet → network, device, peer; spoof and martian checks   (identify.rs)
//! decide   live flow? else never, rules, between                      (decide.rs, search.rs)
//! account  verdict → counters, flow table, events                   (ebpf/src/account.rs)
//! ```
//!
//! Everything is generic over [`frame::Frame`], [`decide::Tables`] and [`decide::Flows`]. In the
//! kernel these are packet pointers and BPF maps; on the host byte slices and plain collections.
//! No other code decides: `check`, `explain`, in-file tests, fuzzers and XDP call [`judge`].
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod abi;
pub mod case;
pub mod decide;
pub mod frame;
pub mod identify;
pub mod neighbour;
pub mod parse;
pub mod search;
pub mod verdict;
pub mod wire;

pub use decide::judge;
pub use parse::parse;
