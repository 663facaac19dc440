//! Bulkhead: a default-deny, explainable, time-bound allowlist on every SIM.
//!
//! ```text
//! policy   *.yaml → policy (read, validate, compile) → tables → reconcile → datapath
//! packet   common: parse → identify → decide, in XDP and, over `tables::Image`, on the host
//! events   datapath → telemetry → sink → cli
//! ```

pub mod api;
pub mod cli;
pub mod datapath;
pub mod demo;
mod few;
pub mod forwarding;
pub mod guard;
pub mod heap;
pub mod impact;
pub mod lab;
pub mod layered;
pub mod netlink;
pub mod policy;
mod processors;
pub mod reconcile;
pub mod replay;
pub mod runtime;
mod side_by_side;
pub mod sink;
pub mod state;
pub mod tables;
pub mod telemetry;
mod text;
