//! Random frames for a world: conversations that go on, and everything that must not pass.

use std::collections::VecDeque;
use std::net::IpAddr;

use bulkhead::tables::Image;
use bulkhead_common::abi::key::EGRESS;
use bulkhead_common::case::{Arrival, Case, LinkType};
use bulkhead_common::engine::State;
use bulkhead_common::verdict::{Pass, Verdict};
use ipnet::IpNet;

use super::world::{LEAVING, WITNESS};
use super::{Random, World};
use crate::frame::{ACK, FIN, Frame, RST, SYN};

mod choice;
mod crowd;
mod edge;
mod header;
mod link;
mod odd;
mod piece;
mod tunnel;

use choice::same_host;
use edge::Edges;

/// A frame, where it enters and when.
#[derive(Clone, Debug)]
pub struct Shot {
    /// Monotonic time in nanoseconds.
    pub now: u64,
    /// The interface's number, with [`EGRESS`] if the frame leaves by it.
    pub ifindex: u32,
    /// True if the host itself sent it; known only of what leaves.
    pub from_host: bool,
    /// The frame.
    pub bytes: Vec<u8>,
}

/// Wall time at which the monotonic clock stood at 0: a Friday, half an hour before midnight in Oslo.
pub const STARTED: &str = "2026-11-27T22:30:00Z";

/// How long the host has slept before the first frame: the boot clock is ahead of the monotonic one.
pub const SLEPT: u64 = 5_000_000_000_000;

impl Shot {
    /// How it comes to the engine.
    pub fn arrival(&self) -> Arrival {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        Arrival { from_host: self.from_host, ..Arrival::of(self.ifindex, LinkType::Ethernet, length) }
    }

    /// What the engine says of it over these tables.
    pub fn judged<T: State>(&self, tables: &T) -> (Verdict, Case) {
        let mut case = Case::new(tables.epoch(), self.arrival());
        (bulkhead_common::judge(&*self.bytes, tables, &mut case), case)
    }

    /// True if it enters the host: XDP sees nothing else.
    pub const fn enters(&self) -> bool {
        self.ifindex & EGRESS == 0
    }

    /// True if it comes where nothing is dropped.
    pub const fn is_watched(&self) -> bool {
        self.ifindex == WITNESS
    }

    /// Boot time in nanoseconds.
    pub const fn boot(&self) -> u64 {
        self.now + SLEPT
    }
}

/// An endless stream of frames.
#[derive(Debug)]
pub struct Traffic {
    random: Random,
    now: u64,
    devices: Vec<Located>,
    /// What opens a conversation in this world, found by trying.
    welcome: Vec<Said>,
    /// Of these, what one device says to another.
    lateral: Vec<Said>,
    said: Vec<Said>,
    /// Frames that follow at once.
    train: VecDeque<(Place, Vec<u8>)>,
    edges: Edges,
}

/// An address or prefix of a device or behind it, and where its network is seen.
#[derive(Clone, Debug)]
struct Located {
    net: IpNet,
    places: Vec<Place>,
    /// The tunnel that it speaks through, where it speaks through one.
    teid: u32,
}

impl Located {
    fn has(&self, address: IpAddr) -> bool {
        self.net.contains(&address) || same_host(self.net.addr(), address)
    }
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
    /// The tunnel of a device that speaks through one; 0 from the outside.
    teid: u32,
}

#[derive(Clone, Copy, Debug)]
enum Words {
    Tcp(u16, u16, u8),
    Udp(u16, u16),
    Sctp(u16, u16),
    Ping(u16),
    Pong(u16),
    Portless(u8),
}

impl Words {
    /// Adds the header that says it.
    fn on(self, frame: Frame) -> Frame {
        match self {
            Self::Tcp(source, destination, flags) => frame.tcp(source, destination).flags(flags),
            Self::Udp(source, destination) => frame.udp(source, destination),
            Self::Sctp(source, destination) => frame.sctp(source, destination),
            Self::Ping(id) => frame.echo_request(id, 1),
            Self::Pong(id) => frame.echo_reply(id, 1),
            Self::Portless(protocol) => frame.protocol(protocol),
        }
    }

    /// The IP protocol that it is said in.
    fn protocol(self, v4: bool) -> u8 {
        match self {
            Self::Tcp(..) => 6,
            Self::Udp(..) => 17,
            Self::Sctp(..) => 132,
            Self::Ping(_) | Self::Pong(_) => {
                if v4 {
                    1
                } else {
                    58
                }
            }
            Self::Portless(protocol) => protocol,
        }
    }
}

