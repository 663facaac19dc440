//! One header a file, all of one shape: `load(window, at)`, then getters in wire order.

pub mod arp;
pub mod embedded;
pub mod ethernet;
pub mod gtpu;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod l4;

/// EtherTypes that have a meaning here (IEEE registry).
pub mod ether_type {
    /// IPv4 (RFC 894).
    pub const IPV4: u16 = 0x0800;
    /// ARP (RFC 826).
    pub const ARP: u16 = 0x0806;
    /// Customer VLAN tag (IEEE 802.1Q).
    pub const VLAN: u16 = 0x8100;
    /// IPv6 (RFC 2464).
    pub const IPV6: u16 = 0x86dd;
    /// Service VLAN tag (IEEE 802.1ad).
    pub const SERVICE_VLAN: u16 = 0x88a8;
    /// Slow protocols, LACP among them (IEEE 802.3 annex 57A).
    pub const SLOW_PROTOCOLS: u16 = 0x8809;
    /// Link layer discovery (IEEE 802.1AB).
    pub const LLDP: u16 = 0x88cc;
}

/// IP protocol numbers that have a meaning here (IANA registry).
pub mod ip_proto {
    /// IPv6 hop-by-hop options (RFC 8200 section 4.3).
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP (RFC 792).
    pub const ICMP: u8 = 1;
    /// IPv4 in IP (RFC 2003, RFC 2473).
    pub const IPIP: u8 = 4;
    /// TCP (RFC 9293).
    pub const TCP: u8 = 6;
    /// UDP (RFC 768).
    pub const UDP: u8 = 17;
    /// IPv6 in IP (RFC 4213, RFC 2473).
    pub const IPV6: u8 = 41;
    /// IPv6 routing header (RFC 8200 section 4.4).
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header (RFC 8200 section 4.5).
    pub const FRAGMENT: u8 = 44;
    /// Generic routing encapsulation (RFC 2784).
    pub const GRE: u8 = 47;
    /// Encapsulating security payload (RFC 4303).
    pub const ESP: u8 = 50;
    /// Authentication header (RFC 4302).
    pub const AUTHENTICATION: u8 = 51;
    /// ICMPv6 (RFC 4443).
    pub const ICMPV6: u8 = 58;
    /// IPv6 destination options (RFC 8200 section 4.6).
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// Ethernet in IP (RFC 3378).
    pub const ETHERIP: u8 = 97;
    /// L2TP version 3 (RFC 3931).
    pub const L2TP: u8 = 115;
    /// SCTP (RFC 9260).
    pub const SCTP: u8 = 132;

    /// True for the protocols without ports that rules can name: each carries packets of its own, which
    /// nobody here looks at.
    #[inline(always)]
    pub const fn is_portless(protocol: u8) -> bool {
        matches!(protocol, IPIP | IPV6 | GRE | ESP | AUTHENTICATION | ETHERIP | L2TP)
    }
}
