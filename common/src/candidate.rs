//! A candidate: another policy that judges every packet beside the one that is enforced, and changes nothing.
//!
//! It goes the same way through the same stages, by tables of its own. What lives is the enforced policy's: a packet of
//! a live flow is judged as that flow's first packet, in its initiator's direction, whoever would have allowed it. The
//! candidate charges nothing, opens and ends no flow, and its answer is only compared.
//!
//! What it cannot know it does not guess: what would become of packets of flows that only the candidate would have let
//! begin, and what would become of packets whose verdict follows from what was before them ([`follows_from_before`]).
//! Such packets are unknowable, and counted as that.

use crate::abi::{DeviceId, RuleId};
use crate::case::Case;
use crate::engine::{self, Engine};
use crate::verdict::{DropReason, Evidence, Pass, Verdict};

/// What was decided, and about whom: what the candidate is told of the enforced policy's verdict.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Decided {
    /// The verdict.
    pub verdict: Verdict,
    /// The device that the packet is about, or none.
    pub device: DeviceId,
    /// The deciding rule, or none.
    pub rule: RuleId,
}

impl Decided {
    /// A verdict with its evidence.
    #[inline(always)]
    pub const fn new(verdict: Verdict, evidence: &Evidence) -> Self {
        Self { verdict, device: evidence.device, rule: evidence.rule }
    }

    /// True if it was dropped for what was before it.
    #[inline(always)]
    const fn follows_from_before(&self) -> bool {
        match self.verdict {
            // A rule leaves it to a device in quarantine, so it was only too much.
            Verdict::Drop(DropReason::Quarantined) => !self.rule.is_none(),
            Verdict::Drop(reason) => follows_from_before(reason),
            Verdict::Pass(_) | Verdict::Observe(_) => false,
        }
    }
}

/// What a candidate's verdict is beside the one that is enforced.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Comparison {
    /// Both pass the packet, or both drop it.
    Same,
    /// The candidate would pass what was dropped, for this reason.
    WouldPass(DropReason),
    /// The candidate would drop, for this reason, what has passed.
    WouldDrop(DropReason),
    /// Nobody can say without the candidate having been enforced before.
    Unknowable,
}

/// A comparison, and whom it is counted for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// The comparison.
    pub comparison: Comparison,
    /// The device that the packet is about, or none.
    pub device: DeviceId,
    /// Of what would be dropped the rule that allows it today; of what would pass the candidate's.
    pub rule: RuleId,
}

/// Judges a packet that was decided on; the candidate's evidence is left in `case`.
#[inline(always)]
pub fn judge<E: Engine>(engine: &E, case: &mut Case, decided: &Decided) -> Outcome {
    // The candidate would learn from a stranger's packet through which tunnel the device comes.
    if matches!(decided.verdict, Verdict::Drop(DropReason::SpoofedTunnel)) {
        return Outcome { comparison: Comparison::Unknowable, device: decided.device, rule: RuleId::NONE };
    }
    let verdict = engine::run(engine, case);
    outcome(case, decided, verdict)
}

#[inline(always)]
fn outcome(case: &Case, decided: &Decided, candidate: Verdict) -> Outcome {
    let comparison = compare(decided, candidate, case.follows != 0);
    let device = if decided.device.is_none() { case.evidence.device } else { decided.device };
    let rule = match comparison {
        Comparison::WouldPass(_) => case.evidence.rule,
        Comparison::WouldDrop(_) if went_the_short_way(decided) => case.evidence.rule,
        Comparison::WouldDrop(_) => decided.rule,
        Comparison::Same | Comparison::Unknowable => RuleId::NONE,
    };
    Outcome { comparison, device, rule }
}

/// True if only its flow knows by which rule a packet passed: the short way tells of none.
#[inline(always)]
const fn went_the_short_way(decided: &Decided) -> bool {
    matches!(decided.verdict, Verdict::Pass(Pass::Established | Pass::Opened)) && decided.rule.is_none()
}