const PORTS: [u16; 40] = [
    0, 1, 21, 22, 23, 24, 53, 67, 68, 123, 442, 443, 443, 444, 445, 546, 547, 554, 853, 1023, 1024, 4999,
    5000, 5005, 5010, 5683, 5685, 8883, 36412, 65535, 2123, 2152, 8805, 1701, 4788, 4789, 4789, 4790, 6081,
    8472,
];

/// IPIP, 6in4, GRE, ESP, AH, EtherIP, L2TP, and some that are none of these.
const PORTLESS: [u8; 11] = [4, 41, 47, 47, 50, 50, 51, 97, 115, 46, 89];

impl Traffic {
    /// A stream for a world, from a seed of its own.
    pub fn new(world: &World, seed: u64) -> Self {
        let devices = (0x6000u32..).zip(world.policy.devices().values()).flat_map(|(number, device)| {
            let network = &world.policy.networks()[&device.network.value];
            let listed = network.teids.values().flatten().next();
            let any = listed.map_or(number, |range| range.value.first + number % 4);
            let teid = device.teid.as_ref().map_or(any, |teid| teid.value);
            let seen = network.seen_on.iter().map(|place| &place.value);
            let mut places: Vec<Place> = seen
                .map(|place| (world.host.interfaces[&place.interface].ifindex, place.vlan, place.inner_vlan))
                .collect();
            if places.contains(&(LEAVING, 0, 0)) {
                places.push((LEAVING | EGRESS, 0, 0));
            }
            device.prefixes().map(move |net| Located { net: net.value, places: places.clone(), teid })
        });
        let mut traffic = Self {
            random: Random::new(seed),
            now: 1_000_000_000,
            devices: devices.collect(),
            welcome: Vec::new(),
            lateral: Vec::new(),
            said: Vec::new(),
            train: VecDeque::new(),
            edges: Edges::of(world),
        };
        traffic.try_out(world);
        traffic
    }

    /// Most of what is drawn is refused; what is not is worth saying more often.
    fn try_out(&mut self, world: &World) {
        let image = Image::new(&world.compiled.tables);
        image.set_now(0, SLEPT);
        for _ in 0..500 {
            let said = self.draw();
            let (_, frame) = self.speak(said.clone());
            image.forget_flows();
            let (verdict, _) = image.judge(&frame.build(), said.place.0);
            if verdict == Verdict::Pass(Pass::Opened) {
                if [said.from, said.to].iter().all(|end| self.devices.iter().any(|device| device.has(*end))) {
                    self.lateral.push(said.clone());
                }
                self.welcome.push(said);
            }
        }
        self.said.clear();
        self.train.clear();
    }

    fn pass_time(&mut self) {
        let seconds = match self.random.below(100) {
            0 => *self.random.pick(&[7199, 7201, 7439, 7441]),
            1..4 => *self.random.pick(&[239, 241, 299, 301, 599, 601]),
            4..14 => *self.random.pick(&[9, 11, 29, 31, 59, 61, 119, 121]),
            _ => *self.random.pick(&[0, 1, 2, 3]),
        };
        self.now += seconds * 1_000_000_000 + self.random.next() % 3;
    }

    fn shot(&mut self) -> Shot {
        let (place, frame) = match self.random.below(100) {
            0..40 => self.fresh(),
            40..82 if !self.said.is_empty() => self.further(),
            82..88 => self.neighbour(),
            88..92 => self.error(),
            92..94 => self.watched(),
            _ => self.oddity(),
        };
        let mut bytes = frame.build();
        if self.random.chance(10) {
            self.damage(&mut bytes);
        } else if self.random.chance(10) {
            bytes.resize(bytes.len() + self.random.below(30), 0);
        }
        self.shot_of(place, bytes)
    }

    /// Of what leaves, some is the host's own.
    fn shot_of(&mut self, place: Place, bytes: Vec<u8>) -> Shot {
        let from_host = place.0 & EGRESS != 0 && self.random.chance(25);
        Shot { now: self.now, ifindex: place.0, from_host, bytes }
    }

