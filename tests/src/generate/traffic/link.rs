//! ARP and neighbour discovery, honest and not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::choice::{OUTSIDE, parse};
use super::{Place, Traffic};
use crate::frame::{DESTINATION, Frame};

impl Traffic {
    pub(super) fn neighbour(&mut self) -> (Place, Frame) {
        let device = self.random.pick(&self.devices).clone();
        let place = self.place(&device.places, true);
        let mac = *self.random.pick(&[0x10, 0x10, 0x11]);
        let frame = self.headers(place, mac);
        let sender = if self.random.chance(70) { self.host_of(device.net) } else { self.near_or_odd() };
        let target = match self.random.below(4) {
            0 => self.random.pick(&self.devices).net.addr(),
            1 => parse(self.random.pick(&OUTSIDE)),
            2 => parse(self.random.pick(&["10.45.0.1", "fe80::1", "10.46.0.1", "192.0.2.9", "10.45.130.1"])),
            _ => self.near_or_odd(),
        };
        let frame = match (sender, target) {
            (IpAddr::V4(sender), target) => {
                let target =
                    if let IpAddr::V4(target) = target { target } else { Ipv4Addr::new(10, 45, 0, 1) };
                frame.arp(*self.random.pick(&[1, 1, 2, 3]), sender, target)
            }
            (IpAddr::V6(sender), target) => {
                let target = if let IpAddr::V6(target) = target { target } else { sender };
                self.discovery(frame, sender, target)
            }
        };
        (place, frame)
    }

    fn discovery(&mut self, frame: Frame, sender: Ipv6Addr, target: Ipv6Addr) -> Frame {
        let sender = if self.random.chance(30) { Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2) } else { sender };
        let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let frame = frame.ipv6(sender, all);
        let frame = if self.random.chance(5) { frame.extension(DESTINATION, &[0; 6]) } else { frame };
        let frame = match self.random.below(10) {
            0..4 => frame.neighbour_solicitation(target),
            4..7 => frame.neighbour_advertisement(target),
            7 => frame.ttl(255).icmpv6(133, 0, [0; 4]),
            8 => frame.ttl(255).icmpv6(134, 0, [64, 0, 7, 8]).payload(&[0; 8]),
            _ => frame.ttl(255).icmpv6(137, 0, [0; 4]).payload(&[0; 32]),
        };
        if self.random.chance(5) { frame.ttl(254) } else { frame }
    }
}
