//! Engines that are wrong on purpose: the same code, fed through a frame, tables or flows that lie.
//!
//! Each lie amounts to a bug that the engine could have. The comparison with the oracle is worth
//! something only if it notices every one of them.

mod engine;
mod frame;
mod row;
mod tables;

pub use engine::{EngineLie, LyingEngine};
pub use frame::{FrameLie, LyingFrame};
pub use row::Row;
pub use tables::TableLie;
