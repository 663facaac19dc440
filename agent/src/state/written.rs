//! The accepted state as it is written down: which parts it is made of, and what differs from them.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::accepted::State;
use super::confirm::Confirm;
use super::parts::{Link, Part, links, top};
use super::step::{Content, Read, Step, Written};
use crate::api::types::RevisionInfo;

/// A state in its file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Accepted<T> {
    revision: RevisionInfo,
    generations: BTreeMap<u32, u64>,
    head: String,
    confirm: Option<Confirm>,
    folder_held: bool,
    /// Digest of the policy.
    pub(super) content: String,
    /// What it is made of, the first first.
    pub(super) parts: Vec<Link>,
    /// What differs from that.
    step: Step<T>,
}

/// A state from its file.
pub(super) type Found = Accepted<String>;

impl<'c> Accepted<&'c str> {
    /// A state over some parts.
    pub(super) fn of(state: &State, parts: &'c [Arc<Part>], content: &'c Content) -> Self {
        Self {
            revision: state.revision.clone(),
            generations: state.generations.clone(),
            head: state.head.clone(),
            confirm: state.confirm.clone(),
            folder_held: state.folder_held,
            content: content.objects.digest(),
            parts: links(parts),
            step: Written::between(top(parts), content),
        }
    }
}

impl Found {
    /// Puts the state together again.
    ///
    /// # Errors
    /// A part cannot be read, or they do not make it up.
    pub(super) fn whole(self, read: impl Fn(&Link) -> Result<Read>) -> Result<(State, Vec<Arc<Part>>)> {
        let mut parts: Vec<Arc<Part>> = Vec::new();
        for link in self.parts {
            let content = read(&link)?.after(top(&parts));
            parts.push(Arc::new(Part { link, content }));
        }
        let Content { objects, ids } = self.step.after(top(&parts));
        ensure!(ids.is_sound(), "its book of numbers contradicts itself");
        ensure!(objects.digest() == self.content, "its parts are not the policy that was accepted");
        let Self { revision, generations, head, confirm, folder_held, .. } = self;
        Ok((State { revision, objects, ids, generations, head, confirm, folder_held }, parts))
    }
}
