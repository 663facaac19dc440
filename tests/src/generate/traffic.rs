//! Random frames for a world: conversations that go on, and everything that must not pass.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bulkhead::tables::Image;
use bulkhead_common::verdict::{Pass, Verdict};

use super::policy::PLACES;
use super::world::INTERFACES;
use super::{Random, World};
use crate::frame::{ACK, AUTHENTICATION, DESTINATION, FIN, Frame, HOP_BY_HOP, ROUTING, RST, SYN, eth};

/// A frame, where it enters and when.
#[derive(Clone, Debug)]
pub struct Shot {
    /// Monotonic time in nanoseconds.
    pub now: u64,
    /// The interface's number.
    pub ifindex: u32,
    /// The frame.
    pub bytes: Vec<u8>,
}

/// An endless stream of frames.
#[derive(Debug)]
pub struct Traffic {
    random: Random,
    now: u64,
    devices: Vec<Located>,
    /// What opens a conversation in this world, found by trying.
    welcome: Vec<Said>,
    said: Vec<Said>,
}

/// An address of a device, and where its network is seen.
#[derive(Clone, Debug)]
struct Located {
    address: IpAddr,
    places: Vec<Place>,
}

/// An interface's number and tags.
type Place = (u32, u16, u16);

/// What was said, and can be answered or repeated.
#[derive(Clone, Debug)]
struct Said {
    place: Place,
    mac: u8,
    from: IpAddr,
    to: IpAddr,
    words: Words,
}

#[derive(Clone, Copy, Debug)]
enum Words {
    Tcp(u16, u16, u8),
    Udp(u16, u16),
    Sctp(u16, u16),
    Ping(u16),
    Pong(u16),
}

const PORTS: [u16; 30] = [
    0, 1, 21, 22, 23, 24, 53, 67, 68, 123, 442, 443, 443, 444, 445, 546, 547, 554, 853, 1023, 1024, 4999,
    5000, 5005, 5010, 5683, 5685, 8883, 36412, 65535,
];

const OUTSIDE: [&str; 26] = [
    "203.0.113.10",
    "203.0.113.9",
    "203.0.113.128",
    "203.0.113.255",
    "203.0.112.0",
    "198.51.100.7",
    "198.51.100.8",
    "198.51.101.0",
    "2001:db8:cafe::10",
    "2001:db8:cafe::13",
    "2001:db8:cafe::14",
    "2001:db8:cafe:1::",
    "2001:db9::1",
    "10.99.0.53",
    "10.99.0.88",
    "10.45.255.53",
    "10.46.255.53",
    "2001:db8:99::88",
    "10.99.0.1",
    "192.0.2.1",
    "192.0.2.77",
    "10.0.0.0",
    "128.0.0.1",
    "127.255.255.255",
    "64.0.0.0",
    "9.255.255.255",
];

const ODD: [&str; 22] = [
    "0.0.0.0",
    "127.0.0.1",
    "169.254.1.1",
    "224.0.0.251",
    "239.1.2.3",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "febf::2",
    "ff02::1",
    "::ffff:10.45.0.17",
    "::10.45.0.17",
    "10.45.0.1",
    "10.46.0.1",
    "10.45.0.0",
    "10.45.255.255",
    "10.46.3.3",
    "fd00:45::1",
    "fd00:46:0:17::99",
    "172.16.0.1",
];

impl Traffic {
    /// A stream for a world, from a seed of its own.
    pub fn new(world: &World, seed: u64) -> Self {
        let devices = world.policy.devices().values().flat_map(|device| {
            let network = &world.policy.networks()[&device.network.value];
            let seen = network.seen_on.iter().map(|place| &place.value);
            let places: Vec<Place> = seen
                .map(|place| (world.host.interfaces[&place.interface].ifindex, place.vlan, place.inner_vlan))
                .collect();
            device
                .addresses
                .iter()
                .map(move |net| Located { address: net.value.addr(), places: places.clone() })
        });
        let mut traffic = Self {
            random: Random::new(seed),
            now: 1_000_000_000,
            devices: devices.collect(),
            welcome: Vec::new(),
            said: Vec::new(),
        };
        traffic.try_out(world);
        traffic
    }

