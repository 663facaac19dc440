//! Link types of captures → frames as the program takes them.
//!
//! Cooked captures (`tcpdump -i any`) have thrown the Ethernet header away: what they kept of it is put back in front of
//! the packet. The destination MAC address is not among it, and nothing depends on it.

use bulkhead_common::case::LinkType;
use bulkhead_common::wire::ether_type;

use super::capture::Captured;

/// What packets of a captured interface begin with (<https://www.tcpdump.org/linktypes.html>).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LinkLayer {
    /// An Ethernet header.
    Ethernet,
    /// The IP packet.
    Ip,
    /// Linux cooked capture, `LINUX_SLL`.
    Cooked,
    /// Linux cooked capture with the interface's number, `LINUX_SLL2`.
    CookedV2,
}

impl LinkLayer {
    /// The link types that are read, for messages.
    pub const KNOWN: &str =
        "Ethernet (1), raw IP (101, 228, 229), Linux cooked (113) and Linux cooked v2 (276)";

    /// The link layer with this number.
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Ethernet),
            // 12 and 14 are what some systems call raw IP themselves (`DLT_RAW`).
            12 | 14 | 101 | 228 | 229 => Some(Self::Ip),
            113 => Some(Self::Cooked),
            276 => Some(Self::CookedV2),
            _ => None,
        }
    }

    /// The packet as a frame. `room` is where it is put together if that must be done.
    pub fn frame<'a>(self, packet: &'a Captured, room: &'a mut Vec<u8>) -> Frame<'a> {
        let Captured { length, outgoing, ref bytes, .. } = *packet;
        let plain = |link| Frame { link, bytes, length, outgoing };
        let header = match self {
            Self::Ethernet => return plain(LinkType::Ethernet),
            Self::Ip => return plain(LinkType::RawIp),
            Self::Cooked => Header::v1(bytes),
            Self::CookedV2 => Header::v2(bytes),
        };
        match header {
            Some((header, payload)) => header.frame(payload, packet, room),
            // Nothing is known but that there was a packet.
            None => Frame { link: LinkType::Ethernet, bytes: &[], length: length.max(1), outgoing },
        }
    }

    /// The number of the interface that a packet was seen on, where each packet tells.
    pub fn ifindex(self, packet: &Captured) -> Option<u32> {
        match self {
            Self::Ethernet | Self::Ip | Self::Cooked => None,
            Self::CookedV2 => packet.bytes.get(4..8)?.try_into().ok().map(u32::from_be_bytes),
        }
    }
}

/// A packet as it would lie before the program.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Frame<'a> {
    /// What it begins with.
    pub link: LinkType,
    /// As much as the capture kept.
    pub bytes: &'a [u8],
    /// Its length on the wire.
    pub length: u32,
    /// True if the host sent it: the program sees only what enters.
    pub outgoing: bool,
}

/// Bytes of an Ethernet header.
const ETHERNET: u32 = 14;
/// `ARPHRD_ETHER` and `ARPHRD_LOOPBACK` (linux/if_arp.h).
const WITH_MAC: [u16; 2] = [1, 772];
/// Packet type of what the host sent (linux/if_packet.h).
const OUTGOING: u16 = 4;

/// What a cooked header tells.
struct Header {
    /// Bytes of it.
    length: u32,
    protocol: [u8; 2],
    hardware: u16,
    address: Option<[u8; 6]>,
    outgoing: bool,
}

impl Header {
    /// <https://www.tcpdump.org/linktypes/LINKTYPE_LINUX_SLL.html>
    fn v1(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (head, payload) = bytes.split_first_chunk::<16>()?;
        let [k0, k1, h0, h1, l0, l1, a0, a1, a2, a3, a4, a5, _, _, p0, p1] = *head;
        let header = Self {
            length: 16,
            protocol: [p0, p1],
            hardware: u16::from_be_bytes([h0, h1]),
            address: ([l0, l1] == [0, 6]).then_some([a0, a1, a2, a3, a4, a5]),
            outgoing: u16::from_be_bytes([k0, k1]) == OUTGOING,
        };
        Some((header, payload))
    }

