//! In-file tests: what an operator expects, against what the engine says.

use std::borrow::Cow;
use std::sync::Arc;

use bulkhead_common::verdict::{DropReason, Verdict};

use super::assumed::completed;
use super::standin;
use super::{Answer, Bench, End, Question};
use crate::policy::agent::AgentConfig;
use crate::policy::compile::{Compiled, Ids, RuleName, compile_at};
use crate::policy::diagnostic::Diagnostics;
use crate::policy::model::{Device, Policy, PolicyRules, Test, TestDevice, TestRemote};
use crate::policy::name::Name;
use crate::policy::ports::Port;
use crate::policy::timeline::Timeline;
use crate::tables::Host;

/// Runs the tests of every policy; an error for each one that fails.
///
/// Interfaces that do not exist on this host yet are made up for the tests' sake, so that a tunnel
/// that is down does not refuse a policy. What is known of devices beside their documents does not count: a test says
/// itself what it assumes.
pub fn run_tests(policy: &Policy, agent: &AgentConfig, host: &Host, compiled: &Compiled) -> Diagnostics {
    let mut failed = Diagnostics::default();
    if policy.policies().values().all(|rules| rules.tests.is_empty()) {
        return failed;
    }
    let complete = completed(host, agent);
    let bare = without_grants(policy.unobserved());
    let compiled = match (&bare, &complete == host && !bare.is_timed()) {
        (Cow::Borrowed(_), true) => Cow::Borrowed(compiled),
        (Cow::Borrowed(_) | Cow::Owned(_), _) => {
            match compile_at(&bare, agent, &complete, &mut Ids::default(), &moments(&bare)) {
                Ok(compiled) => Cow::Owned(compiled),
                Err(problems) => return problems,
            }
        }
    };
    let mut bench = Bench::new(&bare, agent, &complete, &compiled);
    for rules in bare.policies().values() {
        for test in &rules.tests {
            bench.set_moment(test.when);
            Trial { policy: &bare, rules, test, compiled: &compiled }.run(&bench, &mut failed);
        }
    }
    failed.finish()
}

/// Tests say what policy says: a visit must not fail one, and none may hold because of a visit.
fn without_grants(policy: Cow<'_, Policy>) -> Cow<'_, Policy> {
    if policy.grants().is_empty() {
        return policy;
    }
    let mut policy = policy.into_owned();
    policy.close_grants(|_| true);
    Cow::Owned(policy)
}

/// The moments that tests are about.
fn moments(policy: &Policy) -> Timeline {
    let tests = policy.policies().values().flat_map(|rules| &rules.tests);
    Timeline::Moments(tests.filter_map(|test| test.when).collect())
}

struct Trial<'a> {
    policy: &'a Policy,
    rules: &'a PolicyRules,
    test: &'a Test,
    compiled: &'a Compiled,
}

