//! IPv6 header and its bounded extension chain (RFC 8200).

use super::ip_proto;
use crate::abi::Addr;
use crate::fragment::Piece;
use crate::frame::{Frame, Window};
use crate::verdict::DropReason;

/// Bytes of the fixed header.
pub const LEN: usize = 40;
/// Extension headers that are walked; a longer chain is a drop.
pub const IPV6_EXT_MAX: u32 = 6;

/// An IPv6 header whose payload length fits the frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ipv6([u8; LEN]);

/// Where the extension chain ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Payload {
    /// Protocol of the payload.
    pub protocol: u8,
    /// Where it starts.
    pub at: u32,
    /// Which part of its datagram the packet is.
    pub piece: Piece,
    /// True if there was a fragment header, of a whole packet too (RFC 6946).
    pub fragment: bool,
    /// True if there was a hop-by-hop, destination options or routing header.
    pub options: bool,
    /// True if there was any extension header.
    pub extended: bool,
}

impl Ipv6 {
    /// Reads the header; nothing if it is cut off or promises more than the frame holds.
    #[inline(always)]
    pub fn load<F: Frame + ?Sized>(window: &Window<'_, F>, at: u32) -> Option<Self> {
        let header = Self(window.load(at)?);
        let fits = header.0[0] >> 4 == 6 && window.rest(at) >= LEN as u32 + header.payload_len();
        fits.then_some(header)
    }

    /// What lies before the addresses, as it is.
    #[inline(always)]
    pub const fn first_bytes(&self) -> [u8; 8] {
        let [b0, b1, b2, b3, b4, b5, b6, b7, ..] = self.0;
        [b0, b1, b2, b3, b4, b5, b6, b7]
    }

    /// Bytes behind the fixed header.
    #[inline(always)]
    pub const fn payload_len(&self) -> u32 {
        u16::from_be_bytes([self.0[4], self.0[5]]) as u32
    }

    /// Protocol of what follows the fixed header.
    #[inline(always)]
    pub const fn next_header(&self) -> u8 {
        self.0[6]
    }

    /// Hop limit.
    #[inline(always)]
    pub const fn hop_limit(&self) -> u8 {
        self.0[7]
    }

    /// Source address.
    #[inline(always)]
    pub const fn source(&self) -> Addr {
        self.address(8)
    }

    /// Destination address.
    #[inline(always)]
    pub const fn destination(&self) -> Addr {
        self.address(24)
    }

    #[inline(always)]
    const fn address(&self, at: usize) -> Addr {
        let b = &self.0;
        Addr::from_v6([
            b[at],
            b[at + 1],
            b[at + 2],
            b[at + 3],
            b[at + 4],
            b[at + 5],
            b[at + 6],
            b[at + 7],
            b[at + 8],
            b[at + 9],
            b[at + 10],
            b[at + 11],
            b[at + 12],
            b[at + 13],
            b[at + 14],
            b[at + 15],
        ])
    }

    /// Walks the extension chain that starts at `at`, behind the fixed header.
    #[inline(always)]
    pub fn payload<F: Frame + ?Sized>(&self, window: &Window<'_, F>, at: u32) -> Result<Payload, DropReason> {
        let mut payload = Payload {
            protocol: self.next_header(),
            at,
            piece: Piece::WHOLE,
            fragment: false,
            options: false,
            extended: false,
        };
        for step in 0..IPV6_EXT_MAX {
            // Behind the header of a later fragment there is none that could be read.
            if !is_extension(payload.protocol) || payload.piece.is_later() {
                return Ok(payload);
            }
            payload = payload.skip(window, step, at)?;
        }
        let unwalked = is_extension(payload.protocol) && !payload.piece.is_later();
        if unwalked { Err(DropReason::UnsupportedExtension) } else { Ok(payload) }
    }
}

