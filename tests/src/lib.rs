//! The harness that every tier of tests shares.

pub mod binary;
pub mod capture;
pub mod command;
pub mod compare;
pub mod cpu;
pub mod frame;
pub mod fuzz;
pub mod generate;
pub mod gtpu;
pub mod kernel;
pub mod lan;
pub mod lies;
pub mod memory;
pub mod merged;
pub mod nat;
pub mod netns;
pub mod oracle;
pub mod schema;
pub mod small;
pub mod tun;
