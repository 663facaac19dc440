//! What no device says in good faith, and what a bad link makes of what it says.

use super::choice::{ODD, OUTSIDE, parse};
use super::{Place, Traffic};
use crate::frame::{Frame, SYN};

impl Traffic {
    /// What no device says in good faith.
    pub(super) fn oddity(&mut self) -> (Place, Frame) {
        let device = self.random.pick(&self.devices).clone();
        let place = if self.random.chance(60) { self.place(&device.places, true) } else { self.any_place() };
        let frame = self.headers(place, 0x10);
        let mut ends = [self.host_of(device.net), parse(self.random.pick(&OUTSIDE))];
        if self.random.chance(40) {
            ends.reverse();
        }
        if self.random.chance(60) {
            ends[self.random.below(2)] = parse(self.random.pick(&ODD));
        }
        let [from, to] = ends;
        let frame = match (self.random.below(12), from.is_ipv4() == to.is_ipv4()) {
            (0, _) => {
                frame.ether_type(*self.random.pick(&[0x8809, 0x88cc, 0x8847, 0x88b5, 100])).payload(&[0; 46])
            }
            (_, false) => frame.payload(&[0x45; 60]),
            (1..3, _) if from.is_ipv4() => frame
                .ip(from, to)
                .icmp(*self.random.pick(&[3, 5, 11, 12, 13, 9, 17]), 0, [0; 4])
                .payload(&[0; 28]),
            (1..3, _) => frame
                .ip(from, to)
                .icmpv6(*self.random.pick(&[1, 2, 3, 127, 130, 143, 255]), 0, [0; 4])
                .payload(&[0; 48]),
            (3..5, _) => {
                let protocol = *self.random.pick(&[2, 4, 41, 47, 50, 58, 1, 59, 88, 132, 255]);
                let payload = vec![0; if self.random.chance(70) { 40 } else { self.random.below(14) }];
                frame.ip(from, to).protocol(protocol).payload(&payload)
            }
            (5, _) => frame.tag(0x8100, 7).tag(0x88a8, 9).tag(0x8100, 11).ip(from, to).udp(1, 2),
            (6, _) if from.is_ipv4() => frame.ip(from, to).udp(68, 67).payload(&[0; 30]),
            (6, _) => frame.ip(from, to).udp(546, 547).payload(&[0; 30]),
            (7, _) => frame.ip(from, to).udp(5000, 5000).set(4, &[0, self.random.byte()]).payload(&[0; 9]),
            (8, _) => frame.ip(from, to).tcp(50_000, 443).set(12, &[self.random.byte()]).payload(&[0; 9]),
            (_, _) => frame.ip(from, to).tcp(50_000, 443).flags(SYN),
        };
        (place, frame)
    }

    /// Bits flip, bytes vanish, rubbish is appended.
    pub(super) fn damage(&mut self, bytes: &mut Vec<u8>) {
        match self.random.below(6) {
            0 => bytes.truncate(self.random.below(bytes.len() + 1)),
            1 => bytes.truncate(bytes.len() - self.random.below(bytes.len().min(30) + 1)),
            2 => bytes.extend((0..self.random.below(40)).map(|_| self.random.byte())),
            3 => {
                let at = 12 + self.random.below(bytes.len().saturating_sub(12).max(1));
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = self.random.byte();
                }
            }
            _ => {
                for _ in 0..1 + self.random.below(3) {
                    let at = 12 + self.random.below(50);
                    let bit = 1 << self.random.below(8);
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= bit;
                    }
                }
            }
        }
    }
}