impl Payload {
    /// Goes behind one header of a chain that starts at `start`.
    #[inline(always)]
    fn skip<F: Frame + ?Sized>(
        self,
        window: &Window<'_, F>,
        step: u32,
        start: u32,
    ) -> Result<Self, DropReason> {
        let header: [u8; 8] = window.load(self.at).ok_or(DropReason::MalformedIpv6)?;
        let [next, len, _, segments_left, ..] = header;
        let bytes = match self.protocol {
            ip_proto::FRAGMENT if self.fragment => return Err(DropReason::UnsupportedExtension),
            // Hop-by-hop options stand first or nowhere (RFC 8200 section 4.1).
            ip_proto::HOP_BY_HOP if step > 0 => return Err(DropReason::MalformedIpv6),
            // The address in the header is not the final one: judging it would be judging a lie.
            ip_proto::ROUTING if segments_left != 0 => return Err(DropReason::UnsupportedExtension),
            ip_proto::FRAGMENT => 8,
            _ => (len as u32 + 1) * 8,
        };
        if window.rest(self.at) < bytes {
            return Err(DropReason::MalformedIpv6);
        }
        let at = self.at + bytes;
        let fragment = self.protocol == ip_proto::FRAGMENT;
        Ok(Self {
            protocol: next,
            at,
            piece: if fragment { piece(header, window.rest(at), self.at - start)? } else { self.piece },
            fragment: self.fragment || fragment,
            options: self.options || !fragment,
            extended: true,
        })
    }
}

/// Which part of its datagram a packet with this fragment header is, with `before` bytes of other headers in front
/// of it; a whole one may have it too (RFC 6946).
#[inline(always)]
const fn piece(header: [u8; 8], len: u32, before: u32) -> Result<Piece, DropReason> {
    let field = u16::from_be_bytes([header[2], header[3]]);
    if field & 0xfff9 == 0 {
        return Ok(Piece::WHOLE);
    }
    let id = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    match Piece::new(id, field & 0xfff8, len, field & 1 != 0, header[0]) {
        Ok(piece) => piece.behind(before),
        Err(reason) => Err(reason),
    }
}

