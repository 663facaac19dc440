//! A change of a few devices, taken up without a look at all others.
//!
//! What cannot be judged by those devices alone comes to nothing here, and the whole is read again: so there is one place
//! that says what is wrong, and what is taken up here is what that would have come to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use bulkhead_common::abi::AddressKey;
use ipnet::IpNet;

use super::address::AddressRange;
use super::compile::Compiled;
use super::diagnostic::Diagnostics;
use super::document::Drafts;
use super::location::SourceFile;
use super::model::{Device, Identifiers, Policy, PolicyRules, Selector, Subject, TestDevice, TestRemote};
use super::name::Name;
use super::validate;

/// Devices as they are to be, by name, or none any more.
#[derive(Debug, Clone, Default)]
pub struct Amendment(BTreeMap<Name, Option<Arc<Device>>>);

impl Amendment {
    /// Reads the documents of devices that are new or changed; `gone` are those that are to be no more. Nothing if there is
    /// anything else in the texts, or anything to be said about them.
    pub fn read(files: Vec<SourceFile>, gone: impl IntoIterator<Item = Name>) -> Option<Self> {
        let mut amendment = Self(gone.into_iter().map(|name| (name, None)).collect());
        if files.is_empty() {
            return Some(amendment);
        }
        let mut problems = Diagnostics::default();
        let drafts = super::drafts(files, &mut problems);
        let Drafts { devices, networks, segments, destinations, policies, grants, agents, broken, lost } =
            drafts;
        let others = networks.len() + segments.len() + destinations.len() + policies.len() + grants.len();
        if !problems.is_empty() || others + agents.len() + broken.len() > 0 || lost {
            return None;
        }
        for device in devices {
            if amendment.0.insert(device.name.clone(), Some(device)).is_some() {
                return None;
            }
        }
        Some(amendment)
    }

    /// True if it is about a device of this name.
    pub fn is_about(&self, name: &Name) -> bool {
        self.0.contains_key(name)
    }

    /// The devices that it is about.
    pub fn names(&self) -> Vec<Name> {
        self.0.keys().cloned().collect()
    }
}

impl Policy {
    /// The policy with some devices as they are to be; `compiled` is what became of it as it is. Nothing if that takes a
    /// look at more than them.
    pub fn amended(&self, compiled: &Compiled, amendment: &Amendment) -> Option<Self> {
        let few = self.few(compiled, amendment)?;
        let mut amended = Self { identifiers: self.identifiers_with(&few, amendment)?, ..self.clone() };
        for name in amendment.0.keys() {
            amended.observed.remove(name);
            match few.devices.get(name) {
                Some(device) => amended.devices.insert(name.clone(), Arc::clone(device)),
                None => _ = amended.devices.remove(name),
            }
        }
        Some(amended)
    }

    /// The policy with no other devices than those that are to be there; nothing if there is anything to be said of them.
    fn few(&self, compiled: &Compiled, amendment: &Amendment) -> Option<Self> {
        let after = amendment.0.values().flatten();
        let mut all = self.before(amendment).chain(after.clone());
        if !all.all(|device| is_plain(device) && !self.is_half_chosen(device)) || self.is_named_in(amendment)
        {
            return None;
        }
        let devices = after.map(|device| (device.name.clone(), Arc::clone(device))).collect();
        let mut few = Self { devices, ..self.of_devices(&[]) };
        let mut problems = Diagnostics::default();
        validate::few(&mut few, &mut problems);
        let collides = |device: &Arc<Device>| self.collides(compiled, device, amendment);
        (!problems.has_errors() && !few.devices.values().any(collides)).then_some(few)
    }

    /// Those of the devices that are there now.
    fn before<'d>(&'d self, amendment: &'d Amendment) -> impl Iterator<Item = &'d Arc<Device>> + Clone {
        amendment.0.keys().filter_map(|name| self.devices.get(name))
    }

    /// The identifiers that are taken then; nothing if one is taken twice.
    fn identifiers_with(&self, few: &Self, amendment: &Amendment) -> Option<Identifiers> {
        let mut identifiers = self.identifiers.clone();
        let left = self.before(amendment).flat_map(|device| validate::identifiers(device));
        left.for_each(|number| _ = identifiers.remove(&number));
        if few.identifiers.keys().any(|number| identifiers.contains_key(number)) {
            return None;
        }
        identifiers.extend(few.identifiers.iter().map(|(number, ())| (*number, ())));
        Some(identifiers)
    }

