//! What becomes of a packet, and why. Numbers are appended, never changed: kernel, metrics, CLI and documents share them.

use crate::abi::{DeviceId, NetworkId, RuleId};

/// Declares a numbered enum with its label and meaning, a list of all, and the way back from a number.
macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $number:literal, $label:literal, $meaning:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[repr(u8)]
        pub enum $name { $(#[doc = $meaning] $variant = $number,)* }

        impl $name {
            /// Every value, in the order of the numbers.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The label in metrics, JSON and text.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }

            /// One sentence for people.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }

            /// The value with this number.
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

numbered! {
    /// Why a packet passes.
    Pass {
        Transit = 0, "transit", "Traffic of no device, and the interface lets transit pass.";
        Neighbour = 1, "neighbour", "ARP or neighbour discovery about an address that belongs on the link.";
        LinkControl = 2, "link_control", "LACP or LLDP on an interface that lets transit pass.";
        Established = 3, "established", "A live flow holds.";
        Opened = 4, "opened", "A rule allows it; the flow is new.";
        Gtpu = 5, "gtpu", "Talk between GTP-U endpoints: echo, error indication, end marker (TS 29.281 clause 7).";
        IcmpError = 6, "icmp_error", "An ICMP error about a live flow.";
        Witness = 7, "witness", "Only looked at here: another interface judges it.";
        WitnessAlarm = 8, "witness_alarm", "From a pool, and no interface of this host has let it through.";
        Host = 9, "host", "Sent by this host itself, and `fromHost: pass` lets it.";
    }
}

numbered! {
    /// Why a packet is dropped.
    DropReason {
        MalformedEthernet = 1, "malformed_ethernet", "The Ethernet header or a VLAN tag is cut off.";
        MalformedArp = 2, "malformed_arp", "The ARP packet is cut off or not Ethernet/IPv4 (RFC 826).";
        MalformedIpv4 = 3, "malformed_ipv4", "The IPv4 header is cut off or contradicts itself (RFC 791).";
        MalformedIpv6 = 4, "malformed_ipv6", "The IPv6 header or its extension chain is cut off or contradicts itself (RFC 8200).";
        MalformedTcp = 5, "malformed_tcp", "The TCP header is cut off or its data offset is impossible (RFC 9293).";
        MalformedUdp = 6, "malformed_udp", "The UDP header is cut off or its length is impossible (RFC 768).";
        MalformedSctp = 7, "malformed_sctp", "The SCTP header is cut off (RFC 9260).";
        MalformedIcmp = 8, "malformed_icmp", "The ICMP header is cut off (RFC 792, RFC 4443).";
        MalformedNeighbour = 9, "malformed_neighbour", "Neighbour discovery with a wrong hop limit, code or length (RFC 4861 section 7.1).";
        UnsupportedEthertype = 10, "unsupported_ethertype", "Neither IPv4, IPv6, ARP nor a known control protocol.";
        UnsupportedVlanDepth = 11, "unsupported_vlan_depth", "More than two VLAN tags.";
        UnsupportedExtension = 12, "unsupported_extension", "An IPv6 extension chain that is too long, a routing header that still names hops, or an IPv4 source route.";
        UnsupportedProtocol = 13, "unsupported_protocol", "An IP protocol that no rule can name.";
        UnsupportedIcmp = 14, "unsupported_icmp", "An ICMP message that is neither echo nor an error.";
        IcmpErrorUnrelated = 15, "icmp_error_unrelated", "An ICMP error that is not about a live flow of the device.";
        FragmentDenied = 16, "fragment_denied", "An IP fragment from or to a device of a network that drops fragments.";
        UnknownVlan = 17, "unknown_vlan", "A device address on an interface and VLAN where no network is seen.";
        UnknownDevice = 18, "unknown_device", "The address lies in a pool but belongs to no device.";
        UnknownPeer = 19, "unknown_peer", "The destination lies in a pool but belongs to no device.";
        SpoofedSource = 20, "spoofed_source", "The source does not belong where the frame came from.";
        SpoofedNeighbour = 21, "spoofed_neighbour", "ARP or neighbour discovery that claims an address which is not its sender's.";
        MartianSource = 22, "martian_source", "A source address that no host may have.";
        MartianDestination = 23, "martian_destination", "A destination address that no host may have.";
        Multicast = 24, "multicast", "Multicast from or to a device.";
        Broadcast = 25, "broadcast", "Broadcast from or to a device.";
        Dhcp = 26, "dhcp", "DHCP on an access interface; devices get their addresses from the packet core.";
        NoRule = 27, "no_rule", "The device is known and no rule allows this destination and port.";
        Never = 28, "never", "A never list of the segment or network names this port.";
        SegmentDenied = 29, "segment_denied", "Device to device, and no policy names both ends with this port.";
        Unsolicited = 30, "unsolicited", "Towards a device that did not ask, and no inbound rule allows it.";
        FlowTableFull = 31, "flow_table_full", "A rule allows it but the flow table has no room.";
        TransitDenied = 32, "transit_denied", "Traffic of no device, and the interface does not let transit pass.";
        NeighbourOffLink = 33, "neighbour_off_link", "ARP or neighbour discovery for an address that does not belong on the link.";
        NeighbourRole = 34, "neighbour_role", "A router advertisement or redirect from the device side.";
        InternalInterface = 35, "internal_interface", "The program runs on an interface it has no entry for.";
        InternalTable = 36, "internal_table", "A table row that must exist is missing.";
        SpoofedTunnel = 37, "spoofed_tunnel", "The device's packets come through another GTP-U tunnel, or through none.";
        UnknownTunnel = 38, "unknown_tunnel", "A packet in a GTP-U tunnel whose TEID and source belong to no network seen there.";
        GtpuPeer = 39, "gtpu_peer", "GTP-U for an endpoint of this host from an address that is not a listed peer.";
        GtpuMalformed = 40, "gtpu_malformed", "The GTP-U header or its extension chain is cut off or contradicts itself (TS 29.281 clause 5).";
        GtpuVersion = 41, "gtpu_version", "Not GTP version 1.";
        GtpuPrime = 42, "gtpu_prime", "GTP' instead of GTP: the protocol type bit is 0 (TS 32.295).";
        GtpuMessage = 43, "gtpu_message", "A GTP-U message type that has no meaning (TS 29.281 table 6.1-1).";
        GtpuExtension = 44, "gtpu_extension", "A GTP-U extension chain that is too long, or an extension header that is not known.";
        GtpuTeidZero = 45, "gtpu_teid_zero", "A packet in GTP-U tunnel 0, which is no device's.";
        GtpuInner = 46, "gtpu_inner", "A GTP-U tunnel carries neither IPv4 nor IPv6.";
        GtpuNested = 47, "gtpu_nested", "A device sends GTP-U inside its GTP-U tunnel.";
        GtpuOuterFragment = 48, "gtpu_outer_fragment", "A fragment of a GTP-U packet: what is inside cannot be judged.";
        ControlProtocol = 49, "control_protocol", "A device speaks GTP-C, PFCP, GTP' or GTP-U, which only the core's own machines do.";
        Quarantined = 50, "quarantined", "The device, or the one at the other end, was put in quarantine.";
        MalformedFragment = 51, "malformed_fragment", "A fragment whose offset and length no datagram can have (RFC 791, RFC 8200).";
        FragmentEarly = 52, "fragment_early", "A fragment that comes before the one it follows, or after its flow has ended.";
        FragmentOverlap = 53, "fragment_overlap", "A fragment that overlaps the ones before it (RFC 5722).";
        FragmentRepeated = 54, "fragment_repeated", "A fragment that was there before.";
        FragmentTiny = 55, "fragment_tiny", "A first fragment without its whole transport header, or with other headers before it (RFC 1858, RFC 7112).";
        FragmentRewrite = 56, "fragment_rewrite", "A second first fragment of a datagram that is on its way.";
        FragmentQuota = 57, "fragment_quota", "The device has as many fragmented datagrams on their way as it may have.";
        IpOptions = 58, "ip_options", "IPv4 options or IPv6 options headers, which the network does not pass.";
        IcmpErrorRate = 59, "icmp_error_rate", "More ICMP errors than a device may get or send.";
        ConditionPosture = 60, "condition_posture", "Only a rule allows it that demands labels or equipment which the device does not have.";
        ConditionPlace = 61, "condition_place", "Only a rule allows it that demands another place or radio access of the device.";
        RateLimited = 62, "rate_limited", "The device is over the packets or bits per second of its segment.";
        FlowRateLimited = 63, "flow_rate_limited", "The device is over the new flows per second of its segment.";
        FlowQuota = 64, "flow_quota", "The device has as many flows as its segment allows at once.";
        ConditionTime = 65, "condition_time", "A rule allows it at other times.";
    }
}

numbered! {
    /// How a packet that passed left, where its network has `forwarding: xdp`: by XDP, or through the kernel's stack and why.
    Way {
        Fast = 0, "fast", "Sent on by XDP, past the kernel's stack.";
        Header = 1, "header", "Through the stack: it has options, is a fragment, has a wrong header checksum or bytes behind its end.";
        Tunnel = 2, "tunnel", "Through the stack: it came in a GTP-U tunnel, which the packet core takes off.";
        Buffers = 3, "buffers", "Through the stack: its frame lies in several buffers.";
        Entry = 4, "entry", "Through the stack: what enters by this interface and VLAN is not forwarded by XDP.";
        Receiver = 5, "receiver", "Through the stack: its frame is not addressed to the interface.";
        HopLimit = 6, "hop_limit", "Through the stack: its hops are used up, and the stack tells its sender.";
        Blackhole = 7, "blackhole", "Through the stack: its route is a blackhole.";
        Unreachable = 8, "unreachable", "Through the stack: its route says unreachable, or there is none for its family.";
        Prohibited = 9, "prohibited", "Through the stack: its route says prohibit.";
        NotForwarded = 10, "not_forwarded", "Through the stack: it is for this host itself, or has no unicast route.";
        ForwardingOff = 11, "forwarding_off", "Through the stack: the interface that it entered by does not forward (sysctl forwarding).";
        Encapsulated = 12, "encapsulated", "Through the stack: its route wraps packets (MPLS, SRv6 and the like).";
        NoNeighbour = 13, "no_neighbour", "Through the stack, which asks for the next hop's MAC address.";
        TooLong = 14, "too_long", "Through the stack: it is longer than the MTU of its route.";
        OtherRoute = 15, "other_route", "Through the stack: the routing table gave an answer that is not known.";
        Exit = 16, "exit", "Through the stack: the interface that it leaves by takes no frames from XDP.";
        SameInterface = 17, "same_interface", "Through the stack, which may tell its sender of a shorter way: it leaves where it entered.";
        Confirm = 18, "confirm", "Through the stack in its turn, so that the kernel keeps looking after the next hop's MAC address.";
        NoRoom = 19, "no_room", "Through the stack: the driver has no room for its new header.";
    }
}

/// Who refuses a packet, and so may as well only observe it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RefusedBy {
    /// What no policy allows, or a word that beats policy: there is nothing to rehearse.
    Engine,
    /// The network, for want of a device, and the device at the other end.
    Network,
    /// The devices at both ends, as far as they are devices.
    Ends,
    /// The device that the packet would be charged to, whoever is at the other end.
    Device,
}

impl DropReason {
    /// Who refuses for this reason.
    #[inline(always)]
    pub const fn refused_by(self) -> RefusedBy {
        match self {
            Self::UnknownDevice => RefusedBy::Network,
            Self::IcmpErrorUnrelated
            | Self::ConditionPosture
            | Self::ConditionPlace
            | Self::ConditionTime
            | Self::UnknownPeer
            | Self::NoRule
            | Self::SegmentDenied
            | Self::Unsolicited
            | Self::FlowTableFull => RefusedBy::Ends,
            Self::RateLimited | Self::FlowRateLimited | Self::FlowQuota => RefusedBy::Device,
            Self::MalformedEthernet
            | Self::MalformedArp
            | Self::MalformedIpv4
            | Self::MalformedIpv6
            | Self::MalformedTcp
            | Self::MalformedUdp
            | Self::MalformedSctp
            | Self::MalformedIcmp
            | Self::MalformedNeighbour
            | Self::UnsupportedEthertype
            | Self::UnsupportedVlanDepth
            | Self::UnsupportedExtension
            | Self::UnsupportedProtocol
            | Self::UnsupportedIcmp
            | Self::FragmentDenied
            | Self::UnknownVlan
            | Self::SpoofedSource
            | Self::SpoofedNeighbour
            | Self::MartianSource
            | Self::MartianDestination
            | Self::Multicast
            | Self::Broadcast
            | Self::Dhcp
            | Self::Never
            | Self::TransitDenied
            | Self::NeighbourOffLink
            | Self::NeighbourRole
            | Self::InternalInterface
            | Self::InternalTable
            | Self::SpoofedTunnel
            | Self::UnknownTunnel
            | Self::GtpuPeer
            | Self::GtpuMalformed
            | Self::GtpuVersion
            | Self::GtpuPrime
            | Self::GtpuMessage
            | Self::GtpuExtension
            | Self::GtpuTeidZero
            | Self::GtpuInner
            | Self::GtpuNested
            | Self::GtpuOuterFragment
            | Self::ControlProtocol
            | Self::Quarantined
            | Self::MalformedFragment
            | Self::FragmentEarly
            | Self::FragmentOverlap
            | Self::FragmentRepeated
            | Self::FragmentTiny
            | Self::FragmentRewrite
            | Self::FragmentQuota
            | Self::IpOptions
            | Self::IcmpErrorRate => RefusedBy::Engine,
        }
    }
}

numbered! {
    /// Which way a packet goes, from the device's point of view.
    Direction {
        Transit = 0, "transit", "Neither from nor to a device.";
        Uplink = 1, "up", "From a device.";
        Downlink = 2, "down", "To a device, from the data network.";
    }
}

/// The answer.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Verdict {
    /// Goes on to the kernel.
    Pass(Pass),
    /// Ends here.
    Drop(DropReason),
    /// Goes on to the kernel, although policy refuses it: everybody who does only observes.
    Observe(DropReason),
}

impl Verdict {
    const DROP_BIT: u16 = 0x100;
    const OBSERVE_BIT: u16 = 0x200;

    /// The verdict as one number, for events.
    pub const fn code(self) -> u16 {
        match self {
            Self::Pass(pass) => pass as u16,
            Self::Drop(reason) => Self::DROP_BIT | reason as u16,
            Self::Observe(reason) => Self::OBSERVE_BIT | reason as u16,
        }
    }

    /// The verdict with this number.
    #[inline(always)]
    pub const fn from_code(code: u16) -> Option<Self> {
        let number = code as u8;
        if code & !0xff == 0 {
            return match Pass::from_number(number) {
                Some(pass) => Some(Self::Pass(pass)),
                None => None,
            };
        }
        let Some(reason) = DropReason::from_number(number) else { return None };
        match code & !0xff {
            Self::DROP_BIT => Some(Self::Drop(reason)),
            Self::OBSERVE_BIT => Some(Self::Observe(reason)),
            _ => None,
        }
    }

    /// True if the packet goes on.
    pub const fn passes(self) -> bool {
        matches!(self, Self::Pass(_) | Self::Observe(_))
    }

    /// Why policy refuses the packet, whether it goes on or not; nothing if it does not.
    pub const fn refusal(self) -> Option<DropReason> {
        match self {
            Self::Pass(_) => None,
            Self::Drop(reason) | Self::Observe(reason) => Some(reason),
        }
    }

    /// The label of the reason.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass(pass) => pass.as_str(),
            Self::Drop(reason) | Self::Observe(reason) => reason.as_str(),
        }
    }
}

