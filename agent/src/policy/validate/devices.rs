//! Devices: identifiers used once, bindings that can ever match.

use std::fmt;

use crate::policy::diagnostic::Diagnostics;
use crate::policy::location::Located;
use crate::policy::model::{Binding, Device, Identifiers, Network, Policy};
use crate::text::Text;

/// Returns the identifiers that are taken.
pub(super) fn check(policy: &Policy, problems: &mut Diagnostics) -> Identifiers {
    let taken = refuse_shared(policy, problems);
    for device in policy.devices.values() {
        if let Some(binding) = &device.binding
            && let Some(network) = policy.networks.get(&device.network.value)
        {
            refuse_impossible(device, binding, network, problems);
        }
    }
    taken
}

/// The identifiers of a device, as [`Policy`] keeps them.
pub(in crate::policy) fn identifiers(device: &Device) -> impl Iterator<Item = u128> {
    identifiers_of(device).map(|identifier| identifier.order())
}

/// Refuses identifiers that a SIM before had.
fn refuse_shared(policy: &Policy, problems: &mut Diagnostics) -> Identifiers {
    let mut taken = Vec::with_capacity(policy.devices.len());
    policy.devices.values().flat_map(|device| identifiers(device)).for_each(|number| taken.push(number));
    taken.sort_unstable();
    if !taken.is_sorted_by(|a, b| a < b) {
        tell_shared(policy, problems);
    }
    taken.into_iter().map(|number| (number, ())).collect()
}

/// Says whose the identifiers are that several have, in their order and in that of devices.
fn tell_shared(policy: &Policy, problems: &mut Diagnostics) {
    let all: Vec<Identifier<'_>> =
        policy.devices.values().flat_map(|device| identifiers_of(device)).collect();
    let mut order: Vec<(u128, usize)> = all.iter().map(Identifier::order).zip(0..).collect();
    order.sort_unstable();
    for same in order.chunk_by(|(a, _), (b, _)| a == b) {
        let mut same = same.iter().map(|(_, at)| &all[*at]);
        let Some(first) = same.next() else { continue };
        for Identifier { kind, number, device } in same {
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
    kind: Kind,
    number: &'a Located<Text>,
    device: &'a Device,
}

#[derive(Clone, Copy)]
enum Kind {
    Imsi,
    Iccid,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Imsi => "IMSI",
            Self::Iccid => "ICCID",
        })
    }
}

impl Identifier<'_> {
    /// Kind and digits as one number; the leading 1 keeps zeros apart. There are 22 digits at most.
    fn order(&self) -> u128 {
        let digits = self.number.value.as_str().bytes().map(|digit| u128::from(digit & 0x0f));
        let number = digits.fold(1, |number, digit| 10 * number + digit);
        (self.kind as u128) << 100 | number
    }
}

fn identifiers_of(device: &Device) -> impl Iterator<Item = Identifier<'_>> {
    let kinds = device
        .profiles
        .iter()
        .flat_map(|profile| [(Kind::Imsi, &profile.imsi), (Kind::Iccid, &profile.iccid)]);
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
