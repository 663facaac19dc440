//! What an operator writes, as a value that can be relied on.
//!
//! ```text
//! paths → source → yaml → document → validate → Policy
//!           texts    trees   resources   one valid whole
//! ```
//!
//! `compile` makes the engine's tables of it.
//!
//! Every stage collects all it finds wrong into [`Diagnostics`]; a [`Policy`] comes out only if
//! there was no error.

mod address;
mod agent;
mod amend;
mod attribute;
mod canary;
mod characters;
mod compile;
mod condition;
mod csv;
mod diagnostic;
mod document;
mod excerpt;
mod grant;
mod judge;
mod location;
mod model;
mod name;
mod node;
mod path;
mod ports;
mod reader;
mod render;
mod scalar;
mod schedule;
mod selectors;
mod source;
mod timeline;
mod validate;
mod yaml;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use crate::tables::Capacities;
pub use address::{AddressRange, IPV4, address, plain};
pub use agent::{
    AgentConfig, Anchors, AttachMode, Downlink, FromHost, GrantLimits, Gtpu, Guard, Hairpin, Interface,
    LocalOutput, PIN_DIR, Percent, Role, Transit,
};
pub use amend::Amendment;
pub use attribute::{Attribute, AttributeKey, Attributes, Source, UNKNOWN_AGE};
pub use canary::Canary;
pub(crate) use compile::Renumbered;
pub use compile::{
    CLOSE_THE_GAP, Catalogue, Compiled, Confinement, Ids, LateralGap, ProfileName, RuleName, compile,
    compile_at, device_ranges, lateral_gaps, merged,
};
pub(crate) use condition::ago;
pub use condition::{
    About, Cell, Condition, Conditions, Country, Demand, Found, Imei, Plmn, Rat, Seen, Tac, TrackingArea,
    Unmet, Version,
};
pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use document::InventoryRow;
pub use excerpt::Excerpt;
pub use grant::{Grant, Visitor, too_long};
pub use judge::{
    Answer, Bench, Considered, End, Question, assumed_agent, assumed_host, considered_rules, run_tests,
};
pub(crate) use judge::{first_packet, host as host_in};
pub use location::{Located, Location, SourceFile};
pub use model::{
    Between, Binding, Destination, Device, Direction, Forwarding, FragmentMode, Labels, Like, Limits, Mode,
    Network, Policy, PolicyRules, Remotes, Rule, Segment, Selector, Service, SimProfile, Subinterface,
    Subject, TeidRange, Test, TestDevice, TestRemote, Timeouts, carries,
};
pub use name::Name;
pub(crate) use name::nearest as nearest_name;
pub use ports::{NotAPort, Port, Portless, Protocol};
pub use schedule::{Hold, Hours, Schedule, When};
pub use source::{FILE_BYTES, INVENTORY_BYTES, STANDARD_INPUT, TOTAL_BYTES, read};
pub use timeline::{Anchor, HORIZON, Pair, Timeline};

pub use crate::few::Few;
pub use crate::text::Text;
use document::Drafts;

/// The language as a JSON Schema, one document of a file; for editors, which know nothing of the rest.
pub const SCHEMA: &str = include_str!("schema.json");

/// A valid policy and what is odd about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The policy.
    pub policy: Policy,
    /// Warnings and notes; no errors.
    pub warnings: Diagnostics,
}

/// Reads a policy set from files, folders and `-`.
///
/// With `agent`, interfaces are checked against those of the host.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn load(paths: &[PathBuf], agent: Option<&AgentConfig>) -> Result<Loaded, Diagnostics> {
    parse(source::read(paths)?, agent)
}

/// Reads a policy set from texts; touches nothing else.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn parse(files: Vec<SourceFile>, agent: Option<&AgentConfig>) -> Result<Loaded, Diagnostics> {
    let mut problems = Diagnostics::default();
    let drafts = drafts(files, &mut problems);
    let policy = validate::policy(drafts, agent, &mut problems);
    let problems = problems.finish();
    match problems.has_errors() {
        true => Err(problems),
        false => Ok(Loaded { policy, warnings: problems }),
    }
}

