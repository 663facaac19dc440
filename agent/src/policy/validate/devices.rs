//! Devices: identifiers used once, bindings that can ever match.

use crate::policy::diagnostic::Diagnostics;
use crate::policy::location::Located;
use crate::policy::model::{Binding, Device, Network, Policy};

pub(super) fn check(policy: &Policy, problems: &mut Diagnostics) {
    refuse_shared(policy, problems);
    for device in policy.devices.values() {
        if let (Some(binding), Some(network)) = (&device.binding, policy.networks.get(&device.network.value))
        {
            refuse_impossible(device, binding, network, problems);
        }
    }
}

/// Refuses identifiers that a SIM before had, in the order of devices.
fn refuse_shared(policy: &Policy, problems: &mut Diagnostics) {
    let mut all: Vec<Identifier<'_>> = policy.devices.values().flat_map(identifiers).collect();
    // Equal ones stay in order.
    all.sort_by_key(|identifier| (identifier.kind, &*identifier.number.value));
    for same in all.chunk_by(|a, b| (a.kind, &a.number.value) == (b.kind, &b.number.value)) {
        let Some((first, others)) = same.split_first() else { continue };
        for Identifier { kind, number, device } in others {
            let earlier = &first.number.at;
            let problem = format!(
                "{kind} of device {} is that of device {} ({earlier})",
                device.name, first.device.name
            );
            let help = "an identifier belongs to one SIM; correct one of them";
            problems.error(&number.at, problem, help);
        }
    }
}

/// An identifier and the device that has it.
struct Identifier<'a> {
    kind: &'static str,
    number: &'a Located<String>,
    device: &'a Device,
}

fn identifiers(device: &Device) -> impl Iterator<Item = Identifier<'_>> {
    let kinds =
        device.profiles.iter().flat_map(|profile| [("IMSI", &profile.imsi), ("ICCID", &profile.iccid)]);
    kinds.filter_map(move |(kind, number)| Some(Identifier { kind, number: number.as_ref()?, device }))
}

/// A binding to a place where the device's network is never seen would block the device.
fn refuse_impossible(device: &Device, binding: &Binding, network: &Network, problems: &mut Diagnostics) {
    let possible = network.seen_on.iter().any(|place| {
        let place = &place.value;
        binding.interface.as_ref().is_none_or(|name| *name == place.interface)
            && binding.vlan.is_none_or(|vlan| vlan == place.vlan)
            && binding.inner_vlan.is_none_or(|inner| inner == place.inner_vlan)
    });
    if !possible {
        let places: Vec<String> = network.seen_on.iter().map(|place| place.value.to_string()).collect();
        problems.error(
            &binding.at,
            format!("device {} is bound where network {} is not seen", device.name, network.name),
            format!("it is seen on {}", places.join(", ")),
        );
    }
}
