//! What the kernel's numbers stand for under the policy in force.

use std::collections::BTreeMap;
use std::sync::Arc;

use bulkhead_common::abi::event::Event;
use bulkhead_common::abi::{DeviceId, Generation, NetworkId, RuleId};
use bulkhead_common::parse::{Kind, Packet};
use bulkhead_common::verdict::{DropReason, Verdict};

use super::in_force::InForce;
use crate::policy::considered;
use crate::telemetry::{DeviceName, Label, Names};

/// The policy in force, as telemetry asks for it.
pub(super) struct Known {
    pub(super) in_force: Arc<InForce>,
    pub(super) generations: BTreeMap<u32, u64>,
}

impl Known {
    /// The rule that came nearest, with what it lacked.
    fn nearest_to(&self, event: &Event) -> Option<String> {
        let device = |id: DeviceId| {
            let name = self.in_force.compiled.catalogue.devices.get(&id)?;
            self.in_force.policy.devices().get(name)
        };
        let (near, far) = (device(event.device), device(event.peer));
        let ends = if event.direction == UPLINK { [near, far] } else { [far, near] };
        let rules = considered(&self.in_force.policy, &self.in_force.host, &packet(event)?, ends);
        let best = rules.iter().max_by_key(|rule| u8::from(rule.address) + u8::from(rule.port))?;
        let lacks: Vec<&str> =
            [(best.address, "address"), (best.port, "port")].iter().filter(|(fits, _)| !fits).map(|(_, what)| *what).collect();
        Some(format!("{}/{} ({})", best.policy, best.rule, lacks.join(", ")))
    }
}

const UPLINK: u8 = bulkhead_common::verdict::Direction::Uplink as u8;

/// The packet that an event tells of, as far as rules look at it.
fn packet(event: &Event) -> Option<Packet> {
    Some(Packet {
        source: event.source,
        destination: event.destination,
        source_port: event.source_port,
        destination_port: event.destination_port,
        kind: Kind::from_number(event.kind)?,
        protocol: event.protocol,
        detail: event.detail,
        ..Packet::EMPTY
    })
}

impl Names for Known {
    fn device(&self, id: DeviceId) -> Option<DeviceName> {
        let Some(name) = self.in_force.compiled.catalogue.devices.get(&id) else {
            // A device that is gone from the policy is still named.
            let name = self.in_force.ids.device_name(id.0)?;
            return Some(DeviceName { name: Label::from(name), segment: None });
        };
        let device = self.in_force.policy.devices().get(name);
        let segment = device.and_then(|device| device.segment.as_ref());
        Some(DeviceName { name: Label::from(name.as_str()), segment: segment.map(|s| Label::from(s.as_str())) })
    }

    fn network(&self, id: NetworkId) -> Option<Label> {
        self.in_force.ids.network_name(id.0).map(Label::from)
    }

    fn rule(&self, id: RuleId) -> Option<Label> {
        self.in_force.ids.rule_name(id.0).map(Label::from)
    }

    fn interface(&self, ifindex: u32) -> Option<Label> {
        let interfaces = &self.in_force.host.interfaces;
        interfaces.iter().find(|(_, i)| i.ifindex == ifindex).map(|(name, _)| Label::from(name.as_str()))
    }

    fn revision(&self, generation: Generation) -> Option<u64> {
        self.generations.range(..=generation.0).next_back().map(|(_, revision)| *revision)
    }

    fn nearest(&self, event: &Event) -> Option<String> {
        match Verdict::from_code(event.verdict)? {
            Verdict::Drop(DropReason::NoRule | DropReason::SegmentDenied | DropReason::Unsolicited) => {
                self.nearest_to(event)
            }
            Verdict::Drop(_) | Verdict::Pass(_) => None,
        }
    }
}
