//! One packet's way: stage after stage, each of which ends it or hands it on.
//!
//! A stage reads what the earlier ones left in the [`Case`] and leaves what it found there. On the
//! host the stages are plain calls. In the kernel each is a global subprogram, which the verifier
//! checks once by itself, so that the paths of one stage do not multiply with those of the next.

use crate::case::Case;
use crate::decide::{self, Flows as _, Tables};
use crate::express::{self, Vouched};
use crate::fragment::{self, Fragments};
use crate::frame::Frame;
use crate::icmp_error::{self, ErrorBudgets};
use crate::identify::{identify, locate};
use crate::parse::{self, Kind};
use crate::tunnel::{self, Tunnels};
use crate::verdict::{DropReason, Pass, Verdict};
use crate::witness;

/// What a stage answers: go on, pass, or drop.
pub type Step = Result<Option<Pass>, DropReason>;

/// All that is known beside the frame: policy, flows and tunnels.
pub trait State: Tables + Vouched + Tunnels + Fragments + ErrorBudgets {}

impl<T: Tables + Vouched + Tunnels + Fragments + ErrorBudgets> State for T {}

/// A frame, the tables it is judged by, and how the stages are called.
pub trait Engine {
    /// Bytes of the frame.
    type Frame: Frame + ?Sized;
    /// Policy and flows.
    type Tables: State;

    /// The frame.
    fn frame(&self) -> &Self::Frame;
    /// The tables.
    fn tables(&self) -> &Self::Tables;

    /// As [`arrive`].
    #[inline(always)]
    fn arrive(&self, case: &mut Case) -> Step {
        arrive(self.frame(), case)
    }
    /// As [`parse::network`].
    #[inline(always)]
    fn parse_network(&self, case: &mut Case) -> Step {
        parse::network(self.frame(), case).map(|()| None)
    }
    /// As [`locate`].
    #[inline(always)]
    fn locate(&self, case: &mut Case) -> Step {
        locate(self.tables(), case).map(|()| None)
    }
    /// As [`tunnel::enter`].
    #[inline(always)]
    fn enter_tunnel(&self, case: &mut Case) -> Step {
        tunnel::enter(self.frame(), self.tables(), case)
    }
    /// As [`witness::look`].
    #[inline(always)]
    fn witness(&self, case: &mut Case) -> Step {
        witness::look(self.tables(), case).map(Some)
    }
    /// As [`identify`].
    #[inline(always)]
    fn identify(&self, case: &mut Case) -> Step {
        identify(self.tables(), case)
    }
    /// As [`icmp_error::read`].
    #[inline(always)]
    fn read_error(&self, case: &mut Case) -> Step {
        icmp_error::read(self.frame(), case).map(|()| None)
    }
    /// As [`icmp_error::meet`].
    #[inline(always)]
    fn meet_receiver(&self, case: &mut Case) -> Step {
        icmp_error::meet(self.tables(), case).map(|()| None)
    }
    /// As [`icmp_error::judge`].
    #[inline(always)]
    fn judge_error(&self, case: &mut Case) -> Step {
        icmp_error::judge(self.tables(), case).map(Some)
    }
    /// As [`fragment::gather`].
    #[inline(always)]
    fn gather(&self, case: &mut Case) -> Step {
        fragment::gather(self.tables(), case).map(|()| None)
    }
    /// As [`fragment::remember`].
    #[inline(always)]
    fn remember(&self, case: &mut Case) -> Step {
        fragment::remember(self.tables(), case);
        Ok(None)
    }
    /// As [`decide::hold`].
    #[inline(always)]
    fn hold(&self, case: &mut Case) -> Step {
        decide::hold(self.tables(), case)
    }
    /// As [`express::vouch`].
    #[inline(always)]
    fn vouch(&self, case: &mut Case) -> Step {
        express::vouch(self.tables(), case);
        Ok(None)
    }
    /// As [`decide::open`].
    #[inline(always)]
    fn open(&self, case: &mut Case) -> Step {
        decide::open(self.tables(), case).map(Some)
    }
    /// As [`decide::follow`].
    #[inline(always)]
    fn follow(&self, case: &mut Case) -> Step {
        decide::follow(self.tables(), case);
        Ok(None)
    }
}

/// Judges a frame; the evidence is left in `case`.
#[inline(always)]
pub fn run<E: Engine>(engine: &E, case: &mut Case) -> Verdict {
    let step = frame_steps(engine, case);
    let step = leniently(engine, case, step);
    verdict(case, step)
}

/// Judges a packet that was never a frame, for `explain` and in-file tests.
pub fn run_parsed<E: Engine>(engine: &E, case: &mut Case) -> Verdict {
    let step = packet_steps(engine, case);
    verdict(case, step)
}

/// Reads a frame's own headers.
#[inline(always)]
pub fn arrive<F: Frame + ?Sized>(frame: &F, case: &mut Case) -> Step {
    parse::link(frame, case)?;
    if parse::is_ip(&case.packet) {
        parse::network(frame, case)?;
    }
    Ok(None)
}

