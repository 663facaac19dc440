//! The policy folder: what it would change, and its apply.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bulkhead_common::abi::Generation;

use super::author::Author;
use super::engine::Engine;
use super::host;
use super::in_force::InForce;
use crate::api::types::{ApplyRequest, Changes, NamedText, Origin, Pending, Terms};
use crate::policy::{self, Diagnostic, Diagnostics, Ids, Name, Severity};
use crate::state::digest_of;

impl Engine {
    /// What the folder would change.
    pub(super) fn look_at_folder(&mut self) {
        let look = self.look_into_folder();
        if look.is_some() && self.looked == look {
            return;
        }
        self.pending = match self.folder_request() {
            Ok(request) => request.and_then(|request| self.pending_of(&request)),
            Err(problems) => Some(not_applicable(&problems.iter().cloned().collect::<Vec<_>>())),
        };
        // What stands in the way may go by itself.
        self.looked = look.filter(|_| self.pending.as_ref().is_none_or(|pending| pending.errors == 0));
    }

    /// What there is to be seen, if it tells what the folder would change.
    fn look_into_folder(&self) -> Option<Look> {
        let ended = self.grants.iter().filter(|(_, granted)| granted.ended.is_some());
        Some(Look {
            files: stamps(&self.agent.policy_folder)?,
            over: (self.number(), self.in_force_since),
            ended: ended.map(|(name, _)| name.clone()).collect(),
        })
    }

    /// The whole folder as a request; nothing if there is none or it is empty.
    fn folder_request(&self) -> Result<Option<ApplyRequest>, Diagnostics> {
        let folder = &self.agent.policy_folder;
        let has_files = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
        if !has_files {
            return Ok(None);
        }
        let files = policy::read(std::slice::from_ref(folder))?;
        let files = files
            .iter()
            .map(|f| NamedText { name: f.name().to_owned(), text: f.text().to_owned() })
            .collect();
        let message = Some(format!("from {}", folder.display()));
        let terms = Terms { message, ..Terms::default() };
        Ok(Some(ApplyRequest {
            files,
            prune: true,
            origin: Origin::Folder,
            terms,
            ..ApplyRequest::default()
        }))
    }

    fn pending_of(&self, request: &ApplyRequest) -> Option<Pending> {
        let (merged, read) = match self.merge(request) {
            Ok(merged) => merged,
            Err(why) => return Some(why.pending()),
        };
        if merged.changes.is_empty() {
            return None;
        }
        let host = host::observe().unwrap_or_default();
        let ids = self.accepted.as_ref().map_or_else(Ids::default, |state| state.ids.clone());
        let read = read.map_or_else(|| self.read(&merged.objects), Ok);
        match read.and_then(|read| InForce::prepare(read, (&self.agent, &host), &ids, self.facts())) {
            Ok(_) => Some(Pending { changes: merged.changes, ..Pending::default() }),
            Err(problems) => Some(self.refused("", problems).pending()),
        }
    }

    /// Applies what waits; what was refused is tried again once a minute, or when it or what is in force is another.
    pub(super) fn apply_folder(&mut self) {
        let clean = self.pending.as_ref().is_some_and(|pending| pending.errors == 0);
        if !clean {
            return;
        }
        let Ok(Some(request)) = self.folder_request() else { return };
        let content = digest_of(request.files.iter().map(|file| file.text.as_str()));
        let attempt = (self.number(), self.minute(), content);
        if self.refused_folder.as_ref() != Some(&attempt) {
            let Err(refused) = self.apply(&request, Author::default()) else { return };
            tracing::error!("the policy folder was not applied: {refused}");
            self.refused_folder = Some(attempt);
            self.refused_because = refused.pending().first;
        }
        // What refused it may be over by the next look.
        self.looked = None;
        if let Some(pending) = &mut self.pending {
            (pending.errors, pending.first) = (1, self.refused_because.clone());
        }
    }
}

/// What somebody saw who looked at the folder: as long as it is the same, nobody has to read all of it again.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Look {
    files: BTreeSet<Stamp>,
    /// Revision and generation in force.
    over: (u64, Generation),
    /// Grants that have ended.
    ended: Vec<Name>,
}

/// Name, inode, size and times of a file.
type Stamp = (OsString, u64, u64, [i64; 4]);

/// Until then a file may be written once more without another time on it.
const SETTLED: Duration = Duration::from_secs(2);

/// Every file of a folder; nothing if that does not tell what is in them: one cannot be looked at, or was changed just now.
fn stamps(folder: &Path) -> Option<BTreeSet<Stamp>> {
    let settled = SystemTime::now().checked_sub(SETTLED)?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let mut files = BTreeSet::new();
    for entry in std::fs::read_dir(folder).ok()? {
        let entry = entry.ok()?;
        // Of what a link leads to.
        let found = std::fs::metadata(entry.path()).ok()?;
        if found.ctime() >= i64::try_from(settled.as_secs()).ok()? {
            return None;
        }
        let times = [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()];
        files.insert((entry.file_name(), found.ino(), found.len(), times));
    }
    Some(files)
}

/// The first of what stands in the way, and how much more there is.
pub(super) fn not_applicable(problems: &[Diagnostic]) -> Pending {
    let errors = || problems.iter().filter(|problem| problem.severity == Severity::Error);
    Pending {
        errors: errors().count(),
        first: errors().next().map(ToString::to_string),
        changes: Changes::default(),
    }
}
