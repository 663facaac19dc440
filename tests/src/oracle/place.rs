//! Where a frame enters, whom it is from and for, and whether it can be.
#![expect(clippy::wildcard_enum_match_arm, reason = "what is not named is the rest, whatever it is")]

use std::net::IpAddr;

use bulkhead::policy::{Device, Interface, Network};

use super::dissect::{Dissected, What};
use super::intent::{is_access, is_core, is_transit};
use super::watch::Gate;
use super::{Flaw, Oracle, Refusal, Subject, is_special, tunnel};

/// An interface, the tags, and the network seen there.
#[derive(Clone, Copy)]
pub(super) struct Place<'p> {
    pub(super) interface: &'p Interface,
    pub(super) vlans: (u16, u16),
    pub(super) network: Option<&'p Network>,
    /// Frames from devices enter here, in this way.
    pub(super) access: bool,
    /// Frames from the data network enter here, in this way.
    pub(super) core: bool,
}

/// Why nobody may send to such an address.
pub(super) fn special(address: IpAddr) -> Refusal {
    match address {
        IpAddr::V4(v4) if v4.is_broadcast() => "broadcast",
        _ if address.is_multicast() => "multicast",
        _ => "martian_destination",
    }
}

impl<'p> Oracle<'p> {
    /// Finds the place and sends the frame on to whoever judges its kind.
    pub(super) fn place(
        &mut self,
        gate: Gate<'p>,
        subject: &mut Subject<'_>,
    ) -> Result<&'static str, Refusal> {
        let interface = gate.interface;
        let vlans = subject.frame.vlans;
        let tunnelled = subject.teid.is_some();
        let access = is_access(interface) && (interface.gtpu.is_none() || tunnelled) && !gate.leaves;
        let core = (is_core(interface) || gate.leaves) && !tunnelled;
        let mut place = Place { interface, vlans, network: None, access, core };
        place.network = match interface.gtpu {
            None => self.intent.network(&interface.name.value, vlans),
            Some(_) => {
                self.network_of(&place, subject).map(|found| &self.intent.policy.networks()[&found.name])
            }
        };
        if self.only_looks(gate) {
            return Ok(self.look_on(&place, subject));
        }
        match subject.frame.what {
            What::LinkControl if (core || !access) && is_transit(interface) => Ok("link_control"),
            What::LinkControl => Err("unsupported_ethertype"),
            What::Arp
            | What::ArpOfAnother
            | What::NeighbourAsked
            | What::NeighbourTold
            | What::RouterAsked
            | What::RouterTold => self.neighbour(&place, subject),
            What::Ports { .. }
            | What::Ping(_)
            | What::Pong(_)
            | What::IcmpError(_)
            | What::Redirect
            | What::IcmpOther
            | What::Fragment
            | What::Portless(_)
            | What::Unknown => self.route(&place, subject),
        }
    }

    fn route(&mut self, place: &Place<'p>, subject: &mut Subject<'_>) -> Result<&'static str, Refusal> {
        let Dissected { from, to, .. } = subject.frame.clone();
        if subject.frame.what == What::Redirect && place.access {
            return Err("neighbour_role");
        }
        if tunnel::is_nested(subject) && !self.has(Flaw::IgnoresNesting) {
            return Err("gtpu_nested");
        }
        if place.network.is_none() && subject.teid.is_some() {
            return Err("unknown_tunnel");
        }
        let Some(network) = place.network else {
            let strange = self.intent.is_pool_anywhere(from) || self.intent.is_pool_anywhere(to);
            return if strange { Err("unknown_vlan") } else { self.transit(place, subject) };
        };
        if self.intent.is_pool(network, from) {
            return self.sent_by_device(place, network, subject);
        }
        if self.intent.is_pool(network, to) {
            return self.sent_to_device(place, network, subject);
        }
        self.transit(place, subject)
    }

    fn sent_by_device(
        &mut self,
        place: &Place<'p>,
        network: &'p Network,
        subject: &mut Subject<'_>,
    ) -> Result<&'static str, Refusal> {
        let Dissected { from, to, .. } = subject.frame.clone();
        let access = place.access;
        let Some(sender) = self.intent.device(network, from) else {
            if self.has(Flaw::PassesUnknownDevices) {
                return self.transit(place, subject);
            }
            return if access { self.nobody_speaks(network, subject) } else { Err("spoofed_source") };
        };
        subject.device = Some(sender.name.to_string());
        if access && !self.is_bound_here(sender, place, subject) {
            return Err("spoofed_source");
        }
        if access && !self.is_its_tunnel(sender, place, subject) {
            return Err("spoofed_tunnel");
        }
        if is_special(to) {
            return Err(special(to));
        }
        if !self.intent.is_pool(network, to) {
            return if access { self.uplink(sender, subject) } else { Err("spoofed_source") };
        }
        let Some(receiver) = self.intent.device(network, to) else {
            let watched = access && self.intent.watches(sender) && !self.is_shut(sender, None, subject.now);
            return if watched {
                self.with_nobody(network, "unknown_peer", subject)
            } else {
                Err("unknown_peer")
            };
        };
        subject.peer = Some(receiver.name.to_string());
        self.lateral(sender, receiver, access, subject)
    }

    fn sent_to_device(
        &mut self,
        place: &Place<'p>,
        network: &'p Network,
        subject: &mut Subject<'_>,
    ) -> Result<&'static str, Refusal> {
        let Dissected { from, to, .. } = subject.frame.clone();
        if !place.core {
            return Err("spoofed_source");
        }
        if is_special(from) {
            return Err("martian_source");
        }
        if self.is_foreign(place, from) {
            return Err("spoofed_source");
        }
        let Some(receiver) = self.intent.device(network, to) else {
            return self.with_nobody(network, "unknown_device", subject);
        };
        subject.device = Some(receiver.name.to_string());
        self.downlink(receiver, subject)
    }

    /// True for an address that only a device of another network can have.
    fn is_foreign(&self, place: &Place<'p>, address: IpAddr) -> bool {
        let ours = place.network.is_some_and(|network| self.intent.is_infrastructure(network, address));
        !ours && self.intent.is_pool_anywhere(address)
    }

    fn transit(&self, place: &Place<'p>, subject: &Subject<'_>) -> Result<&'static str, Refusal> {
        let Dissected { from, to, what, .. } = subject.frame.clone();
        if self.is_foreign(place, from) {
            return Err("spoofed_source");
        }
        if self.is_foreign(place, to) {
            return Err("unknown_vlan");
        }
        self.refuse_endpoint(subject)?;
        if is_transit(place.interface) && subject.teid.is_none() {
            return Ok("transit");
        }
        if place.core || !place.access {
            return Err("transit_denied");
        }
        let dhcp = |what| {
            matches!(
                what,
                What::Ports { protocol: 17, source: 68, destination: 67, .. }
                    | What::Ports { protocol: 17, source: 546, destination: 547, .. }
            )
        };
        Err(match () {
            () if dhcp(what) => "dhcp",
            () if to.is_multicast() => "multicast",
            () if is_special(from) => "martian_source",
            () => "spoofed_source",
        })
    }

    /// True if the device's frames may enter like this one does.
    pub(super) fn is_bound_here(&self, device: &Device, place: &Place<'_>, subject: &Subject<'_>) -> bool {
        let Some(binding) = &device.binding else { return true };
        let (outer, inner) = place.vlans;
        self.has(Flaw::ForgetsBindings)
            || binding.interface.as_ref().is_none_or(|name| *name == place.interface.name.value)
                && binding.vlan.is_none_or(|vlan| vlan == outer)
                && binding.inner_vlan.is_none_or(|vlan| vlan == inner)
                && binding.mac.is_none_or(|mac| mac == subject.frame.mac)
    }
}