/// An authentication header is not one: it may hold a tunnel, and IPv4 has it as a protocol like others.
#[inline(always)]
pub(crate) const fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        ip_proto::HOP_BY_HOP | ip_proto::ROUTING | ip_proto::FRAGMENT | ip_proto::DESTINATION_OPTIONS
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// A packet with the given extension headers, each `(type, rest behind "next header")`.
    fn packet(chain: &[(u8, &[u8])], last: u8) -> Vec<u8> {
        let mut bytes = std::vec![0u8; LEN];
        bytes[0] = 0x60;
        bytes[7] = 64;
        bytes[6] = chain.first().map_or(last, |(kind, _)| *kind);
        for (index, (_, rest)) in chain.iter().enumerate() {
            bytes.push(chain.get(index + 1).map_or(last, |(kind, _)| *kind));
            bytes.extend_from_slice(rest);
        }
        let len = (bytes.len() - LEN) as u16;
        bytes[4..6].copy_from_slice(&len.to_be_bytes());
        bytes
    }

    fn walk(bytes: &[u8]) -> Result<Payload, DropReason> {
        let frame = Window::new(bytes, bytes.len() as u32).unwrap();
        let header = Ipv6::load(&frame, 0).ok_or(DropReason::MalformedIpv6)?;
        let window = frame.up_to(LEN as u32 + header.payload_len()).unwrap();
        header.payload(&window, LEN as u32)
    }

    #[test]
    fn each_header_counts_its_length_its_own_way() {
        let chain: [(u8, &[u8]); 2] =
            [(0, &[0, 0, 0, 0, 0, 0, 0]), (60, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])];
        let payload = walk(&packet(&chain, 17)).unwrap();
        assert_eq!((payload.protocol, payload.at, payload.fragment), (17, 40 + 8 + 16, false));
    }

    #[test]
    fn an_authentication_header_is_a_protocol_and_nothing_behind_it_is_read() {
        let payload = walk(&packet(&[(51, &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])], 6)).unwrap();
        assert_eq!((payload.protocol, payload.at), (51, 40));
    }

    #[test]
    fn a_routing_header_passes_only_at_its_last_hop() {
        assert!(walk(&packet(&[(43, &[0, 0, 0, 0, 0, 0, 0])], 6)).is_ok());
        let pending = packet(&[(43, &[0, 0, 1, 0, 0, 0, 0])], 6);
        assert_eq!(walk(&pending), Err(DropReason::UnsupportedExtension));
    }

    #[test]
    fn behind_the_header_of_a_later_fragment_nothing_is_walked() {
        let options: (u8, &[u8]) = (60, &[0, 0, 0, 0, 0, 0, 0]);
        let later = walk(&packet(&[(44, &[0, 0, 8, 0, 0, 0, 7]), options], 6)).unwrap();
        assert_eq!((later.protocol, later.piece.from, later.piece.to, later.piece.id), (60, 8, 16, 7));
        let first = walk(&packet(&[(44, &[0, 0, 1, 0, 0, 0, 7]), options], 6)).unwrap();
        assert_eq!((first.protocol, first.piece.protocol, first.piece.more), (6, 60, 1));
        assert!(first.options && first.fragment);
    }

    #[test]
    fn an_atomic_fragment_is_a_whole_packet_and_a_second_fragment_header_is_refused() {
        let atomic: (u8, &[u8]) = (44, &[0, 0, 0, 0, 0, 0, 7]);
        let whole = walk(&packet(&[atomic], 6)).unwrap();
        assert!(whole.piece == Piece::WHOLE && whole.fragment && whole.extended && !whole.options);
        assert_eq!(walk(&packet(&[atomic, atomic], 6)), Err(DropReason::UnsupportedExtension));
        assert_eq!(walk(&packet(&[(44, &[0, 0, 1, 0, 0, 0, 7])], 6)), Err(DropReason::MalformedFragment));
    }

    #[test]
    fn a_datagram_is_never_longer_than_a_payload_length_says() {
        let options: (u8, &[u8]) = (60, &[0, 0, 0, 0, 0, 0, 0]);
        let last: (u8, &[u8]) = (44, &[0, 0xff, 0xf8, 0, 0, 0, 7]);
        let of = |chain: &[(u8, &[u8])]| {
            let mut bytes = packet(chain, 17);
            bytes.extend([0; 7]);
            bytes[5] += 7;
            walk(&bytes).map(|payload| payload.piece.to)
        };
        assert_eq!(of(&[last]), Ok(65_535));
        assert_eq!(of(&[options, last]), Err(DropReason::MalformedFragment));
    }

    #[test]
    fn the_chain_is_bounded_and_hop_by_hop_comes_first() {
        let option: (u8, &[u8]) = (60, &[0, 0, 0, 0, 0, 0, 0]);
        assert!(walk(&packet(&[option; 6], 6)).is_ok());
        assert_eq!(walk(&packet(&[option; 7], 6)), Err(DropReason::UnsupportedExtension));
        let late = packet(&[option, (0, &[0, 0, 0, 0, 0, 0, 0])], 6);
        assert_eq!(walk(&late), Err(DropReason::MalformedIpv6));
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = packet(&[(60, &[0, 0, 0, 0, 0, 0, 0])], 6);
        for len in 0..bytes.len() {
            assert_eq!(walk(&bytes[..len]), Err(DropReason::MalformedIpv6), "{len}");
        }
    }

    #[test]
    fn an_extension_that_ends_behind_the_packet_is_refused() {
        let bytes = packet(&[(60, &[9, 0, 0, 0, 0, 0, 0])], 6);
        assert_eq!(walk(&bytes), Err(DropReason::MalformedIpv6));
    }
}
