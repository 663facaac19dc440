//! What is told of grants: to whoever asks, and to the record.

use anyhow::anyhow;
use jiff::Timestamp;
use serde::Serialize;

use crate::api::types::{GrantReport, GrantState};
use crate::policy::{Name, Timeline};
use crate::runtime::apply::Refused;
use crate::runtime::engine::Engine;
use crate::state::Granted;

/// An entry of the record.
#[derive(Serialize)]
struct Recorded<'a> {
    time: Timestamp,
    act: &'a str,
    #[serde(flatten)]
    grant: GrantReport,
}

impl Engine {
    /// Every grant that is to come or open, and those that were.
    pub fn granted(&mut self) -> Vec<GrantReport> {
        self.count_grants();
        self.grants.iter().map(|(name, granted)| self.report_grant(name, granted)).collect()
    }

    /// Grants that are to come or open.
    pub(in crate::runtime) fn live_grants(&self) -> Vec<GrantReport> {
        let live = self.grants.iter().filter(|(_, granted)| granted.ended.is_none());
        live.map(|(name, granted)| self.report_grant(name, granted)).collect()
    }

    /// Puts what was done on the record; it is done whether that succeeds or not.
    pub(super) fn tell_grant(&self, act: &str, name: &Name) {
        let Some(granted) = self.grants.get(name) else { return };
        let entry = Recorded { time: Timestamp::now(), act, grant: self.report_grant(name, granted) };
        tracing::warn!("grant {name}: {act} (to {})", granted.terms.visit.device);
        match self.store.record_grant(&entry) {
            Ok(anchor) => self.anchoring.tell(anchor),
            Err(error) => tracing::error!("that grant {name} was {act} is not on the record: {error:#}"),
        }
    }

    pub(super) fn grant_report(&self, name: &Name) -> Result<GrantReport, Refused> {
        let granted = self.grants.get(name).map(|granted| self.report_grant(name, granted));
        granted
            .ok_or_else(|| Refused::Host(anyhow!("grant {name} is not there: this is a fault of Bulkhead")))
    }

    fn report_grant(&self, name: &Name, granted: &Granted) -> GrantReport {
        let closed = granted.is_closed(&granted.terms, self.agent.grants.four_eyes);
        let state = match (&granted.ended, closed, self.keeper.timeline()) {
            (Some(_), _, _) => GrantState::Ended,
            (None, true, _) => GrantState::Waiting,
            (None, false, Timeline::Known(_)) if granted.opened.is_none() => GrantState::Planned,
            (None, false, Timeline::Known(_)) => GrantState::Open,
            (None, false, Timeline::Unknown | Timeline::Moments(_)) => GrantState::Suspended,
        };
        GrantReport {
            name: name.clone(),
            state,
            terms: granted.terms.clone(),
            asked: granted.asked.clone(),
            revision: granted.revision,
            origin: granted.origin,
            approved: granted.approved.as_ref().map(|approval| approval.act.clone()),
            extended: granted.extended.clone(),
            opened: granted.opened,
            closed: granted.ended.clone(),
            carried: granted.carried(),
        }
    }
}
