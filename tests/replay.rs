//! Root: the real `bulkhead replay` on captures made here, from the file to what it prints.

#[path = "replay/capture.rs"]
mod capture;
#[path = "replay/interrupt.rs"]
mod interrupt;
#[path = "replay/link.rs"]
mod link;
#[path = "replay/output.rs"]
mod output;
#[path = "replay/run.rs"]
mod run;
#[path = "replay/time.rs"]
mod time;
