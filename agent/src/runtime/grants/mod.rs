//! Visits from outside: who may come, until when, and what became of it.
//!
//! A grant is a document like any other, so asking for one is an apply, and the history tells who did. What
//! becomes of it is kept beside the policy: an end is for good, whatever is applied or rolled back later.

mod settle;
mod told;
mod way_back;

use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use jiff::{SignedDuration, Timestamp};

use super::apply::{Proposal, Refused};
use super::author::{Author, person};
use super::engine::Engine;
use crate::api::types::{
    Act, ApplyRequest, Cause, EndCause, Ended, GrantAct, GrantReport, GrantRequest, GrantTerms, NamedText,
    Object, Origin, Terms,
};
use crate::policy::{Grant, Name, Timeline};
use crate::state::{Approval, Granted, Grants, Objects};

/// Longest grant, whatever `grants.maxDuration` says.
const LONGEST_MS: u64 = 366 * 86_400_000;
/// What the document of a grant that was asked for is called.
const FILE: &str = "bulkhead grant create";

impl Engine {
    /// Opens one device to one visitor from now on.
    ///
    /// # Errors
    /// [`Refused`]; nothing was changed.
    pub fn grant(&mut self, request: &GrantRequest, author: Author) -> Result<GrantReport, Refused> {
        if self.keeper.timeline() == Timeline::Unknown {
            return Err(Refused::because(
                "the clock is not believed, so nobody knows when a grant ends: start an NTP client, or write `clock: \
                 trusted` in agent.yaml",
            ));
        }
        let name = self.grant_name(request)?;
        let start = Timestamp::now();
        let end = later(start, request.for_ms)?;
        let terms = GrantTerms { visit: request.visit.clone(), start, end };
        let why = format!("grant {name}: {} to {}", terms.visit.person, terms.visit.device);
        let asked = Asked { origin: request.origin, sudo_user: request.sudo_user.clone(), author };
        self.apply_grant(&name, &terms, why, asked)?;
        self.grant_report(&name)
    }

    /// Somebody else than who asked agrees to a grant.
    ///
    /// # Errors
    /// [`Refused`]; nothing was changed.
    pub fn approve_grant(
        &mut self,
        name: &str,
        act: &GrantAct,
        author: Author,
    ) -> Result<GrantReport, Refused> {
        let (name, mut granted) = self.live_grant(name)?;
        let sudo = act.sudo_user.as_deref();
        not_the_asker(&name, &granted, &person(&author.who(sudo)))?;
        granted.approved = Some(Approval { act: done(author, sudo), terms: granted.terms.clone() });
        self.change_grants(self.grants_with(&name, granted)).map_err(Refused::Host)?;
        self.tell_grant("approved", &name);
        self.grant_report(&name)
    }

    /// Lets a grant last longer.
    ///
    /// # Errors
    /// [`Refused`]; nothing was changed.
    pub fn extend_grant(
        &mut self,
        name: &str,
        act: &GrantAct,
        author: Author,
    ) -> Result<GrantReport, Refused> {
        let (name, granted) = self.live_grant(name)?;
        if granted.origin == Origin::Folder {
            let why = format!("grant {name} is written in the policy folder: change its `window` there");
            return Err(Refused::because(why));
        }
        let sudo = act.sudo_user.as_deref();
        let terms = GrantTerms { end: later(granted.terms.end, act.for_ms)?, ..granted.terms.clone() };
        if self.agent.grants.four_eyes {
            not_the_asker(&name, &granted, &person(&author.who(sudo)))?;
            // Before the document: between the two it must be open to whom it is open.
            let mut approved = granted.clone();
            approved.approved = Some(Approval { act: done(author, sudo), terms: terms.clone() });
            self.keep_grants(self.grants_with(&name, approved)).map_err(Refused::Host)?;
        }
        let why = format!("grant {name} until {}", terms.end);
        let asked = Asked { origin: act.origin, sudo_user: act.sudo_user.clone(), author };
        if let Err(refused) = self.apply_grant(&name, &terms, why, asked) {
            self.keep_grants(self.grants_with(&name, granted)).map_err(Refused::Host)?;
            return Err(refused);
        }
        self.grant_report(&name)
    }

