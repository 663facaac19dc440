//! TCP (RFC 9293), UDP (RFC 768) and SCTP (RFC 9260): ports and TCP flags.

use crate::frame::{Frame, Window};

/// Bytes of a TCP header without options.
pub const TCP_LEN: usize = 20;
/// Bytes of a UDP header.
pub const UDP_LEN: usize = 8;
/// Bytes of SCTP's common header.
pub const SCTP_LEN: usize = 12;

/// TCP FIN.
pub const TCP_FIN: u8 = 0x01;
/// TCP SYN.
pub const TCP_SYN: u8 = 0x02;
/// TCP RST.
pub const TCP_RST: u8 = 0x04;
/// TCP ACK.
pub const TCP_ACK: u8 = 0x10;

/// The two ports.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ports {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
}

/// Reads ports and flags of a TCP header; nothing if it is cut off or its data offset does not fit.
#[inline(always)]
pub fn tcp<F: Frame + ?Sized>(window: &Window<'_, F>, at: u32) -> Option<(Ports, u8)> {
    let header: [u8; TCP_LEN] = window.load(at)?;
    let header_len = (header[12] >> 4) as u32 * 4;
    let fits = header_len >= TCP_LEN as u32 && window.rest(at) >= header_len;
    fits.then_some((ports([header[0], header[1], header[2], header[3]]), header[13]))
}

/// Reads the ports of a UDP header; nothing if it is cut off or its length does not fit. Of a first fragment
/// the length is that of the whole datagram, so it does not.
#[inline(always)]
pub fn udp<F: Frame + ?Sized>(window: &Window<'_, F>, at: u32, fragment: bool) -> Option<Ports> {
    let [s0, s1, d0, d1, l0, l1, _, _]: [u8; UDP_LEN] = window.load(at)?;
    let len = u16::from_be_bytes([l0, l1]) as u32;
    let fits = len >= UDP_LEN as u32 && (fragment || window.rest(at) >= len);
    fits.then_some(ports([s0, s1, d0, d1]))
}

/// The datagram of a UDP header, as far as its length says; nothing if it does not fit.
#[inline(always)]
pub fn udp_payload<'f, F: Frame + ?Sized>(window: &Window<'f, F>, at: u32) -> Option<Window<'f, F>> {
    let [high, low] = window.load(at + 4)?;
    window.up_to(at + u16::from_be_bytes([high, low]) as u32)
}

/// Reads the ports of an SCTP common header; nothing if it is cut off.
#[inline(always)]
pub fn sctp<F: Frame + ?Sized>(window: &Window<'_, F>, at: u32) -> Option<Ports> {
    let [s0, s1, d0, d1, ..]: [u8; SCTP_LEN] = window.load(at)?;
    Some(ports([s0, s1, d0, d1]))
}

/// Both ports, which stand first in every header that has them.
#[inline(always)]
pub const fn ports([s0, s1, d0, d1]: [u8; 4]) -> Ports {
    Ports { source: u16::from_be_bytes([s0, s1]), destination: u16::from_be_bytes([d0, d1]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(bytes: &[u8]) -> Window<'_, [u8]> {
        Window::new(bytes, bytes.len() as u32).unwrap()
    }

    #[test]
    fn tcp_header_must_fit() {
        let mut bytes = [0u8; 24];
        (bytes[1], bytes[3], bytes[12], bytes[13]) = (7, 9, 0x60, TCP_SYN);
        assert_eq!(tcp(&window(&bytes), 0), Some((Ports { source: 7, destination: 9 }, TCP_SYN)));
        for len in 0..bytes.len() {
            assert_eq!(tcp(&window(&bytes[..len]), 0), None, "{len}");
        }
        bytes[12] = 0x40;
        assert_eq!(tcp(&window(&bytes), 0), None);
    }

    #[test]
    fn udp_length_must_fit() {
        let mut bytes = [0, 7, 0, 9, 0, 10, 0, 0, 1, 2, 3];
        assert_eq!(udp(&window(&bytes), 0, false), Some(Ports { source: 7, destination: 9 }));
        for len in [0, 7, 12] {
            bytes[5] = len;
            assert_eq!(udp(&window(&bytes), 0, false), None, "{len}");
        }
        for len in 0..10 {
            bytes[5] = 10;
            assert_eq!(udp(&window(&bytes[..len]), 0, false), None, "{len}");
        }
    }

    #[test]
    fn sctp_needs_its_common_header() {
        let bytes = [0, 7, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(sctp(&window(&bytes), 0), Some(Ports { source: 7, destination: 9 }));
        for len in 0..bytes.len() {
            assert_eq!(sctp(&window(&bytes[..len]), 0), None, "{len}");
        }
    }
}
