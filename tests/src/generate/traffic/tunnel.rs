//! GTP-U around a device's packet: honest, odd and broken.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::world::INTERFACES;
use super::{Place, Traffic};
use crate::frame::Frame;

/// Sequence number, N-PDU number and the type of the first extension header.
const PLAIN: [u8; 4] = [0, 9, 0, 0];
/// A PDU session container of one word (TS 38.415), uplink, QFI 9.
const CONTAINER: [u8; 8] = [0, 9, 0, 0x85, 1, 0x10, 9, 0];
/// The same of two words, and a PDCP PDU number behind it.
const LONG_CHAIN: [u8; 16] = [0, 9, 0, 0x85, 2, 0x10, 9, 0, 0, 0, 0, 0xc0, 1, 0, 7, 0];
const UNKNOWN: [u8; 8] = [0, 9, 0, 0x77, 1, 0, 0, 0];
const EMPTY: [u8; 8] = [0, 9, 0, 0x85, 0, 0, 0, 0];
const TOO_LONG: [u8; 24] =
    [0, 9, 0, 0x85, 1, 0, 0, 0x85, 1, 0, 0, 0x85, 1, 0, 0, 0x85, 1, 0, 0, 0x85, 1, 0, 0, 0];

/// Base stations, the last two of them unknown.
const PEERS: [[u8; 4]; 4] = [[10, 3, 0, 21], [10, 3, 0, 22], [10, 3, 0, 77], [198, 51, 100, 7]];

/// True if tunnels end on the interface with this number.
pub(super) fn ends_tunnels(ifindex: u32) -> bool {
    INTERFACES.iter().any(|(name, number, ..)| *number == ifindex && matches!(*name, "n3" | "s1u"))
}

impl Traffic {
    /// Puts a packet into a tunnel, if it enters where tunnels end; now and then not, or where none does.
    pub(super) fn in_tunnel(&mut self, frame: Frame, place: Place, teid: u32) -> Frame {
        let wanted = if ends_tunnels(place.0) { 92 } else { 1 };
        if !self.random.chance(wanted) {
            return frame;
        }
        let frame = self.outer(frame, place);
        let teid = match self.random.below(40) {
            0 => 0,
            1 => teid ^ 1,
            2 => *self.random.pick(&[0x1a00, 0x1000, 0x17ff, 0x1800, 8193, 12288, 7]),
            _ => teid,
        };
        let message =
            if self.random.chance(96) { 255 } else { *self.random.pick(&[1, 2, 26, 31, 254, 3, 77]) };
        let frame = match self.random.below(40) {
            0..14 => frame.gtpu(0x30, message, teid, &[]),
            14..17 => frame.gtpu(0x32, message, teid, &PLAIN),
            17 => frame.gtpu(0x31, message, teid, &PLAIN),
            18..29 => frame.gtpu(0x34, message, teid, &CONTAINER),
            29..33 => frame.gtpu(0x37, message, teid, &LONG_CHAIN),
            33 => frame.gtpu(0x34, message, teid, &UNKNOWN),
            34 => frame.gtpu(0x34, message, teid, &EMPTY),
            35 => frame.gtpu(0x34, message, teid, &TOO_LONG),
            36 => frame.gtpu(0x50, message, teid, &[]),
            37 => frame.gtpu(0x20, message, teid, &[]),
            38 => frame.gtpu(0x30, message, teid, &[]).set(2, &[0, self.random.byte()]),
            _ => frame.gtpu(0x30, message, teid, &[]).payload(&[self.random.byte()]),
        };
        if self.random.chance(2) {
            frame.ipv4([10, 3, 0, 21].into(), [10, 3, 0, 10].into()).udp(2152, 2152)
        } else {
            frame
        }
    }

    /// IP and UDP between base station and endpoint.
    fn outer(&mut self, frame: Frame, place: Place) -> Frame {
        let v4 = |octets: [u8; 4]| IpAddr::V4(Ipv4Addr::from(octets));
        let v6 = |host: u16| IpAddr::V6(Ipv6Addr::new(0xfd03, 0, 0, 0, 0, 0, 0, host));
        let s1u = place.0 == 52;
        let (peer, local) = match self.random.below(30) {
            0 => (
                v4(*self.random.pick(&PEERS)),
                v4(*self.random.pick(&[[10, 3, 0, 10], [10, 4, 0, 10], [10, 3, 0, 11]])),
            ),
            1..7 if !s1u => (v6(0x21), v6(0x10)),
            _ if s1u => (v4([10, 4, 0, 21]), v4([10, 4, 0, 10])),
            _ => (v4(PEERS[self.random.below(2)]), v4([10, 3, 0, 10])),
        };
        let frame = frame.ip(peer, local);
        let frame = match self.random.below(60) {
            0 if local.is_ipv4() => frame.fragment(*self.random.pick(&[0, 8, 1480]), self.random.chance(50)),
            0 => frame.fragment_header(*self.random.pick(&[0, 8]), self.random.chance(50)),
            1 if local.is_ipv4() => frame.ip_options(&[148, 4, 0, 0]),
            _ => frame,
        };
        let port = if self.random.chance(98) { 2152 } else { *self.random.pick(&[2151, 2123, 8805]) };
        frame.udp(*self.random.pick(&[2152, 2152, 40_000]), port)
    }
}
