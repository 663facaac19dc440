//! One address type for both families: 16 octets in wire order, IPv4 as `::ffff:a.b.c.d`.
//!
//! An IPv6 packet that itself carries a v4-mapped address is refused by the parser, so the two
//! families cannot be taken for each other.

use core::cmp::Ordering;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytemuck::{Pod, Zeroable};

/// An address of either family, as four 32-bit words whose bytes lie in wire order.
///
/// Words instead of octets, because the BPF back end loads unaligned octets one by one.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Addr([u32; 4]);

impl Addr {
    /// `0.0.0.0`.
    pub const UNSPECIFIED_V4: Self = Self::from_v4([0; 4]);
    /// `::`.
    pub const UNSPECIFIED_V6: Self = Self([0; 4]);

    /// Takes an IPv4 address in wire order.
    #[inline(always)]
    pub const fn from_v4(octets: [u8; 4]) -> Self {
        Self([0, 0, 0x0000_ffffu32.to_be(), u32::from_ne_bytes(octets)])
    }

    /// Takes an IPv6 address in wire order.
    #[inline(always)]
    pub const fn from_v6(o: [u8; 16]) -> Self {
        Self([
            u32::from_ne_bytes([o[0], o[1], o[2], o[3]]),
            u32::from_ne_bytes([o[4], o[5], o[6], o[7]]),
            u32::from_ne_bytes([o[8], o[9], o[10], o[11]]),
            u32::from_ne_bytes([o[12], o[13], o[14], o[15]]),
        ])
    }

    /// Takes the address as a big-endian number.
    pub const fn from_bits(bits: u128) -> Self {
        Self::from_halves((bits >> 64) as u64, bits as u64)
    }

    /// Takes the two halves as numbers.
    #[inline(always)]
    pub const fn from_halves(high: u64, low: u64) -> Self {
        Self([
            ((high >> 32) as u32).to_be(),
            (high as u32).to_be(),
            ((low >> 32) as u32).to_be(),
            (low as u32).to_be(),
        ])
    }

    /// The address as a number; IPv4 lies at `::ffff:0:0/96`.
    #[inline(always)]
    pub const fn to_bits(self) -> u128 {
        ((self.high() as u128) << 64) | self.low() as u128
    }

    /// The upper 64 bits as a number: an IPv6 address's /64.
    #[inline(always)]
    pub const fn high(self) -> u64 {
        ((u32::from_be(self.0[0]) as u64) << 32) | u32::from_be(self.0[1]) as u64
    }

    /// The lower 64 bits as a number.
    #[inline(always)]
    pub const fn low(self) -> u64 {
        ((u32::from_be(self.0[2]) as u64) << 32) | u32::from_be(self.0[3]) as u64
    }

    /// The four words, bytes in wire order.
    #[inline(always)]
    pub const fn words(self) -> [u32; 4] {
        self.0
    }

    /// True inside `::ffff:0:0/96`.
    #[inline(always)]
    pub const fn is_v4(self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == 0x0000_ffffu32.to_be()
    }

    /// The address with the lower 64 bits cleared.
    #[inline(always)]
    pub const fn prefix64(self) -> Self {
        Self([self.0[0], self.0[1], 0, 0])
    }

    /// The address with all but the first `length` of its 128 bits cleared.
    #[inline(always)]
    pub const fn prefix(self, length: u32) -> Self {
        if length >= 64 {
            Self::from_halves(self.high(), self.low() & mask64(length - 64))
        } else {
            Self::from_halves(self.high() & mask64(length), 0)
        }
    }

    /// The IPv4 address as a host-order number; meaningful only if [`Self::is_v4`].
    #[inline(always)]
    pub const fn v4_bits(self) -> u32 {
        u32::from_be(self.0[3])
    }

    /// `0.0.0.0` or `::`.
    #[inline(always)]
    pub const fn is_unspecified(self) -> bool {
        (self.is_v4() || (self.0[0] | self.0[1] | self.0[2]) == 0) && self.0[3] == 0
    }

    /// `127.0.0.0/8` (RFC 1122) or `::1` (RFC 4291).
    #[inline(always)]
    pub const fn is_loopback(self) -> bool {
        if self.is_v4() {
            return self.v4_bits() >> 24 == 127;
        }
        (self.0[0] | self.0[1] | self.0[2]) == 0 && self.0[3] == 1u32.to_be()
    }

