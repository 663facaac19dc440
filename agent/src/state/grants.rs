//! What became of grants, on disk: none that has ended opens again, whatever is applied, rolled back or restarted.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use bulkhead_common::abi::{Flow, RuleId};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Store;
use crate::api::types::{Act, Carried, Ended, Extension, GrantTerms, Origin};
use crate::policy::Name;

/// Grants by name: those that are to come or open, and what is left of those that were.
pub type Grants = BTreeMap<Name, Granted>;

/// How long what is left of a grant is kept.
const KEPT: SignedDuration = SignedDuration::from_hours(366 * 24);

/// What became of one grant.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Granted {
    /// What it says, or said last.
    pub terms: GrantTerms,
    /// Who asked for it, and when.
    pub asked: Act,
    /// Who that is: the one that must not approve it.
    pub asker: String,
    /// The revision with which it came.
    pub revision: u64,
    /// Where it came from.
    pub origin: Origin,
    /// Who else approved of what.
    pub approved: Option<Approval>,
    /// Who let it last longer.
    pub extended: Vec<Extension>,
    /// Since when it was open.
    pub opened: Option<Timestamp>,
    /// When and why it was closed.
    pub ended: Option<Ended>,
    /// The number of its rule while it was open.
    pub rule: Option<u32>,
    /// What flows carried that are not in the table any more.
    settled: Carried,
    /// What those carried that are.
    live: BTreeMap<String, Carried>,
    /// True if nothing more is counted.
    pub closed: bool,
}

/// Somebody approved of something, and of no more than that.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    /// Who, and when.
    pub act: Act,
    /// Of what; it may end sooner.
    pub terms: GrantTerms,
}

impl Approval {
    /// True if it is about this.
    pub fn covers(&self, terms: &GrantTerms) -> bool {
        let same = GrantTerms { end: self.terms.end, ..terms.clone() };
        same == self.terms && terms.end <= self.terms.end
    }
}

impl Granted {
    /// One that somebody asks for.
    pub fn begin(terms: GrantTerms, asked: Act, asker: String, revision: u64, origin: Origin) -> Self {
        Self {
            terms,
            asked,
            asker,
            revision,
            origin,
            approved: None,
            extended: Vec::new(),
            opened: None,
            ended: None,
            rule: None,
            settled: Carried::default(),
            live: BTreeMap::new(),
            closed: false,
        }
    }

    /// Since when nothing but its own time stood in the way.
    pub fn since(&self) -> Timestamp {
        self.approved.as_ref().map_or(self.asked.at, |approval| approval.act.at)
    }

    /// True if its document opens nothing: it has ended, or nobody else approved of what it says.
    pub fn is_closed(&self, terms: &GrantTerms, four_eyes: bool) -> bool {
        let approved = self.approved.as_ref().is_some_and(|approval| approval.covers(terms));
        self.ended.is_some() || (four_eyes && !approved)
    }

    /// Takes what flows carried: those of the table, and last words of those that ended.
    pub fn look(&mut self, table: &[Flow], ended: &[Flow]) {
        let (Some(table), Some(ended)) = (self.mine(table), self.mine(ended)) else { return };
        let before = std::mem::take(&mut self.live);
        let all: BTreeSet<&String> = table.keys().chain(ended.keys()).chain(before.keys()).collect();
        for flow in all {
            let seen = [&table, &ended, &before].into_iter().filter_map(|flows| flows.get(flow));
            let Some(most) = seen.max_by_key(|carried| carried.packets()) else { continue };
            match table.contains_key(flow) {
                true => drop(self.live.insert(flow.clone(), *most)),
                false => self.settled += *most,
            }
        }
    }

    /// Takes last words of flows that ended, without a look at the table: they may be in there still.
    pub fn hear(&mut self, ended: &[Flow]) {
        for (flow, last) in self.mine(ended).into_iter().flatten() {
            let known = self.live.entry(flow).or_insert(last);
            if last.packets() > known.packets() {
                *known = last;
            }
        }
    }

