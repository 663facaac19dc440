//! IPv4 header (RFC 791): options are skipped by IHL, fragments told apart.

use crate::abi::Addr;
use crate::fragment::Piece;
use crate::frame::{Frame, Window};
use crate::verdict::DropReason;

/// Bytes of a header without options.
pub const LEN: usize = 20;
/// Words of four bytes that the longest header has for options.
const OPTION_WORDS_MAX: u32 = 10;
/// LSRR (RFC 791; IANA "IP Option Numbers"), in every byte.
const LOOSE_SOURCE_ROUTE: u32 = 131 * 0x0101_0101;
/// SSRR (RFC 791), in every byte.
const STRICT_SOURCE_ROUTE: u32 = 137 * 0x0101_0101;

/// Not 0 if one of the four bytes is (Warren, Hacker's Delight, 6-1): without a branch, which the
/// verifier would follow both ways.
#[inline(always)]
const fn zero_byte(word: u32) -> u32 {
    word.wrapping_sub(0x0101_0101) & !word & 0x8080_8080
}

/// An IPv4 header whose lengths fit each other and the frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ipv4([u8; LEN]);

impl Ipv4 {
    /// Reads the header; nothing if it is cut off or its lengths contradict each other or the frame.
    #[inline(always)]
    pub fn load<F: Frame + ?Sized>(window: &Window<'_, F>, at: u32) -> Option<Self> {
        let header = Self(window.load(at)?);
        let fits = header.0[0] >> 4 == 4
            && header.header_len() >= LEN as u32
            && header.total_len() >= header.header_len()
            && window.rest(at) >= header.total_len();
        fits.then_some(header)
    }

    /// The header as it is, without options.
    #[inline(always)]
    pub const fn bytes(&self) -> &[u8; LEN] {
        &self.0
    }

    /// Bytes of the header with its options.
    #[inline(always)]
    pub const fn header_len(&self) -> u32 {
        (self.0[0] & 0x0f) as u32 * 4
    }

    /// Bytes of the packet.
    #[inline(always)]
    pub const fn total_len(&self) -> u32 {
        u16::from_be_bytes([self.0[2], self.0[3]]) as u32
    }

    /// Looks for a source route among the options; with one, the address in the header is not the
    /// final one, and judging it would be judging a lie (RFC 7126 sections 4.3 and 4.4 drop it too).
    ///
    /// Looks at every byte instead of walking from option to option, which costs the verifier four
    /// times the whole program. So a recorded route through x.131.x.x is taken for a source route.
    #[inline(always)]
    pub fn is_source_routed<F: Frame + ?Sized>(&self, window: &Window<'_, F>, at: u32) -> bool {
        let options = (self.header_len() - LEN as u32) / 4;
        let mut found = 0;
        for word in 0..OPTION_WORDS_MAX {
            if word >= options {
                break;
            }
            let Some(bytes) = window.load(at + LEN as u32 + word * 4) else { return true };
            let bytes = u32::from_ne_bytes(bytes);
            found |= zero_byte(bytes ^ LOOSE_SOURCE_ROUTE) | zero_byte(bytes ^ STRICT_SOURCE_ROUTE);
        }
        found != 0
    }

    /// Which part of its datagram the packet is; [`Piece::WHOLE`] if it is all of it.
    #[inline(always)]
    pub const fn piece(&self) -> Result<Piece, DropReason> {
        if !self.is_fragment() {
            return Ok(Piece::WHOLE);
        }
        let field = u16::from_be_bytes([self.0[6], self.0[7]]);
        let id = u16::from_be_bytes([self.0[4], self.0[5]]) as u32;
        let len = self.total_len() - self.header_len();
        match Piece::new(id, (field & 0x1fff) * 8, len, field & 0x2000 != 0, self.protocol()) {
            Ok(piece) => piece.behind(self.header_len()),
            Err(reason) => Err(reason),
        }
    }

