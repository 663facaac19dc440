//! ARP and neighbour discovery: who may claim an address, and who may be asked for.
#![expect(clippy::wildcard_enum_match_arm, reason = "what is not named is the rest, whatever it is")]

use std::net::IpAddr;

use super::dissect::{Dissected, What};
use super::intent::is_transit;
use super::place::Place;
use super::{Flaw, Oracle, Refusal, Subject};

impl<'p> Oracle<'p> {
    pub(super) fn neighbour(
        &self,
        place: &Place<'p>,
        subject: &mut Subject<'_>,
    ) -> Result<&'static str, Refusal> {
        let Dissected { from, to, what, .. } = subject.frame.clone();
        if what == What::RouterTold {
            return match from {
                _ if place.access => Err("neighbour_role"),
                IpAddr::V6(v6) if v6.is_unicast_link_local() => Ok("neighbour"),
                _ => Err("spoofed_neighbour"),
            };
        }
        if what == What::ArpOfAnother && place.access {
            return Err("spoofed_neighbour");
        }
        self.claim(place, subject, from)?;
        match what {
            What::RouterAsked => {}
            What::NeighbourTold => self.claim(place, subject, to)?,
            _ => self.ask(place, to)?,
        }
        Ok("neighbour")
    }

    /// The sender says that it has the address.
    fn claim(&self, place: &Place<'p>, subject: &mut Subject<'_>, address: IpAddr) -> Result<(), Refusal> {
        if self.has(Flaw::BelievesNeighbours) || is_nobody_s(address) {
            return Ok(());
        }
        let network = match place.network {
            Some(network) if self.intent.is_pool(network, address) => network,
            None if self.intent.is_pool_anywhere(address) => return Err("unknown_vlan"),
            _ => return self.on_link(place, address).ok_or("spoofed_neighbour"),
        };
        if !place.access {
            return Err("spoofed_neighbour");
        }
        let Some(device) = self.intent.device(network, address) else {
            let watched = self.intent.watches_nobody(network);
            subject.would = watched.then_some("unknown_device").or(subject.would);
            return if watched { Ok(()) } else { Err("unknown_device") };
        };
        subject.device = Some(device.name.to_string());
        // Nobody on the link has it: what lies behind a device is reached through the device.
        let routed = self.intent.is_behind(device, address) && !self.has(Flaw::BelievesLans);
        let bound = !routed && self.is_bound_here(device, place, subject);
        bound.then_some(()).ok_or("spoofed_neighbour")
    }

    /// The sender wants to know who has the address.
    fn ask(&self, place: &Place<'p>, address: IpAddr) -> Result<(), Refusal> {
        let here = match place.network {
            _ if is_link_local_v6(address) => true,
            _ if self.intent.is_host(address) => true,
            Some(network) => {
                self.intent.is_pool(network, address) || self.intent.is_infrastructure(network, address)
            }
            None if self.intent.is_pool_anywhere(address) => return Err("unknown_vlan"),
            None => false,
        };
        if here { Ok(()) } else { self.on_link(place, address).ok_or("neighbour_off_link") }
    }

    /// On the host's own prefix of the link; or on a core link, which the host passes on anyway.
    fn on_link(&self, place: &Place<'p>, address: IpAddr) -> Option<()> {
        let prefixes = self.intent.link(&place.interface.name.value, place.vlans);
        let free = (place.core || !place.access) && is_transit(place.interface);
        (free || prefixes.iter().any(|prefix| prefix.contains(&address))).then_some(())
    }
}

/// Unspecified in probes (RFC 5227, RFC 4862); IPv6 link-local says nothing about devices.
fn is_nobody_s(address: IpAddr) -> bool {
    address.is_unspecified() || is_link_local_v6(address)
}

fn is_link_local_v6(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}
