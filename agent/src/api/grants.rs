//! Grants over the API.

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::history::Origin;
use crate::policy::{Grant, Located, Name, plain};

/// Who comes, from where, and to what.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Visit {
    /// Who comes.
    pub person: String,
    /// Whom the person works for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
    /// How to reach the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact: Option<String>,
    /// Where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// Who agreed to it, as the document says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,
    /// Addresses that the visitor comes from.
    pub from: Vec<String>,
    /// What is visited.
    pub device: String,
    /// What lies behind it; empty for the device itself.
    #[serde(default)]
    pub behind: Vec<String>,
    /// The ports that are opened.
    pub ports: Vec<String>,
}

/// What a grant says.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct GrantTerms {
    /// What is opened, and to whom.
    #[serde(flatten)]
    pub visit: Visit,
    /// The first moment.
    pub start: Timestamp,
    /// The first moment that is not in it any more.
    pub end: Timestamp,
}

impl GrantTerms {
    /// What a document says.
    pub fn of(grant: &Grant) -> Self {
        let prefixes = |all: &[Located<IpNet>]| all.iter().map(|net| plain(&net.value)).collect();
        let visit = Visit {
            person: grant.who.person.clone(),
            organisation: grant.who.organisation.clone(),
            contact: grant.who.contact.clone(),
            ticket: grant.ticket.clone(),
            approved_by: grant.approved_by.clone(),
            from: prefixes(&grant.from),
            device: grant.device.value.to_string(),
            behind: prefixes(&grant.behind),
            ports: grant.ports.iter().map(ToString::to_string).collect(),
        };
        Self { visit, start: grant.start, end: grant.end }
    }

    /// The document that says so.
    pub fn document(&self, name: &Name) -> String {
        let pair = |key: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!(", {key}: {}", quoted(value))).unwrap_or_default()
        };
        let line = |key: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!("  {key}: {}\n", quoted(value))).unwrap_or_default()
        };
        let visit = &self.visit;
        let behind = match visit.behind.is_empty() {
            true => String::new(),
            false => format!(", behind: {}", list(&visit.behind)),
        };
        format!(
            "apiVersion: bulkhead/v1\nkind: Grant\nmetadata: {{name: {}}}\nspec:\n  who: {{person: {}{}{}}}\n{}{}  \
             from: {{cidrs: {}}}\n  to: {{device: {}{behind}}}\n  ports: {}\n  window: {{start: \"{}\", end: \"{}\"}}\n",
            quoted(name.as_str()),
            quoted(&visit.person),
            pair("organisation", &visit.organisation),
            pair("contact", &visit.contact),
            line("approvedBy", &visit.approved_by),
            line("ticket", &visit.ticket),
            list(&visit.from),
            quoted(&visit.device),
            list(&visit.ports),
            self.start,
            self.end
        )
    }
}

/// A text as JSON writes it, which YAML reads the same.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn list(items: &[String]) -> String {
    format!("[{}]", items.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", "))
}

/// Asks for a grant that begins now.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct GrantRequest {
    /// What it is called; made from ticket or device if there is none.
    #[serde(default)]
    pub name: Option<String>,
    /// What is opened, and to whom.
    #[serde(flatten)]
    pub visit: Visit,
    /// For how long, in milliseconds.
    pub for_ms: u64,
    /// Where it comes from.
    #[serde(default)]
    pub origin: Origin,
    /// Whom the client says it is, beside what the kernel says: `SUDO_USER`.
    #[serde(default)]
    pub sudo_user: Option<String>,
}

/// Approves, prolongs or revokes a grant.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct GrantAct {
    /// How much longer it lasts, in milliseconds; only to prolong it.
    #[serde(default)]
    pub for_ms: u64,
    /// Where it comes from.
    #[serde(default)]
    pub origin: Origin,
    /// Whom the client says it is.
    #[serde(default)]
    pub sudo_user: Option<String>,
}

/// How far a grant is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantState {
    /// It waits for somebody else's approval.
    Waiting,
    /// It is approved, and has not begun.
    Planned,
    /// It is open.
    Open,
    /// It would be open if the clock were believed.
    Suspended,
    /// It is over and opens never again.
    Ended,
}