    /// True if it is a part of its datagram.
    #[inline(always)]
    pub const fn is_fragment(&self) -> bool {
        // More fragments, or an offset; "don't fragment" is neither.
        u16::from_be_bytes([self.0[6], self.0[7]]) & 0x3fff != 0
    }

    /// True if there are options.
    #[inline(always)]
    pub const fn has_options(&self) -> bool {
        self.0[0] & 0x0f > 5
    }

    /// Protocol of the payload.
    #[inline(always)]
    pub const fn protocol(&self) -> u8 {
        self.0[9]
    }

    /// Source address.
    #[inline(always)]
    pub const fn source(&self) -> Addr {
        let b = &self.0;
        Addr::from_v4([b[12], b[13], b[14], b[15]])
    }

    /// Destination address.
    #[inline(always)]
    pub const fn destination(&self) -> Addr {
        let b = &self.0;
        Addr::from_v4([b[16], b[17], b[18], b[19]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(bytes: &[u8]) -> Option<Ipv4> {
        Ipv4::load(&Window::new(bytes, bytes.len() as u32).unwrap(), 0)
    }

    fn header() -> [u8; 24] {
        [0x46, 0, 0, 24, 0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 203, 0, 113, 9, 1, 1, 1, 0]
    }

    #[test]
    fn reads_options_length_and_addresses() {
        let bytes = header();
        let ip = load(&bytes).unwrap();
        assert_eq!((ip.header_len(), ip.total_len(), ip.protocol()), (24, 24, 17));
        assert_eq!(ip.source(), Addr::from_v4([192, 0, 2, 1]));
        assert_eq!(ip.destination(), Addr::from_v4([203, 0, 113, 9]));
        assert_eq!(ip.piece(), Ok(Piece::WHOLE));
        assert!(ip.has_options());
    }

    #[test]
    fn contradicting_lengths_are_refused() {
        for (at, value) in [(0, 0x56), (0, 0x44), (3, 23), (3, 25), (2, 1)] {
            let mut bytes = header();
            bytes[at] = value;
            assert_eq!(load(&bytes), None, "octet {at} = {value}");
        }
    }

    #[test]
    fn both_ends_of_a_fragment_train_are_fragments() {
        for (high, low, from, more) in [(0x20, 0, 0, 1), (0x20, 1, 8, 1), (0x3f, 0, 63_488, 1)] {
            let mut bytes = [&header()[..], &[0; 16]].concat();
            (bytes[3], bytes[5], bytes[6], bytes[7]) = (40, 7, high, low);
            let piece = load(&bytes).unwrap().piece().unwrap();
            assert_eq!((piece.id, piece.from, piece.to, piece.more), (7, from, from + 16, more));
        }
        // Beyond the longest datagram (the ping of death), or empty.
        let mut bytes = [&header()[..], &[0; 16]].concat();
        (bytes[3], bytes[6], bytes[7]) = (40, 0x1f, 0xff);
        assert_eq!(load(&bytes).unwrap().piece(), Err(DropReason::MalformedFragment));
        bytes[3] = 24;
        assert_eq!(load(&bytes).unwrap().piece(), Err(DropReason::MalformedFragment));
    }

    #[test]
    fn source_routes_are_found_wherever_they_stand() {
        let routed = |options: &[u8]| {
            let mut bytes = [&header()[..20], options].concat();
            bytes[0] = 0x45 + (options.len() / 4) as u8;
            bytes[3] = bytes.len() as u8;
            let window = Window::new(&*bytes, bytes.len() as u32).unwrap();
            load(&bytes).unwrap().is_source_routed(&window, 0)
        };
        assert!(!routed(&[]) && !routed(&[1; 40]) && !routed(&[148, 4, 0, 0, 130, 132, 136, 138]));
        for at in 0..40 {
            let mut options = [1; 40];
            options[at] = if at % 2 == 0 { 131 } else { 137 };
            assert!(routed(&options), "{at}");
        }
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = header();
        for len in 0..bytes.len() {
            assert_eq!(load(&bytes[..len]), None, "{len}");
        }
    }
}
