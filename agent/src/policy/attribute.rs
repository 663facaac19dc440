//! What is known of a device while it runs: labels, where it is, what it is, each with who said so and how long ago.
//!
//! Attributes are no policy: they come and go without a revision, and no rollback touches them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::condition::{Cell, Imei, Plmn, Rat, TrackingArea};
use super::name::nearest;

/// Longest value of a label.
const LABEL_BYTES: usize = 63;

/// The age of what nobody knows the age of.
pub const UNKNOWN_AGE: Duration = Duration::from_millis(u64::MAX);

/// What is known of one device.
pub type Attributes = BTreeMap<AttributeKey, Attribute>;

/// What an attribute is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AttributeKey {
    /// The network that serves it.
    Plmn,
    /// The tracking area that it is in.
    TrackingArea,
    /// The cell that it is in.
    Cell,
    /// The radio access that it uses.
    Rat,
    /// The equipment that holds the SIM.
    Imei,
    /// Anything that an operator keeps of it.
    Label(String),
}

/// The keys that are no labels.
const RESERVED: [(&str, AttributeKey); 5] = [
    ("plmn", AttributeKey::Plmn),
    ("trackingArea", AttributeKey::TrackingArea),
    ("cell", AttributeKey::Cell),
    ("rat", AttributeKey::Rat),
    ("imei", AttributeKey::Imei),
];

impl AttributeKey {
    /// Reads a key as it is typed.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn new(text: &str) -> Result<Self, String> {
        if let Some((_, key)) = RESERVED.iter().find(|(name, _)| *name == text) {
            return Ok(key.clone());
        }
        if text == "country" {
            return Err("the country follows from the network: set plmn".to_owned());
        }
        let meant = nearest(text, RESERVED.iter().map(|(name, _)| *name));
        if let Some(meant) = meant.filter(|meant| meant.eq_ignore_ascii_case(text)) {
            return Err(format!("there is no attribute {text:?}; write {meant}"));
        }
        match is_label_key(text) {
            true => Ok(Self::Label(text.to_owned())),
            false => Err(format!("{text:?} is not a valid label name: {LABEL_RULE}")),
        }
    }

    /// The key as it is typed.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Plmn => "plmn",
            Self::TrackingArea => "trackingArea",
            Self::Cell => "cell",
            Self::Rat => "rat",
            Self::Imei => "imei",
            Self::Label(name) => name,
        }
    }

    /// A value in the one form in which it is kept and compared.
    ///
    /// # Errors
    /// A sentence that says how it is written.
    pub fn normal(&self, value: &str) -> Result<String, String> {
        match self {
            Self::Plmn => Plmn::parse(value).map(|plmn| plmn.to_string()),
            Self::TrackingArea => TrackingArea::parse(value).map(|area| area.to_string()),
            Self::Cell => Cell::parse(value).map(|cell| cell.to_string()),
            Self::Rat => Rat::parse(value).map(|rat| rat.as_str().to_owned()),
            Self::Imei => Imei::parse(value).map(|_| value.to_owned()),
            Self::Label(_) => match is_label_value(value) {
                true => Ok(value.to_owned()),
                false => Err(format!(
                    "{value:?} is no label value: use 1 to {LABEL_BYTES} printable ASCII characters"
                )),
            },
        }
    }

    /// A value as it may be shown: whose equipment it is stays out of messages.
    pub fn shown(&self, value: &str) -> String {
        match (self, Imei::parse(value)) {
            (Self::Imei, Ok(imei)) => imei.to_string(),
            (_, _) => value.to_owned(),
        }
    }

    /// Reads `key=value`.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn assigned(text: &str) -> Result<(Self, String), String> {
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| format!("{text:?} assigns nothing; write it as firmware=2.5"))?;
        let key = Self::new(key)?;
        let value = key.normal(value)?;
        Ok((key, value))
    }
}

impl fmt::Display for AttributeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TryFrom<String> for AttributeKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::new(&text)
    }
}

impl From<AttributeKey> for String {
    fn from(key: AttributeKey) -> Self {
        key.as_str().to_owned()
    }
}

/// The rule for label names, for messages.
pub(crate) const LABEL_RULE: &str =
    "use 1 to 63 letters, digits, `-`, `_`, `.` and `/`, with a letter or digit at both ends";

/// True for a text that can name a label.
pub(crate) fn is_label_key(key: &str) -> bool {
    let bytes = key.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let inner = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/');
    bytes.len() <= 63 && edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(inner)
}

fn is_label_value(value: &str) -> bool {
    (1..=LABEL_BYTES).contains(&value.len()) && value.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// Who said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The Device document.
    Policy,
    /// Somebody at the command line.
    Cli,
    /// The inventory that the operator keeps.
    Inventory,
    /// A program that uses the API.
    Api,
    /// A test or a question: it is assumed.
    Given,
}

impl Source {
    /// The word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Cli => "cli",
            Self::Inventory => "inventory",
            Self::Api => "api",
            Self::Given => "given",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A value, as it is known now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// The value in its normal form.
    pub value: String,
    /// Who said so.
    pub source: Source,
    /// How old it is. `None` does not age: a Device document, or what is assumed.
    pub age: Option<Duration>,
    /// When it was said by the clock of this boot, in milliseconds, negative before the boot. Without it the kernel does
    /// not know when it gets too old.
    pub said_ms: Option<i64>,
}

impl Attribute {
    /// What a test or a question assumes.
    pub fn given(value: String) -> Self {
        Self { value, source: Source::Given, age: None, said_ms: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_are_read_and_brought_into_one_form() {
        let read = |text| AttributeKey::assigned(text).map(|(key, value)| format!("{key}={value}"));
        for (text, normal) in [
            ("firmware=2.10", "firmware=2.10"),
            ("note=a=b", "note=a=b"),
            ("plmn=24201", "plmn=24201"),
            ("trackingArea=24201-1A2B", "trackingArea=24201-1a2b"),
            ("cell=24201-0A1B2C3", "cell=24201-0a1b2c3"),
            ("rat=lte-m", "rat=lte-m"),
            ("imei=350000000000017", "imei=350000000000017"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(normal));
        }
    }

    #[test]
    fn what_cannot_be_assigned_says_why() {
        for (text, why) in [
            ("firmware", "assigns nothing"),
            ("=2", "not a valid label name"),
            ("firmware=", "no label value"),
            ("firmware=2\n", "no label value"),
            ("country=NO", "set plmn"),
            ("PLMN=24201", "write plmn"),
            ("trackingarea=24201-1a2b", "write trackingArea"),
            ("plmn=2420", "5 or 6 digits"),
            ("rat=5g", "`nr`"),
            ("imei=12", "14 to 16 digits"),
        ] {
            let told = AttributeKey::assigned(text).unwrap_err();
            assert!(told.contains(why), "{text}: {told}");
        }
    }

    #[test]
    fn a_key_survives_storage() {
        for name in ["plmn", "trackingArea", "cell", "rat", "imei", "firmware"] {
            let key = AttributeKey::new(name).unwrap();
            let stored = serde_json::to_string(&key).unwrap();
            assert_eq!(
                (stored.as_str(), serde_json::from_str(&stored).unwrap()),
                (&*format!("{name:?}"), key)
            );
        }
    }
}
