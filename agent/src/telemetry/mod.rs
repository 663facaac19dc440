//! What the kernel tells: the event stream from ring and flow table to records.
//!
//! ```text
//! ring  → decode → fold → compose → history, follow → sink → cli
//! flows → ended ─────────┘
//! counters → loss ───────┘
//! ```

pub mod clock;
pub mod compose;
pub mod decode;
pub mod filter;
pub mod fold;
pub mod follow;
pub mod history;
pub mod hub;
pub mod id;
pub mod label;
pub mod loss;
pub mod names;
pub mod record;
pub mod run;
pub mod source;
pub mod view;

#[cfg(test)]
pub(crate) mod fixtures;

pub use clock::Clock;
pub use compose::Composer;
pub use filter::{Filter, NotAFilter, Since};
pub use follow::Follow;
pub use history::Remembered;
pub use hub::Telemetry;
pub use id::{EventId, NotAnId};
pub use label::Label;
pub use names::{DeviceName, NameTable, Names};
pub use record::{EventKind, FlowEnd, Gap, Outcome, Record};
pub use run::Work;
pub use source::{Counts, Kernel, Source};
pub use view::View;
