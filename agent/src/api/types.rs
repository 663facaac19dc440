//! What goes over the local API, both ways: JSON, one object a request and a reply.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use super::attributes::{AttributeReport, AttributesReply, AttributesRequest};
pub use super::candidate::{CandidateReport, CandidateStatus, Compared, PromoteRequest, WouldCount};
pub use super::grants::{
    Act, Carried, EndCause, Ended, Extension, GrantAct, GrantReport, GrantRequest, GrantState, GrantTerms,
    Visit,
};
pub use super::history::{
    Cause, Change, Done, Origin, Plan, RevisionDetail, RevisionInfo, RevisionSummary, RollbackRequest, Terms,
    Waiting, Who,
};
pub use super::quarantine::{QuarantineReport, QuarantineRequest, ReleaseRequest};
use crate::policy::{Anchor, Diagnostic, Diagnostics, Name};
use crate::telemetry::Label;

/// Paths of the API; one place for server and client.
pub mod path {
    /// GET → [`super::Status`].
    pub const STATUS: &str = "/v1/status";
    /// POST [`super::ApplyRequest`] → [`super::ApplyReply`].
    pub const APPLY: &str = "/v1/apply";
    /// GET → [`super::CandidateReport`], or nothing if there is none.
    pub const CANDIDATE: &str = "/v1/candidate";
    /// POST → [`super::Done`].
    pub const CANDIDATE_DROP: &str = "/v1/candidate/drop";
    /// POST [`super::PromoteRequest`] → [`super::ApplyReply`].
    pub const PROMOTE: &str = "/v1/promote";
    /// POST [`super::RollbackRequest`] → [`super::ApplyReply`].
    pub const ROLLBACK: &str = "/v1/rollback";
    /// POST → [`super::Done`].
    pub const CONFIRM: &str = "/v1/confirm";
    /// POST → [`super::Done`].
    pub const RESUME: &str = "/v1/resume";
    /// GET → `Vec<`[`super::RevisionSummary`]`>`; GET `/v1/revisions/{number}` → [`super::RevisionDetail`].
    pub const REVISIONS: &str = "/v1/revisions";
    /// GET → `Vec<`[`super::Object`]`>`.
    pub const OBJECTS: &str = "/v1/objects";
    /// GET `/v1/devices/{name}` → [`super::DeviceReport`].
    pub const DEVICES: &str = "/v1/devices";
    /// POST [`super::QuarantineRequest`] → [`super::QuarantineReport`]; GET → all of them.
    pub const QUARANTINE: &str = "/v1/quarantine";
    /// POST [`super::ReleaseRequest`] → [`super::QuarantineReport`] of what was lifted.
    pub const RELEASE: &str = "/v1/release";
    /// GET → `Vec<`[`super::GrantReport`]`>`; POST [`super::GrantRequest`], or [`super::GrantAct`] to
    /// `/v1/grants/{name}/approve`, `extend` or `revoke` → [`super::GrantReport`].
    pub const GRANTS: &str = "/v1/grants";
    /// POST [`super::AttributesRequest`] → [`super::AttributesReply`].
    pub const ATTRIBUTES: &str = "/v1/attributes";
    /// GET → [`super::Accepted`]: everything that `explain` needs, so that it answers as the agent would.
    pub const ACCEPTED: &str = "/v1/accepted";
    /// GET `/v1/drops/{id}` → [`crate::telemetry::Remembered`]'s record.
    /// GET `/v1/drops?…` → records, newest last, a JSON object a line.
    pub const DROPS: &str = "/v1/drops";
    /// GET `/v1/flows?…` → live flows as records, a JSON object a line.
    pub const FLOWS: &str = "/v1/flows";
    /// GET `/v1/follow?events=drops|flows&…` → records as they come, a JSON object a line.
    pub const FOLLOW: &str = "/v1/follow";
}

/// What makes an agent enforcing, or not.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Everything that is configured is enforced. Exit code 0.
    Enforcing,
    /// Nothing is missing, and policy says that some devices are only observed. Exit code 1.
    Observing,
    /// Something is missing or was lost. Exit code 1.
    Degraded,
    /// Nothing is attached. Exit code 2.
    NotEnforcing,
}