    /// What a device has said, or says past whoever judges it, comes by where it is only looked at.
    fn watched(&mut self) -> (Place, Frame) {
        let said = if self.said.is_empty() || self.random.chance(20) {
            self.draw()
        } else {
            self.random.pick(&self.said).clone()
        };
        let home = self.devices.iter().find(|device| device.has(said.from));
        let witness = home.and_then(|home| home.places.iter().find(|place| place.0 == WITNESS).copied());
        match witness {
            Some(place) => self.speak(Said { place, teid: 0, ..said }),
            None => self.fresh(),
        }
    }

    /// Somebody begins to speak.
    fn fresh(&mut self) -> (Place, Frame) {
        let welcome = !self.welcome.is_empty() && self.random.chance(50);
        let mut said = if welcome { self.random.pick(&self.welcome).clone() } else { self.draw() };
        if welcome && self.random.chance(15) {
            // The same words to somebody else of the network, or to what lies behind it.
            let other = self.random.pick(&self.devices).net;
            said.to = self.host_of(other);
        }
        self.speak(said)
    }

    fn draw(&mut self) -> Said {
        let device = self.random.pick(&self.devices).clone();
        let address = self.host_of(device.net);
        let other = match self.random.below(10) {
            0..3 => {
                let peer = self.random.pick(&self.devices).net;
                self.host_of(peer)
            }
            3 => self.near_or_odd(),
            _ => self.outside(),
        };
        let other = if other.is_ipv4() == address.is_ipv4() { other } else { self.of_family(address) };
        let outgoing = self.random.chance(60);
        let (from, to) = if outgoing { (address, other) } else { (other, address) };
        let place = self.place(&device.places, outgoing);
        let words = self.words();
        let mac = if self.random.chance(85) { 0x10 } else { 0x11 };
        let teid = if outgoing { device.teid } else { 0 };
        Said { place, mac, from, to, words, teid }
    }

    fn words(&mut self) -> Words {
        let own = 50_000 + self.random.below(3) as u16;
        let port = *self.random.pick(&PORTS);
        match self.random.below(13) {
            0..4 => Words::Tcp(own, port, SYN),
            4 => Words::Tcp(
                own,
                port,
                *self.random.pick(&[ACK, SYN | ACK, RST, FIN | ACK, SYN | FIN, 0, 0xff]),
            ),
            5..8 => Words::Udp(if self.random.chance(80) { own } else { port }, port),
            8 => Words::Sctp(own, port),
            9 => Words::Pong(own),
            10 => Words::Portless(*self.random.pick(&PORTLESS)),
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
            8 if self.random.chance(40) => said.teid ^= u32::from(said.teid != 0),
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
                Words::Portless(protocol) => Words::Portless(protocol ^ 1),
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
            Words::Portless(protocol) => Words::Portless(protocol),
        };
        let home = self.devices.iter().find(|device| device.has(said.from)).cloned();
        let partner = self.devices.iter().find(|device| device.has(said.to)).cloned();
        let (places, outgoing, teid) = match (home, partner) {
            (Some(home), _) => (home.places, true, home.teid),
            (None, Some(partner)) => (partner.places, false, 0),
            (None, None) => (Vec::new(), true, 0),
        };
        said.teid = teid;
        said.place = self.place(&places, outgoing);
    }

    fn speak(&mut self, said: Said) -> (Place, Frame) {
        let Said { place, mac, from, to, words, teid } = said.clone();
        if self.said.len() < 24 {
            self.said.push(said);
        } else {
            let at = self.random.below(24);
            self.said[at] = said;
        }
        let mut frame = self.headers(place, mac);
        if teid != 0 {
            frame = self.in_tunnel(frame, place, teid);
        }
        if from.is_ipv4() != to.is_ipv4() {
            return (place, frame.payload(b"two families"));
        }
        frame = self.with_extras(frame.ip(from, to), from.is_ipv6());
        let payload = vec![0; self.random.below(40)];
        (place, words.on(frame).payload(&payload))
    }
}

impl Iterator for Traffic {
    type Item = Shot;

    fn next(&mut self) -> Option<Shot> {
        if self.train.is_empty() && self.random.chance(2) {
            self.begin_pieces();
        }
        if self.train.is_empty() && self.random.chance(4) {
            self.begin_crowd();
        }
        if self.random.chance(94)
            && let Some(shot) = self.next_piece()
        {
            return Some(shot);
        }
        if let Some((place, frame)) = self.over_edge() {
            return Some(Shot { now: self.now, ifindex: place.0, bytes: frame.build(), from_host: false });
        }
        self.pass_time();
        Some(self.shot())
    }
}
