//! What the kernel tells: the event stream from ring and flow table to records.
//!
//! ```text
//! ring  → decode → fold → compose → history, follow → sink → cli
//! flows → sweep  ────────┘
//! ```

pub mod clock;
pub mod compose;
pub mod decode;
pub mod fold;
pub mod id;
pub mod label;
pub mod names;
pub mod record;

#[cfg(test)]
pub(crate) mod fixtures;

pub use clock::Clock;
pub use compose::Composer;
pub use id::EventId;
pub use label::Label;
pub use names::{DeviceName, NameTable, Names};
pub use record::{EventKind, FlowEnd, Gap, Outcome, Record};