/// How the agent and its datapath are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The verdict on all of it.
    pub health: Health,
    /// What stands in the way of better; one sentence each, with what to do.
    pub problems: Vec<String>,
    /// The accepted revision.
    pub revision: Option<RevisionInfo>,
    /// The generation in force in the kernel.
    pub generation: u32,
    /// Since when this agent runs.
    pub agent_since: Timestamp,
    /// The agent's version.
    pub version: String,
    /// Interfaces, as configured.
    pub interfaces: Vec<InterfaceStatus>,
    /// Networks with devices that are only observed.
    #[serde(default)]
    pub observing: Vec<Observing>,
    /// Objects in force by kind.
    pub objects: BTreeMap<String, usize>,
    /// Devices in quarantine.
    #[serde(default)]
    pub quarantine: Vec<QuarantineReport>,
    /// Grants that are to come or open.
    #[serde(default)]
    pub grants: Vec<GrantReport>,
    /// The clock, if a rule depends on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockStatus>,
    /// Live flows and room for them.
    pub flows: Fill,
    /// Event records by fate.
    pub events: EventsStatus,
    /// The policy folder, if it differs from what is in force.
    pub pending: Option<Pending>,
    /// What is judged beside what is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<CandidateStatus>,
    /// The revision in force goes away again unless it is confirmed.
    #[serde(default)]
    pub confirm: Option<Waiting>,
    /// How long flows that were live before the program was attached may still be unknown, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warming_ms: Option<u64>,
    /// True if the folder does not apply itself since somebody went back.
    #[serde(default)]
    pub folder_held: bool,
    /// The second guard.
    #[serde(default)]
    pub second_guard: GuardStatus,
    /// What is forwarded by XDP; nothing if no network asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwarding: Option<ForwardingStatus>,
    /// What is not guarded or not seen, and no fault; one sentence each, with what to do.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// Packets that go past the kernel's stack.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct ForwardingStatus {
    /// Networks that ask for it.
    pub networks: Vec<String>,
    /// Interfaces, VLANs among them, by which such packets enter; none if anything stands in the way.
    pub enters: Vec<String>,
    /// Interfaces by which they leave.
    pub leaves: Vec<String>,
    /// What they would go round: while there is anything, all packets go through the stack.
    pub obstacles: Vec<String>,
    /// What works otherwise than somebody may expect, with what to do.
    pub notes: Vec<String>,
}

/// What rules that depend on time go by.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct ClockStatus {
    /// How far ahead the kernel knows when they open and close, if the agent dies now; nothing if they are closed
    /// because the clock is not believed.
    pub horizon: Option<Timestamp>,
    /// At how many moments until then something closes.
    pub windows: usize,
}

/// How the second guard is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardState {
    /// It closes every pool.
    On,
    /// The settings say that there is to be none.
    Off,
    /// There is to be one, and it is not as it should be.
    Missing,
    /// There is nothing to close yet.
    #[default]
    Idle,
}

/// The second guard: what closes pools on interfaces that XDP does not guard.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct GuardStatus {
    /// Whether it is there.
    pub state: GuardState,
    /// Ranges of addresses that it closes.
    pub pools: usize,
    /// Interfaces that it lets through, because XDP judges what enters there.
    pub held: Vec<String>,
    /// Packets that it dropped, by `from_ipv4`, `to_ipv4`, `from_ipv6`, `to_ipv6`, `output_ipv4`, `output_ipv6`,
    /// `switched_ipv4`, `switched_ipv6`.
    pub dropped: BTreeMap<String, u64>,
    /// The same by the interface that they entered by, only what is not 0.
    pub refused: BTreeMap<String, u64>,
    /// How often somebody else's change was put right since the agent started.
    pub repairs: u64,
    /// When last.
    pub repaired: Option<Timestamp>,
}

/// Something full to some degree.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Fill {
    /// Used.
    pub used: u64,
    /// Room.
    pub capacity: u64,
}

