//! In-file tests: what an operator expects, against what the engine says.

use std::borrow::Cow;

use super::assumed::completed;
use super::{Answer, Bench, End, Question};
use crate::policy::agent::AgentConfig;
use crate::policy::compile::{Compiled, Ids, RuleName, compile};
use crate::policy::diagnostic::Diagnostics;
use crate::policy::model::{Device, Policy, PolicyRules, Test, TestDevice, TestRemote};
use crate::policy::name::Name;
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
    let bare = policy.unobserved();
    let compiled = match (&bare, &complete == host) {
        (Cow::Borrowed(_), true) => Cow::Borrowed(compiled),
        (Cow::Borrowed(_) | Cow::Owned(_), _) => {
            match compile(&bare, agent, &complete, &mut Ids::default()) {
                Ok(compiled) => Cow::Owned(compiled),
                Err(problems) => return problems,
            }
        }
    };
    let bench = Bench::new(&bare, agent, &complete, &compiled);
    for rules in bare.policies().values() {
        for test in &rules.tests {
            Trial { policy: &bare, rules, test, compiled: &compiled }.run(&bench, &mut failed);
        }
    }
    failed.finish()
}

struct Trial<'a> {
    policy: &'a Policy,
    rules: &'a PolicyRules,
    test: &'a Test,
    compiled: &'a Compiled,
}

impl Trial<'_> {
    fn run(&self, bench: &Bench<'_>, failed: &mut Diagnostics) {
        let asked = self.question().and_then(|question| match self.test.given.is_empty() {
            true => bench.ask(&question).map(|answer| self.compare(&answer, failed)),
            false => self.ask_assuming(bench, &question, failed),
        });
        if let Err(why) = asked {
            failed.error(&self.test.at, "this test cannot be judged", why);
        }
    }

    /// Asks the engine about a device of which something else is known: of all devices only those that the packet is
    /// about, because they are compiled anew for this test alone.
    fn ask_assuming(
        &self,
        bench: &Bench<'_>,
        question: &Question,
        failed: &mut Diagnostics,
    ) -> Result<(), String> {
        let tested = self.device()?;
        let mut kept = [self.holders(&question.from), self.holders(&question.to)].concat();
        kept.push(&tested);
        let mut policy = self.policy.of_devices(&kept);
        policy.observe([(tested.clone(), self.test.given.clone())].into());
        let compiled = compile(&policy, bench.agent, bench.host, &mut Ids::default())
            .map_err(|problems| problems.render(false))?;
        let answer = Bench::new(&policy, bench.agent, bench.host, &compiled).ask(question)?;
        Trial { policy: &policy, compiled: &compiled, ..*self }.compare(&answer, failed);
        Ok(())
    }

    /// The devices that an end is, or may be.
    fn holders<'q>(&'q self, end: &'q End) -> Vec<&'q Name> {
        match end {
            End::Device(name) | End::At(name, _) => vec![name],
            End::Address(address) => {
                let devices = self.policy.devices().values();
                devices.filter(|device| device.holds(*address)).map(|device| &device.name).collect()
            }
        }
    }

    fn question(&self) -> Result<Question, String> {
        let device = match (self.device()?, &self.test.local) {
            (name, Some(local)) => End::At(name, local.value),
            (name, None) => End::Device(name),
        };
        let remote = match &self.test.remote {
            TestRemote::Address(address) => End::Address(address.value),
            TestRemote::Device(name) => End::Device(name.value.clone()),
        };
        let (from, to) = match self.test.inbound {
            true => (remote, device),
            false => (device, remote),
        };
        Ok(Question { from, to, port: self.test.port })
    }

    /// The device of the test; of a segment the first that has an address of the other end's family.
    fn device(&self) -> Result<Name, String> {
        let segment = match &self.test.device {
            TestDevice::Named(name) => return Ok(name.value.clone()),
            TestDevice::Like(segment) => &segment.value,
        };
        let speaks =
            |device: &Device, v4: bool| device.addresses.iter().any(|a| a.value.addr().is_ipv4() == v4);
        if let Some(local) = &self.test.local {
            let mut holding = self.policy.devices().values().filter(|device| device.holds(local.value));
            let member = holding.find(|device| device.segment.as_ref() == Some(segment));
            let none = || format!("no device of segment {segment} has {}", local.value);
            return member.map(|device| device.name.clone()).ok_or_else(none);
        }
        let fits = |device: &Device| match &self.test.remote {
            TestRemote::Address(address) => speaks(device, address.value.is_ipv4()),
            TestRemote::Device(_) => true,
        };
        let members = self.policy.devices().values();
        let members: Vec<&Device> =
            members.filter(|device| device.segment.as_ref() == Some(segment)).collect();
        let chosen = members.iter().find(|device| fits(device)).or(members.first());
        chosen.map(|device| device.name.clone()).ok_or_else(|| format!("segment {segment} has no members"))
    }

    fn compare(&self, answer: &Answer, failed: &mut Diagnostics) {
        let rule = answer.rule().and_then(|rule| self.compiled.catalogue.rules.get(&rule));
        let as_expected = answer.allows() == self.test.allow
            && self.wanted().is_none_or(|wanted| rule.is_some_and(|rule| rule.to_string() == wanted));
        if !as_expected {
            let problem = format!("expected {}, got {}", self.expectation(), outcome(answer, rule));
            failed.error(&self.test.at, problem, self.advice(answer, rule));
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
        let place = format!("policy {}, {}", self.rules.name, self.rules.at);
        match answer.nearest() {
            Some(near) if near.is_closed() => {
                let unmet: Vec<String> = near.unmet.iter().map(ToString::to_string).collect();
                format!("{}/{} at {} is closed: {}", near.policy, near.rule, near.at, unmet.join("; "))
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