    /// Closes a grant for good; what is live under it ends with its next packet.
    ///
    /// # Errors
    /// [`Refused`]; it stays open.
    pub fn revoke_grant(
        &mut self,
        name: &str,
        act: &GrantAct,
        author: Author,
    ) -> Result<GrantReport, Refused> {
        let (name, mut granted) = self.live_grant(name)?;
        let Act { by, at } = done(author, act.sudo_user.as_deref());
        granted.ended = Some(Ended { at, cause: EndCause::Revoked, by: Some(by) });
        self.change_grants(self.grants_with(&name, granted)).map_err(Refused::Host)?;
        self.count_grants();
        self.tell_grant("revoked", &name);
        self.close_accounts();
        self.grant_report(&name)
    }

    /// What is accepted, without grants that have ended: they are on their own record. The folder keeps its own.
    pub(super) fn without_ended(&self) -> Objects {
        let objects = self.accepted.as_ref().map(|state| state.objects.clone()).unwrap_or_default();
        let has_ended = |object: &&Arc<Object>| {
            let granted = Name::new(&object.name).and_then(|name| self.grants.get(&name));
            object.origin != Origin::Folder && granted.is_some_and(|granted| granted.ended.is_some())
        };
        let ended = objects.of_kind(KIND).filter(has_ended).cloned().collect();
        objects.but(&ended)
    }

    /// Those whose documents open nothing.
    pub(super) fn closed_grants(&self) -> Vec<Name> {
        let four_eyes = self.agent.grants.four_eyes;
        let documents = self.in_force.iter().flat_map(|in_force| in_force.policy.grants().values());
        let closed = documents.filter(|grant| is_closed(&self.grants, four_eyes, grant));
        closed.map(|grant| grant.name.clone()).collect()
    }

    /// A grant's document, as a change of policy.
    fn apply_grant(
        &mut self,
        name: &Name,
        terms: &GrantTerms,
        message: String,
        asked: Asked,
    ) -> Result<(), Refused> {
        let file = NamedText { name: FILE.to_owned(), text: terms.document(name) };
        let change = Terms { message: Some(message), sudo_user: asked.sudo_user, ..Terms::default() };
        let request = ApplyRequest {
            files: vec![file],
            origin: asked.origin,
            terms: change,
            ..ApplyRequest::default()
        };
        // Not `apply`: a grant is no policy, so it need not wait for a policy to be confirmed.
        let (merged, read) = self.merge(&request)?;
        let (author, origin) = (asked.author, asked.origin);
        let proposal = Proposal { merged, read, cause: Cause::Apply, author, origin };
        self.propose(proposal, &request.terms).map(|_| ())
    }

    /// A name that no grant ever had and no policy has.
    fn grant_name(&self, request: &GrantRequest) -> Result<Name, Refused> {
        let policies = self.in_force.as_ref().map(|in_force| in_force.policy.policies());
        let taken = |name: &Name| {
            self.grants.contains_key(name) || policies.is_some_and(|all| all.contains_key(name))
        };
        let Some(typed) = &request.name else {
            let stem = slug(request.visit.ticket.as_deref().unwrap_or(&request.visit.device));
            let numbered = (1_u32..1_000).map(|n| if n == 1 { stem.clone() } else { format!("{stem}-{n}") });
            let free = numbered.filter_map(|name| Name::new(&name)).find(|name| !taken(name));
            return free.ok_or_else(|| Refused::because("no name could be made for it: say one with --name"));
        };
        match Name::new(typed) {
            Some(name) if !taken(&name) => Ok(name),
            Some(name) => Err(Refused::because(format!(
                "{name} is taken, and what has ended never opens again: take another name"
            ))),
            None => Err(Refused::because(format!("{typed:?} is no name: use a-z, 0-9, `-` and `.`"))),
        }
    }

