//! The local API: JSON over a unix socket.

pub mod types;