/// A network that only observes, with the devices of its stricter segments.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Observing {
    /// Its name.
    pub network: String,
    /// Devices that are only observed.
    pub observed: u64,
    /// Devices that are enforced all the same.
    pub enforced: u64,
}

/// One configured interface.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Name.
    pub name: String,
    /// Roles: `access`, `core`, `witness`; `egress` alone for what leaves by the interface.
    pub roles: Vec<String>,
    /// `pass` or `drop`.
    pub transit: String,
    /// What frames begin with, `ethernet` or `raw_ip`; nothing if there is no such interface, or it is neither.
    #[serde(default)]
    pub link: Option<String>,
    /// How the program is attached: `native`, `generic`, or `tcx` for what leaves; nothing if it is not.
    pub mode: Option<String>,
    /// Packets since it was attached first.
    pub received: u64,
    /// Of these, passed.
    pub passed: u64,
    /// Of these, dropped.
    pub dropped: u64,
    /// Dropped by reason, only what is not 0.
    pub reasons: BTreeMap<String, u64>,
    /// Passed although policy refuses it, by reason, only what is not 0; part of `passed`.
    #[serde(default)]
    pub would_drop: BTreeMap<String, u64>,
    /// How packets of networks with `forwarding: xdp` left, `fast` by XDP and the others through the kernel's stack by
    /// what sent them there, only what is not 0; part of `passed`.
    #[serde(default)]
    pub ways: BTreeMap<String, u64>,
    /// Packets per second over the last few seconds.
    pub packets_per_second: f64,
}

/// What became of event records.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct EventsStatus {
    /// Told.
    pub sent: u64,
    /// Not told, by budget.
    pub suppressed: u64,
    /// Not told, the ring was full.
    pub lost: u64,
}

/// The policy folder differs from what is in force.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    /// How many objects an apply would add, change, remove.
    pub changes: Changes,
    /// Errors that stand in the way.
    pub errors: usize,
    /// The first of them, in one line.
    pub first: Option<String>,
}

/// Objects by what happens to them, as `kind/name`.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Changes {
    /// New ones.
    pub added: Vec<String>,
    /// Other content.
    pub changed: Vec<String>,
    /// Gone.
    pub removed: Vec<String>,
    /// How many more there are of each of these, where there are more than anybody reads.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub more: [usize; 3],
}

/// So many objects that are new, changed or gone are named, the first by kind and name; the others are counted.
pub const NAMED: usize = 10_000;

impl Changes {
    /// True if nothing happens.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }

    /// How many are new, changed and gone.
    pub fn counts(&self) -> [usize; 3] {
        let [added, changed, removed] = self.more;
        [self.added.len() + added, self.changed.len() + changed, self.removed.len() + removed]
    }

    /// Takes the names of another kind that are new, changed and gone.
    pub(crate) fn name(&mut self, kind: &str, names: [Vec<&str>; 3]) {
        let lists = [&mut self.added, &mut self.changed, &mut self.removed];
        for ((list, more), mut names) in lists.into_iter().zip(&mut self.more).zip(names) {
            let room = NAMED - list.len();
            if names.len() > room {
                *more += names.len() - room;
                names.select_nth_unstable(room);
                names.truncate(room);
            }
            names.sort_unstable();
            list.extend(names.into_iter().map(|name| format!("{kind}/{name}")));
        }
    }
}

fn is_nothing(counts: &[usize; 3]) -> bool {
    *counts == [0; 3]
}

/// A policy text with the name it has for its author.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct NamedText {
    /// File name as given.
    pub name: String,
    /// Content.
    pub text: String,
}

/// Asks for a change of policy.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct ApplyRequest {
    /// The files.
    pub files: Vec<NamedText>,
    /// True to remove every object of this origin that the files do not hold.
    #[serde(default)]
    pub prune: bool,
    /// Where they come from.
    #[serde(default)]
    pub origin: Origin,
    /// True to have it judged beside what is in force, and changed nothing.
    #[serde(default)]
    pub candidate: bool,
    /// On which terms.
    #[serde(flatten)]
    pub terms: Terms,
}