    /// <https://www.tcpdump.org/linktypes/LINKTYPE_LINUX_SLL2.html>
    fn v2(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (head, payload) = bytes.split_first_chunk::<20>()?;
        let [p0, p1, _, _, _, _, _, _, h0, h1, kind, length, a0, a1, a2, a3, a4, a5, _, _] = *head;
        let header = Self {
            length: 20,
            protocol: [p0, p1],
            hardware: u16::from_be_bytes([h0, h1]),
            address: (length == 6).then_some([a0, a1, a2, a3, a4, a5]),
            outgoing: u16::from(kind) == OUTGOING,
        };
        Some((header, payload))
    }

    fn frame<'a>(&self, payload: &'a [u8], packet: &Captured, room: &'a mut Vec<u8>) -> Frame<'a> {
        let length = packet.length.saturating_sub(self.length);
        let outgoing = packet.outgoing || self.outgoing;
        if self.is_raw() {
            return Frame { link: LinkType::RawIp, bytes: payload, length, outgoing };
        }
        room.clear();
        room.extend([0; 6]);
        room.extend(self.address.unwrap_or_default());
        // A VLAN tag lies behind the header as it does in a frame: its EtherType is the protocol.
        room.extend(self.protocol);
        room.extend(payload);
        Frame { link: LinkType::Ethernet, bytes: room, length: length.saturating_add(ETHERNET), outgoing }
    }

    /// True if the interface has no Ethernet header: a TUN device or a tunnel.
    fn is_raw(&self) -> bool {
        let is_ip = [ether_type::IPV4, ether_type::IPV6].contains(&u16::from_be_bytes(self.protocol));
        is_ip && self.address.is_none() && !WITH_MAC.contains(&self.hardware)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(bytes: &[u8], length: u32) -> Captured {
        Captured { bytes: bytes.to_vec(), length, ..Captured::default() }
    }

    fn v1(kind: u8, hardware: u16, address: &[u8], protocol: u16) -> Vec<u8> {
        let mut bytes = vec![0, kind];
        bytes.extend(hardware.to_be_bytes());
        bytes.extend([0, address.len() as u8]);
        bytes.extend(address);
        bytes.resize(14, 0);
        bytes.extend(protocol.to_be_bytes());
        bytes.extend([0x45, 1, 2, 3]);
        bytes
    }

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x17];

    #[test]
    fn a_cooked_packet_gets_its_ethernet_header_back() {
        let packet = captured(&v1(0, 1, &MAC, 0x0800), 16 + 60);
        let mut room = Vec::new();
        let frame = LinkLayer::Cooked.frame(&packet, &mut room);
        assert_eq!((frame.link, frame.length, frame.outgoing), (LinkType::Ethernet, 14 + 60, false));
        assert_eq!(frame.bytes, [0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0x17, 8, 0, 0x45, 1, 2, 3]);
    }

    #[test]
    fn a_cooked_packet_of_a_tunnel_is_the_ip_packet() {
        let packet = captured(&v1(4, 0xfffe, &[], 0x0800), 16 + 4);
        let mut room = Vec::new();
        let frame = LinkLayer::Cooked.frame(&packet, &mut room);
        assert_eq!((frame.link, frame.length, frame.outgoing), (LinkType::RawIp, 4, true));
        assert_eq!(frame.bytes, [0x45, 1, 2, 3]);
    }

    #[test]
    fn the_second_version_tells_the_interface() {
        let mut bytes = vec![0x81, 0, 0, 0, 0, 0, 1, 7, 0, 1, 4, 6];
        bytes.extend(MAC);
        bytes.extend([0, 0, 0, 101, 8, 0]);
        let packet = captured(&bytes, 24);
        let mut room = Vec::new();
        assert_eq!(LinkLayer::CookedV2.ifindex(&packet), Some(263));
        let frame = LinkLayer::CookedV2.frame(&packet, &mut room);
        assert!(frame.outgoing);
        assert_eq!(frame.bytes[6..], [2, 0, 0, 0, 0, 0x17, 0x81, 0, 0, 101, 8, 0]);
    }

    #[test]
    fn a_header_that_was_cut_leaves_a_packet_of_which_nothing_is_known() {
        for layer in [LinkLayer::Cooked, LinkLayer::CookedV2] {
            let whole = v1(0, 1, &MAC, 0x0800);
            for length in 0..16 {
                let packet = captured(&whole[..length], 0);
                let mut room = Vec::new();
                let frame = layer.frame(&packet, &mut room);
                assert!(frame.bytes.is_empty() && frame.length > 0, "{length}");
            }
        }
    }
}
