//! Ethernet II and up to two VLAN tags (IEEE 802.1Q, 802.1ad).

use super::ether_type;
use crate::frame::Frame;
use crate::verdict::DropReason;

/// Bytes of an Ethernet II header.
pub const LEN: u32 = 14;
/// Bytes of a VLAN tag.
pub const VLAN_LEN: u32 = 4;
/// VLAN tags that are understood; a third one is a drop.
pub const VLAN_MAX_DEPTH: u32 = 2;

/// An Ethernet header with its tags taken off.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ethernet {
    /// Source MAC address.
    pub source: [u8; 6],
    /// Outer VLAN number; 0 for untagged and priority-tagged frames (IEEE 802.1Q clause 6.9).
    pub outer_vlan: u16,
    /// Inner VLAN number; 0 if there is no second tag.
    pub inner_vlan: u16,
    /// EtherType behind the tags.
    pub ether_type: u16,
    /// Where the payload starts.
    pub payload: u32,
}

impl Ethernet {
    /// Reads the header and its tags from the frame's start.
    #[inline(always)]
    pub fn load<F: Frame + ?Sized>(frame: &F) -> Result<Self, DropReason> {
        let header: [u8; 14] = frame.load(0).ok_or(DropReason::MalformedEthernet)?;
        let [_, _, _, _, _, _, s0, s1, s2, s3, s4, s5, t0, t1] = header;
        let mut ethernet = Self {
            source: [s0, s1, s2, s3, s4, s5],
            outer_vlan: 0,
            inner_vlan: 0,
            ether_type: u16::from_be_bytes([t0, t1]),
            payload: LEN,
        };
        if is_tag(ethernet.ether_type) {
            ethernet.outer_vlan = ethernet.take_tag(frame)?;
        }
        if is_tag(ethernet.ether_type) {
            ethernet.inner_vlan = ethernet.take_tag(frame)?;
        }
        if is_tag(ethernet.ether_type) {
            return Err(DropReason::UnsupportedVlanDepth);
        }
        Ok(ethernet)
    }

    #[inline(always)]
    fn take_tag<F: Frame + ?Sized>(&mut self, frame: &F) -> Result<u16, DropReason> {
        let [c0, c1, t0, t1] = frame.load::<4>(self.payload).ok_or(DropReason::MalformedEthernet)?;
        self.ether_type = u16::from_be_bytes([t0, t1]);
        self.payload += VLAN_LEN;
        Ok(u16::from_be_bytes([c0, c1]) & 0x0fff)
    }
}

/// True if a VLAN tag follows.
#[inline(always)]
pub(crate) const fn is_tag(ether_type: u16) -> bool {
    ether_type == ether_type::VLAN || ether_type == ether_type::SERVICE_VLAN
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

    fn frame(rest: &[u8]) -> std::vec::Vec<u8> {
        [&MACS, rest].concat()
    }

    #[test]
    fn tags_are_taken_off_in_order() {
        let untagged = Ethernet::load(&*frame(&[0x08, 0])).unwrap();
        assert_eq!((untagged.outer_vlan, untagged.inner_vlan, untagged.payload), (0, 0, 14));
        let tagged = Ethernet::load(&*frame(&[0x81, 0, 0xe0, 7, 0x86, 0xdd])).unwrap();
        assert_eq!((tagged.outer_vlan, tagged.ether_type, tagged.payload), (7, 0x86dd, 18));
        let stacked = Ethernet::load(&*frame(&[0x88, 0xa8, 0, 100, 0x81, 0, 0, 7, 8, 0])).unwrap();
        assert_eq!((stacked.outer_vlan, stacked.inner_vlan, stacked.payload), (100, 7, 22));
    }

    #[test]
    fn a_third_tag_is_refused() {
        let bytes = frame(&[0x81, 0, 0, 1, 0x81, 0, 0, 2, 0x81, 0, 0, 3, 8, 0]);
        assert_eq!(Ethernet::load(&*bytes), Err(DropReason::UnsupportedVlanDepth));
    }

    #[test]
    fn every_truncation_is_malformed() {
        let bytes = frame(&[0x88, 0xa8, 0, 100, 0x81, 0, 0, 7, 8, 0]);
        for len in 0..bytes.len() {
            assert_eq!(Ethernet::load(&bytes[..len]), Err(DropReason::MalformedEthernet), "{len}");
        }
    }
}