/// Reads a policy set among which the host's settings may stand; those are preferred to `agent`.
///
/// Only for questions: what is applied must not choose which interfaces are guarded.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn parse_beside_agent(
    files: Vec<SourceFile>,
    agent: Option<AgentConfig>,
) -> Result<(Loaded, Option<AgentConfig>), Diagnostics> {
    let mut problems = Diagnostics::default();
    let mut drafts = drafts(files, &mut problems);
    let mut agents = std::mem::take(&mut drafts.agents).into_iter();
    let agent = agents.next().or(agent);
    agents.for_each(|second| problems.error(&second.at, "a second agent", "a host has one; merge them"));
    let policy = validate::policy(drafts, agent.as_ref(), &mut problems);
    let problems = problems.finish();
    match problems.has_errors() {
        true => Err(problems),
        false => Ok((Loaded { policy, warnings: problems }, agent)),
    }
}

/// What is wrong with texts taken one document at a time, before anything is compared with anything.
///
/// For a change that is only part of a policy: what it refers to may be in force already.
pub fn problems_alone(files: Vec<SourceFile>) -> Diagnostics {
    let mut problems = Diagnostics::default();
    drafts(files, &mut problems);
    problems.finish()
}

/// What becomes of the devices of a valid table, each a table of its own; nothing if a file of that name is no table.
pub fn inventory_rows<T: Send>(
    file: &str,
    text: &str,
    make: impl Fn(InventoryRow) -> T + Sync,
) -> Option<Vec<T>> {
    location::is_inventory(Path::new(file)).then(|| document::inventory_rows(text, make))
}

/// Header and row of one of [`inventory_rows`], if it is one.
pub fn inventory_row<'t>(file: &str, text: &'t str) -> Option<(&'t str, &'t str)> {
    text.split_once('\n').filter(|_| location::is_inventory(Path::new(file)))
}

/// What an object says as a document of YAML, also if it was written as a row.
pub fn as_document(file: &str, text: &str) -> String {
    inventory_row(file, text).and_then(|_| document::of_row(text)).unwrap_or_else(|| text.to_owned())
}

fn drafts(files: Vec<SourceFile>, problems: &mut Diagnostics) -> Drafts {
    let mut drafts = Drafts::default();
    if files.is_empty() {
        let help = "name a file or a folder that holds policies";
        problems.push(Diagnostic::of_file("", "there is no policy to read", help));
    }
    for file in files {
        document::read(&Arc::new(file), problems, &mut drafts);
    }
    drafts
}

/// Reads the host's own settings.
///
/// # Errors
/// Everything that is wrong with the file, at once.
pub fn load_agent(path: &Path) -> Result<AgentConfig, Diagnostics> {
    let files = source::read(std::slice::from_ref(&path.to_owned()))?;
    parse_agent(files)
}

/// Reads the host's own settings from texts; touches nothing else.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn parse_agent(files: Vec<SourceFile>) -> Result<AgentConfig, Diagnostics> {
    let mut problems = Diagnostics::default();
    let name = files.first().map_or_else(String::new, |file| file.name().to_owned());
    let mut drafts = drafts(files, &mut problems);
    refuse_policies(&drafts, &mut problems);
    if let Some(second) = drafts.agents.get(1) {
        let problem = format!("a second agent, the first is at {}", drafts.agents[0].at);
        problems.error(&second.at, problem, "a host has one; merge them");
    }
    if drafts.agents.is_empty() && !problems.has_errors() {
        let help = "write kind: Agent (see policies/README.md)";
        problems.push(Diagnostic::of_file(&name, "describes no agent", help));
    }
    match (problems.has_errors(), drafts.agents.pop()) {
        (false, Some(agent)) => Ok(agent),
        _ => Err(problems.finish()),
    }
}

/// Policy in the agent's file would escape revisions, tests and rollback.
fn refuse_policies(drafts: &Drafts, problems: &mut Diagnostics) {
    let networks = drafts.networks.iter().map(|item| &item.at);
    let segments = drafts.segments.iter().map(|item| &item.at);
    let devices = drafts.devices.iter().map(|item| &item.at);
    let destinations = drafts.destinations.iter().map(|item| &item.at);
    let policies = drafts.policies.iter().map(|item| &item.at);
    let grants = drafts.grants.iter().map(|item| &item.at);
    let all = networks.chain(segments).chain(devices).chain(destinations).chain(policies).chain(grants);
    for at in all {
        let problem = "only kind Agent belongs in the agent's file";
        problems.error(at, problem, "move it to the policy folder");
    }
}
