//! Grants: one person, one device, some ports, from one moment to another; an ordinary rule with a paper trail.

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};

use super::agent::AgentConfig;
use super::condition::Conditions;
use super::diagnostic::Diagnostics;
use super::location::{Located, Location};
use super::model::{Direction, Policy, PolicyRules, Remotes, Rule, Selector, Subject};
use super::name::Name;
use super::ports::Port;
use super::schedule::When;

/// A visit from outside: who, from where, to what, for how long.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Its name, which no policy has: it is the name of the rule that it makes.
    pub name: Name,
    /// Where it was written.
    pub at: Location,
    /// Who comes.
    pub who: Visitor,
    /// Who agreed to it, as the document says.
    pub approved_by: Option<String>,
    /// Where it was asked for.
    pub ticket: Option<String>,
    /// The addresses that the visitor comes from.
    pub from: Vec<Located<IpNet>>,
    /// What is visited.
    pub device: Located<Name>,
    /// What lies behind it, and not the device itself; empty for the device itself.
    pub behind: Vec<Located<IpNet>>,
    /// The ports that are opened.
    pub ports: Vec<Port>,
    /// The first moment.
    pub start: Timestamp,
    /// The first moment that is not in it any more.
    pub end: Timestamp,
}

/// Who visits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Visitor {
    /// The person.
    pub person: String,
    /// Whom the person works for.
    pub organisation: Option<String>,
    /// How to reach the person.
    pub contact: Option<String>,
}

/// What the rule of every grant is called.
const RULE: &str = "grant";

impl Grant {
    /// How long it lasts.
    pub fn lasts(&self) -> SignedDuration {
        self.end.duration_since(self.start)
    }

    /// The policy that it is: one rule, about one device.
    pub(crate) fn rules(&self) -> Option<PolicyRules> {
        let from = Remotes { cidrs: self.from.clone(), ..Remotes::default() };
        let rule = Rule {
            name: Name::new(RULE)?,
            at: self.at.clone(),
            direction: Direction::Inbound(from),
            ports: self.ports.clone(),
            behind: self.behind.clone(),
            idle: None,
            conditions: Conditions::default(),
            time: When { not_before: Some(self.start), not_after: Some(self.end), ..When::default() },
        };
        Some(PolicyRules {
            name: self.name.clone(),
            at: self.at.clone(),
            subject: Subject::Devices(Selector::Device(self.device.clone())),
            rules: vec![rule],
            tests: Vec::new(),
        })
    }
}

/// Grants that last longer than the host allows. Whoever asks is told; what was accepted before stays.
pub fn too_long(policy: &Policy, agent: &AgentConfig) -> Diagnostics {
    let mut problems = Diagnostics::default();
    let most = SignedDuration::try_from(agent.grants.max_duration).unwrap_or(SignedDuration::MAX);
    for grant in policy.grants.values().filter(|grant| grant.lasts() > most) {
        let problem = format!("grant {} lasts {:#}", grant.name, grant.lasts());
        let help = format!("this host allows {most:#} at most (`grants.maxDuration` in agent.yaml)");
        problems.error(&grant.at, problem, help);
    }
    problems.finish()
}
