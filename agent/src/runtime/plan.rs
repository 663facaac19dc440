//! What a change would take away, told before it is made; beyond the guard it has to be accepted by name.
//!
//! An id is accepted for what it was told for: the same revision in force, the same new content, the
//! same devices, and no more flows than told, give or take those that came in the meantime.

use bulkhead_common::abi::Flow;

use super::apply::{Proposal, Refused};
use super::engine::Engine;
use super::few::Prepared;
use super::session;
use crate::api::types::{Cause, Plan, Refusal, Terms};
use crate::datapath::Datapath;
use crate::impact::{Connection, Impact, Route, routes_in, routes_in_v6};
use crate::policy::Percent;
use crate::sink::grouped;
use crate::state::digest_of;

/// Plans that are remembered; whoever reads one for longer than that reads another.
const REMEMBERED: usize = 32;
/// Digits of an id.
const DIGITS: usize = 6;
/// Routes of this thread's network namespace.
const ROUTES: &str = "/proc/thread-self/net/route";
const ROUTES_V6: &str = "/proc/thread-self/net/ipv6_route";

/// A plan that somebody was told.
#[derive(Clone, Debug)]
pub(super) struct Issued {
    plan: Plan,
    /// The revision that it changes.
    from: u64,
    /// Digest of what it would bring.
    content: String,
}

impl Engine {
    /// What a change would do to what is live; every plan that is told can be accepted.
    pub(super) fn plan(&mut self, after: &Prepared, proposal: &Proposal, terms: &Terms) -> Option<Plan> {
        let (live, boot) = (self.live(), Datapath::boot_ns());
        let is = &after.in_force;
        let impact = match (&self.in_force, &after.touched) {
            (Some(was), Some(touched)) => {
                let [was, is] = [&**was, is].map(|in_force| (&in_force.policy, &in_force.compiled));
                Impact::of_few(was, is, touched, &live, boot)
            }
            (Some(was), None) => Impact::of(&was.compiled, &is.compiled, &live, boot),
            (None, _) => Impact::default(),
        };
        let mut plan = self.measured(&impact);
        plan.beyond = self.beyond(&impact);
        plan.beyond.extend(locked_out(after, proposal, terms));
        let content = proposal.merged.objects.digest();
        plan.id = id(self.number(), &content, &plan);
        self.plans.push_back(Issued { plan: plan.clone(), from: self.number(), content });
        while self.plans.len() > REMEMBERED {
            self.plans.pop_front();
        }
        Some(plan)
    }

    /// Flows that live now.
    fn live(&self) -> Vec<Flow> {
        let Some(kernel) = &self.kernel else { return Vec::new() };
        let now = Datapath::now_ns();
        let mut flows = kernel.datapath().flows();
        flows.retain(|flow| flow.deadline > now);
        flows
    }

    fn measured(&self, impact: &Impact) -> Plan {
        let (packets_per_second, measured_seconds) =
            self.activity.per_second(Datapath::now_ns(), &impact.flows.cut);
        let names = |names: &[crate::policy::Name]| names.iter().map(ToString::to_string).collect();
        Plan {
            id: String::new(),
            flows: impact.flows.live,
            flows_cut: impact.flows.cut.len() as u64,
            flows_unknown: impact.flows.unknown,
            examples: impact.flows.examples.clone(),
            devices: impact.devices.total,
            ruleless: names(&impact.devices.ruleless),
            removed: names(&impact.devices.removed),
            enforced: impact.devices.enforced,
            observed: impact.devices.observed,
            refused_per_second: self.rates.refused(),
            packets_per_second,
            measured_seconds,
            beyond: Vec::new(),
        }
    }

    /// What exceeds the guard, a sentence each.
    fn beyond(&self, impact: &Impact) -> Vec<String> {
        let guard = self.agent.guard;
        let (devices, flows) = (&impact.devices, &impact.flows);
        let (ruleless, removed) = (devices.ruleless.len() as u64, devices.removed.len() as u64);
        let cut = exceeding(guard.flows, flows.cut.len() as u64, flows.live);
        let lost = exceeding(guard.devices, devices.affected(), devices.total);
        let of = |total| format!("{} devices", grouped(total));
        let losing = |share| match (ruleless, removed) {
            (_, 0) => {
                format!("would leave {} of {} without any rule {share}", grouped(ruleless), of(devices.total))
            }
            (0, _) => format!("would remove {} of {} {share}", grouped(removed), of(devices.total)),
            (_, _) => format!(
                "would leave {} of {} without any rule and remove {} {share}",
                grouped(ruleless),
                of(devices.total),
                grouped(removed)
            ),
        };
        let cutting = |share| {
            let (cut, live) = (grouped(flows.cut.len() as u64), grouped(flows.live));
            format!("would cut {cut} of {live} live flows {share}")
        };
        cut.map(cutting).into_iter().chain(lost.map(losing)).collect()
    }

