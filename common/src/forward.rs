//! The fast way: a packet of a live flow gets a new header here and is sent on by XDP, past the kernel's stack.
//!
//! Only where its network says `forwarding: xdp`, and only what the stack would have forwarded as it is, with a hop
//! less. Whatever asks for more (options, fragments, an ICMP error to be sent, a neighbour to be found) is left to the
//! stack, which does as it always does: [`Way`] says why. Nothing is decided here about whether a packet may pass.

use crate::abi::value::NETWORK_FORWARDS;
use crate::abi::{Leg, SubinterfaceKey};
use crate::case::{Arrival, Case, LinkType};
use crate::frame::{Frame, Window};
use crate::verdict::{Pass, Verdict, Way};
use crate::wire::ethernet::{self, Ethernet};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::{ether_type, ip_proto, l4};

/// Where packets may go: the kernel's routing table and neighbours, and what the agent says of interfaces.
pub trait Routes {
    /// An interface on the fast way.
    fn leg(&self, key: SubinterfaceKey) -> Option<Leg>;
    /// Asks for the way of a packet that entered by an interface, as routes name it.
    fn next_hop<F: Frame + ?Sized>(&self, frame: &F, header: &Header, entry: u32) -> Result<NextHop, Way>;
    /// True for the first packet since the clock's last [`turn`] that is kept at this [`place`] on this CPU.
    fn takes_turn(&self, place: u32) -> bool;
}

/// What routing needs of a packet's headers, and what forwarding changes of them.
///
/// They are read again here, of whatever has passed: less than what judging reads, and nothing has to be handed on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// Where source and destination lie in the frame: 4 bytes each of IPv4, 16 of IPv6.
    pub addresses_at: u32,
    /// IP protocol number.
    pub protocol: u8,
    /// The ports by which the kernel may choose a route; 0 where a packet has none.
    pub ports: [u16; 2],
    /// IPv4: the type of service. IPv6: version, class and flow label as on the wire.
    pub class: u32,
    /// Bytes of the packet.
    pub length: u16,
    /// Where [`Self::hops`] lies in the header.
    pub hops_at: u32,
    /// Four bytes, the hops left and an IPv4 checksum among them, as they go on.
    pub hops: [u8; 4],
}

/// Where a packet goes next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NextHop {
    /// The interface that the route names.
    pub ifindex: u32,
    /// The MAC address of whoever takes it: its six bytes as a little-endian number. Taken one by one they would cost as many
    /// instructions.
    pub receiver: u64,
    /// The MAC address of that interface, likewise.
    pub sender: u64,
}

/// An Ethernet header in words, as they lie in memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EthernetWords {
    /// The first eight bytes, and four more: both MAC addresses.
    pub stations: (u64, u32),
    /// Tags and type, two bytes each; as many as there are in a header with so many tags.
    pub rest: [u16; 1 + 2 * ethernet::VLAN_MAX_DEPTH as usize],
}

/// What a packet becomes, and where it leaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Departure {
    /// The interface that sends it.
    pub port: u32,
    /// Where the IP packet begins in the frame as it is.
    pub at: u32,
    /// VLAN tags of its new Ethernet header.
    pub depth: u32,
    /// The new Ethernet header; longer than it is where there are fewer tags.
    pub ethernet: EthernetWords,
    /// The change of its IP header.
    pub header: Header,
}

/// True if a packet that was judged may go the fast way, if it can.
#[inline(always)]
pub const fn is_wanted(case: &Case, verdict: Verdict) -> bool {
    case.place.network.flags & NETWORK_FORWARDS != 0 && matches!(verdict, Verdict::Pass(Pass::Established))
}

