//! What the engine says of itself: status, objects, devices.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bulkhead_common::abi::counter::Counters;
use bulkhead_common::abi::key::EGRESS;
use bulkhead_common::case::LinkType;
use bulkhead_common::verdict::{DropReason, Pass, Verdict, Way};

use super::attributes::sentences;
use super::engine::Engine;
use super::surroundings;
use crate::api::types::{
    DeviceReport, EventsStatus, Fill, GuardState, GuardStatus, Health, InterfaceStatus, Object, Observing,
    Status,
};
use crate::datapath::{self, Attachment, Datapath};
use crate::guard::Found;
use crate::policy::{
    CLOSE_THE_GAP, Device, Downlink, Interface, Labels, Mode, Network, Role, Transit, lateral_gaps,
};
use crate::telemetry::{Clock, EventKind, Filter, Label};

/// How long status tells of an alarm after the last packet.
const ALARM_LASTS: Duration = Duration::from_secs(600);

/// Packets per second, between the last two looks.
#[derive(Debug, Default)]
pub(super) struct Rates {
    received: Series,
    refused: Series,
    /// Alarms of witnesses, and when the last one rang.
    alarms: BTreeMap<u32, (u64, Instant)>,
}

#[derive(Debug, Default)]
struct Series {
    last: BTreeMap<u32, (Instant, u64)>,
    per_second: BTreeMap<u32, f64>,
}

impl Rates {
    pub(super) fn observe(&mut self, counters: &BTreeMap<u32, Counters>) {
        let now = Instant::now();
        for (ifindex, counters) in counters {
            self.received.look(*ifindex, now, counters.received.packets);
            self.refused.look(*ifindex, now, counters.observed_total().packets);
            let alarms = counters.of(Verdict::Pass(Pass::WitnessAlarm)).packets;
            if alarms > self.alarms.get(ifindex).map_or(0, |(known, _)| *known) {
                self.alarms.insert(*ifindex, (alarms, now));
            }
        }
    }

    /// What policy refused and nobody enforced, over all interfaces.
    pub(super) fn refused(&self) -> f64 {
        self.refused.per_second.values().sum()
    }
}

impl Series {
    fn look(&mut self, ifindex: u32, now: Instant, packets: u64) {
        if let Some((then, before)) = self.last.insert(ifindex, (now, packets)) {
            let seconds = now.duration_since(then).as_secs_f64();
            let rate = packets.saturating_sub(before) as f64 / seconds.max(f64::EPSILON);
            self.per_second.insert(ifindex, rate);
        }
    }
}

/// What is read of the kernel for one status.
#[derive(Default)]
struct Seen {
    generation: u32,
    attachments: Vec<Attachment>,
    counters: BTreeMap<u32, Counters>,
    events: EventsStatus,
    flows: Fill,
    guard: Option<Found>,
}

impl Engine {
    /// How agent and datapath are.
    pub fn status(&self) -> Status {
        let seen = self.look();
        let configured = self.agent.interfaces.iter();
        let interfaces: Vec<_> = configured.flat_map(|i| self.points(i, &seen)).collect();
        let problems = self.problems(&seen, &interfaces);
        let observing = self.observing();
        Status {
            health: health(&interfaces, &problems, &observing),
            problems,
            observing,
            revision: self.accepted.as_ref().map(|state| state.revision.clone()),
            generation: seen.generation,
            agent_since: self.since,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            interfaces,
            objects: self.accepted.as_ref().map(|state| state.objects.counts()).unwrap_or_default(),
            quarantine: self.quarantined(),
            grants: self.live_grants(),
            clock: self.clock_status(),
            flows: seen.flows,
            events: seen.events,
            pending: self.pending.clone(),
            candidate: self.candidate_status(),
            confirm: self.waiting(),
            warming_ms: self.warming().map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            folder_held: self.accepted.as_ref().is_some_and(|state| state.folder_held),
            second_guard: self.guard_status(seen.guard.as_ref()),
            forwarding: self.forwarding_status(),
            notes: self.notes(&seen.guard.map(|found| found.refused).unwrap_or_default()),
        }
    }

    /// Networks that do not enforce, by how many of their devices are enforced all the same.
    fn observing(&self) -> Vec<Observing> {
        let Some(in_force) = &self.in_force else { return Vec::new() };
        let policy = &in_force.policy;
        let networks = policy.networks().values().filter(|network| network.mode == Mode::Observe);
        let of = |network: &Network| {
            let devices = policy.devices().values().filter(|device| device.network.value == network.name);
            let (observed, enforced): (Vec<_>, Vec<_>) =
                devices.partition(|device| policy.mode_of(device) == Mode::Observe);
            let [observed, enforced] = [observed, enforced].map(|devices| devices.len() as u64);
            Observing { network: network.name.to_string(), observed, enforced }
        };
        networks.map(of).collect()
    }

