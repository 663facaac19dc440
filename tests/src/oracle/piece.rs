//! Datagrams in pieces: what a receiver puts together must be what was judged.

use std::net::IpAddr;

use bulkhead::policy::{Device, FragmentMode};

use super::dissect::{Dissected, What};
use super::{Flaw, Oracle, Refusal, Subject};

/// Which part of a datagram's payload a packet is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Piece {
    /// Identification.
    pub id: u32,
    /// First byte.
    pub from: usize,
    /// The byte behind the last.
    pub to: usize,
    /// More pieces follow.
    pub more: bool,
    /// The protocol that every piece names.
    pub protocol: u8,
}

impl Piece {
    /// A piece of a whole datagram, or why there can't be one.
    pub(super) fn new(
        id: u32,
        from: usize,
        length: usize,
        more: bool,
        protocol: u8,
    ) -> Result<Self, Refusal> {
        let to = from + length;
        let good = length > 0 && to < 65_536 && (!more || length.is_multiple_of(8));
        good.then_some(Self { id, from, to, more, protocol }).ok_or("malformed_fragment")
    }
}

/// How long the next piece may take.
const PATIENCE_MS: u64 = 2000;
/// Datagrams that a device may have on their way.
const MOST: usize = 4;

/// A datagram of which some pieces have come.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Begun {
    device: String,
    ends: (IpAddr, IpAddr),
    teid: Option<u32>,
    id: u32,
    protocol: u8,
    what: What,
    next: usize,
    whole: bool,
    until_ms: u64,
}

impl<'p> Oracle<'p> {
    /// Lets `act` judge a packet; a piece only where it belongs, with what the first one said.
    pub(super) fn in_order(
        &mut self,
        device: &'p Device,
        returning: bool,
        subject: &mut Subject<'_>,
        act: impl FnOnce(&mut Self, &mut Subject<'_>) -> Result<&'static str, Refusal>,
    ) -> Result<&'static str, Refusal> {
        let Some(piece) = subject.frame.piece else { return act(self, subject) };
        let network = &self.intent.policy.networks()[&device.network.value];
        if network.fragments == FragmentMode::Drop && !self.has(Flaw::PassesFragments) {
            return Err("fragment_denied");
        }
        let now = subject.now / 1_000_000;
        self.begun.retain(|begun| begun.until_ms > now);
        if piece.from == 0 {
            return self.first(device, piece, returning, subject, act);
        }
        let at = self.find(device, piece, subject).ok_or("fragment_early")?;
        self.next(at, piece, returning, now)?;
        let frame = Dissected { what: without_flags(self.begun_what(at)), ..subject.frame.clone() };
        let mut later = Subject { frame: &frame, device: None, peer: None, rule: None, ..*subject };
        let answer = act(self, &mut later);
        subject.rule = later.rule;
        answer
    }

    fn first(
        &mut self,
        device: &Device,
        piece: Piece,
        returning: bool,
        subject: &mut Subject<'_>,
        act: impl FnOnce(&mut Self, &mut Subject<'_>) -> Result<&'static str, Refusal>,
    ) -> Result<&'static str, Refusal> {
        if subject.frame.what == What::Fragment {
            return Err("fragment_tiny");
        }
        let again = self.find(device, piece, subject);
        if !returning {
            match again {
                Some(at) if !self.begun[at].whole => {
                    self.begun.remove(at);
                    return Err("fragment_rewrite");
                }
                Some(_) => {}
                None => self.has_room(device)?,
            }
        }
        let answer = act(self, subject)?;
        if !returning {
            let now = subject.now / 1_000_000;
            if let Some(at) = again {
                self.begun.remove(at);
            } else {
                self.forget_a_whole_one(device);
            }
            self.begun.push(Begun {
                device: device.name.to_string(),
                ends: (subject.frame.from, subject.frame.to),
                teid: subject.teid,
                id: piece.id,
                protocol: piece.protocol,
                what: subject.frame.what,
                next: piece.to,
                whole: false,
                until_ms: now + PATIENCE_MS,
            });
        }
        Ok(answer)
    }

    fn next(&mut self, at: usize, piece: Piece, returning: bool, now: u64) -> Result<(), Refusal> {
        let begun = &mut self.begun[at];
        if returning {
            return if piece.to.div_ceil(8) <= begun.next.div_ceil(8) {
                Ok(())
            } else {
                Err("fragment_early")
            };
        }
        let ordered = piece.from == begun.next && !begun.whole;
        let flaw = self.flaw;
        let believed = flaw == Some(Flaw::IgnoresOverlaps) && piece.from < begun.next;
        if !ordered && !believed {
            let repeated = piece.to.div_ceil(8) <= begun.next.div_ceil(8);
            let early = piece.from > begun.next.next_multiple_of(8);
            if !begun.whole {
                self.begun.remove(at);
            }
            return Err(match () {
                () if early => "fragment_early",
                () if repeated => "fragment_repeated",
                () => "fragment_overlap",
            });
        }
        begun.next = piece.to;
        begun.whole = !piece.more;
        begun.until_ms = now + PATIENCE_MS;
        Ok(())
    }

    fn find(&self, device: &Device, piece: Piece, subject: &Subject<'_>) -> Option<usize> {
        self.begun.iter().position(|begun| {
            begun.device == device.name.to_string()
                && begun.ends == (subject.frame.from, subject.frame.to)
                && begun.teid == subject.teid
                && begun.id == piece.id
                && (begun.protocol == piece.protocol || subject.frame.from.is_ipv6())
        })
    }

    fn begun_what(&self, at: usize) -> What {
        self.begun[at].what
    }

    fn has_room(&self, device: &Device) -> Result<(), Refusal> {
        let name = device.name.to_string();
        let open = self.begun.iter().filter(|begun| begun.device == name && !begun.whole).count();
        if open < MOST || self.has(Flaw::ForgetsFragmentQuota) { Ok(()) } else { Err("fragment_quota") }
    }

    /// A device has so many places; one whose datagram is whole is given away where none is empty.
    fn forget_a_whole_one(&mut self, device: &Device) {
        let name = device.name.to_string();
        if self.begun.iter().filter(|begun| begun.device == name).count() < MOST {
            return;
        }
        // The program looks from the first place on, and takes the last of those that are whole.
        if let Some(at) = self.begun.iter().rposition(|begun| begun.device == name && begun.whole) {
            self.begun.remove(at);
        }
    }
}

/// The flags were in the first piece.
fn without_flags(what: What) -> What {
    if let What::Ports { protocol, source, destination, .. } = what {
        return What::Ports { protocol, source, destination, flags: 0 };
    }
    what
}
