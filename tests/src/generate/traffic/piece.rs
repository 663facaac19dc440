//! Datagrams in pieces, whole and honest or not, and errors about what was said.

use std::net::IpAddr;

use super::choice::{OUTSIDE, parse};
use super::{Place, Said, Shot, Traffic};
use crate::frame::{Frame, eth};

impl Traffic {
    /// Puts the pieces of a datagram into the queue.
    pub(super) fn begin_pieces(&mut self) {
        let known = if self.random.chance(50) { &self.welcome } else { &self.said };
        let Some(said) =
            (!known.is_empty()).then(|| self.random.below(known.len())).map(|at| known[at].clone())
        else {
            return;
        };
        if said.from.is_ipv4() != said.to.is_ipv4() {
            return;
        }
        // Many datagrams of which only the beginning comes, or one.
        let many = self.random.chance(8);
        for number in 0..if many { 7 } else { 1 } {
            let (whole, named) = self.payload_of(&said);
            let id = if many { number } else { self.random.below(30) as u16 + 100 };
            let size = 8 * (1 + self.random.below(5));
            let mut pieces: Vec<(usize, usize)> =
                (0..whole.len()).step_by(size).map(|from| (from, whole.len().min(from + size))).collect();
            self.disorder(&mut pieces, whole.len());
            pieces.truncate(if many { 1 } else { pieces.len() });
            for piece in pieces {
                let mut said = said.clone();
                if self.random.chance(10) {
                    said.place = self.other_place(&said);
                }
                let bytes = self.piece(&said, (id, named), piece, &whole).build();
                self.train.push_back((said.place, bytes));
            }
        }
        // Datagrams that are on their way at the same time.
        if self.random.chance(20) {
            let at = self.random.below(self.train.len().max(1));
            self.train.rotate_left(at.min(self.train.len()));
        }
    }

    /// Where else a device's pieces may seem to enter: wherever its network is seen, mostly.
    fn other_place(&mut self, said: &Said) -> Place {
        let home = self.devices.iter().find(|device| device.has(said.from)).cloned();
        match home {
            Some(home) if self.random.chance(70) => self.place(&home.places, true),
            Some(_) | None => self.any_place(),
        }
    }

    /// The payload of all pieces of what is said, and the protocol that they name. Now and then it begins with IPv6
    /// options.
    fn payload_of(&mut self, said: &Said) -> (Vec<u8>, u8) {
        let v4 = said.from.is_ipv4();
        let content = vec![7; 16 + self.random.below(90)];
        let frame = said.words.on(eth().ip(said.from, said.to)).payload(&content).build();
        let payload = frame[if v4 { 34 } else { 54 }..].to_vec();
        let protocol = said.words.protocol(v4);
        if v4 || self.random.chance(85) {
            return (payload, protocol);
        }
        ([&[protocol, 0, 1, 4, 0, 0, 0, 0], &payload[..]].concat(), 60)
    }

    /// Now and then pieces are lost, repeated, swapped, or overlap.
    fn disorder(&mut self, pieces: &mut Vec<(usize, usize)>, length: usize) {
        let at = self.random.below(pieces.len());
        match self.random.below(14) {
            0 => drop(pieces.remove(at)),
            1 => pieces.insert(at, pieces[at]),
            2 => pieces.swap(0, at),
            3 => pieces[at].0 = pieces[at].0.saturating_sub(8),
            4 => pieces[at].1 = length.min(pieces[at].1 + 8),
            5 => pieces.push(pieces[at]),
            6 => pieces.truncate(1),
            7 => pieces[at].1 = length.min(pieces[at].0 + 3),
            _ => {}
        }
    }

    fn piece(
        &mut self,
        said: &Said,
        (id, named): (u16, u8),
        (from, to): (usize, usize),
        whole: &[u8],
    ) -> Frame {
        let more = to < whole.len();
        let mut frame = self.headers(said.place, said.mac);
        if said.teid != 0 {
            frame = self.in_tunnel(frame, said.place, said.teid);
        }
        let protocol = if self.random.chance(3) { *self.random.pick(&[6, 17, 60]) } else { named };
        let frame = frame.ip(said.from, said.to);
        let id = if self.random.chance(3) { id + 1 } else { id };
        // Now and then at the end of the longest datagram.
        let offset = if self.random.chance(2) { 65_496 + 8 * self.random.below(5) } else { from } as u16;
        let frame = match said.from {
            IpAddr::V4(_) => frame.fragment(offset, more).identified(id).protocol(protocol),
            IpAddr::V6(_) => frame.fragment_header(offset, more).identified(id).protocol(protocol),
        };
        frame.payload(&whole[from..to.max(from)])
    }

