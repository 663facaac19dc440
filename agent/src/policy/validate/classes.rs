//! Devices by segment and network: what is said of policies is said of these, and one walk finds all that there are.

use std::collections::BTreeMap;

use crate::policy::model::{Device, Policy};
use crate::policy::name::Name;

/// Where the devices of a policy are: in which segments, and in which networks.
#[derive(Default)]
pub(super) struct Classes<'a> {
    by_segment: BTreeMap<&'a Name, Firsts<'a>>,
    /// Of devices in no segment.
    others: Firsts<'a>,
}

/// The first device, by name, in each network.
type Firsts<'a> = BTreeMap<&'a Name, &'a Device>;

impl<'a> Classes<'a> {
    /// Those of a policy whose devices have their segments.
    pub(super) fn of(policy: &'a Policy) -> Self {
        let mut classes = Self::default();
        // Mostly it is that of the device before.
        let mut before = None;
        for device in policy.devices.values() {
            let (segment, network) = (device.segment.as_ref(), &device.network.value);
            if before != Some((segment, network)) {
                before = Some((segment, network));
                let firsts = match segment {
                    Some(segment) => classes.by_segment.entry(segment).or_default(),
                    None => &mut classes.others,
                };
                firsts.entry(network).or_insert(device);
            }
        }
        classes
    }

    /// The networks that devices of a segment are in, each with the first one there.
    pub(super) fn members(&self, segment: &Name) -> impl Iterator<Item = (&'a Name, &'a Device)> {
        let members = self.by_segment.get(segment).into_iter().flatten();
        members.map(|(network, first)| (*network, *first))
    }

    /// The networks that devices are in, some more than once.
    pub(super) fn networks(&self) -> impl Iterator<Item = &'a Name> {
        self.by_segment.values().chain([&self.others]).flat_map(BTreeMap::keys).copied()
    }
}