    fn look(&self) -> Seen {
        let guard = surroundings::observe().ok().flatten();
        let Some(kernel) = &self.kernel else { return Seen { guard, ..Seen::default() } };
        let datapath = kernel.datapath();
        let events = datapath.event_counters().unwrap_or_default();
        let now = Datapath::now_ns();
        let live = datapath.flows().iter().filter(|flow| flow.deadline > now).count();
        Seen {
            generation: datapath.epoch().generation.0,
            attachments: datapath.attachments().unwrap_or_default(),
            counters: datapath.counters().unwrap_or_default(),
            events: EventsStatus { sent: events.sent, suppressed: events.suppressed, lost: events.lost },
            flows: Fill { used: live as u64, capacity: u64::from(datapath.flow_capacity()) },
            guard,
        }
    }

    fn guard_status(&self, found: Option<&Found>) -> GuardStatus {
        let state = match (self.agent.second_guard, &self.second_guard.problem, found) {
            (false, _, _) => GuardState::Off,
            (true, Some(_), _) => GuardState::Missing,
            (true, None, Some(_)) => GuardState::On,
            (true, None, None) => GuardState::Idle,
        };
        let (repairs, repaired) = (self.second_guard.repairs, self.second_guard.repaired);
        let told = found.map_or_else(|| GuardStatus { state, ..GuardStatus::default() }, |f| told(state, f));
        GuardStatus { repairs, repaired, ..told }
    }

    /// What enters by an interface, and what leaves by it where that is judged.
    fn points(&self, interface: &Interface, seen: &Seen) -> Vec<InterfaceStatus> {
        let name = interface.name.value.as_str();
        // By number: a link stays on an interface that gets another name.
        let ifindex = nix::net::if_::if_nametoindex(name).ok();
        let roles: Vec<&str> = interface.roles.iter().map(|role| role_label(*role)).collect();
        let entering = self.point(interface, ifindex, &roles, seen);
        let leaves = interface.downlink != Downlink::Ingress;
        let leaving = leaves.then(|| self.point(interface, ifindex.map(|i| i | EGRESS), &["egress"], seen));
        let link = ifindex.and_then(|_| datapath::link_type(name).ok()).map(link_label);
        let described = |point| InterfaceStatus { link: link.map(str::to_owned), ..point };
        std::iter::once(entering).chain(leaving).map(described).collect()
    }