    /// The next piece that is on its way, shortly after the last.
    pub(super) fn next_piece(&mut self) -> Option<Shot> {
        let (place, bytes) = self.train.pop_front()?;
        let milliseconds = match self.random.below(100) {
            0..3 => 1999 + self.random.below(3),
            3..20 => self.random.below(300),
            _ => self.random.below(3),
        };
        self.now += milliseconds as u64 * 1_000_000;
        Some(self.shot_of(place, bytes))
    }

    /// Somebody on the way, or the one spoken to, says that a packet could not be delivered.
    pub(super) fn error(&mut self) -> (Place, Frame) {
        // About what was said before, or is said now and passes.
        let now = self.random.chance(40) && !self.welcome.is_empty();
        let known = if now { &self.welcome } else { &self.said };
        let Some(about) = (!known.is_empty()).then(|| self.random.pick(known).clone()) else {
            return self.oddity();
        };
        if about.from.is_ipv4() != about.to.is_ipv4() {
            return self.oddity();
        }
        let packet = self.failed(&about);
        let back = self.teller(&about);
        let mut frame = self.headers(back.place, back.mac);
        if back.teid != 0 {
            frame = self.in_tunnel(frame, back.place, back.teid);
        }
        let frame = frame.ip(back.from, back.to);
        let frame = match back.from {
            IpAddr::V4(_) => frame.icmp(*self.random.pick(&[3, 3, 3, 11, 12, 4, 5]), 4, [0, 0, 5, 0]),
            IpAddr::V6(_) => frame.icmpv6(*self.random.pick(&[1, 2, 2, 3, 4]), 0, [0, 0, 5, 0]),
        };
        let frame = frame.payload(&packet);
        if !now {
            return (back.place, frame);
        }
        // Many at once now and then, which are too many.
        let bytes = frame.build();
        let times = if self.random.chance(15) { 30 } else { 1 };
        (0..times).for_each(|_| self.train.push_back((back.place, bytes.clone())));
        self.speak(about)
    }

    /// The packet that failed, as far as an error carries it.
    fn failed(&mut self, about: &Said) -> Vec<u8> {
        let mut inside = about.words.on(eth().ip(about.from, about.to));
        if self.random.chance(10) && about.from.is_ipv4() {
            inside = inside.ip_options(&[1, 1, 1, 0]);
        }
        if self.random.chance(6) {
            let at = *self.random.pick(&[0, 0, 8]);
            inside = match about.from {
                IpAddr::V4(_) => inside.fragment(at, true),
                IpAddr::V6(_) => about.words.on(eth().ip(about.from, about.to).fragment_header(at, true)),
            };
        }
        let mut packet = inside.payload(&[0; 20]).build()[14..].to_vec();
        if self.random.chance(20) {
            packet.truncate(self.random.below(packet.len() + 1));
        }
        if self.random.chance(10) {
            let at = self.random.below(packet.len().max(1));
            if let Some(byte) = packet.get_mut(at) {
                *byte ^= 1 << self.random.below(8);
            }
        }
        packet
    }

    /// Who tells of it to whom, and where that enters.
    fn teller(&mut self, about: &Said) -> Said {
        let mut back = about.clone();
        self.answer(&mut back);
        if self.random.chance(5) {
            back.to = self.of_family(about.to);
        }
        let router = match self.random.below(4) {
            0 => about.to,
            1 => self.of_family(about.to),
            _ if about.to.is_ipv4() => parse(&"192.0.2.77"),
            _ => parse(&OUTSIDE[8]),
        };
        match self.random.below(8) {
            0 => self.told_by_device(&mut back),
            1 | 2 => self.told_by_core(&mut back, router),
            _ if back.teid != 0 || self.random.chance(20) => {}
            _ => back.from = router,
        }
        back
    }

    /// Some device tells, which may have nothing to do with it.
    fn told_by_device(&mut self, back: &mut Said) {
        let device = self.random.pick(&self.devices).clone();
        let from = self.host_of(device.net);
        if from.is_ipv4() == back.to.is_ipv4() {
            (back.from, back.teid) = (from, device.teid);
            back.place = self.place(&device.places, true);
        }
    }

    /// A router in the data network tells.
    fn told_by_core(&mut self, back: &mut Said, router: IpAddr) {
        if let Some(told) = self.devices.iter().find(|device| device.has(back.to)).cloned() {
            (back.from, back.teid) = (router, 0);
            back.place = self.place(&told.places, false);
        }
    }
}