    /// Those of its own rule; nothing if nothing is counted, or not any more.
    fn mine(&self, flows: &[Flow]) -> Option<BTreeMap<String, Carried>> {
        let rule = self.rule.filter(|_| !self.closed).map(RuleId)?;
        let mine = flows.iter().filter(|flow| flow.rule() == rule);
        Some(mine.map(|flow| (identity(flow), carried(flow))).collect())
    }

    /// What all flows carried.
    pub fn carried(&self) -> Carried {
        let mut sum = self.settled;
        self.live.values().for_each(|carried| sum += *carried);
        sum
    }

    /// True if nobody needs what is left of it any more.
    pub fn is_forgotten(&self, now: Timestamp) -> bool {
        let last = self.ended.as_ref().map(|ended| ended.at.max(self.terms.end));
        last.is_some_and(|last| now.duration_since(last) > KEPT)
    }
}

/// One flow, in all looks and for all agents: ports are used again, and then the flow begins later.
fn identity(flow: &Flow) -> String {
    let key = &flow.key;
    let (local, remote) = (key.local.to_ip(), key.remote.to_ip());
    format!("{} {} {local} {} {remote} {}", flow.opened, key.protocol, key.local_port, key.remote_port)
}

fn carried(flow: &Flow) -> Carried {
    let ([packets_up, bytes_up], [packets_down, bytes_down]) = (flow.sent, flow.received);
    Carried { flows: 1, packets_up, bytes_up, packets_down, bytes_down }
}

impl Store {
    /// Reads what became of grants.
    ///
    /// # Errors
    /// The list is damaged: nobody knows what has ended.
    pub fn grants(&self) -> Result<Grants> {
        self.list(FILE, FORMAT)
    }

    /// Keeps what became of grants, whole or not at all.
    ///
    /// # Errors
    /// The disk is full or not writable; the list is the old one.
    pub fn keep_grants(&self, list: &Grants) -> Result<()> {
        self.keep_list(FILE, FORMAT, list)
    }
}