#[inline(always)]
fn frame_steps<E: Engine>(engine: &E, case: &mut Case) -> Step {
    engine.arrive(case)?;
    engine.locate(case)?;
    if case.place.is_witness() {
        return engine.witness(case);
    }
    if case.arrival.from_host && case.place.passes_host() {
        return Ok(Some(Pass::Host));
    }
    if case.place.ends_tunnels()
        && let Some(pass) = engine.enter_tunnel(case)?
    {
        return Ok(Some(pass));
    }
    if case.packet.teid != 0 {
        engine.parse_network(case)?;
        engine.locate(case)?;
    }
    device_steps(engine, case)
}

/// A witness drops nothing, not even what it does not understand.
#[inline(always)]
fn leniently<E: Engine>(engine: &E, case: &mut Case, step: Step) -> Step {
    let Err(reason) = step else { return step };
    // A frame that could not be parsed has not been located.
    if case.place.subinterface.roles == 0 {
        engine.locate(case).map_err(|_| reason)?;
    }
    if case.place.is_witness() { Ok(Some(Pass::Witness)) } else { Err(reason) }
}

/// The rest of the way, for a packet whose place is known.
#[inline(always)]
fn device_steps<E: Engine>(engine: &E, case: &mut Case) -> Step {
    if let Some(pass) = engine.identify(case)? {
        return Ok(Some(pass));
    }
    if matches!(case.packet.kind, Kind::IcmpError) {
        engine.read_error(case)?;
        engine.meet_receiver(case)?;
        return engine.judge_error(case);
    }
    if !case.packet.piece.is_fragment() {
        return flow_steps(engine, case);
    }
    engine.gather(case)?;
    let pass = flow_steps(engine, case)?;
    if !case.packet.piece.is_later() {
        engine.remember(case)?;
    }
    Ok(pass)
}

#[inline(always)]
fn flow_steps<E: Engine>(engine: &E, case: &mut Case) -> Step {
    let Some(pass) = engine.hold(case)? else { return open(engine, case) };
    // A candidate decides on no flow, so it has nothing to vouch for.
    if express::may_vouch(case) && !engine.tables().rehearses() {
        engine.vouch(case)?;
    }
    Ok(Some(pass))
}

#[inline(always)]
fn open<E: Engine>(engine: &E, case: &mut Case) -> Step {
    let opened = engine.open(case);
    if opened.is_err() && engine.tables().rehearses() {
        engine.follow(case)?;
    }
    opened
}

#[inline(always)]
fn packet_steps<E: Engine>(engine: &E, case: &mut Case) -> Step {
    engine.locate(case)?;
    if case.place.is_witness() {
        return engine.witness(case);
    }
    device_steps(engine, case)
}

/// A packet that no stage has ended is one that nobody decided on.
#[inline(always)]
fn verdict(case: &Case, step: Step) -> Verdict {
    match step {
        Ok(Some(pass)) => match DropReason::from_number(case.would as u8) {
            Some(reason) => Verdict::Observe(reason),
            None => Verdict::Pass(pass),
        },
        Ok(None) => Verdict::Drop(DropReason::InternalTable),
        Err(reason) => Verdict::Drop(reason),
    }
}

/// [`Verdict::code`] has no such number: the stage says neither pass nor drop.
const GO_ON: u32 = 0x400;

/// A step as one number, for a subprogram to return.
#[inline(always)]
pub const fn step_to_number(step: Step) -> u32 {
    match step {
        Ok(None) => GO_ON,
        Ok(Some(pass)) => Verdict::Pass(pass).code() as u32,
        Err(reason) => Verdict::Drop(reason).code() as u32,
    }
}

/// The step that a subprogram returned; a number that means nothing is a drop.
#[inline(always)]
pub const fn step_from_number(number: u32) -> Step {
    if number == GO_ON {
        return Ok(None);
    }
    match Verdict::from_code(number as u16) {
        Some(Verdict::Pass(pass)) => Ok(Some(pass)),
        Some(Verdict::Drop(reason)) => Err(reason),
        // Stages say neither; what they let through they have noted in the case.
        Some(Verdict::Observe(_)) | None => Err(DropReason::InternalTable),
    }
}

/// The stages as plain calls.
#[derive(Debug)]
pub struct Plain<'a, F: ?Sized, T> {
    frame: &'a F,
    tables: &'a T,
}

impl<'a, F: Frame + ?Sized, T: State> Plain<'a, F, T> {
    /// Judges this frame by these tables.
    pub const fn new(frame: &'a F, tables: &'a T) -> Self {
        Self { frame, tables }
    }
}

impl<F: Frame + ?Sized, T: State> Engine for Plain<'_, F, T> {
    type Frame = F;
    type Tables = T;

    fn frame(&self) -> &F {
        self.frame
    }

    fn tables(&self) -> &T {
        self.tables
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_survive_the_way_through_a_number() {
        assert_eq!(step_from_number(step_to_number(Ok(None))), Ok(None));
        for pass in Pass::ALL {
            assert_eq!(step_from_number(step_to_number(Ok(Some(*pass)))), Ok(Some(*pass)));
        }
        for reason in DropReason::ALL {
            assert_eq!(step_from_number(step_to_number(Err(*reason))), Err(*reason));
        }
        assert_eq!(step_from_number(0x1ff), Err(DropReason::InternalTable));
    }
}