/// Compares two verdicts on one packet; `follows`: it would go on a flow that only the candidate would have let begin.
#[inline(always)]
const fn compare(enforced: &Decided, candidate: Verdict, follows: bool) -> Comparison {
    match (enforced.verdict, candidate) {
        (Verdict::Pass(_) | Verdict::Observe(_), Verdict::Pass(_) | Verdict::Observe(_)) => Comparison::Same,
        (Verdict::Drop(reason), Verdict::Pass(_) | Verdict::Observe(_)) => {
            if enforced.follows_from_before() {
                Comparison::Unknowable
            } else {
                Comparison::WouldPass(reason)
            }
        }
        // It was of a live flow, which has ended with it.
        (Verdict::Pass(Pass::Established), Verdict::Drop(_)) if follows => Comparison::Same,
        (Verdict::Drop(_), Verdict::Drop(_)) if !follows => Comparison::Same,
        (Verdict::Pass(_) | Verdict::Observe(_), Verdict::Drop(reason))
            if !follows && !follows_from_before(reason) =>
        {
            Comparison::WouldDrop(reason)
        }
        (_, Verdict::Drop(_)) => Comparison::Unknowable,
    }
}

/// True if a packet is dropped for what was before it, and not for what the policy says of it alone: what limits have
/// been charged, how full the flow table is, which pieces of a datagram have come, through which tunnel a device came
/// last. What was before would have been otherwise. So too while the candidate's tables follow those of the host.
#[inline(always)]
pub const fn follows_from_before(reason: DropReason) -> bool {
    matches!(
        reason,
        DropReason::RateLimited
            | DropReason::FlowRateLimited
            | DropReason::FlowQuota
            | DropReason::FlowTableFull
            | DropReason::FragmentEarly
            | DropReason::FragmentOverlap
            | DropReason::FragmentRepeated
            | DropReason::FragmentRewrite
            | DropReason::FragmentQuota
            | DropReason::IcmpErrorRate
            | DropReason::SpoofedTunnel
            | DropReason::InternalInterface
            | DropReason::InternalTable
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASS: Verdict = Verdict::Pass(Pass::Established);
    const OBSERVED: Verdict = Verdict::Observe(DropReason::NoRule);

    const fn dropped(reason: DropReason) -> Verdict {
        Verdict::Drop(reason)
    }

    fn compare(enforced: Verdict, candidate: Verdict, follows: bool) -> Comparison {
        super::compare(&Decided::new(enforced, &Evidence::NONE), candidate, follows)
    }

    #[test]
    fn what_goes_the_same_way_is_the_same_for_whatever_reason() {
        for (enforced, candidate) in [
            (PASS, OBSERVED),
            (OBSERVED, PASS),
            (dropped(DropReason::NoRule), dropped(DropReason::UnknownDevice)),
            (dropped(DropReason::RateLimited), dropped(DropReason::NoRule)),
        ] {
            assert_eq!(compare(enforced, candidate, false), Comparison::Same);
        }
    }

    #[test]
    fn what_goes_another_way_says_why() {
        let (no_rule, never) = (DropReason::NoRule, DropReason::Never);
        assert_eq!(compare(dropped(no_rule), PASS, false), Comparison::WouldPass(no_rule));
        assert_eq!(compare(dropped(no_rule), OBSERVED, false), Comparison::WouldPass(no_rule));
        assert_eq!(compare(PASS, dropped(never), false), Comparison::WouldDrop(never));
        assert_eq!(compare(OBSERVED, dropped(never), false), Comparison::WouldDrop(never));
    }

    #[test]
    fn what_goes_on_from_what_was_never_let_begin_is_unknowable() {
        let unsolicited = dropped(DropReason::Unsolicited);
        assert_eq!(compare(unsolicited, unsolicited, true), Comparison::Unknowable);
        assert_eq!(compare(OBSERVED, unsolicited, true), Comparison::Unknowable);
        assert_eq!(compare(PASS, unsolicited, true), Comparison::Same, "the last packet of a flow");
    }

    #[test]
    fn what_follows_from_before_is_unknowable_either_way() {
        for reason in DropReason::ALL.iter().copied().filter(|reason| follows_from_before(*reason)) {
            assert_eq!(compare(dropped(reason), PASS, false), Comparison::Unknowable, "{reason:?}");
            assert_eq!(compare(PASS, dropped(reason), false), Comparison::Unknowable, "{reason:?}");
        }
    }

    #[test]
    fn too_much_of_what_quarantine_leaves_is_unknowable_and_what_it_does_not_leave_is_policy_s() {
        let quarantined = dropped(DropReason::Quarantined);
        let left = Evidence { rule: RuleId(7), ..Evidence::NONE };
        let too_much = Decided::new(quarantined, &left);
        assert_eq!(super::compare(&too_much, PASS, false), Comparison::Unknowable);
        assert_eq!(super::compare(&too_much, quarantined, false), Comparison::Same);
        assert_eq!(compare(quarantined, PASS, false), Comparison::WouldPass(DropReason::Quarantined));
    }
}