const FILE: &str = "grants";
const FORMAT: &str = "bulkhead-grants-1";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::api::types::{EndCause, Visit};
    use bulkhead_common::abi::{FlowKey, Generation};

    fn terms(end: &str) -> GrantTerms {
        let visit = Visit {
            person: "Kari".to_owned(),
            organisation: None,
            contact: None,
            ticket: None,
            approved_by: None,
            from: vec!["192.0.2.44".to_owned()],
            device: "pump-1".to_owned(),
            behind: Vec::new(),
            ports: vec!["tcp/22".to_owned()],
        };
        GrantTerms { visit, start: "2026-12-01T08:00:00Z".parse().unwrap(), end: end.parse().unwrap() }
    }

    const TEN: &str = "2026-12-01T10:00:00Z";
    const NOON: &str = "2026-12-01T12:00:00Z";

    fn act(by: &str) -> Act {
        Act { by: by.to_owned(), at: TEN.parse().unwrap() }
    }

    fn granted() -> Granted {
        let grant = Granted::begin(terms(TEN), act("kari via sudo"), "kari".to_owned(), 7, Origin::Cli);
        Granted { rule: Some(3), ..grant }
    }

    fn flow(port: u16, opened: u64, rule: u32, packets: [u64; 2]) -> Flow {
        let key = FlowKey { local_port: port, ..FlowKey::default() };
        let decision = Flow::decision_word(Generation(1), RuleId(rule));
        let ([up, down], bytes) = (packets, |packets| packets * 100);
        Flow {
            key,
            opened,
            decision,
            sent: [up, bytes(up)],
            received: [down, bytes(down)],
            ..Flow::default()
        }
    }

    #[test]
    fn an_approval_is_of_what_was_asked_and_no_more() {
        let grant = Granted { approved: Some(Approval { act: act("ola"), terms: terms(TEN) }), ..granted() };
        assert!(!grant.is_closed(&terms(TEN), true));
        assert!(!grant.is_closed(&terms("2026-12-01T09:00:00Z"), true), "it may end sooner");
        assert!(grant.is_closed(&terms(NOON), true), "and not later");
        let GrantTerms { visit, start, end } = terms(TEN);
        let elsewhere = GrantTerms { visit: Visit { device: "pump-2".to_owned(), ..visit }, start, end };
        assert!(grant.is_closed(&elsewhere, true), "and not elsewhere");
        assert!(!granted().is_closed(&terms(TEN), false) && granted().is_closed(&terms(TEN), true));
        let over = Ended { at: TEN.parse().unwrap(), cause: EndCause::Revoked, by: None };
        let ended = Granted { ended: Some(over), ..grant };
        assert!(ended.is_closed(&terms(TEN), true) && ended.is_closed(&terms(TEN), false));
    }

    #[test]
    fn every_flow_counts_once_whoever_looks_and_however_often() {
        let mut grant = granted();
        grant.look(&[flow(22, 5, 3, [10, 20]), flow(22, 5, 4, [1_000, 0])], &[]);
        let first =
            Carried { flows: 1, packets_up: 10, bytes_up: 1_000, packets_down: 20, bytes_down: 2_000 };
        assert_eq!(grant.carried(), first);
        grant.look(&[flow(22, 5, 3, [11, 20])], &[flow(22, 5, 3, [11, 20]), flow(22, 9, 3, [1, 0])]);
        assert_eq!((grant.carried().flows, grant.carried().packets_up), (2, 12));
        // As the next agent reads it.
        let mut grant: Granted = serde_json::from_slice(&serde_json::to_vec(&grant).unwrap()).unwrap();
        grant.look(&[flow(22, 5, 3, [15, 20])], &[]);
        assert_eq!(grant.carried().packets_up, 16);
        // Its place is taken; the port is used again.
        grant.look(&[], &[]);
        grant.look(&[flow(22, 99, 3, [1, 1])], &[]);
        assert_eq!((grant.carried().flows, grant.carried().packets_up), (3, 17));
        grant.closed = true;
        grant.look(&[flow(22, 100, 3, [1, 1])], &[]);
        assert_eq!(grant.carried().flows, 3, "its number may be another rule's");
    }

    #[test]
    fn last_words_count_once_whether_the_table_still_has_them_or_not() {
        let mut grant = granted();
        grant.look(&[flow(22, 5, 3, [10, 20]), flow(23, 5, 3, [1, 1])], &[]);
        grant.hear(&[flow(22, 5, 3, [12, 20]), flow(24, 6, 3, [100, 0]), flow(25, 6, 4, [1_000, 0])]);
        assert_eq!((grant.carried().flows, grant.carried().packets_up), (3, 113));
        grant.hear(&[flow(22, 5, 3, [11, 20])]);
        assert_eq!(grant.carried().packets_up, 113, "older words say less");
        // One of them is still to be read in the table, the other's place is taken.
        grant.look(&[flow(22, 5, 3, [12, 20]), flow(23, 5, 3, [2, 1])], &[]);
        assert_eq!((grant.carried().flows, grant.carried().packets_up), (3, 114));
        grant.look(&[], &[]);
        assert_eq!((grant.carried().flows, grant.carried().packets_up), (3, 114));
        grant.closed = true;
        grant.hear(&[flow(26, 7, 3, [1, 0])]);
        assert_eq!(grant.carried().flows, 3);
    }

    #[test]
    fn the_list_comes_back_and_a_damaged_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.grants().unwrap(), Grants::new());
        let list = Grants::from([(Name::new("visit-1").unwrap(), granted())]);
        store.keep_grants(&list).unwrap();
        assert_eq!(store.grants().unwrap(), list);
        let path = folder.path().join(FILE);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(format!("{:#}", store.grants().unwrap_err()).contains("damaged"));
    }
}
