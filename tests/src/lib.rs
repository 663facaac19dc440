//! The harness that every tier of tests shares.

pub mod frame;
pub mod netns;
pub mod small;
