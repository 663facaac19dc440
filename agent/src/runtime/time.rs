//! The engine and the clock: what is in force follows the wall clock, and what it has shown is kept.

use std::time::Duration;

use super::clock::{Doubt, Keeper, Reading};
use super::engine::Engine;
use super::in_force::Facts;
use crate::api::types::ClockStatus;
use crate::datapath::Datapath;
use crate::policy::Timeline;
use crate::state::Store;

/// Reads what the clock has shown, and looks at it.
pub(super) fn keeper(store: &Store, trusting: bool) -> Keeper {
    let kept = store.clock().unwrap_or_else(|error| {
        tracing::error!("which time was the highest is lost, and what had closed may open again: {error:#}");
        None
    });
    let mut keeper = Keeper::new(trusting, kept);
    keeper.look(&Reading::now());
    keeper
}

impl Engine {
    /// Looks at the clock and at the host, and brings what is in force into line with both.
    pub fn look_at_clock(&mut self) {
        let changed = self.keeper.look(&Reading::now());
        if changed && self.is_timed() {
            match self.keeper.timeline() {
                Timeline::Known(_) => tracing::info!("windows of time are worked out anew"),
                Timeline::Unknown | Timeline::Moments(_) => tracing::warn!("the clock is not believed"),
            }
        }
        if self.is_timed() && (changed || self.is_minute() || self.edge_passed()) {
            self.keep_clock();
        }
        self.look_at_host();
    }

    /// What a policy is compiled by, beside documents and host.
    pub(super) fn facts(&self) -> Facts {
        Facts { devices: self.known(), timeline: self.keeper.timeline(), grants: self.grants.clone() }
    }

    fn is_timed(&self) -> bool {
        self.in_force.as_ref().is_some_and(|in_force| in_force.timed)
    }

    /// What has closed stays closed after a reboot, too.
    fn keep_clock(&mut self) {
        self.edges_kept = Datapath::boot_ns();
        let Some(kept) = self.keeper.kept() else { return };
        if let Err(error) = self.store.keep_clock(kept) {
            tracing::warn!(
                "the highest time seen could not be kept: {error:#}; what closes is closed all the same"
            );
        }
    }

    /// True if a window has closed since the clock was kept.
    fn edge_passed(&self) -> bool {
        let now = Datapath::boot_ns();
        self.next_edge().is_some_and(|edge| edge <= now)
    }

    /// How long until the next window closes.
    pub(super) fn edge_in(&self) -> Option<Duration> {
        let now = Datapath::boot_ns();
        self.next_edge().map(|edge| Duration::from_nanos(edge.saturating_sub(now).max(1)))
    }

    fn next_edge(&self) -> Option<u64> {
        let edges = &self.in_force.as_ref()?.edges;
        edges.get(edges.partition_point(|edge| *edge <= self.edges_kept)).copied()
    }

    /// What a status tells of the clock; nothing if no rule asks it.
    pub(super) fn clock_status(&self) -> Option<ClockStatus> {
        if !self.is_timed() {
            return None;
        }
        let horizon = match self.keeper.timeline() {
            Timeline::Known(anchor) => Some(anchor.horizon),
            Timeline::Unknown | Timeline::Moments(_) => None,
        };
        Some(ClockStatus {
            horizon,
            windows: self.in_force.as_ref().map_or(0, |in_force| in_force.edges.len()),
        })
    }

    /// What is wrong with the clock, where rules ask it.
    pub(super) fn clock_problem(&self) -> Option<String> {
        if !self.is_timed() {
            return None;
        }
        let remedy = "until then whatever depends on time is closed";
        match self.keeper.doubt() {
            Some(Doubt::Unsynchronised) => Some(format!(
                "the clock is not synchronised: {remedy}; start an NTP client, or write `clock: trusted` in agent.yaml"
            )),
            Some(Doubt::Behind(mark)) => Some(format!("the clock is behind {mark}, which it showed before: {remedy}")),
            None => self.keeper.behind(&Reading::now()).map(|mark| {
                format!(
                    "the clock was set back: what had closed by {mark} stays closed until then; if that time was \
                     wrong, stop the agent and remove `clock` from its state directory"
                )
            }),
        }
    }
}