/// What the engine learned on the way to a verdict.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct Evidence {
    /// The network, or none.
    pub network: NetworkId,
    /// The device that the packet is about, or none.
    pub device: DeviceId,
    /// The device at the other end, or none.
    pub peer: DeviceId,
    /// The deciding rule, or none.
    pub rule: RuleId,
    /// Which way.
    pub direction: Direction,
}

impl Evidence {
    /// Nothing known yet.
    pub const NONE: Self = Self {
        network: NetworkId::NONE,
        device: DeviceId::NONE,
        peer: DeviceId::NONE,
        rule: RuleId::NONE,
        direction: Direction::Transit,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_and_come_back() {
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index + 1);
            assert_eq!(DropReason::from_number(*reason as u8), Some(*reason));
            for verdict in [Verdict::Drop(*reason), Verdict::Observe(*reason)] {
                assert_eq!(Verdict::from_code(verdict.code()), Some(verdict));
            }
        }
        for (index, pass) in Pass::ALL.iter().enumerate() {
            assert_eq!(*pass as usize, index);
            assert_eq!(Verdict::from_code(Verdict::Pass(*pass).code()), Some(Verdict::Pass(*pass)));
        }
        assert_eq!(Verdict::from_code(0x1ff), None);
        assert_eq!(Verdict::from_code(0x200), None);
        assert_eq!(Verdict::from_code(0x300 | DropReason::NoRule as u16), None);
    }

    #[test]
    fn labels_are_snake_case_and_unique() {
        let mut labels: std::vec::Vec<_> = DropReason::ALL.iter().map(|r| r.as_str()).collect();
        assert!(
            labels
                .iter()
                .all(|l| l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'))
        );
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), DropReason::ALL.len());
    }
}
