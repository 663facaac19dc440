//! One accepted policy as records see it: its names, and the rule that came nearest to a drop.

use std::sync::Arc;

use bulkhead_common::abi::event::Event;
use bulkhead_common::abi::{DeviceId, Generation, NetworkId, RuleId, Timeouts};
use bulkhead_common::parse::{Kind, Packet};
use bulkhead_common::verdict::{Direction, DropReason, Verdict};
use jiff::Timestamp;

use super::label::Label;
use super::names::{DeviceName, NameTable, Names};
use crate::policy::{AgentConfig, Considered, Device, Name, Policy, considered_rules};
use crate::tables::Host;

/// Names of a policy, with the policy itself.
#[derive(Clone, Debug)]
pub struct View {
    table: NameTable,
    policy: Arc<Policy>,
    agent: AgentConfig,
    host: Host,
}

impl View {
    /// The names in `table`; nearest rules by `policy` as it is enforced on `host`.
    pub fn new(table: NameTable, policy: Arc<Policy>, agent: AgentConfig, host: Host) -> Self {
        Self { table, policy, agent, host }
    }

    /// The names alone, for the next view to inherit.
    pub fn table(&self) -> &NameTable {
        &self.table
    }

    fn declared(&self, id: DeviceId) -> Option<&Device> {
        let name = Name::new(&self.table.devices.get(&id)?.name)?;
        self.policy.devices().get(&name).map(Arc::as_ref)
    }
}

impl Names for View {
    fn device(&self, id: DeviceId) -> Option<DeviceName> {
        self.table.device(id)
    }

    fn network(&self, id: NetworkId) -> Option<Label> {
        self.table.network(id)
    }

    fn timeouts(&self, id: NetworkId) -> Timeouts {
        self.table.timeouts(id)
    }

    fn rule(&self, id: RuleId) -> Option<Label> {
        self.table.rule(id)
    }

    fn interface(&self, ifindex: u32) -> Option<Label> {
        self.table.interface(ifindex)
    }

    fn revision(&self, generation: Generation) -> Option<u64> {
        self.table.revision(generation)
    }

    fn nearest(&self, event: &Event) -> Option<String> {
        let device = self.declared(event.device);
        let ends = match Direction::from_number(event.direction)? {
            Direction::Uplink => [device, self.declared(event.peer)],
            Direction::Downlink => [None, device],
            Direction::Transit => return None,
        };
        // What the kernel has closed is closed, whatever the clock shows by now.
        let is_closed = event.verdict == Verdict::Drop(DropReason::ConditionTime).code();
        let at = (!is_closed).then(Timestamp::now);
        let rules = considered_rules(&self.policy, (&self.agent, &self.host), &packet(event)?, ends, at);
        Considered::nearest(&rules).map(lacking)
    }
}

/// The packet as far as rules look at it; nothing if it opens no conversation.
fn packet(event: &Event) -> Option<Packet> {
    let kind = Kind::from_number(event.kind)?;
    matches!(kind, Kind::Ports | Kind::EchoRequest).then_some(Packet {
        source: event.source,
        destination: event.destination,
        ether_type: event.ether_type,
        source_port: event.source_port,
        destination_port: event.destination_port,
        kind,
        protocol: event.protocol,
        detail: event.detail,
        ..Packet::EMPTY
    })
}

