//! What is said around the moment in which a window opens or closes.

use std::collections::BTreeSet;

use super::{Place, SLEPT, Said, Traffic, Words};
use crate::frame::{ACK, Frame, SYN};
use crate::generate::World;

const SECOND: u64 = 1_000_000_000;
/// How far ahead a moment may lie that frames wait for.
const AHEAD: u64 = 7_200 * SECOND;
/// Nobody waits later than that: a stream of frames must not last for days.
const LATEST: u64 = 12 * 3_600 * SECOND;

/// Moments by the monotonic clock, and who is to be answered in one of them.
#[derive(Debug, Default)]
pub(super) struct Edges {
    moments: BTreeSet<u64>,
    answer: Option<(u64, Said)>,
}

impl Edges {
    pub(super) fn of(world: &World) -> Self {
        let windows = world.compiled.tables.profiles.values().flat_map(|rules| &rules.windows);
        let moments = windows.flat_map(|window| [window.open, window.close, window.until]);
        let moments = moments.filter(|moment| *moment < u64::MAX).map(|moment| moment.saturating_sub(SLEPT));
        Self { moments: moments.collect(), answer: None }
    }
}

impl Traffic {
    /// The next words of a conversation that lasts over the next edge: they are said a second before, and answered
    /// in that moment.
    pub(super) fn over_edge(&mut self) -> Option<(Place, Frame)> {
        if let Some((moment, said)) = self.edges.answer.take() {
            self.now = moment.max(self.now);
            return Some(self.answered(said));
        }
        if self.now > LATEST || self.welcome.is_empty() || !self.random.chance(3) {
            return None;
        }
        let near = self.now + SECOND..self.now + AHEAD;
        let moment = *self.edges.moments.range(near).next()?;
        self.now = moment - SECOND;
        let said = self.random.pick(&self.welcome).clone();
        self.edges.answer = Some((moment, said.clone()));
        Some(self.speak(said))
    }

    fn answered(&mut self, mut said: Said) -> (Place, Frame) {
        self.answer(&mut said);
        if let Words::Tcp(source, destination, _) = said.words {
            said.words = Words::Tcp(source, destination, SYN | ACK);
        }
        self.speak(said)
    }
}
