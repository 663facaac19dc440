//! What goes over the API about changes: who made them, from where, on which terms, and what they do.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::types::Object;

/// Where an object comes from; a source prunes only its own.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The policy folder.
    Folder,
    /// Files that somebody named on the command line.
    Cli,
    /// A program that speaks this API itself.
    #[default]
    Api,
    /// Something that watches traffic.
    Detector,
}

impl Origin {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Folder => "folder",
            Self::Cli => "cli",
            Self::Api => "api",
            Self::Detector => "detector",
        }
    }
}

/// Who accepted what, when and why.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct RevisionInfo {
    /// Counts accepted changes.
    pub number: u64,
    /// When.
    pub time: Timestamp,
    /// Who, as `kari via sudo`.
    pub author: String,
    /// Why, as given with `-m`.
    pub message: Option<String>,
    /// What the author's name was made of.
    #[serde(default)]
    pub who: Who,
    /// Where it came from.
    #[serde(default)]
    pub origin: Origin,
}

/// All that is known of an author.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Who {
    /// The user who asked, as the kernel says.
    pub uid: u32,
    /// The user who once logged in, as the kernel says; survives `su` and `sudo`.
    pub login_uid: Option<u32>,
    /// Who called `sudo`, as the client says.
    pub sudo_user: Option<String>,
}

/// What led to a revision.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Somebody applied files.
    #[default]
    Apply,
    /// Somebody went back to the policy of this revision.
    Rollback(u64),
    /// Nobody confirmed in time, so the policy of this revision came back.
    Unconfirmed(u64),
}

/// One object, before and after.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// As it was; nothing if it is new.
    pub before: Option<Arc<Object>>,
    /// As it is; nothing if it is gone.
    pub after: Option<Arc<Object>>,
}

impl Change {
    /// `policy/ev`.
    pub fn label(&self) -> String {
        let object = self.after.as_ref().or(self.before.as_ref());
        object.map(|object| format!("{}/{}", object.kind.to_lowercase(), object.name)).unwrap_or_default()
    }
}

/// On which terms a change is made: the same for an apply and a rollback.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// True to be told what would happen, and no more.
    #[serde(default)]
    pub dry_run: bool,
    /// Why.
    #[serde(default)]
    pub message: Option<String>,
    /// Whom the client says it is, beside what the kernel says: `SUDO_USER`.
    #[serde(default)]
    pub sudo_user: Option<String>,
    /// Only if this revision is in force.
    #[serde(default)]
    pub if_revision: Option<u64>,
    /// The plan that was read and is accepted, as `p-81c3f2`.
    #[serde(default)]
    pub accept: Option<String>,
    /// Back to the revision before unless somebody confirms within so many milliseconds.
    #[serde(default)]
    pub confirm_within_ms: Option<u64>,
    /// The connection that the change is made from, as `SSH_CONNECTION` has it.
    #[serde(default)]
    pub connection: Option<String>,
}

/// Asks for the policy of an earlier revision.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct RollbackRequest {
    /// Which; the one before the one in force if none is named.
    #[serde(default)]
    pub to: Option<u64>,
    /// On which terms.
    #[serde(flatten)]
    pub terms: Terms,
}

/// One revision in the list.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct RevisionSummary {
    /// Who, when, why.
    pub revision: RevisionInfo,
    /// What led to it.
    pub cause: Cause,
    /// Objects added, changed and removed.
    pub changes: [usize; 3],
    /// True for the one in force.
    pub in_force: bool,
}

/// One revision with everything it changed.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct RevisionDetail {
    /// Who, when, why.
    pub revision: RevisionInfo,
    /// What led to it.
    pub cause: Cause,
    /// Every object it added, changed or removed.
    pub changes: Vec<Change>,
    /// Its checksum, which the next one holds and the anchor may hold.
    pub hash: String,
    /// The checksum of the one before.
    pub previous: String,
}

/// What was done with a revision or the folder, in one sentence.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// The revision in force.
    pub revision: u64,
    /// True if there was nothing to do.
    pub unchanged: bool,
}

/// A revision that waits to be confirmed.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    /// Seconds left.
    pub seconds: u64,
    /// The revision that comes back otherwise.
    pub back_to: u64,
}

/// What a change would do to what is live now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Its id, bound to the revision in force, the new content and all of the below.
    pub id: String,
    /// Live flows now.
    pub flows: u64,
    /// Of these, how many the new policy does not allow any more.
    pub flows_cut: u64,
    /// Of these, how many could not be judged.
    pub flows_unknown: u64,
    /// Some of those that would be cut, for people.
    pub examples: Vec<String>,
    /// Devices in force now.
    pub devices: u64,
    /// Devices that have rules now and would have none.
    pub ruleless: Vec<String>,
    /// Devices that would be gone.
    pub removed: Vec<String>,
    /// Devices that are only observed now and would be enforced.
    #[serde(default)]
    pub enforced: u64,
    /// Devices that are enforced now and would only be observed.
    #[serde(default)]
    pub observed: u64,
    /// Packets per second of all that are only observed now which policy refuses, and which pass.
    #[serde(default)]
    pub refused_per_second: f64,
    /// Packets per second that the flows which would be cut carried lately.
    pub packets_per_second: f64,
    /// Over how many seconds that was measured, up to ten minutes; 0 if it was not.
    pub measured_seconds: u64,
    /// Why it has to be accepted by its id; empty if it need not.
    pub beyond: Vec<String>,
}