    fn live_grant(&self, typed: &str) -> Result<(Name, Granted), Refused> {
        let found = Name::new(typed).and_then(|name| self.grants.get_key_value(&name));
        match found {
            Some((name, granted)) if granted.ended.is_none() => Ok((name.clone(), granted.clone())),
            Some((name, _)) => {
                let why =
                    format!("grant {name} has ended, and what has ended never opens again: create a new one");
                Err(Refused::because(why))
            }
            None => Err(Refused::because(format!("there is no grant {typed:?} (see `bulkhead grant list`)"))),
        }
    }

    /// What is known of grants, with this of one of them.
    fn grants_with(&self, name: &Name, granted: Granted) -> Grants {
        let mut list = self.grants.clone();
        list.insert(name.clone(), granted);
        list
    }

    /// Disk first: what has ended must not open after a restart.
    fn change_grants(&mut self, list: Grants) -> Result<()> {
        let before = self.grants.clone();
        self.keep_grants(list)?;
        let Some(state) = self.accepted.clone() else { return Ok(()) };
        if let Err(error) = self.enforce_accepted(state) {
            self.keep_grants(before).context("put what is known of grants back")?;
            return Err(error);
        }
        Ok(())
    }

    fn keep_grants(&mut self, list: Grants) -> Result<()> {
        self.store.keep_grants(&list).context("keep what became of grants on disk; nothing was changed")?;
        self.grants = list;
        Ok(())
    }
}

/// True if a grant of the policy opens nothing.
pub(super) fn is_closed(grants: &Grants, four_eyes: bool, grant: &Grant) -> bool {
    match grants.get(&grant.name) {
        Some(granted) => granted.is_closed(&GrantTerms::of(grant), four_eyes),
        None => four_eyes,
    }
}

/// The kind of document that a grant is.
const KIND: &str = "Grant";

/// Who asks, and from where.
struct Asked {
    origin: Origin,
    sudo_user: Option<String>,
    author: Author,
}

fn done(author: Author, sudo: Option<&str>) -> Act {
    Act { by: author.describe(sudo), at: Timestamp::now() }
}

/// Two people: the one that asked does not count twice.
fn not_the_asker(name: &Name, granted: &Granted, who: &str) -> Result<(), Refused> {
    match granted.asker == who {
        true => Err(Refused::because(format!(
            "{who} asked for grant {name}, so somebody else has to agree: log in as yourself, or use sudo"
        ))),
        false => Ok(()),
    }
}

fn later(from: Timestamp, by_ms: u64) -> Result<Timestamp, Refused> {
    let by = i64::try_from(by_ms).ok().filter(|ms| (1..=LONGEST_MS).contains(&ms.unsigned_abs()));
    let end = by.and_then(|ms| from.checked_add(SignedDuration::from_millis(ms)).ok());
    end.ok_or_else(|| Refused::because("say for how long with --for, from 1s to 366d"))
}

/// `CHG-4711 (pump)` → `chg-4711-pump`.
fn slug(text: &str) -> String {
    let lower = text.to_lowercase();
    let parts = lower.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit());
    let joined = parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
    let short: String = joined.chars().take(48).collect();
    if short.is_empty() { "grant".to_owned() } else { short.trim_end_matches('-').to_owned() }
}

/// Why nothing can be brought into force while nobody knows what has ended.
pub(super) fn lost(error: &anyhow::Error) -> anyhow::Error {
    anyhow!(
        "which grants have ended is lost: {error:#}; put the file back, or remove it and look at every grant"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_tickets() {
        for (ticket, name) in [("CHG-4711", "chg-4711"), ("Jira: OPS 12/ä", "jira-ops-12"), ("…", "grant")]
        {
            assert_eq!(slug(ticket), name);
            assert!(Name::new(name).is_some());
        }
        assert!(Name::new(&slug(&"x-".repeat(60))).is_some());
    }

    #[test]
    fn a_time_is_a_second_of_it_or_more() {
        let now = Timestamp::UNIX_EPOCH;
        assert!(later(now, 7_200_000).is_ok());
        for wrong in [0, LONGEST_MS + 1, u64::MAX] {
            assert!(later(now, wrong).is_err());
        }
    }
}
