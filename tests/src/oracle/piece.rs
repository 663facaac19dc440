//! Datagrams in pieces: what a receiver puts together must be what was judged.

use std::net::IpAddr;

use bulkhead::policy::{Device, FragmentMode, Network};

use super::conversation::{Entry, Talk};
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
    /// The piece, or why no datagram has it: with the `headers` in front of it, none is longer than 65,535 bytes.
    pub(super) fn checked(self, headers: usize, flaw: Option<Flaw>) -> Result<Self, Refusal> {
        let Self { from, to, more, .. } = self;
        let fits = to + headers <= 65_535 || flaw == Some(Flaw::ForgetsLongest) && to <= 65_535;
        let good = to > from && fits && (!more || (to - from).is_multiple_of(8));
        good.then_some(self).ok_or("malformed_fragment")
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
    /// Where its pieces enter, if a device sends them.
    entry: Option<Entry>,
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
        talk: &Talk<'p>,
        subject: &mut Subject<'_>,
        act: impl FnOnce(&mut Self, &mut Subject<'_>) -> Result<&'static str, Refusal>,
    ) -> Result<&'static str, Refusal> {
        let Some(piece) = subject.frame.piece else { return act(self, subject) };
        self.refuse_piece(&self.intent.policy.networks()[&talk.device.network.value], subject)?;
        let now = subject.now / 1_000_000;
        self.begun.retain(|begun| begun.until_ms > now);
        if piece.from == 0 {
            return self.first(talk, piece, subject, act);
        }
        let at = self.find(talk, piece, subject).ok_or("fragment_early")?;
        self.next(at, piece, talk.returns(), now)?;
        let frame = Dissected { what: without_flags(self.begun_what(at)), ..subject.frame.clone() };
        let mut later = Subject { frame: &frame, device: None, peer: None, rule: None, ..*subject };
        let answer = act(self, &mut later);
        subject.rule = later.rule;
        subject.would = later.would;
        answer
    }

    /// What is wrong with a piece whatever came before it.
    pub(super) fn refuse_piece(&self, network: &Network, subject: &Subject<'_>) -> Result<(), Refusal> {
        if network.fragments == FragmentMode::Drop && !self.has(Flaw::PassesFragments) {
            return Err("fragment_denied");
        }
        let Some(first) = subject.frame.piece.filter(|piece| piece.from == 0) else { return Ok(()) };
        // Where other headers stand before it, a later piece could overwrite it.
        let shifted = first.protocol != subject.frame.protocol && !self.has(Flaw::ShiftsHeaders);
        if subject.frame.what == What::Fragment || shifted { Err("fragment_tiny") } else { Ok(()) }
    }

    fn first(
        &mut self,
        talk: &Talk<'p>,
        piece: Piece,
        subject: &mut Subject<'_>,
        act: impl FnOnce(&mut Self, &mut Subject<'_>) -> Result<&'static str, Refusal>,
    ) -> Result<&'static str, Refusal> {
        let again = self.find(talk, piece, subject);
        if !talk.returns() {
            match again {
                Some(at) if !self.begun[at].whole => {
                    self.begun.remove(at);
                    return Err("fragment_rewrite");
                }
                Some(_) => {}
                None => self.has_room(talk.device)?,
            }
        }
        let answer = act(self, subject)?;
        if !talk.returns() {
            let now = subject.now / 1_000_000;
            if let Some(at) = again {
                self.begun.remove(at);
            } else {
                self.forget_a_whole_one(talk.device);
            }
            self.begun.push(Begun {
                device: talk.device.name.to_string(),
                ends: (subject.frame.from, subject.frame.to),
                entry: talk.entry(subject),
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

    fn find(&self, talk: &Talk<'p>, piece: Piece, subject: &Subject<'_>) -> Option<usize> {
        let entry = talk.entry(subject);
        self.begun.iter().position(|begun| {
            begun.device == talk.device.name.to_string()
                && (entry.is_none() || entry == begun.entry || self.has(Flaw::MixesPieces))
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