impl GrantState {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Planned => "planned",
            Self::Open => "open",
            Self::Suspended => "suspended",
            Self::Ended => "ended",
        }
    }
}

/// Who did something, and when.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Act {
    /// Who, as `kari via sudo`.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// Somebody let a grant last longer, or less long.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Extension {
    /// Who, and when.
    #[serde(flatten)]
    pub act: Act,
    /// Until when it lasts since.
    pub end: Timestamp,
}

/// Why a grant is over.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndCause {
    /// Its time was over.
    Time,
    /// Somebody revoked it.
    Revoked,
    /// Its document was taken out of the policy.
    Removed,
}

/// The end of a grant.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub cause: EndCause,
    /// Who did it, if anybody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// What flows carried; whole frames.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Carried {
    /// How many flows there were.
    pub flows: u64,
    /// Packets that the device sent.
    pub packets_up: u64,
    /// Bytes that the device sent.
    pub bytes_up: u64,
    /// Packets that were sent to it.
    pub packets_down: u64,
    /// Bytes that were sent to it.
    pub bytes_down: u64,
}

impl Carried {
    /// Packets both ways.
    pub const fn packets(&self) -> u64 {
        self.packets_up.saturating_add(self.packets_down)
    }
}

impl std::ops::AddAssign for Carried {
    fn add_assign(&mut self, other: Self) {
        self.flows = self.flows.saturating_add(other.flows);
        self.packets_up = self.packets_up.saturating_add(other.packets_up);
        self.bytes_up = self.bytes_up.saturating_add(other.bytes_up);
        self.packets_down = self.packets_down.saturating_add(other.packets_down);
        self.bytes_down = self.bytes_down.saturating_add(other.bytes_down);
    }
}

/// All there is to say of a grant.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct GrantReport {
    /// Its name.
    pub name: Name,
    /// How far it is.
    pub state: GrantState,
    /// What it says.
    #[serde(flatten)]
    pub terms: GrantTerms,
    /// Who asked for it, and when.
    pub asked: Act,
    /// The revision with which it came.
    pub revision: u64,
    /// Where it came from.
    pub origin: Origin,
    /// Who approved it, and when, where two people are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved: Option<Act>,
    /// Who let it last longer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extended: Vec<Extension>,
    /// Since when it was open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened: Option<Timestamp>,
    /// When and why it was closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<Ended>,
    /// What its flows carried.
    pub carried: Carried,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{SourceFile, parse};

    const GROUND: &str = "apiVersion: bulkhead/v1\nkind: Network\nmetadata: {name: acme}\nspec: {seenOn: \
                          [{interface: n6}], pools: [10.45.0.0/16]}\n---\nkind: Device\nmetadata: {name: pump-1}\n\
                          spec: {network: acme, addresses: [10.45.0.1], framedRoutes: [192.168.50.0/24]}\n---\n";

    #[test]
    fn a_grant_says_in_a_document_what_it_was_asked_for() {
        let visit = Visit {
            person: "Åse \"Tech\" \\ Berg".to_owned(),
            organisation: Some("NO".to_owned()),
            contact: Some("+47 22 00 00 00".to_owned()),
            ticket: Some("CHG-4711: pump".to_owned()),
            approved_by: Some("yes".to_owned()),
            from: vec!["192.0.2.44".to_owned(), "2001:db8::/64".to_owned()],
            device: "pump-1".to_owned(),
            behind: vec!["192.168.50.20".to_owned()],
            ports: vec!["tcp/22".to_owned(), "udp/161-162".to_owned(), "icmp/echo".to_owned()],
        };
        let terms = GrantTerms {
            visit,
            start: "2026-12-01T07:00:00.25Z".parse().unwrap(),
            end: "2026-12-01T09:00:00Z".parse().unwrap(),
        };
        let name = Name::new("2.10").unwrap();
        let text = format!("{GROUND}{}", terms.document(&name));
        let loaded = parse(vec![SourceFile::new("grant.yaml", text)], None).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(GrantTerms::of(&loaded.policy.grants()[&name]), terms);
    }
}
