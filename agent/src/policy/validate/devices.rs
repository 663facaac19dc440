//! Devices: identifiers used once, bindings that can ever match.

use std::collections::BTreeMap;

use crate::policy::diagnostic::Diagnostics;
use crate::policy::location::{Located, Location};
use crate::policy::model::{Binding, Device, Network, Policy};

pub(super) fn check(policy: &Policy, problems: &mut Diagnostics) {
    let mut seen = Identifiers::default();
    for device in policy.devices.values() {
        for profile in &device.profiles {
            seen.refuse_again("IMSI", profile.imsi.as_ref(), device, problems);
            seen.refuse_again("ICCID", profile.iccid.as_ref(), device, problems);
        }
        if let (Some(binding), Some(network)) = (&device.binding, policy.networks.get(&device.network.value))
        {
            refuse_impossible(device, binding, network, problems);
        }
    }
}

/// Identifiers by kind and digits, with the device that had them first.
#[derive(Default)]
struct Identifiers<'a>(BTreeMap<(&'static str, &'a str), (&'a Device, &'a Location)>);

impl<'a> Identifiers<'a> {
    fn refuse_again(
        &mut self,
        kind: &'static str,
        digits: Option<&'a Located<String>>,
        device: &'a Device,
        problems: &mut Diagnostics,
    ) {
        let Some(Located { value: digits, at }) = digits else {
            return;
        };
        let Some((first, earlier)) = self.0.get(&(kind, digits.as_str())) else {
            self.0.insert((kind, digits), (device, at));
            return;
        };
        let problem =
            format!("{kind} of device {} is that of device {} ({earlier})", device.name, first.name);
        problems.error(at, problem, "an identifier belongs to one SIM; correct one of them");
    }
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