/// `ev/ocpp (port)`: the rule, and what does not fit.
fn lacking(rule: &Considered) -> String {
    let halves = [(rule.address, "address"), (rule.port, "port")];
    let halves = halves.into_iter().filter(|(fits, _)| !fits).map(|(_, half)| half);
    let lacking = halves.chain(rule.unmet.iter().map(|unmet| unmet.key.as_str()));
    let lacking: Vec<&str> = lacking.chain((!rule.time).then_some("time")).collect();
    let name = format!("{}/{}", rule.policy, rule.rule);
    if lacking.is_empty() { name } else { format!("{name} ({})", lacking.join(", ")) }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::policy::{AgentConfig, Compiled, Ids, SourceFile, compile, parse, parse_agent};
    use crate::tables::HostInterface;
    use crate::telemetry::fixtures::drop_event;

    const AGENT: &str = "
apiVersion: bulkhead/v1
kind: Agent
metadata: {name: here}
spec:
  interfaces:
    - {name: n3, roles: [access], transit: drop}
    - {name: n6, roles: [core], transit: drop}
";
    const POLICY: &str = "
apiVersion: bulkhead/v1
kind: Network
metadata: {name: acme}
spec: {seenOn: [{interface: n3}, {interface: n6}], pools: [10.45.0.0/16]}
---
apiVersion: bulkhead/v1
kind: Segment
metadata: {name: ev-chargers}
spec: {members: {matchLabels: {class: ev}}}
---
apiVersion: bulkhead/v1
kind: Device
metadata: {name: charger-0017, labels: {class: ev}}
spec: {network: acme, addresses: [10.45.0.17]}
---
apiVersion: bulkhead/v1
kind: Device
metadata: {name: loner}
spec: {network: acme, addresses: [10.45.0.18]}
---
apiVersion: bulkhead/v1
kind: Policy
metadata: {name: ev}
spec:
  subject: {segment: ev-chargers}
  allow:
    - {name: ocpp, to: {cidrs: [203.0.113.10/32]}, ports: [tcp/443]}
    - {name: scada, inbound: true, from: {cidrs: [198.51.100.7/32]}, ports: [tcp/502]}
";

    fn view() -> (View, Compiled) {
        let agent: AgentConfig = parse_agent(vec![SourceFile::new("agent.yaml", AGENT)]).unwrap();
        let policy = parse(vec![SourceFile::new("ev.yaml", POLICY)], Some(&agent)).unwrap().policy;
        let interface = |ifindex| HostInterface { ifindex, ..HostInterface::default() };
        let host =
            Host { interfaces: [("n3".to_owned(), interface(4)), ("n6".to_owned(), interface(5))].into() };
        let compiled = compile(&policy, &agent, &host, &mut Ids::default()).unwrap();
        (View::new(NameTable::of(&compiled, &host), Arc::new(policy), agent, host), compiled)
    }

    fn number(view: &View, name: &str) -> DeviceId {
        *view.table().devices.iter().find(|(_, device)| &*device.name == name).unwrap().0
    }

    #[test]
    fn numbers_of_a_compiled_policy_have_names() {
        let (view, compiled) = view();
        let charger = view.device(number(&view, "charger-0017")).unwrap();
        assert_eq!(charger.segment, Some("ev-chargers".into()));
        assert_eq!(view.device(number(&view, "loner")).unwrap().segment, None);
        let rules: Vec<String> = compiled
            .catalogue
            .rules
            .keys()
            .filter_map(|id| view.rule(*id))
            .map(|rule| rule.to_string())
            .collect();
        assert_eq!(rules, ["ev/ocpp", "ev/scada"]);
        assert_eq!(view.network(NetworkId(1)), Some("acme".into()));
        assert_eq!((view.interface(4), view.interface(6)), (Some("n3".into()), None));
    }

    #[test]
    fn the_nearest_rule_says_what_it_lacks() {
        let (view, _) = view();
        let address = |text: &str| text.parse::<IpAddr>().unwrap().into();
        let device = number(&view, "charger-0017");
        let up = Event { device, destination: address("203.0.113.10"), ..drop_event() };
        assert_eq!(view.nearest(&up).as_deref(), Some("ev/ocpp (port)"));
        let elsewhere = Event { destination: address("203.0.113.11"), destination_port: 443, ..up };
        assert_eq!(view.nearest(&elsewhere).as_deref(), Some("ev/ocpp (address)"));
        assert_eq!(view.nearest(&Event { destination_port: 22, ..elsewhere }), None);
        let down = Event {
            source: address("198.51.100.7"),
            destination: address("10.45.0.17"),
            direction: Direction::Downlink as u8,
            ..up
        };
        assert_eq!(view.nearest(&down).as_deref(), Some("ev/scada (port)"));
        assert_eq!(view.nearest(&Event { device: DeviceId(99), ..up }), None);
        assert_eq!(view.nearest(&Event { kind: Kind::Fragment as u8, ..up }), None);
    }

    #[test]
    fn older_names_are_kept_for_what_has_none() {
        let (view, _) = view();
        let mut table = view.table().clone();
        table.inherit(&crate::telemetry::fixtures::names());
        assert_eq!(&*table.devices[&DeviceId(17)].name, "charger-0017");
        assert_eq!(table.rule(RuleId(1)), view.rule(RuleId(1)));
        assert_eq!(table.revision(Generation(6)), Some(411));
    }
}
