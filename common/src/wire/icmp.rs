//! ICMP (RFC 792), ICMPv6 (RFC 4443) and neighbour discovery (RFC 4861).

use crate::abi::Addr;
use crate::frame::{Frame, Window};

/// Bytes of the fixed part.
pub const LEN: usize = 8;

/// ICMP echo reply (RFC 792).
pub const ECHO_REPLY_V4: u8 = 0;
/// ICMPv6 echo reply (RFC 4443).
pub const ECHO_REPLY_V6: u8 = 129;
/// ICMP redirect (RFC 792).
pub const REDIRECT_V4: u8 = 5;
/// ICMP echo request (RFC 792).
pub const ECHO_REQUEST_V4: u8 = 8;
/// ICMPv6 echo request (RFC 4443).
pub const ECHO_REQUEST_V6: u8 = 128;

/// What an ICMP message is about, whichever the family.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Message {
    /// Echo request.
    EchoRequest,
    /// Echo reply.
    EchoReply,
    /// Destination unreachable, packet too big, time exceeded, parameter problem and the like.
    Error,
    /// Router solicitation.
    RouterSolicitation,
    /// Neighbour solicitation or advertisement.
    Neighbour,
    /// Router advertisement or redirect.
    RouterOnly,
    /// Any other.
    Other,
}

/// The first eight bytes of an ICMP or ICMPv6 message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Icmp([u8; LEN]);

impl Icmp {
    /// Reads the fixed part; nothing if it is cut off.
    #[inline(always)]
    pub fn load<F: Frame + ?Sized>(window: &Window<'_, F>, at: u32) -> Option<Self> {
        window.load(at).map(Self)
    }

    /// Type.
    #[inline(always)]
    pub const fn kind(&self) -> u8 {
        self.0[0]
    }

    /// Code.
    #[inline(always)]
    pub const fn code(&self) -> u8 {
        self.0[1]
    }

    /// Identifier of an echo.
    #[inline(always)]
    pub const fn identifier(&self) -> u16 {
        u16::from_be_bytes([self.0[4], self.0[5]])
    }

    /// The meaning of an ICMP type (IANA "ICMP Type Numbers").
    #[inline(always)]
    pub const fn message_v4(&self) -> Message {
        match self.kind() {
            ECHO_REPLY_V4 => Message::EchoReply,
            ECHO_REQUEST_V4 => Message::EchoRequest,
            // Source quench (4) is obsolete (RFC 6633), a redirect (5) is a router's order.
            3 | 11 | 12 => Message::Error,
            _ => Message::Other,
        }
    }

    /// The meaning of an ICMPv6 type: its errors are those of RFC 4443 section 3.
    #[inline(always)]
    pub const fn message_v6(&self) -> Message {
        match self.kind() {
            ECHO_REQUEST_V6 => Message::EchoRequest,
            ECHO_REPLY_V6 => Message::EchoReply,
            133 => Message::RouterSolicitation,
            134 | 137 => Message::RouterOnly,
            135 | 136 => Message::Neighbour,
            // Others are not assigned, and nobody waits for them (RFC 4890 section 4.3.4).
            1..=4 => Message::Error,
            _ => Message::Other,
        }
    }
}

/// Target of a neighbour solicitation or advertisement; nothing if the message is cut off.
#[inline(always)]
pub fn neighbour_target<F: Frame + ?Sized>(window: &Window<'_, F>, at: u32) -> Option<Addr> {
    window.load(at + LEN as u32).map(Addr::from_v6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_their_family_s_meaning() {
        let message = |kind: u8| Icmp([kind, 0, 0, 0, 0x12, 0x34, 0, 0]);
        assert_eq!(message(8).message_v4(), Message::EchoRequest);
        assert_eq!(message(2).message_v6(), Message::Error);
        assert_eq!(message(8).message_v6(), Message::Other);
        assert_eq!(message(128).message_v6(), Message::EchoRequest);
        assert_eq!(message(128).message_v4(), Message::Other);
        assert_eq!(message(134).message_v6(), Message::RouterOnly);
        assert_eq!(message(3).identifier(), 0x1234);
    }

    #[test]
    fn every_truncation_is_refused() {
        for len in 0..LEN {
            let bytes = &[0u8; LEN][..len];
            assert_eq!(Icmp::load(&Window::new(bytes, len as u32).unwrap(), 0), None);
        }
    }
}
