//! The local API: JSON over a unix socket that only root and the agent's own user may use.

mod attributes;
mod candidate;
pub mod client;
mod grants;
mod history;
mod peer;
mod quarantine;
mod routes;
pub mod server;
pub mod types;
