//! Quarantine over the API.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::policy::Name;

/// Puts a device into quarantine.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct QuarantineRequest {
    /// The device.
    pub device: String,
    /// Why.
    pub reason: String,
    /// For how long, in milliseconds; until it is released if there is none.
    #[serde(default)]
    pub for_ms: Option<u64>,
    /// True to leave it what its segment names for its repair.
    #[serde(default)]
    pub allow_repair: bool,
    /// Whom the client says it is, beside what the kernel says: `SUDO_USER`.
    #[serde(default)]
    pub sudo_user: Option<String>,
}

/// Lets a device out of quarantine.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct ReleaseRequest {
    /// The device.
    pub device: String,
    /// Whom the client says it is.
    #[serde(default)]
    pub sudo_user: Option<String>,
}

/// A device in quarantine.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct QuarantineReport {
    /// The device.
    pub device: Name,
    /// Why.
    pub reason: String,
    /// Who put it there, as `kari via sudo`.
    pub author: String,
    /// When.
    pub since: Timestamp,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
    /// The same by the boot clock, in nanoseconds, which is what counts.
    pub until_boot_ns: Option<u64>,
    /// True if it may still reach what its segment names for its repair.
    pub allow_repair: bool,
}