    /// True if an address of the device is, or may be, that of one that stays as it is.
    fn collides(&self, compiled: &Compiled, device: &Device, amendment: &Amendment) -> bool {
        let network = compiled.catalogue.network(&device.network.value);
        let (tables, names) = (&compiled.tables, &compiled.catalogue.devices);
        let stays = |key: &AddressKey| {
            let owner = tables.addresses.get(key).and_then(|owner| names.get(&owner.device));
            owner.is_some_and(|owner| !amendment.0.contains_key(owner))
        };
        let prefixes =
            tables.networks.get(&network).map(|facts| facts.prefixes.as_slice()).unwrap_or_default();
        device.addresses.iter().any(|address| {
            let range = AddressRange::from(address.value);
            let (first, last) = (
                bulkhead_common::abi::Addr::from_bits(range.first),
                bulkhead_common::abi::Addr::from_bits(range.last),
            );
            let inside = AddressKey::host(network, first)..=AddressKey::host(network, last);
            let covered = prefixes.iter().any(|prefix| prefix.first <= last && first <= prefix.last);
            let key = super::compile::key(network, address.value);
            covered || stays(&key) || (first != last && tables.addresses.any_in(inside))
        })
    }

    /// True if a selector by labels matches a device that may have no part in its policy all the same: what is said of the
    /// selector depends on the device then, and its rules do not.
    fn is_half_chosen(&self, device: &Device) -> bool {
        let mut between = self.policies.values().filter_map(|rules| match &rules.subject {
            Subject::Between(ends) if !ends.same_labels.is_empty() => Some(ends),
            Subject::Between(_) | Subject::Devices(_) => None,
        });
        let by_labels = |end: &Selector| matches!(end, Selector::Labels(_)) && end.matches(device);
        between.any(|ends| by_labels(&ends.initiator) || by_labels(&ends.responder))
    }

    /// True if a policy, a test or a grant is about one of these devices in particular: by its name, or by an address.
    fn is_named_in(&self, amendment: &Amendment) -> bool {
        let names = self.grants.values().map(|grant| &grant.device.value);
        let names = names.chain(self.policies.values().flat_map(named));
        let tests = || self.policies.values().flat_map(|rules| &rules.tests);
        let addresses: BTreeSet<IpAddr> = tests()
            .filter_map(|test| match &test.remote {
                TestRemote::Address(address) => Some(address.value),
                TestRemote::Device(_) => None,
            })
            .collect();
        let holds = |device: &Arc<Device>| addresses.iter().any(|address| device.holds(*address));
        let devices =
            amendment.0.iter().flat_map(|(name, after)| self.devices.get(name).into_iter().chain(after));
        // Where the members of a segment are says which network a made-up one is in.
        let made_up =
            self.networks.len() > 1 && tests().any(|test| matches!(test.device, TestDevice::Like(_)));
        made_up
            || names.into_iter().any(|name| amendment.0.contains_key(name))
            || devices.into_iter().any(holds)
    }
}

/// True if nothing but its own document says what its addresses are: none lies in another, and none behind it.
fn is_plain(device: &Device) -> bool {
    let whole = |net: IpNet| net.prefix_len() == if net.addr().is_ipv4() { 32 } else { 64 };
    let exact = device.addresses.iter().all(|address| whole(address.value));
    exact && device.framed_routes.is_empty() && device.teid.is_none()
}

/// The devices that a policy or one of its tests names.
fn named(rules: &PolicyRules) -> Vec<&Name> {
    let selectors = match &rules.subject {
        Subject::Devices(chosen) => vec![chosen],
        Subject::Between(ends) => vec![&ends.initiator, &ends.responder],
    };
    let chosen = selectors.into_iter().filter_map(|selector| match selector {
        Selector::Device(name) => Some(&name.value),
        Selector::Segment(_) | Selector::Labels(_) => None,
    });
    let tested = rules.tests.iter().flat_map(|test| {
        let device = match &test.device {
            TestDevice::Named(name) => Some(&name.value),
            TestDevice::Like(_) => None,
        };
        let remote = match &test.remote {
            TestRemote::Device(name) => Some(&name.value),
            TestRemote::Address(_) => None,
        };
        device.into_iter().chain(remote)
    });
    chosen.chain(tested).collect()
}