/// What becomes of a packet of no tunnel on the fast way; `linear` is how many bytes of its frame lie in the first buffer.
#[inline(always)]
pub fn forward<F, R>(frame: &F, arrival: &Arrival, linear: u32, routes: &R) -> Result<Departure, Way>
where
    F: Frame + ?Sized,
    R: Routes,
{
    if !matches!(arrival.link, LinkType::Ethernet) {
        return Err(Way::Entry);
    }
    if arrival.length != linear {
        return Err(Way::Buffers);
    }
    let link = Ethernet::load(frame).map_err(|_| Way::Entry)?;
    let header = Header::load(frame, &link, arrival.length)?;
    let entry = entry(frame, routes, arrival.ifindex, &link)?;
    let hop = routes.next_hop(frame, &header, entry.ifindex)?;
    if hop.ifindex == entry.ifindex {
        return Err(Way::SameInterface);
    }
    let exit = routes.leg(SubinterfaceKey::exit(hop.ifindex)).ok_or(Way::Exit)?;
    if routes.takes_turn(place(&hop)) {
        return Err(Way::Confirm);
    }
    let ethernet = ethernet_of(&hop, &exit, link.ether_type);
    Ok(Departure { port: exit.port, at: link.payload, depth: exit.depth(), ethernet, header })
}

/// Bytes of the shortest Ethernet frame, without its checksum.
const SHORTEST: u32 = 60;

impl Header {
    /// Reads the headers and takes a hop off; refuses what is in pieces, or more than an IP packet.
    #[inline(always)]
    fn load<F: Frame + ?Sized>(frame: &F, link: &Ethernet, length: u32) -> Result<Self, Way> {
        let (at, window) = (link.payload, Window::new(frame, length).ok_or(Way::Header)?);
        let header = match link.ether_type {
            ether_type::IPV4 => Self::v4(&window, at)?,
            ether_type::IPV6 => Self::v6(&window, at)?,
            _ => return Err(Way::Entry),
        };
        // Ethernet pads short frames, and the next link wants that too (IEEE 802.3 clause 3.2.8). More is no padding.
        let padded = SHORTEST + at - ethernet::LEN;
        let trails = at + (header.length as u32) < length && length > padded;
        if trails { Err(Way::Header) } else { Ok(header) }
    }

    #[inline(always)]
    fn v4<F: Frame + ?Sized>(window: &Window<'_, F>, at: u32) -> Result<Self, Way> {
        let header = Ipv4::load(window, at).ok_or(Way::Header)?;
        let bytes = header.bytes();
        if header.has_options() || header.is_fragment() || !is_whole(bytes) {
            return Err(Way::Header);
        }
        Ok(Self {
            addresses_at: at + 12,
            protocol: header.protocol(),
            ports: ports(window, at + ipv4::LEN as u32, header.protocol())?,
            class: bytes[1] as u32,
            length: header.total_len() as u16,
            hops_at: HOPS_AT_V4,
            hops: hops_v4(bytes)?,
        })
    }

    #[inline(always)]
    fn v6<F: Frame + ?Sized>(window: &Window<'_, F>, at: u32) -> Result<Self, Way> {
        let header = Ipv6::load(window, at).ok_or(Way::Header)?;
        let [c0, c1, c2, c3, l0, l1, next, hops] = header.first_bytes();
        if ipv6::is_extension(next) {
            return Err(Way::Header);
        }
        if hops <= 1 {
            return Err(Way::HopLimit);
        }
        Ok(Self {
            addresses_at: at + 8,
            protocol: next,
            ports: ports(window, at + ipv6::LEN as u32, next)?,
            class: u32::from_ne_bytes([c0, c1, c2, c3]),
            length: u16::from_be_bytes([l0, l1]).checked_add(ipv6::LEN as u16).ok_or(Way::Header)?,
            hops_at: 4,
            hops: [l0, l1, next, hops - 1],
        })
    }
}

/// [`Header::hops_at`] of IPv4.
pub const HOPS_AT_V4: u32 = 8;

#[inline(always)]
fn ports<F: Frame + ?Sized>(window: &Window<'_, F>, at: u32, protocol: u8) -> Result<[u16; 2], Way> {
    if !matches!(protocol, ip_proto::TCP | ip_proto::UDP | ip_proto::SCTP) {
        return Ok([0; 2]);
    }
    let ports = l4::ports(window.load(at).ok_or(Way::Header)?);
    Ok([ports.source, ports.destination])
}

