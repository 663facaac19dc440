//! What is known of devices, over the API.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::policy::{Attribute, AttributeKey, Source};

/// Says something of a device, or takes it back.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct AttributesRequest {
    /// The device.
    pub device: String,
    /// Attributes that are known.
    #[serde(default)]
    pub set: BTreeMap<AttributeKey, String>,
    /// Attributes of which nothing is known any more; what the Device document says counts again.
    #[serde(default)]
    pub unset: Vec<AttributeKey>,
    /// On whose word: `cli`, `inventory` or `api`.
    #[serde(default = "by_api")]
    pub source: Source,
    /// Whom the client says it is, beside what the kernel says: `SUDO_USER`.
    #[serde(default)]
    pub sudo_user: Option<String>,
}

const fn by_api() -> Source {
    Source::Api
}

/// What is known of a device after that.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct AttributesReply {
    /// The device.
    pub device: String,
    /// All that is known of it.
    pub attributes: Vec<AttributeReport>,
    /// Rules that this opened to it, as `policy/rule`.
    pub opened: Vec<String>,
    /// Rules that this closed to it, and why.
    pub closed: BTreeMap<String, Vec<String>>,
}

/// One attribute of a device.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct AttributeReport {
    /// The attribute.
    pub key: AttributeKey,
    /// What is known; the CLI masks an IMEI.
    pub value: String,
    /// On whose word.
    pub source: Source,
    /// Who said it; nobody if it is the Device document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// How old it is, in milliseconds; what is in a document does not age. The largest number is an age that nobody
    /// knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
}

impl AttributeReport {
    /// As rules look at it.
    pub fn attribute(&self) -> Attribute {
        Attribute {
            value: self.value.clone(),
            source: self.source,
            age: self.age_ms.map(Duration::from_millis),
            said_ms: None,
        }
    }
}