    /// `224.0.0.0/4` (RFC 5771) or `ff00::/8` (RFC 4291).
    #[inline(always)]
    pub const fn is_multicast(self) -> bool {
        if self.is_v4() { self.v4_bits() >> 28 == 0xe } else { self.high() >> 56 == 0xff }
    }

    /// `169.254.0.0/16` (RFC 3927) or `fe80::/10` (RFC 4291).
    #[inline(always)]
    pub const fn is_link_local(self) -> bool {
        if self.is_v4() { self.v4_bits() >> 16 == 0xa9fe } else { self.high() >> 54 == 0x3fa }
    }

    /// `240.0.0.0/4` (RFC 1112, with the limited broadcast) or `0.0.0.0/8` (RFC 1122).
    #[inline(always)]
    pub const fn is_reserved(self) -> bool {
        self.is_v4() && (self.v4_bits() >> 28 == 0xf || self.v4_bits() >> 24 == 0)
    }

    /// True where no host may be: unspecified, loopback, multicast, link-local, reserved.
    #[inline(always)]
    pub const fn is_martian(self) -> bool {
        self.is_unspecified()
            || self.is_loopback()
            || self.is_multicast()
            || self.is_link_local()
            || self.is_reserved()
    }

    /// The address in the standard library's type.
    pub const fn to_ip(self) -> IpAddr {
        if self.is_v4() {
            IpAddr::V4(Ipv4Addr::from_bits(self.v4_bits()))
        } else {
            IpAddr::V6(Ipv6Addr::from_bits(self.to_bits()))
        }
    }
}

/// The first `length` bits of 64.
#[inline(always)]
const fn mask64(length: u32) -> u64 {
    if length >= 64 { u64::MAX } else { !(u64::MAX >> length) }
}

impl Ord for Addr {
    #[inline(always)]
    fn cmp(&self, other: &Self) -> Ordering {
        (self.high(), self.low()).cmp(&(other.high(), other.low()))
    }
}

impl PartialOrd for Addr {
    #[inline(always)]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<Ipv4Addr> for Addr {
    fn from(address: Ipv4Addr) -> Self {
        Self::from_v4(address.octets())
    }
}

impl From<Ipv6Addr> for Addr {
    fn from(address: Ipv6Addr) -> Self {
        Self::from_v6(address.octets())
    }
}

impl From<IpAddr> for Addr {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => v4.into(),
            IpAddr::V6(v6) => v6.into(),
        }
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_ip().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> Addr {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn orders_like_the_numbers() {
        let sorted = ["::1", "10.0.0.1", "10.0.0.2", "203.0.113.1", "2001:db8::", "2001:db8::1:0:0:0:1"];
        for pair in sorted.windows(2) {
            assert!(addr(pair[0]) < addr(pair[1]), "{pair:?}");
            assert!(addr(pair[0]).to_bits() < addr(pair[1]).to_bits(), "{pair:?}");
        }
    }

    #[test]
    fn classes_have_exact_edges() {
        for (text, martian) in [
            ("0.0.0.0", true),
            ("0.255.255.255", true),
            ("1.0.0.0", false),
            ("126.255.255.255", false),
            ("127.0.0.1", true),
            ("128.0.0.0", false),
            ("169.253.255.255", false),
            ("169.254.0.0", true),
            ("169.255.0.0", false),
            ("223.255.255.255", false),
            ("224.0.0.1", true),
            ("239.255.255.255", true),
            ("240.0.0.0", true),
            ("255.255.255.255", true),
            ("::", true),
            ("::1", true),
            ("::2", false),
            ("fe7f:ffff::1", false),
            ("fe80::1", true),
            ("febf::1", true),
            ("fec0::1", false),
            ("feff::1", false),
            ("ff02::1", true),
        ] {
            assert_eq!(addr(text).is_martian(), martian, "{text}");
        }
    }

    #[test]
    fn a_prefix_keeps_its_bits_and_no_others() {
        let all = Addr::from_bits(u128::MAX);
        for length in 0..=128 {
            let kept = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            assert_eq!(all.prefix(length).to_bits(), kept, "/{length}");
        }
        assert_eq!(addr("192.168.50.20").prefix(96 + 24), addr("192.168.50.0"));
    }

    #[test]
    fn both_families_survive_the_round_trip() {
        for text in ["192.0.2.7", "2001:db8::7"] {
            assert_eq!(std::format!("{}", addr(text)), text);
            assert_eq!(Addr::from_bits(addr(text).to_bits()), addr(text));
        }
    }
}
