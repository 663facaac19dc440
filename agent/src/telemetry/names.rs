//! Numbers of the kernel → names of the policy, as one revision knows them.

use std::collections::BTreeMap;

use bulkhead_common::abi::event::Event;
use bulkhead_common::abi::key::EGRESS;
use bulkhead_common::abi::{DeviceId, Generation, NetworkId, ProfileId, RuleId, Timeouts};

use super::label::Label;
use crate::layered::Layered;
use crate::policy::{Compiled, Name, ProfileName};
use crate::side_by_side::side_by_side;
use crate::tables::{Host, Touched};

/// A device as records name it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeviceName {
    /// The resource's name.
    pub name: Label,
    /// Its segment, if it is in one.
    pub segment: Option<Label>,
}

/// The catalogue of what the kernel's numbers stand for.
///
/// A number may be older than the catalogue; then a record shows the number itself, as `#17`.
pub trait Names: Send + Sync {
    /// A device and its segment.
    fn device(&self, id: DeviceId) -> Option<DeviceName>;
    /// A network.
    fn network(&self, id: NetworkId) -> Option<Label>;
    /// How long flows of a network live.
    fn timeouts(&self, id: NetworkId) -> Timeouts;
    /// A rule as `policy/rule`.
    fn rule(&self, id: RuleId) -> Option<Label>;
    /// An interface by the kernel's number.
    fn interface(&self, ifindex: u32) -> Option<Label>;
    /// The operator's revision that a generation belongs to.
    fn revision(&self, generation: Generation) -> Option<u64>;
    /// The rule that came nearest to allowing a dropped packet, and what it lacked: `ev/ocpp (address, port)`.
    fn nearest(&self, event: &Event) -> Option<String>;
}

/// Names as plain tables; knows no nearest rule.
#[derive(Clone, Debug, Default)]
pub struct NameTable {
    /// Devices.
    pub devices: Layered<DeviceId, DeviceName>,
    /// Networks.
    pub networks: BTreeMap<NetworkId, Label>,
    /// How long flows of each network live.
    pub timeouts: BTreeMap<NetworkId, Timeouts>,
    /// Rules as `policy/rule`.
    pub rules: BTreeMap<RuleId, Label>,
    /// Interfaces by the kernel's number.
    pub interfaces: BTreeMap<u32, Label>,
    /// The first generation of each revision, and the revision.
    pub revisions: BTreeMap<Generation, u64>,
}

impl NameTable {
    /// The names of a compiled policy; revisions are the caller's to add.
    pub fn of(compiled: &Compiled, host: &Host) -> Self {
        let Compiled { catalogue, tables, .. } = compiled;
        Self {
            devices: devices(compiled),
            networks: catalogue.networks.iter().map(|(id, name)| (*id, name.as_str().into())).collect(),
            timeouts: tables.networks.iter().map(|(id, facts)| (*id, facts.timeouts)).collect(),
            rules: catalogue.rules.iter().map(|(id, rule)| (*id, rule.to_string().into())).collect(),
            interfaces: host.interfaces.iter().map(|(name, i)| (i.ifindex, name.into())).collect(),
            revisions: BTreeMap::new(),
        }
    }

    /// Takes up devices that are other than before; those that are gone keep their names.
    pub fn take_up(&mut self, compiled: &Compiled, touched: &Touched) {
        for id in touched.0.keys() {
            let name = compiled.catalogue.devices.get(id);
            name.into_iter().for_each(|name| self.devices.insert(*id, device(compiled, *id, name)));
        }
    }

    /// Keeps older names for numbers that have no newer one: flows and events may still carry them.
    pub fn inherit(&mut self, older: &Self) {
        let gone = side_by_side(&older.devices, &self.devices).filter_map(|(number, older, newer)| {
            let older = older.filter(|_| newer.is_none())?;
            Some((*number, older.clone()))
        });
        let gone: Vec<(DeviceId, DeviceName)> = gone.collect();
        self.devices.extend(gone);
        inherit(&mut self.networks, &older.networks);
        inherit(&mut self.rules, &older.rules);
        inherit(&mut self.interfaces, &older.interfaces);
        inherit(&mut self.revisions, &older.revisions);
    }
}

/// All devices, by one walk through names and rows.
fn devices(Compiled { catalogue, tables, .. }: &Compiled) -> Layered<DeviceId, DeviceName> {
    let segments: BTreeMap<ProfileId, Option<Label>> =
        catalogue.profiles.iter().map(|(id, profile)| (*id, segment(profile))).collect();
    let walk = side_by_side(&catalogue.devices, &tables.devices);
    let named = walk.filter_map(|(id, name, row)| {
        let segment = row.and_then(|row| segments.get(&row.profile)).cloned().flatten();
        Some((*id, DeviceName { name: name?.as_str().into(), segment }))
    });
    named.collect()
}

fn device(Compiled { catalogue, tables, .. }: &Compiled, id: DeviceId, name: &Name) -> DeviceName {
    let profile = tables.devices.get(&id).and_then(|row| catalogue.profiles.get(&row.profile));
    DeviceName { name: name.as_str().into(), segment: profile.and_then(segment) }
}

fn segment(profile: &ProfileName) -> Option<Label> {
    profile.segment.as_ref().map(|segment| segment.as_str().into())
}

fn inherit<K: Copy + Ord, V: Clone>(names: &mut BTreeMap<K, V>, older: &BTreeMap<K, V>) {
    for (number, name) in older {
        names.entry(*number).or_insert_with(|| name.clone());
    }
}

impl Names for NameTable {
    fn device(&self, id: DeviceId) -> Option<DeviceName> {
        self.devices.get(&id).cloned()
    }

    fn network(&self, id: NetworkId) -> Option<Label> {
        self.networks.get(&id).cloned()
    }

    fn rule(&self, id: RuleId) -> Option<Label> {
        self.rules.get(&id).cloned()
    }

    fn timeouts(&self, id: NetworkId) -> Timeouts {
        self.timeouts.get(&id).copied().unwrap_or_default()
    }

    fn interface(&self, ifindex: u32) -> Option<Label> {
        self.interfaces.get(&(ifindex & !EGRESS)).cloned()
    }

    fn revision(&self, generation: Generation) -> Option<u64> {
        self.revisions.range(..=generation).next_back().map(|(_, revision)| *revision)
    }

    fn nearest(&self, _event: &Event) -> Option<String> {
        None
    }
}
