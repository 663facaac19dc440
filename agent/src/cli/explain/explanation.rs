//! The engine's answer in words, for people and for programs.

use std::fmt;
use std::net::IpAddr;

use bulkhead_common::parse::{Kind, Packet};
use bulkhead_common::verdict::{DropReason, Pass, Verdict};
use serde::Serialize;

use super::allow;
use super::remedy::{self, Scene};
use crate::api::types::RevisionInfo;
use crate::cli::basis::Basis;
use crate::cli::words;
use crate::policy::{Answer, Considered, Device, Name, Network, Port, Portless, Protocol, Subinterface};

/// Why a packet passes or not.
#[derive(Debug, Serialize)]
pub(super) struct Explanation {
    /// `allow` or `deny`: what policy says.
    pub(super) verdict: &'static str,
    /// The verdict's label, as in drop lines and metrics.
    pub(super) reason: &'static str,
    /// True if it passes although policy denies it, because everybody who does only observes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) observed: bool,
    /// The reason as a sentence.
    meaning: String,
    /// The rule that allows it, as `policy/rule`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<String>,
    /// `up`, `down` or `transit`, from the device's view.
    direction: &'static str,
    /// Where the packet enters.
    interface: String,
    /// Absent if the policy is only written.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<RevisionInfo>,
    from: Party,
    to: Party,
    port: String,
    /// The `never` list that names the port.
    #[serde(skip_serializing_if = "Option::is_none")]
    never: Option<String>,
    /// Every rule that is about these ends; empty where no rule could change the verdict.
    considered: Vec<Weighed>,
    /// What to do about a denial.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
    #[serde(skip)]
    ruled: bool,
}

/// One end.
#[derive(Debug, Serialize)]
struct Party {
    address: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    segment: Option<Name>,
}

/// A rule, and which of its halves fit.
#[derive(Debug, Serialize)]
struct Weighed {
    rule: String,
    address: bool,
    /// Whom it names.
    names: String,
    port: bool,
    /// What it opens.
    opens: String,
    /// True if it has conditions, whether they hold or not.
    #[serde(skip)]
    conditional: bool,
    /// Its conditions that are false, and what was found instead.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unmet: Vec<String>,
    /// When it is open, if that depends on time.
    #[serde(skip_serializing_if = "Option::is_none")]
    hours: Option<String>,
    /// True if it is open at the moment that was asked about.
    time: bool,
    written: String,
    nearest: bool,
}

impl Explanation {
    /// Puts an answer into words.
    pub(super) fn of(basis: &Basis, answer: &Answer) -> Self {
        let Answer { verdict, case, .. } = answer;
        let packet = &case.packet;
        let network = basis.compiled.catalogue.networks.get(&case.evidence.network);
        let network = network.and_then(|name| basis.policy.networks().get(name));
        let ends = ends(basis, answer);
        let ruled = is_ruled(*verdict);
        let rule = answer.rule().and_then(|rule| basis.compiled.catalogue.rules.get(&rule));
        Self {
            verdict: if answer.allows() { "allow" } else { "deny" },
            observed: matches!(verdict, Verdict::Observe(_)),
            reason: verdict.as_str(),
            meaning: match rule {
                Some(rule) => {
                    format!("Rule {rule} ({}) allows it; answers pass while the flow lives.", rule.at)
                }
                None => meaning(*verdict).to_owned(),
            },
            rule: rule.map(ToString::to_string),
            network: network.map(|network| network.name.to_string()),
            direction: case.evidence.direction.as_str(),
            interface: place(basis, packet, case.arrival.ifindex),
            revision: basis.revision.clone(),
            from: Party::new(packet.source.to_ip(), ends[0]),
            to: Party::new(packet.destination.to_ip(), ends[1]),
            port: port_text(packet),
            never: port(packet)
                .filter(|_| ruled)
                .and_then(|port| allow::never(&basis.policy, network, ends, port)),
            considered: if ruled { weighed(basis, answer, network) } else { Vec::new() },
            advice: match verdict {
                Verdict::Pass(_) => None,
                Verdict::Drop(_) | Verdict::Observe(_) if ruled => {
                    allow::advice(basis, answer, network, ends)
                }
                Verdict::Drop(reason) | Verdict::Observe(reason) => {
                    Some(remedy::remedy(basis, *reason, &scene(basis, answer, network, ends)))
                }
            },
            ruled,
        }
    }
}

impl Party {
    fn new(address: IpAddr, device: Option<&Device>) -> Self {
        Self {
            address,
            device: device.map(|device| device.name.clone()),
            segment: device.and_then(|device| device.segment.clone()),
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.device, &self.segment) {
            (Some(device), Some(segment)) => write!(f, "{device} ({segment}) {}", self.address),
            (Some(device), None) => write!(f, "{device} {}", self.address),
            (None, _) => write!(f, "{}", self.address),
        }
    }
}

impl fmt::Display for Explanation {
    /// Writes the verdict in one line, and below it what it rests on.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.rule, self.verdict) {
            (Some(rule), _) => write!(f, "ALLOW by {rule}")?,
            (None, "allow") => write!(f, "ALLOW {}", self.reason)?,
            _ => write!(f, "DENY {}", self.reason)?,
        }
        if self.observed {
            write!(f, ", and it passes: nobody enforces it")?;
        }
        let network = self.network.as_deref().unwrap_or("no network");
        let revision = match &self.revision {
            Some(revision) => words::revision(revision),
            None => "as written in -f, not what is in force".to_owned(),
        };
        writeln!(f, " · {network} · {} {} · {revision}", self.direction, self.interface)?;
        write!(f, "  {} → {} {}\n  {}", self.from, self.to, self.port, self.meaning)?;
        if let Some(never) = &self.never {
            write!(f, "\n  never yes: {never}")?;
        } else if self.ruled {
            let none =
                if self.considered.is_empty() { " · rules about these two, this way: none" } else { "" };
            write!(f, "\n  never no{none}")?;
        }
        let width = self.considered.iter().map(|rule| rule.rule.len()).max().unwrap_or_default();
        self.considered.iter().try_for_each(|rule| rule.write(f, width))?;
        self.advice.iter().try_for_each(|advice| write!(f, "\n  {advice}"))
    }
}

