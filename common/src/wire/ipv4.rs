//! IPv4 header (RFC 791): options are skipped by IHL, fragments told apart.

use crate::abi::Addr;
use crate::frame::Frame;

/// Bytes of a header without options.
pub const LEN: usize = 20;

/// An IPv4 header whose lengths fit each other and the frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ipv4([u8; LEN]);

impl Ipv4 {
    /// Reads the header; nothing if it is cut off or its lengths contradict each other or the frame.
    #[inline(always)]
    pub fn load<F: Frame + ?Sized>(frame: &F, at: u32) -> Option<Self> {
        let header = Self(frame.load(at)?);
        let fits = header.0[0] >> 4 == 4
            && header.header_len() >= LEN as u32
            && header.total_len() >= header.header_len()
            && at + header.total_len() <= frame.len();
        fits.then_some(header)
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

    /// True for every fragment, the first one included.
    #[inline(always)]
    pub const fn is_fragment(&self) -> bool {
        // More fragments, or an offset; "don't fragment" is neither.
        u16::from_be_bytes([self.0[6], self.0[7]]) & 0x3fff != 0
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

    fn header() -> [u8; 24] {
        [0x46, 0, 0, 24, 0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 203, 0, 113, 9, 1, 1, 1, 0]
    }

    #[test]
    fn reads_options_length_and_addresses() {
        let bytes = header();
        let ip = Ipv4::load(&bytes[..], 0).unwrap();
        assert_eq!((ip.header_len(), ip.total_len(), ip.protocol()), (24, 24, 17));
        assert_eq!(ip.source(), Addr::from_v4([192, 0, 2, 1]));
        assert_eq!(ip.destination(), Addr::from_v4([203, 0, 113, 9]));
        assert!(!ip.is_fragment());
    }

    #[test]
    fn contradicting_lengths_are_refused() {
        for (at, value) in [(0, 0x56), (0, 0x44), (3, 23), (3, 25), (2, 1)] {
            let mut bytes = header();
            bytes[at] = value;
            assert_eq!(Ipv4::load(&bytes[..], 0), None, "octet {at} = {value}");
        }
    }

    #[test]
    fn both_ends_of_a_fragment_train_are_fragments() {
        for (high, low) in [(0x20, 0), (0, 1), (0x1f, 0xff)] {
            let mut bytes = header();
            (bytes[6], bytes[7]) = (high, low);
            assert!(Ipv4::load(&bytes[..], 0).unwrap().is_fragment());
        }
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = header();
        for len in 0..bytes.len() {
            assert_eq!(Ipv4::load(&bytes[..len], 0), None, "{len}");
        }
    }
}