    /// Most of what is drawn is refused; what is not is worth saying more often.
    fn try_out(&mut self, world: &World) {
        let image = Image::new(&world.compiled.tables);
        for _ in 0..500 {
            let said = self.draw();
            let (_, frame) = self.speak(said.clone());
            let (verdict, _) = image.judge(&frame.build(), said.place.0);
            if verdict == Verdict::Pass(Pass::Opened) {
                self.welcome.push(said);
            }
        }
        self.said.clear();
    }

    fn pass_time(&mut self) {
        let seconds = match self.random.below(100) {
            0 => *self.random.pick(&[7199, 7201, 7439, 7441]),
            1..4 => *self.random.pick(&[239, 241, 299, 301]),
            4..14 => *self.random.pick(&[29, 31, 59, 61]),
            _ => *self.random.pick(&[0, 1, 2, 3]),
        };
        self.now += seconds * 1_000_000_000 + self.random.next() % 3;
    }

    fn shot(&mut self) -> Shot {
        let (place, frame) = match self.random.below(100) {
            0..40 => self.fresh(),
            40..82 if !self.said.is_empty() => self.further(),
            82..92 => self.neighbour(),
            _ => self.oddity(),
        };
        let mut bytes = frame.build();
        if self.random.chance(10) {
            self.damage(&mut bytes);
        } else if self.random.chance(10) {
            bytes.resize(bytes.len() + self.random.below(30), 0);
        }
        Shot { now: self.now, ifindex: place.0, bytes }
    }

    /// Somebody begins to speak.
    fn fresh(&mut self) -> (Place, Frame) {
        let welcome = !self.welcome.is_empty() && self.random.chance(50);
        let said = if welcome { self.random.pick(&self.welcome).clone() } else { self.draw() };
        self.speak(said)
    }

    fn draw(&mut self) -> Said {
        let device = self.random.pick(&self.devices).clone();
        let address = self.host_of(device.address);
        let other = match self.random.below(10) {
            0..3 => {
                let peer = self.random.pick(&self.devices).address;
                self.host_of(peer)
            }
            3 => self.near_or_odd(),
            _ => parse(self.random.pick(&OUTSIDE)),
        };
        let other = if other.is_ipv4() == address.is_ipv4() { other } else { self.of_family(address) };
        let outgoing = self.random.chance(60);
        let (from, to) = if outgoing { (address, other) } else { (other, address) };
        let place = self.place(&device.places, outgoing);
        let words = self.words();
        let mac = if self.random.chance(85) { 0x10 } else { 0x11 };
        Said { place, mac, from, to, words }
    }

    fn words(&mut self) -> Words {
        let own = 50_000 + self.random.below(3) as u16;
        let port = *self.random.pick(&PORTS);
        match self.random.below(12) {
            0..4 => Words::Tcp(own, port, SYN),
            4 => Words::Tcp(
                own,
                port,
                *self.random.pick(&[ACK, SYN | ACK, RST, FIN | ACK, SYN | FIN, 0, 0xff]),
            ),
            5..8 => Words::Udp(if self.random.chance(80) { own } else { port }, port),
            8 => Words::Sctp(own, port),
            9 => Words::Pong(own),
            _ => Words::Ping(own),
        }
    }

    /// An answer to what was said, the same again, or almost the same.
    fn further(&mut self) -> (Place, Frame) {
        let at = self.random.below(self.said.len());
        let mut said = self.said[at].clone();
        match self.random.below(10) {
            0..5 => self.answer(&mut said),
            5..8 => {}
            8 => said.place = self.any_place(),
            _ => said.mac ^= 1,
        }
        if let Words::Tcp(source, destination, _) = said.words {
            let flags = *self.random.pick(&[ACK, ACK, ACK, SYN, SYN | ACK, FIN | ACK, RST, SYN | RST]);
            said.words = Words::Tcp(source, destination, flags);
        }
        if self.random.chance(5) {
            said.words = match said.words {
                Words::Tcp(source, destination, flags) => Words::Tcp(source, destination ^ 1, flags),
                Words::Udp(source, destination) => Words::Udp(source ^ 1, destination),
                Words::Sctp(source, destination) => Words::Udp(source, destination),
                Words::Ping(id) => Words::Pong(id),
                Words::Pong(id) => Words::Pong(id ^ 1),
            };
        }
        self.speak(said)
    }

