//! A flow's first packet, where nobody is told of it and nothing but the policy's plainest words is to be asked.
//!
//! Few of a device's flows begin unnoticed; of one that opens hundreds in a second, or of a fleet that comes back at once,
//! most do. Such a packet opens its flow as the whole way would: if its device is one by a single address or an IPv6 /64, is
//! bound to no MAC address, tunnel, limit or clock, sends it from where it may to where its rules reach at any time, and no
//! flow of that key is there. All else is left to the whole way, which begins anew; until the flow is there, nothing is
//! changed.

use crate::abi::value::{IDENTITY_NESTED, IDENTITY_ROW, INITIATOR_LOCAL, SCOPE_POOL};
use crate::abi::{Addr, AddressKey, Device, DeviceId, Epoch, Flow, FlowKey, Network, PortRange, Versioned};
use crate::case::Arrival;
use crate::decide::{self, FlowStart, FlowUpdate, Permission, Service, Tables};
use crate::express::{Strangers, Vouched};
use crate::identify;
use crate::search;
use crate::timeouts::{next_state, timeout};
use crate::verdict::{Pass, Verdict};

/// A plain packet from where devices' packets enter, of no flow that was found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct Opening {
    /// Of the flow, as who sends it sees it; of no device yet.
    pub(super) key: FlowKey,
    pub(super) epoch: Epoch,
    pub(super) arrival: Arrival,
    /// VLAN number of its frame.
    pub(super) vlan: u16,
    /// Flags of a TCP segment, 0 of UDP.
    pub(super) flags: u8,
}

impl Opening {
    /// Opens the flow; false if the whole way must tell, and then all is as it was.
    #[inline(always)]
    pub fn open<T: Tables + Vouched + Strangers>(&mut self, tables: &T) -> bool {
        match self.start(tables) {
            Some(start) => tables.begin(&self.key, &start),
            None => false,
        }
    }

    /// What the flow starts with, if it may; its device is in the key then.
    #[inline(always)]
    fn start<T: Tables + Strangers>(&mut self, tables: &T) -> Option<FlowStart> {
        let now = tables.now();
        let network = tables.network(identify::network_index(self.epoch, self.key.network))?;
        if !self.leaves(tables, network) {
            return None;
        }
        let device = self.sender(tables)?;
        if !tables.is_silent(device.device, Verdict::Pass(Pass::Opened), now) {
            return None;
        }
        self.key.device = device.device;
        let permission = Permission::at_all_times(self.entry(tables, device)?)?;
        let state = next_state(permission.state(), true, self.flags);
        Some(FlowStart {
            update: FlowUpdate {
                decision: Flow::decision_word(self.epoch.generation, permission.rule),
                deadline: now + timeout(&network.timeouts, self.key.protocol, state),
                side: 0,
                access: Flow::access_word(self.arrival.ifindex, self.vlan, 0),
                found: 0,
                state,
                bytes: self.arrival.length,
                packets: self.arrival.packets,
            },
            initiator: INITIATOR_LOCAL,
            peer: DeviceId::NONE,
            opened: now,
            quota: 0,
        })
    }

    /// True if it goes from a pool of its network to where no device of it is, and where any device may send.
    #[inline(always)]
    fn leaves<T: Tables>(&self, tables: &T, network: &Network) -> bool {
        let scope = |address| search::scope_of_few(tables, network.scopes, address);
        scope(self.key.local) == Ok(SCOPE_POOL)
            && scope(self.key.remote).is_ok_and(|scope| scope != SCOPE_POOL)
            && identify::unreachable(self.key.remote).is_none()
    }

    /// Who has sent it, if nothing but its place is to be asked of that.
    #[inline(always)]
    fn sender<'t, T: Tables>(&self, tables: &'t T) -> Option<&'t Device> {
        let identity = self.at(self.identity(tables, self.key.local)?);
        let row = identity & IDENTITY_ROW;
        if row == 0 || identity & IDENTITY_NESTED != 0 {
            return None;
        }
        let device = tables.device(row)?;
        let here = identify::enters_at(device, self.arrival.ifindex, self.vlan, 0);
        (here && identify::is_steady(device) && device.teid == 0).then_some(device)
    }

    #[inline(always)]
    fn identity<T: Tables>(&self, tables: &T, address: Addr) -> Option<Versioned> {
        let mut slot = tables.address(&AddressKey::host(self.key.network, address));
        if slot.is_none() && !address.is_v4() {
            slot = tables.address(&AddressKey::prefix64(self.key.network, address));
        }
        tables.identity(slot?)
    }

    /// The entry that opens its service to the device, where that is not forbidden for ever and nobody has to pay.
    #[inline(always)]
    fn entry<'t, T: Tables>(&self, tables: &'t T, device: &Device) -> Option<&'t PortRange> {
        let rules = match self.at(tables.profile(device.profile.0)?) {
            0 => return None,
            row => tables.rule_set(row)?,
        };
        let service = Service::of(&self.key, false);
        if !rules.limits.is_none() || service.not_control().is_err() {
            return None;
        }
        decide::not_never(tables, rules.never, service).ok()?;
        search::port_at(tables, rules.outbound, self.key.remote, service.protocol, service.port).ok()?
    }

    /// What is said in the packet's generation.
    #[inline(always)]
    fn at(&self, said: Versioned) -> u32 {
        said.at(self.epoch.generation).1
    }
}