/// Takes a hop off: what begins with it in the header.
#[inline(always)]
const fn hops_v4(bytes: &[u8; ipv4::LEN]) -> Result<[u8; 4], Way> {
    let [_, _, _, _, _, _, _, _, hops, protocol, c0, c1, ..] = *bytes;
    if hops <= 1 {
        return Err(Way::HopLimit);
    }
    let [c0, c1] = checksum_after_hop(u16::from_be_bytes([c0, c1])).to_be_bytes();
    Ok([hops - 1, protocol, c0, c1])
}

/// True if an IPv4 header has the checksum that it says (RFC 1071). The stack drops what has not.
///
/// In whatever order the bytes of its words are, and however many are added at once: the sum is all ones, or not.
#[inline(always)]
const fn is_whole(bytes: &[u8; ipv4::LEN]) -> bool {
    let mut sum = 0;
    let mut at = 0;
    while at < ipv4::LEN {
        sum += u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as u64;
        at += 4;
    }
    let halves = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    (halves & 0xffff) + (halves >> 16) == 0xffff
}

/// The IPv4 checksum with a hop less in the header, as `ip_decrease_ttl` of the kernel's include/net/ip.h counts.
#[inline(always)]
const fn checksum_after_hop(checksum: u16) -> u16 {
    let sum = checksum as u32 + 0x0100;
    (sum + (sum >= 0xffff) as u32) as u16
}

/// The interface that the stack would say the frame entered by, if it would take it for its own.
#[inline(always)]
fn entry<F, R>(frame: &F, routes: &R, ifindex: u32, link: &Ethernet) -> Result<Leg, Way>
where
    F: Frame + ?Sized,
    R: Routes,
{
    let key = SubinterfaceKey::entry(ifindex, link.outer_vlan, link.inner_vlan);
    let leg = routes.leg(key).ok_or(Way::Entry)?;
    // A tag of number 0 has a priority and no VLAN; one of the other kind is another VLAN's.
    if link.payload != ethernet::LEN + leg.depth() * ethernet::VLAN_LEN || !has_tags(frame, &leg) {
        return Err(Way::Entry);
    }
    match frame.load::<6>(0) {
        Some(receiver) if receiver == leg.mac => Ok(leg),
        Some(_) | None => Err(Way::Receiver),
    }
}

#[inline(always)]
fn has_tags<F: Frame + ?Sized>(frame: &F, leg: &Leg) -> bool {
    let is_kind = |at, tag: u32| tag == 0 || frame.load(at) == Some(((tag >> 16) as u16).to_be_bytes());
    let [outer, inner] = leg.tags;
    is_kind(ethernet::LEN - 2, outer) && is_kind(ethernet::LEN - 2 + ethernet::VLAN_LEN, inner)
}

#[inline(always)]
const fn ethernet_of(hop: &NextHop, exit: &Leg, ether_type: u16) -> EthernetWords {
    let first = (hop.receiver | hop.sender << 48).to_le();
    let last = ((hop.sender >> 16) as u32).to_le();
    let kind = ether_type.to_be();
    let ([a0, a1], [b0, b1]) = (halves(exit.tags[0]), halves(exit.tags[1]));
    let rest = match exit.depth() {
        0 => [kind, 0, 0, 0, 0],
        1 => [a0, a1, kind, 0, 0],
        _ => [a0, a1, b0, b1, kind],
    };
    EthernetWords { stations: (first, last), rest }
}

/// A tag's type and the rest of it.
#[inline(always)]
const fn halves(tag: u32) -> [u16; 2] {
    [((tag >> 16) as u16).to_be(), (tag as u16).to_be()]
}

/// What the kernel's `bpf_fib_lookup` answers (`BPF_FIB_LKUP_RET_*`); nothing if it found a way.
#[inline(always)]
pub const fn refusal(answer: i64) -> Option<Way> {
    Some(match answer {
        0 => return None,
        1 => Way::Blackhole,
        2 => Way::Unreachable,
        3 => Way::Prohibited,
        4 => Way::NotForwarded,
        5 => Way::ForwardingOff,
        6 => Way::Encapsulated,
        7 => Way::NoNeighbour,
        8 => Way::TooLong,
        // It could not be asked, or the kernel is newer than this.
        _ => Way::OtherRoute,
    })
}

