//! Bulkhead: a default-deny, explainable, time-bound allowlist on every SIM.

pub mod lab;