/// What an apply did, or would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApplyReply {
    /// The revision in force now.
    pub revision: u64,
    /// The generation in force now.
    pub generation: u32,
    /// True if nothing differed, so no revision was made.
    pub unchanged: bool,
    /// True if it was only asked.
    pub dry_run: bool,
    /// True if it is a candidate now, or would be, and nothing else has changed.
    #[serde(default)]
    pub candidate: bool,
    /// Objects.
    pub changes: Changes,
    /// Writes to the kernel's tables.
    pub writes: usize,
    /// Milliseconds from request to enforcement.
    pub elapsed_ms: u64,
    /// Warnings and notes.
    pub notes: Diagnostics,
    /// How many in-file tests held.
    pub tests: usize,
    /// What it does to what is live; nothing if nothing is enforced yet.
    #[serde(default)]
    pub plan: Option<Plan>,
    /// Set if it goes away again unless it is confirmed.
    #[serde(default)]
    pub confirm: Option<Waiting>,
}

/// Why nothing was done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// In one sentence.
    pub error: String,
    /// Everything that is wrong with the policy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<Diagnostic>,
    /// What it would do, if that is why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Box<Plan>>,
}

/// One object in force.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Object {
    /// `Network`, `Segment`, `Device`, `Destination` or `Policy`.
    pub kind: Label,
    /// Name.
    pub name: String,
    /// File it came from.
    pub file: Label,
    /// Line at which its document starts.
    pub line: u32,
    /// The document as written.
    pub text: String,
    /// Who put it there.
    #[serde(default)]
    pub origin: Origin,
}

/// The accepted policy with the host it was compiled for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accepted {
    /// The revision.
    pub revision: RevisionInfo,
    /// The agent's configuration, as written.
    pub agent: NamedText,
    /// The policy, as written.
    pub files: Vec<NamedText>,
    /// Interfaces by name.
    pub interfaces: BTreeMap<String, AcceptedInterface>,
    /// Devices in quarantine.
    #[serde(default)]
    pub quarantine: Vec<QuarantineReport>,
    /// What was said of devices.
    #[serde(default)]
    pub attributes: BTreeMap<Name, Vec<AttributeReport>>,
    /// Grants whose documents open nothing: they have ended, or wait for somebody.
    #[serde(default)]
    pub closed_grants: Vec<Name>,
    /// What the agent knows of time; nothing if it does not believe the clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<Anchor>,
}

/// An interface as the agent sees it.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct AcceptedInterface {
    /// The kernel's number.
    pub ifindex: u32,
    /// Addresses with prefix length.
    pub addresses: Vec<ipnet::IpNet>,
}

/// One device, with all that is known of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceReport {
    /// Name.
    pub name: String,
    /// Network.
    pub network: String,
    /// Segment.
    pub segment: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Addresses.
    pub addresses: Vec<String>,
    /// The LAN behind it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub framed_routes: Vec<String>,
    /// IMSIs; the CLI masks them.
    pub imsis: Vec<String>,
    /// IMEI; the CLI masks it.
    pub imei: Option<String>,
    /// Rules that are about it, as `policy/rule`.
    pub rules: Vec<String>,
    /// All that is known of it.
    #[serde(default)]
    pub attributes: Vec<AttributeReport>,
    /// Those of the rules that conditions close to it, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub closed: BTreeMap<String, Vec<String>>,
    /// Where it was written, `file:line`.
    pub written: String,
    /// Live flows.
    pub flows: u64,
    /// `enforce`, or `observe` if what its policy refuses passes.
    #[serde(default)]
    pub mode: String,
    /// Remembered drops by reason.
    pub drops: BTreeMap<String, u64>,
    /// Remembered packets that passed and would have been dropped, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub would_drop: BTreeMap<String, u64>,
    /// Id of the last remembered of both.
    pub last_drop: Option<String>,
    /// Its quarantine, if it is in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<QuarantineReport>,
    /// The revision in force.
    pub revision: u64,
}