impl Weighed {
    fn write(&self, f: &mut fmt::Formatter<'_>, width: usize) -> fmt::Result {
        let yes = |fits| if fits { "yes" } else { "no" };
        let (address, port) = (yes(self.address), yes(self.port));
        write!(
            f,
            "\n  {:width$}  address {address} ({}) · port {port} ({})",
            self.rule, self.names, self.opens
        )?;
        match (self.conditional, self.unmet.is_empty()) {
            (true, true) => write!(f, " · when yes")?,
            (true, false) => write!(f, " · when no ({})", self.unmet.join("; "))?,
            (false, _) => {}
        }
        if let Some(hours) = &self.hours {
            write!(f, " · time {} ({hours})", yes(self.time))?;
        }
        let fits = self.address && self.port && self.unmet.is_empty() && self.time;
        match (self.nearest, fits) {
            (true, true) => write!(f, "  ← would allow it, {}", self.written),
            (true, false) => write!(f, "  ← nearest, {}", self.written),
            (false, _) => Ok(()),
        }
    }
}

/// The devices at both ends, the sender first.
fn ends<'a>(basis: &'a Basis, answer: &Answer) -> [Option<&'a Device>; 2] {
    use bulkhead_common::verdict::Direction;
    let evidence = &answer.case.evidence;
    let (device, peer) = (basis.device(evidence.device), basis.device(evidence.peer));
    match evidence.direction {
        Direction::Uplink | Direction::Transit => [device, peer],
        Direction::Downlink => [peer, device],
    }
}

/// True if it was rules and `never` that decided, or could have.
fn is_ruled(verdict: Verdict) -> bool {
    use DropReason::{
        ConditionPlace, ConditionPosture, ConditionTime, FlowTableFull, Never, NoRule, SegmentDenied,
        Unsolicited,
    };
    match verdict {
        Verdict::Pass(pass) => matches!(pass, Pass::Opened | Pass::Established),
        Verdict::Drop(reason) | Verdict::Observe(reason) => {
            matches!(
                reason,
                NoRule
                    | Never
                    | SegmentDenied
                    | Unsolicited
                    | FlowTableFull
                    | ConditionPosture
                    | ConditionPlace
                    | ConditionTime
            )
        }
    }
}

fn meaning(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass(pass) => pass.meaning(),
        Verdict::Drop(reason) | Verdict::Observe(reason) => reason.meaning(),
    }
}

fn place(basis: &Basis, packet: &Packet, ifindex: u32) -> String {
    let interface = basis.interface(ifindex).unwrap_or("an interface that is gone").to_owned();
    Subinterface { interface, vlan: packet.outer_vlan, inner_vlan: packet.inner_vlan }.to_string()
}

/// The port that is called, as a rule would name it.
fn port(packet: &Packet) -> Option<Port> {
    if packet.kind == Kind::EchoRequest {
        return Some(Port::Echo);
    }
    if packet.kind == Kind::Portless {
        return Portless::from_number(packet.protocol).map(Port::Portless);
    }
    let protocol = Protocol::ALL.into_iter().find(|protocol| protocol.number() == packet.protocol);
    let protocol = protocol.filter(|_| packet.kind == Kind::Ports)?;
    Some(Port::single(protocol, packet.destination_port))
}

fn port_text(packet: &Packet) -> String {
    if packet.kind == Kind::EchoReply {
        return "icmp echo reply".to_owned();
    }
    port(packet).map_or_else(|| "no port".to_owned(), |port| port.to_string())
}

fn weighed(basis: &Basis, answer: &Answer, network: Option<&Network>) -> Vec<Weighed> {
    let nearest = answer.nearest().filter(|_| !answer.allows());
    let one = |considered: &Considered| {
        let policy = basis.policy.policies().get(&considered.policy)?;
        let rule = policy.rules.iter().find(|rule| rule.name == considered.rule)?;
        Some(Weighed {
            rule: format!("{}/{}", considered.policy, considered.rule),
            address: considered.address,
            names: words::far_end(&basis.policy, rule, &policy.subject),
            port: considered.port,
            opens: words::opens(rule, network),
            conditional: !rule.conditions.is_empty(),
            unmet: considered.unmet.iter().map(ToString::to_string).collect(),
            hours: words::hours(&rule.time, basis.wall()),
            time: considered.time,
            written: considered.at.to_string(),
            nearest: nearest == Some(considered),
        })
    };
    answer.considered.iter().filter_map(one).collect()
}

fn scene<'a>(
    basis: &Basis,
    answer: &Answer,
    network: Option<&'a Network>,
    ends: [Option<&'a Device>; 2],
) -> Scene<'a> {
    let case = &answer.case;
    Scene {
        network,
        device: ends[0].or(ends[1]),
        source: Some(case.packet.source.to_ip()),
        destination: Some(case.packet.destination.to_ip()),
        interface: basis.interface(case.arrival.ifindex).unwrap_or_default().to_owned(),
        place: place(basis, &case.packet, case.arrival.ifindex),
        mac: (case.packet.source_mac != [0; 6]).then(|| words::mac(case.packet.source_mac)),
    }
}