    fn answer(&mut self, said: &mut Said) {
        (said.from, said.to) = (said.to, said.from);
        said.words = match said.words {
            Words::Tcp(source, destination, flags) => Words::Tcp(destination, source, flags),
            Words::Udp(source, destination) => Words::Udp(destination, source),
            Words::Sctp(source, destination) => Words::Sctp(destination, source),
            Words::Ping(id) => Words::Pong(id),
            Words::Pong(id) => Words::Ping(id),
        };
        let home = self.devices.iter().find(|device| same_host(device.address, said.from)).cloned();
        let partner = self.devices.iter().find(|device| same_host(device.address, said.to)).cloned();
        let (places, outgoing) = match (home, partner) {
            (Some(home), _) => (home.places, true),
            (None, Some(partner)) => (partner.places, false),
            (None, None) => (Vec::new(), true),
        };
        said.place = self.place(&places, outgoing);
    }

    fn speak(&mut self, said: Said) -> (Place, Frame) {
        let Said { place, mac, from, to, words } = said.clone();
        if self.said.len() < 24 {
            self.said.push(said);
        } else {
            let at = self.random.below(24);
            self.said[at] = said;
        }
        let mut frame = self.headers(place, mac);
        if from.is_ipv4() != to.is_ipv4() {
            return (place, frame.payload(b"two families"));
        }
        frame = self.with_extras(frame.ip(from, to));
        let frame = match words {
            Words::Tcp(source, destination, flags) => frame.tcp(source, destination).flags(flags),
            Words::Udp(source, destination) => frame.udp(source, destination),
            Words::Sctp(source, destination) => frame.sctp(source, destination),
            Words::Ping(id) => frame.echo_request(id, 1),
            Words::Pong(id) => frame.echo_reply(id, 1),
        };
        let payload = vec![0; self.random.below(40)];
        (place, frame.payload(&payload))
    }

    fn headers(&mut self, (_, outer, inner): Place, mac: u8) -> Frame {
        let mut frame = eth().from_mac([2, 0, 0, 0, 0, mac]);
        for vlan in [outer, inner].into_iter().filter(|vlan| *vlan > 0) {
            let protocol = *self.random.pick(&[0x8100, 0x8100, 0x8100, 0x88a8]);
            let priority = (self.random.below(16) as u16) << 12;
            frame = frame.tag(protocol, vlan | priority);
        }
        if self.random.chance(2) {
            frame = frame.tag(0x8100, *self.random.pick(&[0, 0xe000, 1, 4095]));
        }
        frame
    }

    /// Options, extension headers and fragments, now and then.
    fn with_extras(&mut self, mut frame: Frame) -> Frame {
        let v6 = frame.build().windows(2).take(24).skip(12).any(|pair| pair == [0x86, 0xdd]);
        if v6 && self.random.chance(12) {
            for at in 0..1 + self.random.below(7) {
                let kind =
                    *self.random.pick(&[DESTINATION, DESTINATION, AUTHENTICATION, ROUTING, HOP_BY_HOP]);
                let kind = if at == 0 && self.random.chance(40) { HOP_BY_HOP } else { kind };
                let content = vec![0; 2 + self.random.below(20)];
                frame = frame.extension(kind, &content);
            }
        }
        if !v6 && self.random.chance(12) {
            let options = self.options();
            frame = frame.ip_options(&options);
        }
        match self.random.below(60) {
            0..4 if v6 && self.random.chance(20) => {
                let many =
                    (0..4 + self.random.below(3)).fold(frame, |it, _| it.extension(DESTINATION, &[0; 6]));
                many.fragment_header(8, true).extension(DESTINATION, &[0; 6])
            }
            0 if v6 => frame.fragment_header(*self.random.pick(&[0, 8, 1480]), self.random.chance(50)),
            0 => frame.fragment(*self.random.pick(&[0, 8, 1480]), self.random.chance(50)),
            _ => frame,
        }
    }