/// Places for next hops that take turns, on each CPU.
pub const PLACES: u32 = 1024;

/// The clock's turns, of about four seconds.
///
/// A neighbour's entry gets old in the kernel, which then asks whether it is still there, but only if the stack sends
/// something to it (RFC 4861 section 7.3.3; ARP is treated alike). So one packet in each turn goes through the stack.
#[inline(always)]
pub const fn turn(now: u64) -> u64 {
    now >> 32
}

/// Where the last turn of a next hop is kept. Hops that share a place share its turns: who sends more has more of them.
#[inline(always)]
const fn place(hop: &NextHop) -> u32 {
    let mac = (hop.receiver >> 16) as u32 ^ hop.ifindex;
    // Fibonacci hashing, as in `abi::seek`.
    mac.wrapping_mul(0x9e37_79b1) >> 22
}

const _: () = assert!(PLACES == 1 << 10);

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::vec::Vec;

    use super::*;
    use crate::abi::Epoch;

    const OURS: [u8; 6] = [2, 0, 0, 0, 0, 2];
    const OTHERS: [u8; 6] = [2, 0, 0, 0, 0, 9];
    const NEXT: [u8; 6] = [2, 0, 0, 0, 0, 0x99];
    const EXIT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 3];
    const V4: [u8; 28] = [
        0x45, 0, 0, 28, 0, 7, 0x40, 0, 64, 17, 0, 0, 10, 45, 0, 17, 203, 0, 113, 10, 0x30, 0x39, 0x13, 0x88,
        0, 8, 0, 0,
    ];

    /// One leg in, one out, and a routing table that answers what it is told to.
    struct Host {
        entry: (SubinterfaceKey, Leg),
        exit: (SubinterfaceKey, Leg),
        answer: i64,
        asked: RefCell<Vec<(u32, Header)>>,
        turns: Cell<bool>,
    }

    impl Host {
        fn new(entry: [u32; 2], exit: [u32; 2]) -> Self {
            let leg = |ifindex, port, tags, mac| Leg { ifindex, port, tags, mac, _pad: [0; 2] };
            let [outer, inner] = entry.map(|tag| tag as u16);
            Self {
                entry: (SubinterfaceKey::entry(2, outer, inner), leg(12, 2, entry, OURS)),
                exit: (SubinterfaceKey::exit(13), leg(13, 3, exit, EXIT_MAC)),
                answer: 0,
                asked: RefCell::default(),
                turns: Cell::new(false),
            }
        }

        fn plain() -> Self {
            Self::new([0; 2], [0; 2])
        }
    }

    impl Routes for Host {
        fn leg(&self, key: SubinterfaceKey) -> Option<Leg> {
            [self.entry, self.exit].iter().find(|(known, _)| *known == key).map(|(_, leg)| *leg)
        }

        fn next_hop<F: Frame + ?Sized>(
            &self,
            _frame: &F,
            header: &Header,
            entry: u32,
        ) -> Result<NextHop, Way> {
            self.asked.borrow_mut().push((entry, *header));
            match refusal(self.answer) {
                Some(way) => Err(way),
                None => Ok(NextHop { ifindex: 13, receiver: station(NEXT), sender: station(EXIT_MAC) }),
            }
        }

        fn takes_turn(&self, _place: u32) -> bool {
            self.turns.get()
        }
    }

    /// A MAC address as the number that it is in a [`NextHop`].
    fn station([m0, m1, m2, m3, m4, m5]: [u8; 6]) -> u64 {
        u64::from_le_bytes([m0, m1, m2, m3, m4, m5, 0, 0])
    }

    /// The words of a header as they are written.
    fn bytes(header: &EthernetWords) -> Vec<u8> {
        let (first, last) = header.stations;
        let rest = header.rest.iter().flat_map(|word| word.to_ne_bytes());
        first.to_ne_bytes().into_iter().chain(last.to_ne_bytes()).chain(rest).collect()
    }

    fn frame(receiver: [u8; 6], tags: &[u8], packet: &[u8]) -> Vec<u8> {
        let kind: &[u8] = if packet[0] >> 4 == 4 { &[0x08, 0] } else { &[0x86, 0xdd] };
        [&receiver[..], &OTHERS, tags, kind, packet].concat()
    }

    /// An IPv4 packet with the checksum that it should have.
    fn v4(change: impl FnOnce(&mut [u8; 28])) -> Vec<u8> {
        let mut packet = V4;
        change(&mut packet);
        [packet[10], packet[11]] = checksum(&packet).to_be_bytes();
        packet.to_vec()
    }

    fn checksum(packet: &[u8]) -> u16 {
        let words = packet[..20].chunks(2).enumerate().filter(|(word, _)| *word != 5);
        let sum: u32 = words.map(|(_, word)| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        !((folded & 0xffff) + (folded >> 16)) as u16
    }

    fn v6(hops: u8) -> Vec<u8> {
        let (from, to) = (
            [0xfd, 0, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9],
        );
        [&[0x6a, 0xbc, 1, 2, 0, 8, 17, hops][..], &from, &to, &[0x30, 0x39, 0x13, 0x88, 0, 8, 0, 1]].concat()
    }

    fn arrival(frame: &[u8]) -> Arrival {
        Arrival::of(2, LinkType::Ethernet, frame.len() as u32)
    }

    fn go(host: &Host, frame: &[u8]) -> Result<Departure, Way> {
        forward(frame, &arrival(frame), frame.len() as u32, host)
    }

    /// End-around carry, as RFC 1071 says in section 1: word by word, in the order of the wire.
    fn sum_by_words(header: &[u8; 20]) -> u16 {
        header.chunks(2).fold(0u16, |sum, word| {
            let (sum, carry) = sum.overflowing_add(u16::from_be_bytes([word[0], word[1]]));
            sum + u16::from(carry)
        })
    }

    #[test]
    fn a_header_is_whole_if_its_words_add_up_to_all_ones() {
        let mut number = 1u64;
        let mut next = || {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Many zeros and ones: carries are where sums go wrong.
            match number >> 62 {
                0 => 0,
                1 => 0xff,
                _ => (number >> 40) as u8,
            }
        };
        for _ in 0..10_000 {
            let mut header: [u8; 20] = core::array::from_fn(|_| next());
            header[0] = 0x45;
            assert_eq!(is_whole(&header), sum_by_words(&header) == 0xffff, "{header:02x?}");
            header[10..12].fill(0);
            let checksum = !sum_by_words(&header);
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            assert!(is_whole(&header), "{header:02x?}");
            let bit = usize::from(next()) % 160;
            header[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_whole(&header), "bit {bit} of {header:02x?}");
        }
    }

    #[test]
    fn a_hop_less_and_a_new_ethernet_header() {
        let host = Host::plain();
        let departure = go(&host, &frame(OURS, &[], &v4(|_| ()))).unwrap();
        assert_eq!((departure.port, departure.depth), (3, 0));
        assert_eq!(bytes(&departure.ethernet)[..14], [&NEXT[..], &EXIT_MAC, &[8, 0]].concat());
        let expected = checksum(&v4(|packet| packet[8] = 63)).to_be_bytes();
        assert_eq!(departure.header.hops, [63, 17, expected[0], expected[1]]);
        assert_eq!(host.asked.borrow()[0].0, 12, "routes know the entry by its own number");
        let departure = go(&host, &frame(OURS, &[], &v6(9))).unwrap();
        assert_eq!((departure.header.hops_at, departure.header.hops), (4, [0, 8, 17, 8]));
        assert_eq!(
            (departure.header.length, departure.header.class),
            (48, u32::from_ne_bytes([0x6a, 0xbc, 1, 2]))
        );
    }

    #[test]
    fn every_checksum_stays_right_when_a_hop_is_taken() {
        for low in 0..=u16::MAX {
            let packet = v4(|packet| [packet[4], packet[5]] = low.to_be_bytes());
            let [hops, protocol, c0, c1] = hops_v4(packet[..20].try_into().unwrap()).unwrap();
            let mut next: [u8; 20] = packet[..20].try_into().unwrap();
            (next[8], next[9], next[10], next[11]) = (hops, protocol, c0, c1);
            assert!(is_whole(&next), "{low}");
        }
        // The corner in which `ip_decrease_ttl` adds a carry: 0xfeff becomes 0, not 0xffff.
        assert_eq!([0xfeff, 0xff00, 0xffff, 0x1234].map(checksum_after_hop), [0, 1, 0x0100, 0x1334]);
    }

    #[test]
    fn tags_are_taken_off_and_put_on() {
        let (one, two) = (0x8100_0064, 0x88a8_0007);
        let cases = [
            ([0, 0], [one, 0]),
            ([one, 0], [0, 0]),
            ([two, one], [one, 0]),
            ([0, 0], [two, one]),
            ([one, 0], [two, one]),
        ];
        for (entry, exit) in cases {
            let tagged = |tags: [u32; 2]| -> Vec<u8> {
                tags.iter().filter(|tag| **tag != 0).flat_map(|tag| tag.to_be_bytes()).collect()
            };
            let departure = go(&Host::new(entry, exit), &frame(OURS, &tagged(entry), &v4(|_| ()))).unwrap();
            let header = [&NEXT[..], &EXIT_MAC, &tagged(exit), &[8, 0]].concat();
            assert_eq!(bytes(&departure.ethernet)[..header.len()], header, "{entry:x?} {exit:x?}");
            assert_eq!(departure.depth, exit.iter().filter(|tag| **tag != 0).count() as u32);
        }
    }

    #[test]
    fn what_the_stack_must_see_goes_there() {
        let plain = Host::plain();
        for (frame, way) in [
            (frame(OTHERS, &[], &v4(|_| ())), Way::Receiver),
            (frame([0xff; 6], &[], &v4(|_| ())), Way::Receiver),
            (frame(OURS, &[], &v4(|packet| packet[8] = 1)), Way::HopLimit),
            (frame(OURS, &[], &v4(|packet| packet[8] = 0)), Way::HopLimit),
            (frame(OURS, &[], &v6(1)), Way::HopLimit),
            (frame(OURS, &[], &V4), Way::Header),
            (frame(OURS, &[0x81, 0, 0, 5], &v4(|_| ())), Way::Entry),
            // Of priority alone: the stack takes it for untagged.
            (frame(OURS, &[0x81, 0, 0xe0, 0], &v4(|_| ())), Way::Entry),
            ([frame(OURS, &[], &v4(|_| ())), [7; 40].to_vec()].concat(), Way::Header),
        ] {
            assert_eq!(go(&plain, &frame), Err(way), "{frame:x?}");
        }
        let padded = [frame(OURS, &[], &v4(|_| ())), [0; 18].to_vec()].concat();
        assert_eq!((padded.len(), go(&plain, &padded).is_ok()), (60, true));
        let other_tag = Host::new([0x88a8_0064, 0], [0; 2]);
        assert_eq!(go(&other_tag, &frame(OURS, &[0x81, 0, 0, 100], &v4(|_| ()))), Err(Way::Entry));
    }

    #[test]
    fn what_is_wrapped_or_in_pieces_goes_to_the_stack() {
        let whole = frame(OURS, &[], &v4(|_| ()));
        let bare = Arrival { link: LinkType::RawIp, ..arrival(&whole) };
        assert_eq!(forward(&whole[..], &bare, bare.length, &Host::plain()), Err(Way::Entry));
        assert_eq!(forward(&whole[..], &arrival(&whole), 20, &Host::plain()), Err(Way::Buffers));
        let mut optional =
            [&v4(|packet| (packet[0], packet[3]) = (0x46, 32))[..20], &[1; 4], &V4[20..]].concat();
        let without = go(&Host::plain(), &frame(OURS, &[], &optional));
        assert_eq!(without, Err(Way::Header), "an IPv4 option");
        for flags in [0x20, 0x60, 0x1f] {
            optional = v4(|packet| packet[6] = flags);
            assert_eq!(go(&Host::plain(), &frame(OURS, &[], &optional)), Err(Way::Header), "{flags:x}");
        }
        for extension in [0, 43, 44, 60] {
            let mut packet = v6(9);
            packet[6] = extension;
            assert_eq!(go(&Host::plain(), &frame(OURS, &[], &packet)), Err(Way::Header), "{extension}");
        }
        let pppoe = [&OURS[..], &OTHERS, &[0x88, 0x64, 0x11, 0, 0, 1, 0, 30, 0, 0x21], &v4(|_| ())].concat();
        assert_eq!(go(&Host::plain(), &pppoe), Err(Way::Entry));
    }

    #[test]
    fn the_routing_table_s_answers_have_names() {
        let frame = frame(OURS, &[], &v4(|_| ()));
        let ways = [
            Way::Blackhole,
            Way::Unreachable,
            Way::Prohibited,
            Way::NotForwarded,
            Way::ForwardingOff,
            Way::Encapsulated,
            Way::NoNeighbour,
            Way::TooLong,
            Way::OtherRoute,
            Way::OtherRoute,
        ];
        for (answer, way) in (1..).zip(ways) {
            assert_eq!(go(&Host { answer, ..Host::plain() }, &frame), Err(way), "{answer}");
        }
        assert_eq!(refusal(-22), Some(Way::OtherRoute));
    }

    #[test]
    fn nothing_leaves_where_it_entered_or_where_nobody_takes_it() {
        let frame = frame(OURS, &[], &v4(|_| ()));
        let mut host = Host::plain();
        host.entry.1.ifindex = 13;
        assert_eq!(go(&host, &frame), Err(Way::SameInterface));
        let mut host = Host::plain();
        host.exit.0 = SubinterfaceKey::exit(14);
        assert_eq!(go(&host, &frame), Err(Way::Exit));
        let host = Host::plain();
        host.turns.set(true);
        assert_eq!(go(&host, &frame), Err(Way::Confirm));
    }

    #[test]
    fn only_live_flows_of_networks_that_ask_for_it_are_wanted() {
        let mut case = Case::new(Epoch::default(), arrival(&V4));
        assert!(!is_wanted(&case, Verdict::Pass(Pass::Established)));
        case.place.network.flags = NETWORK_FORWARDS;
        for verdict in Pass::ALL.iter().map(|pass| Verdict::Pass(*pass)) {
            assert_eq!(is_wanted(&case, verdict), verdict == Verdict::Pass(Pass::Established), "{verdict:?}");
        }
        for reason in crate::verdict::DropReason::ALL {
            assert!(
                !is_wanted(&case, Verdict::Drop(*reason)) && !is_wanted(&case, Verdict::Observe(*reason))
            );
        }
    }

    #[test]
    fn packets_are_routed_by_who_says_what_to_whom() {
        let host = Host::plain();
        go(&host, &frame(OURS, &[], &v4(|_| ()))).unwrap();
        // An echo request has no ports, and whatever a protocol without any begins with is none.
        go(&host, &frame(OURS, &[], &v4(|packet| packet[9] = 1))).unwrap();
        go(&host, &frame(OURS, &[], &v6(9))).unwrap();
        let asked: Vec<_> =
            host.asked.borrow().iter().map(|(_, header)| (header.protocol, header.ports)).collect();
        assert_eq!(asked, [(17, [12345, 5000]), (1, [0, 0]), (17, [12345, 5000])]);
        let Header { addresses_at, class, length, .. } = host.asked.borrow()[0].1;
        assert_eq!((addresses_at, class, length), (14 + 12, 0, 28));
        assert_eq!(host.asked.borrow()[2].1.addresses_at, 14 + 8);
    }

    #[test]
    fn hops_take_turns_by_the_clock() {
        assert_eq!((turn(0), turn((1 << 32) - 1), turn(1 << 32)), (0, 0, 1));
        for last in 0..=255 {
            let hop =
                NextHop { ifindex: 13, receiver: station([2, 0, 0, 0, last, 7]), sender: station(EXIT_MAC) };
            assert!(place(&hop) < PLACES);
        }
    }
}
