//! The decision engine and the ABI: one `no_std` crate, run by the XDP program and by the host alike.
//!
//! The packet stream in twelve lines:
//!
//! ```text
//! frame    bytes, read only through [`frame::Frame::load`]
//! express  plain packets of vouched flows pass, of nobody drop; all others go on   (express.rs, plain.rs)
//! parse    Frame → Packet, or the reason why it is dropped            (parse.rs, wire/)
//! locate   interface and VLANs → place, network                       (identify.rs)
//! enter    a packet in a GTP-U tunnel is taken out and parsed again    (tunnel.rs)
//! identify Packet → device, peer; spoof and martian checks            (identify.rs)
//! decide   live flow? else never, rules, between                      (decide.rs, search.rs)
//! account  verdict → counters, flow table, events                   (ebpf/src/account.rs)
//! compare  a candidate judges the same packet, and is only counted    (candidate.rs)
//! forward  of a live flow: a new header, past the kernel's stack        (forward.rs)
//! ```
//!
//! Everything is generic over [`frame::Frame`], [`decide::Tables`], [`decide::Flows`] and [`tunnel::Tunnels`]: in the kernel
//! packet pointers and BPF maps, on the host byte slices and plain collections. [`engine`] calls the
//! stages, one after the other.
//! No other code decides: `check`, `explain`, in-file tests, fuzzers and XDP run these stages.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod abi;
pub mod address_table;
pub mod candidate;
pub mod case;
pub mod decide;
pub mod ends;
pub mod engine;
pub mod express;
pub mod flow_table;
pub mod forward;
pub mod fragment;
pub mod frame;
pub mod icmp_error;
pub mod identify;
pub mod limits;
pub mod neighbour;
pub mod parse;
pub mod plain;
pub mod search;
pub mod timeouts;
pub mod tunnel;
pub mod verdict;
pub mod wire;
pub mod witness;

use case::Case;
use engine::{Plain, State};
use frame::Frame;
use verdict::Verdict;

/// Judges a frame on the host, as XDP does in the kernel; the evidence is left in `case`.
pub fn judge<F: Frame + ?Sized, T: State>(frame: &F, tables: &T, case: &mut Case) -> Verdict {
    engine::run(&Plain::new(frame, tables), case)
}

/// Judges a packet that was never a frame.
pub fn judge_parsed<T: State>(tables: &T, case: &mut Case) -> Verdict {
    engine::run_parsed(&Plain::new(&[0u8; 0][..], tables), case)
}