    /// IPv4 options: padding, router alert, recorded routes, and source routes.
    fn options(&mut self) -> Vec<u8> {
        const KNOWN: [&[u8]; 6] = [
            &[148, 4, 0, 0],
            &[7, 11, 4, 131, 0, 0, 0, 137, 0, 0, 0],
            &[68, 8, 5, 0, 1, 1, 1, 1],
            &[131, 7, 4, 10, 45, 0, 18],
            &[137, 7, 4, 10, 45, 0, 19],
            &[7, 40, 4],
        ];
        let mut options = vec![1; self.random.below(39)];
        for _ in 0..self.random.below(4) {
            let some = if self.random.chance(80) { &KNOWN[..3] } else { &KNOWN[3..] };
            let known = *self.random.pick(some);
            let at = self.random.below(options.len() + 1);
            options.truncate(at);
            options.extend(known);
        }
        options.truncate(40);
        options
    }

    fn neighbour(&mut self) -> (Place, Frame) {
        let device = self.random.pick(&self.devices).clone();
        let place = self.place(&device.places, true);
        let mac = *self.random.pick(&[0x10, 0x10, 0x11]);
        let frame = self.headers(place, mac);
        let sender = if self.random.chance(70) { self.host_of(device.address) } else { self.near_or_odd() };
        let target = match self.random.below(4) {
            0 => self.random.pick(&self.devices).address,
            1 => parse(self.random.pick(&OUTSIDE)),
            2 => parse(self.random.pick(&["10.45.0.1", "fe80::1", "10.46.0.1", "192.0.2.9", "10.45.130.1"])),
            _ => self.near_or_odd(),
        };
        let frame = match (sender, target) {
            (IpAddr::V4(sender), target) => {
                let target =
                    if let IpAddr::V4(target) = target { target } else { Ipv4Addr::new(10, 45, 0, 1) };
                frame.arp(*self.random.pick(&[1, 1, 2, 3]), sender, target)
            }
            (IpAddr::V6(sender), target) => {
                let target = if let IpAddr::V6(target) = target { target } else { sender };
                self.discovery(frame, sender, target)
            }
        };
        (place, frame)
    }

