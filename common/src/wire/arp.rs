//! ARP for IPv4 over Ethernet (RFC 826): sender and target are addresses too.

use crate::abi::Addr;
use crate::frame::Frame;

/// Bytes of an Ethernet/IPv4 ARP packet.
pub const LEN: usize = 28;

/// An ARP request or reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Arp([u8; LEN]);

impl Arp {
    /// Reads the packet; nothing if it is cut off, not Ethernet/IPv4, or neither request nor reply.
    #[inline(always)]
    pub fn load<F: Frame + ?Sized>(frame: &F, at: u32) -> Option<Self> {
        let bytes: [u8; LEN] = frame.load(at)?;
        let [0, 1, 8, 0, 6, 4, 0, 1 | 2, ..] = bytes else { return None };
        Some(Self(bytes))
    }

    /// The MAC address that the sender claims.
    #[inline(always)]
    pub const fn sender_mac(&self) -> [u8; 6] {
        let b = &self.0;
        [b[8], b[9], b[10], b[11], b[12], b[13]]
    }

    /// The address that the sender claims; `0.0.0.0` in a probe (RFC 5227).
    #[inline(always)]
    pub const fn sender(&self) -> Addr {
        let b = &self.0;
        Addr::from_v4([b[14], b[15], b[16], b[17]])
    }

    /// The address that is asked for, or answered to.
    #[inline(always)]
    pub const fn target(&self) -> Addr {
        let b = &self.0;
        Addr::from_v4([b[24], b[25], b[26], b[27]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: [u8; LEN] =
        [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 192, 0, 2, 2];

    #[test]
    fn reads_sender_and_target() {
        let arp = Arp::load(&REQUEST[..], 0).unwrap();
        assert_eq!(arp.sender_mac(), [2, 0, 0, 0, 0, 1]);
        assert_eq!(arp.sender(), Addr::from_v4([192, 0, 2, 1]));
        assert_eq!(arp.target(), Addr::from_v4([192, 0, 2, 2]));
    }

    #[test]
    fn other_hardware_protocols_and_operations_are_refused() {
        for at in [0, 1, 2, 3, 4, 5, 6] {
            let mut bytes = REQUEST;
            bytes[at] ^= 0x10;
            assert_eq!(Arp::load(&bytes[..], 0), None, "octet {at}");
        }
        let mut reverse = REQUEST;
        reverse[7] = 3;
        assert_eq!(Arp::load(&reverse[..], 0), None);
    }

    #[test]
    fn every_truncation_is_refused() {
        for len in 0..LEN {
            assert_eq!(Arp::load(&REQUEST[..len], 0), None, "{len}");
        }
    }
}