    fn point(
        &self,
        interface: &Interface,
        point: Option<u32>,
        roles: &[&str],
        seen: &Seen,
    ) -> InterfaceStatus {
        let attached = seen.attachments.iter().find(|a| Some(a.point()) == point && !a.defunct);
        let counters = attached.and_then(|a| seen.counters.get(&a.point()));
        let rate = attached.and_then(|a| self.rates.received.per_second.get(&a.point()));
        InterfaceStatus {
            name: interface.name.value.clone(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            transit: transit_label(interface.transit).to_owned(),
            link: None,
            mode: attached.map(|a| a.mode.as_str().to_owned()),
            received: counters.map_or(0, |c| c.received.packets),
            passed: counters.map_or(0, |c| c.passed_total().packets),
            dropped: counters.map_or(0, |c| c.dropped_total().packets),
            reasons: counters.map(|c| reasons(c, Verdict::Drop)).unwrap_or_default(),
            would_drop: counters.map(|c| reasons(c, Verdict::Observe)).unwrap_or_default(),
            ways: counters.map(ways).unwrap_or_default(),
            packets_per_second: rate.copied().unwrap_or_default(),
        }
    }

    fn problems(&self, seen: &Seen, interfaces: &[InterfaceStatus]) -> Vec<String> {
        let mut problems: Vec<String> = self.held.iter().chain(&self.loss).cloned().collect();
        if self.accepted.is_none() && problems.is_empty() {
            problems.push("no policy was accepted yet: run `bulkhead apply -f DIR`".to_owned());
        }
        problems.extend(self.second_guard.problem.iter().cloned());
        problems.extend(self.lateral_gaps());
        problems.extend(self.translation.hidden.iter().map(|(network, device)| {
            format!(
                "this host translates addresses of devices of {network} ({device} was seen), so their downlink is NOT \
                 JUDGED where it enters: judge it where it leaves, by downlink: egress at their interface"
            )
        }));
        problems.extend(self.alarms());
        problems.extend(self.failed_tests());
        problems.extend(self.faults.iter().cloned());
        problems.extend(self.trial.lost.iter().cloned());
        problems.extend(self.stuck.iter().cloned().chain(self.anchoring.fault()));
        problems.extend(self.clock_problem());
        if self.kernel.is_some() {
            problems.extend(interfaces.iter().filter_map(|interface| self.unguarded(interface)));
        }
        let internal = |reason: &&DropReason| {
            matches!(reason, DropReason::InternalInterface | DropReason::InternalTable)
        };
        for reason in DropReason::ALL.iter().filter(internal) {
            let label = reason.as_str();
            let count = self.internal(*reason, seen);
            if count > 0 {
                problems.push(format!(
                    "{count} packets were dropped as {label}, which must never happen: {}",
                    reason.meaning()
                ));
            }
        }
        if seen.flows.capacity > 0 && seen.flows.used * 2 >= seen.flows.capacity {
            problems.push(format!(
                "the flow table holds {} of {} flows: raise spec.tables.flows in agent.yaml",
                seen.flows.used, seen.flows.capacity
            ));
        }
        problems
    }

    /// Packets that an internal fault dropped on configured interfaces.
    fn internal(&self, reason: DropReason, seen: &Seen) -> u64 {
        let names = self.agent.interfaces.iter().map(|interface| interface.name.value.as_str());
        let counted = names.filter_map(|name| nix::net::if_::if_nametoindex(name).ok()).map(|ifindex| {
            let counters = seen.counters.get(&ifindex);
            let count = counters.map_or(0, |counters| counters.of(Verdict::Drop(reason)).packets);
            let excused = self.excused.get(&ifindex).filter(|_| reason == DropReason::InternalInterface);
            count.saturating_sub(excused.copied().unwrap_or_default())
        });
        counted.sum()
    }

    /// What the next round will see, if the last one did not.
    fn unguarded(&self, interface: &InterfaceStatus) -> Option<String> {
        let told = format!("{} is not guarded", interface.name);
        let is_told = self.faults.iter().any(|fault| fault.starts_with(&told));
        let seconds = super::TICK.as_secs();
        (interface.mode.is_none() && !is_told)
            .then(|| format!("{told}: it has just changed, and is looked at every {seconds} s"))
    }

    /// Networks whose devices may reach each other past this host.
    fn lateral_gaps(&self) -> Vec<String> {
        let gaps = self.in_force.iter().flat_map(|now| lateral_gaps(&now.policy, &self.agent, &now.host));
        gaps.map(|gap| format!("{gap}: {CLOSE_THE_GAP}")).collect()
    }

    /// What witnesses have seen lately that nobody had let through.
    fn alarms(&self) -> Vec<String> {
        let ringing = |name: &str| {
            let ifindex = nix::net::if_::if_nametoindex(name).ok()?;
            let (count, last) = self.rates.alarms.get(&ifindex)?;
            (last.elapsed() < ALARM_LASTS).then(|| {
                format!(
                    "{name}: {count} packets of devices passed that no interface of this host had let through; \
                     `bulkhead drops` tells which"
                )
            })
        };
        self.agent.interfaces.iter().filter_map(|interface| ringing(&interface.name.value)).collect()
    }

    fn failed_tests(&self) -> Option<String> {
        let failed = &self.in_force.as_ref()?.failed;
        let first = failed.iter().next()?;
        let count = failed.errors();
        Some(format!(
            "{count} tests of the policy fail since the host changed; it is enforced all the same; first: {first}"
        ))
    }

    /// Every object in force.
    pub fn objects(&self) -> Vec<Object> {
        self.accepted.iter().flat_map(|state| state.objects.iter().cloned()).collect()
    }

    /// One device, with all that is known of it.
    pub fn device(&self, name: &str) -> Option<DeviceReport> {
        let (state, in_force) = (self.accepted.as_ref()?, self.in_force.as_ref()?);
        let device = in_force.policy.devices().values().find(|device| device.name.as_str() == name)?;
        let filter = Filter { device: Some(Label::from(name)), ..Filter::default() };
        let drops = self.telemetry().drops(&filter, usize::MAX);
        let by_reason = |wanted: EventKind| {
            let mut counts = BTreeMap::new();
            for drop in drops.iter().filter(|drop| drop.event == wanted) {
                let reason = drop.reason.as_ref().map(ToString::to_string).unwrap_or_default();
                *counts.entry(reason).or_default() += drop.count.unwrap_or(1);
            }
            counts
        };
        Some(DeviceReport {
            name: name.to_owned(),
            network: device.network.value.to_string(),
            segment: device.segment.as_ref().map(ToString::to_string),
            labels: Labels::clone(&device.labels),
            addresses: device.addresses.iter().map(|address| address.value.to_string()).collect(),
            framed_routes: device.framed_routes.iter().map(|route| route.value.to_string()).collect(),
            imsis: device
                .profiles
                .iter()
                .filter_map(|profile| profile.imsi.as_ref())
                .map(|imsi| imsi.value.as_str().to_owned())
                .collect(),
            imei: device.imei.as_ref().map(|imei| imei.value.clone()),
            rules: self.rules_of(device),
            attributes: self.attributes_of(device),
            closed: in_force
                .policy
                .closed_to(device)
                .iter()
                .map(|(rule, unmet)| (rule.clone(), sentences(unmet)))
                .collect(),
            written: format!("{}:{}", device.at.file(), device.at.line()),
            flows: self.live_flows(&filter),
            mode: in_force.policy.mode_of(device).as_str().to_owned(),
            drops: by_reason(EventKind::Drop),
            would_drop: by_reason(EventKind::WouldDrop),
            last_drop: drops.last().and_then(|drop| drop.id.as_ref()).map(ToString::to_string),
            quarantine: self.quarantined().into_iter().find(|report| report.device.as_str() == name),
            revision: state.revision.number,
        })
    }

    fn rules_of(&self, device: &Device) -> Vec<String> {
        let Some(in_force) = &self.in_force else { return Vec::new() };
        let about = in_force.policy.policies().values().filter(|rules| rules.is_about(device));
        about
            .flat_map(|rules| rules.rules.iter().map(|rule| format!("{}/{}", rules.name, rule.name)))
            .collect()
    }

    fn live_flows(&self, filter: &Filter) -> u64 {
        let Some(kernel) = &self.kernel else { return 0 };
        let flows = kernel.datapath().flows();
        self.telemetry().flows(&flows, Clock::read(Datapath::now_ns()), filter).len() as u64
    }

    /// The flow table as it is, for listings.
    pub fn flow_table(&self) -> Vec<bulkhead_common::abi::Flow> {
        self.kernel.as_ref().map_or_else(Vec::new, |kernel| kernel.datapath().flows())
    }
}

/// The second guard as the kernel has it, with nobody to say whether that is as it should be.
pub fn guard_without_agent() -> GuardStatus {
    let found = surroundings::observe().ok().flatten();
    found.map_or_else(GuardStatus::default, |found| told(GuardState::On, &found))
}

/// A table as a status tells it, interfaces by name where they have one.
fn told(state: GuardState, found: &Found) -> GuardStatus {
    let name = |ifindex: &u32| {
        let name = nix::net::if_::if_indextoname(*ifindex);
        name.map_or_else(|_| format!("#{ifindex}, gone"), |name| name.to_string_lossy().into_owned())
    };
    GuardStatus {
        state,
        pools: found.pools.len(),
        held: found.held.iter().map(name).collect(),
        dropped: found.dropped.packets.clone(),
        refused: found.refused.iter().map(|(ifindex, packets)| (name(ifindex), *packets)).collect(),
        repairs: 0,
        repaired: None,
    }
}

fn health(interfaces: &[InterfaceStatus], problems: &[String], observing: &[Observing]) -> Health {
    let whole = problems.is_empty() && interfaces.iter().all(|interface| interface.mode.is_some());
    if interfaces.iter().all(|interface| interface.mode.is_none()) {
        Health::NotEnforcing
    } else if !whole {
        Health::Degraded
    } else if !observing.is_empty() {
        Health::Observing
    } else {
        Health::Enforcing
    }
}

fn reasons(counters: &Counters, verdict: impl Fn(DropReason) -> Verdict) -> BTreeMap<String, u64> {
    let packets = |reason: DropReason| counters.of(verdict(reason)).packets;
    let each = DropReason::ALL.iter().map(|reason| (reason.as_str(), packets(*reason)));
    each.filter(|(_, packets)| *packets > 0).map(|(label, packets)| (label.to_owned(), packets)).collect()
}

fn ways(counters: &Counters) -> BTreeMap<String, u64> {
    let each = Way::ALL.iter().map(|way| (way.as_str(), counters.way(*way).packets));
    each.filter(|(_, packets)| *packets > 0).map(|(label, packets)| (label.to_owned(), packets)).collect()
}

const fn role_label(role: Role) -> &'static str {
    match role {
        Role::Access => "access",
        Role::Core => "core",
        Role::Witness => "witness",
    }
}

const fn link_label(link: LinkType) -> &'static str {
    match link {
        LinkType::Ethernet => "ethernet",
        LinkType::RawIp => "raw_ip",
    }
}

const fn transit_label(transit: Transit) -> &'static str {
    match transit {
        Transit::Pass => "pass",
        Transit::Drop => "drop",
    }
}