    fn discovery(&mut self, frame: Frame, sender: Ipv6Addr, target: Ipv6Addr) -> Frame {
        let sender = if self.random.chance(30) { Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2) } else { sender };
        let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let frame = frame.ipv6(sender, all);
        let frame = if self.random.chance(5) { frame.extension(DESTINATION, &[0; 6]) } else { frame };
        let frame = match self.random.below(10) {
            0..4 => frame.neighbour_solicitation(target),
            4..7 => frame.neighbour_advertisement(target),
            7 => frame.ttl(255).icmpv6(133, 0, [0; 4]),
            8 => frame.ttl(255).icmpv6(134, 0, [64, 0, 7, 8]).payload(&[0; 8]),
            _ => frame.ttl(255).icmpv6(137, 0, [0; 4]).payload(&[0; 32]),
        };
        if self.random.chance(5) { frame.ttl(254) } else { frame }
    }

    /// What no device says in good faith.
    fn oddity(&mut self) -> (Place, Frame) {
        let device = self.random.pick(&self.devices).clone();
        let place = if self.random.chance(60) { self.place(&device.places, true) } else { self.any_place() };
        let frame = self.headers(place, 0x10);
        let mut ends = [self.host_of(device.address), parse(self.random.pick(&OUTSIDE))];
        if self.random.chance(40) {
            ends.reverse();
        }
        if self.random.chance(60) {
            ends[self.random.below(2)] = parse(self.random.pick(&ODD));
        }
        let [from, to] = ends;
        let frame = match (self.random.below(12), from.is_ipv4() == to.is_ipv4()) {
            (0, _) => {
                frame.ether_type(*self.random.pick(&[0x8809, 0x88cc, 0x8847, 0x88b5, 100])).payload(&[0; 46])
            }
            (_, false) => frame.payload(&[0x45; 60]),
            (1..3, _) if from.is_ipv4() => frame
                .ip(from, to)
                .icmp(*self.random.pick(&[3, 5, 11, 12, 13, 9, 17]), 0, [0; 4])
                .payload(&[0; 28]),
            (1..3, _) => frame
                .ip(from, to)
                .icmpv6(*self.random.pick(&[1, 2, 3, 127, 130, 143, 255]), 0, [0; 4])
                .payload(&[0; 48]),
            (3..5, _) => {
                let protocol = *self.random.pick(&[2, 4, 41, 47, 50, 58, 1, 59, 88, 255]);
                frame.ip(from, to).protocol(protocol).payload(&[0; 40])
            }
            (5, _) => frame.tag(0x8100, 7).tag(0x88a8, 9).tag(0x8100, 11).ip(from, to).udp(1, 2),
            (6, _) if from.is_ipv4() => frame.ip(from, to).udp(68, 67).payload(&[0; 30]),
            (6, _) => frame.ip(from, to).udp(546, 547).payload(&[0; 30]),
            (7, _) => frame.ip(from, to).udp(5000, 5000).set(4, &[0, self.random.byte()]).payload(&[0; 9]),
            (8, _) => frame.ip(from, to).tcp(50_000, 443).set(12, &[self.random.byte()]).payload(&[0; 9]),
            (_, _) => frame.ip(from, to).tcp(50_000, 443).flags(SYN),
        };
        (place, frame)
    }

    /// Bits flip, bytes vanish, rubbish is appended.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        match self.random.below(6) {
            0 => bytes.truncate(self.random.below(bytes.len() + 1)),
            1 => bytes.truncate(bytes.len() - self.random.below(bytes.len().min(30) + 1)),
            2 => bytes.extend((0..self.random.below(40)).map(|_| self.random.byte())),
            3 => {
                let at = 12 + self.random.below(bytes.len().saturating_sub(12).max(1));
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = self.random.byte();
                }
            }
            _ => {
                for _ in 0..1 + self.random.below(3) {
                    let at = 12 + self.random.below(50);
                    let bit = 1 << self.random.below(8);
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= bit;
                    }
                }
            }
        }
    }

    fn place(&mut self, places: &[Place], outgoing: bool) -> Place {
        let core = |place: &&Place| matches!(place.0, 21 | 31);
        let access = |place: &&Place| place.0 != 21;
        let good: Vec<Place> = match outgoing {
            true => places.iter().filter(access).copied().collect(),
            false => places.iter().filter(core).copied().collect(),
        };
        if good.is_empty() || self.random.chance(8) { self.any_place() } else { *self.random.pick(&good) }
    }

    fn any_place(&mut self) -> Place {
        if self.random.chance(10) {
            let (_, ifindex, _, _) = *self.random.pick(&INTERFACES);
            return (ifindex, *self.random.pick(&[0, 1, 7, 102, 4095]), *self.random.pick(&[0, 9, 10]));
        }
        let (name, vlan, inner) = *self.random.pick(&PLACES);
        let ifindex = INTERFACES.iter().find(|interface| interface.0 == name).expect("a known interface").1;
        (ifindex, vlan, inner)
    }

    /// The address itself, or some host of an IPv6 prefix.
    fn host_of(&mut self, address: IpAddr) -> IpAddr {
        match address {
            IpAddr::V6(v6) if self.random.chance(50) => {
                let [a, b, c, d, ..] = v6.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, self.random.below(4) as u16).into()
            }
            IpAddr::V4(_) | IpAddr::V6(_) => address,
        }
    }

    fn near_or_odd(&mut self) -> IpAddr {
        if self.random.chance(50) {
            return parse(self.random.pick(&ODD));
        }
        match self.random.pick(&self.devices).address {
            IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() ^ (1 << self.random.below(17))).into(),
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() ^ (1 << (60 + self.random.below(10)))).into(),
        }
    }

    fn of_family(&mut self, like: IpAddr) -> IpAddr {
        let all: Vec<IpAddr> = OUTSIDE.iter().map(parse).collect();
        let alike: Vec<IpAddr> = all.into_iter().filter(|it| it.is_ipv4() == like.is_ipv4()).collect();
        *self.random.pick(&alike)
    }
}

impl Iterator for Traffic {
    type Item = Shot;

    fn next(&mut self) -> Option<Shot> {
        self.pass_time();
        Some(self.shot())
    }
}

fn parse(text: &&str) -> IpAddr {
    text.parse().expect("an address")
}

/// The same address, or in the same /64.
fn same_host(a: IpAddr, b: IpAddr) -> bool {
    match (a, b) {
        (IpAddr::V6(a), IpAddr::V6(b)) => a.segments()[..4] == b.segments()[..4],
        _ => a == b,
    }
}