impl Trial<'_> {
    fn run(&self, bench: &Bench<'_>, failed: &mut Diagnostics) {
        let asked = match &self.test.device {
            TestDevice::Named(name) if self.test.given.is_empty() => {
                let answer = bench.ask(&self.question(&name.value));
                answer.map(|answer| self.compare(&answer, failed))
            }
            TestDevice::Named(name) => {
                let mut policy = self.others();
                let tested = self.policy.devices.get(&name.value);
                policy.devices.extend(tested.map(|device| (name.value.clone(), Arc::clone(device))));
                self.ask_apart(bench, &name.value, policy, failed)
            }
            TestDevice::Like(like) => {
                let mut policy = self.others();
                let made = standin::made(self.policy, (bench.agent, bench.host), (self.test, like), &policy);
                made.and_then(|device| {
                    let name = device.name.clone();
                    policy.devices.insert(name.clone(), Arc::new(device));
                    self.ask_apart(bench, &name, policy, failed)
                })
            }
        };
        if let Err(why) = asked {
            failed.error(&self.test.at, "this test cannot be judged", why);
        }
    }

    /// Asks the engine about a device that is made up, or of which something else is known: beside it there are only
    /// those that the packet is about, because they are compiled anew for this test alone.
    fn ask_apart(
        &self,
        bench: &Bench<'_>,
        tested: &Name,
        mut policy: Policy,
        failed: &mut Diagnostics,
    ) -> Result<(), String> {
        policy.observe([(tested.clone(), self.test.given.clone())].into());
        let moment = Timeline::Moments(self.test.when.into_iter().collect());
        let compiled = compile_at(&policy, bench.agent, bench.host, &mut Ids::default(), &moment)
            .map_err(|problems| problems.render(false))?;
        let mut alone = Bench::new(&policy, bench.agent, bench.host, &compiled);
        alone.set_moment(self.test.when);
        let answer = alone.ask(&self.question(tested))?;
        Trial { policy: &policy, compiled: &compiled, ..*self }.compare(&answer, failed);
        Ok(())
    }

    /// The policy with no other devices than those that the far end is, or may be.
    fn others(&self) -> Policy {
        let kept: Vec<&Name> = match &self.test.remote {
            TestRemote::Device(name) => vec![&name.value],
            TestRemote::Address(address) => {
                let devices = self.policy.devices().values();
                devices.filter(|device| device.holds(address.value)).map(|device| &device.name).collect()
            }
        };
        self.policy.of_devices(&kept)
    }

    fn question(&self, device: &Name) -> Question {
        let device = match &self.test.local {
            Some(local) => End::At(device.clone(), local.value),
            None => End::Device(device.clone()),
        };
        let remote = match &self.test.remote {
            TestRemote::Address(address) => End::Address(address.value),
            TestRemote::Device(name) => End::Device(name.value.clone()),
        };
        let (from, to) = match self.test.inbound {
            true => (remote, device),
            false => (device, remote),
        };
        Question { from, to, port: self.test.port }
    }

    fn compare(&self, answer: &Answer, failed: &mut Diagnostics) {
        if self.test.when.is_none() && answer.verdict == Verdict::Drop(DropReason::ConditionTime) {
            let help = "say when: at: \"2026-12-01T10:00:00+01:00\"";
            return failed.error(&self.test.at, "what this test expects depends on the time", help);
        }
        let rule = answer.rule().and_then(|rule| self.compiled.catalogue.rules.get(&rule));
        let as_expected = answer.allows() == self.test.allow
            && self.wanted().is_none_or(|wanted| rule.is_some_and(|rule| rule.to_string() == wanted));
        if !as_expected {
            let problem = format!("expected {}, got {}", self.expectation(), outcome(answer, rule));
            let mut advice = self.advice(answer, rule);
            if self.test.allow && self.is_visited() {
                advice.push_str("; grants do not count: a test says what policy opens to whoever comes");
            }
            failed.error(&self.test.at, problem, advice);
        }
    }

    /// The rule that must decide, as `policy/rule`.
    fn wanted(&self) -> Option<String> {
        let rule = &self.test.rule.as_ref()?.value;
        Some(match rule.contains('/') {
            true => rule.clone(),
            false => format!("{}/{rule}", self.rules.name),
        })
    }

    /// True if a grant of the policy lets somebody in to the device that is called.
    fn is_visited(&self) -> bool {
        let TestDevice::Named(name) = &self.test.device else { return false };
        self.test.inbound && self.policy.grants().values().any(|grant| grant.device.value == name.value)
    }

    /// Whose `never` refuses it, if one does.
    fn forbids(&self, answer: &Answer) -> Option<String> {
        if answer.verdict != Verdict::Drop(DropReason::Never) {
            return None;
        }
        let identity = &answer.case.identity;
        let ends = [identity.device.device, identity.peer.device];
        let ends = ends.map(|id| self.compiled.catalogue.devices.get(&id));
        ends.into_iter().flatten().find_map(|name| self.never_of(self.policy.devices.get(name)?))
    }

    /// The `never` list about a device that names the test's port.
    fn never_of(&self, device: &Device) -> Option<String> {
        let names = |ports: &[Port]| ports.iter().any(|port| port.covers(&self.test.port));
        let segment = device.segment.as_ref().and_then(|name| self.policy.segments.get(name));
        let network = self.policy.networks.get(&device.network.value);
        let segment = segment.filter(|segment| names(&segment.never));
        let network = network.filter(|network| names(&network.never));
        let (what, name, at) = match (segment, network) {
            (Some(segment), _) => ("segment", &segment.name, &segment.at),
            (None, Some(network)) => ("network", &network.name, &network.at),
            (None, None) => return None,
        };
        Some(format!("`never` of {what} {name} at {at} forbids {} to {}", self.test.port, device.name))
    }

    fn expectation(&self) -> String {
        match (self.test.allow, self.wanted()) {
            (true, Some(rule)) => format!("allow by {rule}"),
            (true, None) => "allow".to_owned(),
            (false, _) => "deny".to_owned(),
        }
    }

    fn advice(&self, answer: &Answer, rule: Option<&RuleName>) -> String {
        if let Some(rule) = rule {
            return format!("{rule} is written at {}", rule.at);
        }
        if let Some(forbids) = self.forbids(answer) {
            return forbids;
        }
        let place = format!("policy {}, {}", self.rules.name, self.rules.at);
        match answer.nearest() {
            Some(near) if near.is_closed() => {
                format!("{}/{} at {} is closed: {}", near.policy, near.rule, near.at, near.against())
            }
            Some(near) if near.address && near.port => {
                format!(
                    "{}/{} at {} names it, and something stronger refuses it",
                    near.policy, near.rule, near.at
                )
            }
            Some(near) => {
                let misses = if near.address { "port" } else { "address" };
                format!("nearest {}/{} ({misses} no), {}", near.policy, near.rule, near.at)
            }
            None if matches!(self.test.remote, TestRemote::Device(_)) => {
                "no policy is about these two; to allow: write one with `between` that names both".to_owned()
            }
            None if answer.considered.is_empty() => {
                "no policy has a rule about this device that points this way".to_owned()
            }
            None => format!("no rule comes near; to allow: add one to {place}"),
        }
    }
}

fn outcome(answer: &Answer, rule: Option<&RuleName>) -> String {
    match (answer.allows(), rule) {
        (true, Some(rule)) => format!("ALLOW by {rule}"),
        (true, None) => format!("ALLOW as {}", answer.verdict.as_str()),
        (false, _) => format!("DENY {}", answer.verdict.as_str()),
    }
}