    /// Refuses what is beyond the guard and was not accepted as it is.
    pub(super) fn hold_against_guard(
        &self,
        plan: Option<Plan>,
        proposal: &Proposal,
        terms: &Terms,
    ) -> Result<(), Refused> {
        let Some(plan) = plan.filter(|_| !self.is_way_back(proposal)) else { return Ok(()) };
        let why = match &terms.accept {
            None if plan.beyond.is_empty() => return Ok(()),
            None => "it takes more away than the guard allows unasked".to_owned(),
            Some(id) => match self.mismatch(id, &plan, &proposal.merged.objects.digest()) {
                None => return Ok(()),
                Some(why) => format!("plan {id} {why}"),
            },
        };
        let error = format!("{why}; {}", self.stays());
        Err(Refused::Terms(Refusal { error, plan: Some(Box::new(plan)), ..Refusal::default() }))
    }

    /// The way back from what nobody confirmed must not be in the way itself.
    fn is_way_back(&self, proposal: &Proposal) -> bool {
        let waits_for = self.accepted.as_ref().and_then(|state| state.confirm.as_ref()).map(|c| c.back_to);
        match proposal.cause {
            Cause::Apply => false,
            Cause::Rollback(to) => waits_for == Some(to),
            Cause::Unconfirmed(_) => true,
        }
    }

    /// Why an accepted plan does not hold for what is about to happen.
    fn mismatch(&self, id: &str, now: &Plan, content: &str) -> Option<String> {
        let Some(told) = self.plans.iter().rev().find(|issued| issued.plan.id == *id) else {
            return Some("is not known, or was told too long ago".to_owned());
        };
        let Plan { flows_cut, ruleless, removed, beyond, .. } = &told.plan;
        if told.from != self.number() {
            return Some(format!("was about a change of r{}", told.from));
        }
        if told.content != content || (ruleless, removed) != (&now.ruleless, &now.removed) {
            return Some("was about another change".to_owned());
        }
        if now.flows_cut > flows_cut + flows_cut / 10 {
            return Some(format!(
                "was about {} flows, and it is {} now",
                grouped(*flows_cut),
                grouped(now.flows_cut)
            ));
        }
        // One sentence more is one that nobody has read.
        (now.beyond.len() > beyond.len()).then(|| "did not say all of it".to_owned())
    }
}

/// `(8.0% > 5%)` if the share is exceeded.
fn exceeding(allowed: Percent, part: u64, whole: u64) -> Option<String> {
    let share = part as f64 * 100.0 / whole.max(1) as f64;
    allowed.is_exceeded(part, whole).then(|| format!("({share:.1}% > {allowed})"))
}

fn id(from: u64, content: &str, plan: &Plan) -> String {
    let numbers = [from, plan.flows, plan.flows_cut, plan.flows_unknown, plan.devices, plan.observed];
    let numbers = numbers.map(|n| n.to_string());
    let lists = [&plan.ruleless, &plan.removed, &plan.beyond].map(|list| list.join("\n"));
    let parts = numbers.iter().chain(&lists).map(String::as_str);
    let digest = digest_of(parts.chain([content]));
    format!("p-{}", &digest[..DIGITS])
}

/// Says so if the change would cut the connection that it is made from.
fn locked_out(after: &Prepared, proposal: &Proposal, terms: &Terms) -> Option<String> {
    let told = terms.connection.as_deref().and_then(Connection::parse);
    let connection = told.or_else(|| {
        let of_peer = || session::ssh_connection(proposal.author.pid.cast_unsigned());
        (proposal.author.pid > 0).then(of_peer).flatten().as_deref().and_then(Connection::parse)
    })?;
    let tables = after.tables_for([connection.client.0, connection.server.0]);
    connection.dropped(&tables, &after.in_force.host, &routes())
}

fn routes() -> Vec<Route> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let (v4, v6) = (read(ROUTES), read(ROUTES_V6));
    routes_in(&v4).into_iter().chain(routes_in_v6(&v6)).collect()
}
