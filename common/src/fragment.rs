//! IP fragments from and to devices (RFC 791, RFC 8200 section 4.5): only in order and without overlap.
//!
//! A first fragment with its whole transport header is judged like a packet. What it said is remembered
//! for two seconds in one of a few places that its device has; the later ones are judged by that, each as
//! a packet of the same flow, if they follow one another without a gap. Anything else ends the datagram:
//! what a receiver would put together must be what was judged (RFC 1858, RFC 3128, RFC 5722).
//!
//! A receiver waits for longer than two seconds, and may overwrite. So ports come first in a first fragment,
//! in its first eight bytes, where no later one reaches: whatever is put together has ports that were judged.

use crate::abi::value::NETWORK_DROPS_FRAGMENTS;
use crate::abi::{Addr, DeviceId};
use crate::case::{Case, Course};
use crate::decide::{Tables, access};
use crate::parse::{Kind, Packet};
use crate::verdict::DropReason;

/// Datagrams of one device that may be on their way at the same time.
pub const PLACES: u32 = 4;
/// How long the next fragment may take, in milliseconds.
const LIFETIME_MS: u32 = 2_000;
const NANOSECONDS_PER_MS: u64 = 1_000_000;
/// Bytes that fragment offsets count in.
const UNIT: u16 = 8;

/// Where a fragment lies in its datagram's payload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct Piece {
    /// Identification of the datagram.
    pub id: u32,
    /// Its first byte, a multiple of eight.
    pub from: u16,
    /// The byte behind its last.
    pub to: u16,
    /// Protocol as every fragment of the datagram names it: the header behind the fragment header.
    pub protocol: u8,
    /// Not 0 if more fragments follow.
    pub more: u8,
    /// Not 0 if it is a first fragment without its whole transport header.
    pub tiny: u8,
    /// Zero.
    pub _pad: u8,
}

impl Piece {
    /// A packet that is in one piece.
    pub const WHOLE: Self = Self { id: 0, from: 0, to: 0, protocol: 0, more: 0, tiny: 0, _pad: 0 };

    /// A fragment of `len` bytes; lengths that no datagram can have are refused.
    #[inline(always)]
    pub const fn new(id: u32, from: u16, len: u32, more: bool, protocol: u8) -> Result<Self, DropReason> {
        let to = from as u32 + len;
        let uneven = more && !len.is_multiple_of(UNIT as u32);
        if len == 0 || uneven || to > u16::MAX as u32 {
            return Err(DropReason::MalformedFragment);
        }
        Ok(Self { id, from, to: to as u16, protocol, more: more as u8, tiny: 0, _pad: 0 })
    }

    /// Refuses one of a datagram that would be too long with the headers in front of its payload (the "ping of
    /// death"; RFC 8200 section 4.5).
    #[inline(always)]
    pub const fn behind(self, headers: u32) -> Result<Self, DropReason> {
        if self.to as u32 + headers > u16::MAX as u32 { Err(DropReason::MalformedFragment) } else { Ok(self) }
    }

    /// True for every fragment, the first one included.
    #[inline(always)]
    pub const fn is_fragment(&self) -> bool {
        self.more != 0 || self.from != 0
    }

    /// True for a fragment without a transport header of its own.
    #[inline(always)]
    pub const fn is_later(&self) -> bool {
        self.from != 0
    }
}

/// A datagram on its way: which one, and what its first fragment said.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Datagram {
    /// Source address.
    pub source: Addr,
    /// Destination address.
    pub destination: Addr,
    /// Where its fragments enter, as in [`crate::abi::Flow::access`]; 0 if they come from outside.
    pub access: u64,
    /// Identification.
    pub id: u32,
    /// Tunnel that it comes through, 0 without one.
    pub teid: u32,
    /// Source port or echo identifier.
    pub source_port: u16,
    /// Destination port or echo identifier.
    pub destination_port: u16,
    /// As [`Piece::protocol`].
    pub named: u8,
    /// Protocol behind all extension headers.
    pub protocol: u8,
    /// [`Kind`] as a number.
    pub kind: u8,
    /// TCP flags or ICMP type.
    pub detail: u8,
}

/// A place as it lies in memory, on a cache line of its own.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct FragmentPlace {
    /// The progress word.
    pub progress: u64,
    /// What is on its way there.
    pub datagram: Datagram,
}

impl Datagram {
    #[inline(always)]
    fn of(case: &Case) -> Self {
        let packet = &case.packet;
        Self {
            source: packet.source,
            destination: packet.destination,
            access: access(case),
            id: packet.piece.id,
            teid: packet.teid,
            source_port: packet.source_port,
            destination_port: packet.destination_port,
            named: packet.piece.protocol,
            protocol: packet.protocol,
            kind: packet.kind as u8,
            detail: packet.detail,
        }
    }
}

/// The datagram that a fragment says it belongs to.
struct Wanted<'a> {
    packet: &'a Packet,
    /// Where the fragment enters, and which bits of that count.
    access: [u64; 2],
    /// Which bits of the protocol count that it names.
    named: u8,
}

impl<'a> Wanted<'a> {
    /// In IPv6 the first fragment alone says what follows: the others may name anything, and still belong to it
    /// (RFC 8200 section 4.5). What enters elsewhere belongs to another: nobody ends a neighbour's datagrams.
    #[inline(always)]
    const fn of(case: &'a Case) -> Self {
        let here = access(case);
        let v4 = case.packet.source.is_v4();
        Self {
            packet: &case.packet,
            access: [here, if here == 0 { 0 } else { u64::MAX }],
            named: if v4 { u8::MAX } else { 0 },
        }
    }

    /// Without a branch for each field, which the verifier would follow both ways, in every place.
    #[inline(always)]
    fn is(&self, datagram: &Datagram) -> bool {
        let Self { packet, access: [here, counts], named } = self;
        let addresses =
            differing(datagram.source, packet.source) | differing(datagram.destination, packet.destination);
        let numbers = (datagram.id ^ packet.piece.id) | (datagram.teid ^ packet.teid);
        let named = (datagram.named ^ packet.piece.protocol) & named;
        ((addresses | numbers | named as u32) as u64 | ((datagram.access ^ here) & counts)) == 0
    }
}

/// The bits in which two addresses differ, all words in one.
#[inline(always)]
const fn differing(a: Addr, b: Addr) -> u32 {
    let (a, b) = (a.words(), b.words());
    (a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3])
}

/// How far a datagram has come: one word, so that a change of it is one exchange.
///
/// `deadline in ms << 32 | next byte / 8 << 16 | life << 14 | turn`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Progress(u64);

const FREE: u64 = 0;
const BUSY: u64 = 1;
const LIVE: u64 = 2;
/// Every byte was seen; kept to tell a repeated fragment from an early one, and given away first.
const DONE: u64 = 3;
const TURN: u64 = 0x3fff;

impl Progress {
    #[inline(always)]
    const fn new(now_ms: u32, next: u16, life: u64, turn: u64) -> Self {
        let deadline = now_ms.wrapping_add(LIFETIME_MS) as u64;
        Self((deadline << 32) | ((next as u64) << 16) | (life << 14) | (turn & TURN))
    }

    #[inline(always)]
    const fn life(self, now_ms: u32) -> u64 {
        // Both wrap after 49 days; what lies behind by up to half of that is over.
        let left = ((self.0 >> 32) as u32).wrapping_sub(now_ms);
        if left == 0 || left > LIFETIME_MS { FREE } else { (self.0 >> 14) & 3 }
    }

    /// True for a place that is taken before one with `other`.
    #[inline(always)]
    const fn is_freer(self, other: Self, now_ms: u32) -> bool {
        match (self.life(now_ms), other.life(now_ms)) {
            (_, FREE) => false,
            (FREE | DONE, _) => true,
            _ => false,
        }
    }

    #[inline(always)]
    const fn next(self) -> u16 {
        (self.0 >> 16) as u16
    }

    #[inline(always)]
    const fn turn(self) -> u64 {
        self.0 & TURN
    }
}

/// The places of all devices: `device * PLACES` and those behind it.
pub trait Fragments {
    /// Where a place is.
    type Place: Copy;

    /// A place.
    fn place(&self, index: u32) -> Option<Self::Place>;
    /// Its progress word.
    fn progress(&self, place: Self::Place) -> u64;
    /// Replaces the progress word, unless another packet was first.
    fn advance(&self, place: Self::Place, seen: u64, next: u64) -> bool;
    /// The datagram there; worth something only if the progress word is the same before and after.
    fn datagram(&self, place: Self::Place) -> Datagram;
    /// Writes the datagram of a place that the caller has taken.
    fn describe(&self, place: Self::Place, datagram: &Datagram);
}

/// Where a datagram was found.
struct Found<P> {
    place: P,
    progress: Progress,
    life: u64,
    datagram: Datagram,
}

/// Judges a fragment by those before it; a later one takes on what the first one said.
#[inline(always)]
pub fn gather<T: Tables + Fragments>(tables: &T, case: &mut Case) -> Result<(), DropReason> {
    refuse_unfit(case.place.network.flags, &case.packet)?;
    let now_ms = milliseconds(tables);
    let found = find(tables, case, now_ms);
    if case.packet.piece.is_later() {
        return follow(tables, case, found.ok_or(DropReason::FragmentEarly)?, now_ms);
    }
    match found {
        // Another beginning of a datagram that is on its way: its receiver might take either.
        Some(found) if found.life == LIVE && !matches!(case.course, Course::Returning) => {
            tables.advance(found.place, found.progress.0, FREE);
            Err(DropReason::FragmentRewrite)
        }
        Some(_) => Ok(()),
        None if matches!(case.course, Course::Returning) => Ok(()),
        None => {
            free(tables, case.identity.device.device, now_ms).map(|_| ()).ok_or(DropReason::FragmentQuota)
        }
    }
}

/// Refuses what takes no other fragment to be seen as wrong, in a network with these flags.
#[inline(always)]
pub(crate) const fn refuse_unfit(flags: u32, packet: &Packet) -> Result<(), DropReason> {
    if flags & NETWORK_DROPS_FRAGMENTS != 0 {
        Err(DropReason::FragmentDenied)
    } else if is_unfit(packet) {
        Err(DropReason::FragmentTiny)
    } else {
        Ok(())
    }
}

/// True for a first fragment whose transport header is cut off, or lies where a later one may reach it.
#[inline(always)]
const fn is_unfit(packet: &Packet) -> bool {
    let piece = &packet.piece;
    piece.tiny != 0 || !piece.is_later() && piece.protocol != packet.protocol
}

/// Remembers a first fragment that has passed.
#[inline(always)]
pub fn remember<T: Tables + Fragments>(tables: &T, case: &Case) {
    if matches!(case.course, Course::Returning) {
        return;
    }
    let now_ms = milliseconds(tables);
    let again = find(tables, case, now_ms).map(|found| (found.place, found.progress));
    let Some((place, seen)) = again.or_else(|| free(tables, case.identity.device.device, now_ms)) else {
        return;
    };
    let turn = seen.turn() + 1;
    let busy = Progress::new(now_ms, 0, BUSY, turn);
    if tables.advance(place, seen.0, busy.0) {
        tables.describe(place, &Datagram::of(case));
        let next = case.packet.piece.to / UNIT;
        tables.advance(place, busy.0, Progress::new(now_ms, next, LIVE, turn).0);
    }
}

#[inline(always)]
fn follow<T: Tables + Fragments>(
    tables: &T,
    case: &mut Case,
    found: Found<T::Place>,
    now_ms: u32,
) -> Result<(), DropReason> {
    let piece = case.packet.piece;
    let (from, to) = (piece.from / UNIT, piece.to.div_ceil(UNIT));
    let next = found.progress.next();
    if matches!(case.course, Course::Returning) {
        // Seen at the sender's access interface a moment ago.
        return if to <= next { adopt(case, &found.datagram) } else { Err(DropReason::FragmentEarly) };
    }
    if from != next || found.life == DONE {
        if found.life == LIVE {
            tables.advance(found.place, found.progress.0, FREE);
        }
        return Err(match () {
            () if from > next => DropReason::FragmentEarly,
            () if to <= next => DropReason::FragmentRepeated,
            () => DropReason::FragmentOverlap,
        });
    }
    let life = if piece.more == 0 { DONE } else { LIVE };
    let further = Progress::new(now_ms, to, life, found.progress.turn());
    if !tables.advance(found.place, found.progress.0, further.0) {
        return Err(DropReason::FragmentEarly);
    }
    adopt(case, &found.datagram)
}

/// A later fragment is judged with the ports of the first.
#[inline(always)]
fn adopt(case: &mut Case, first: &Datagram) -> Result<(), DropReason> {
    let packet = &mut case.packet;
    packet.kind = Kind::from_number(first.kind).ok_or(DropReason::InternalTable)?;
    packet.protocol = first.protocol;
    packet.source_port = first.source_port;
    packet.destination_port = first.destination_port;
    // The flags were in the first fragment, and counted there.
    packet.detail = 0;
    Ok(())
}

/// The datagram that the fragment belongs to, among those of its device.
#[inline(always)]
fn find<T: Fragments>(tables: &T, case: &Case, now_ms: u32) -> Option<Found<T::Place>> {
    let wanted = Wanted::of(case);
    for at in 0..PLACES {
        let place = tables.place(index(case.identity.device.device, at))?;
        let progress = Progress(tables.progress(place));
        let life = progress.life(now_ms);
        if life != LIVE && life != DONE {
            continue;
        }
        let datagram = tables.datagram(place);
        if wanted.is(&datagram) && tables.progress(place) == progress.0 {
            return Some(Found { place, progress, life, datagram });
        }
    }
    None
}

/// A place of the device that nothing is on its way in; one that holds nothing at all before one that is done.
///
/// Something is chosen from the start: LLVM leaves a pointer that may not be one uninitialised, and copies it.
#[inline(always)]
fn free<T: Fragments>(tables: &T, device: DeviceId, now_ms: u32) -> Option<(T::Place, Progress)> {
    let mut place = tables.place(index(device, 0))?;
    let mut progress = Progress(tables.progress(place));
    for at in 1..PLACES {
        let next = tables.place(index(device, at))?;
        let seen = Progress(tables.progress(next));
        if seen.is_freer(progress, now_ms) {
            (place, progress) = (next, seen);
        }
    }
    let life = progress.life(now_ms);
    (life == FREE || life == DONE).then_some((place, progress))
}

#[inline(always)]
const fn index(device: DeviceId, at: u32) -> u32 {
    device.0.wrapping_mul(PLACES).wrapping_add(at)
}

#[inline(always)]
fn milliseconds<T: Tables>(tables: &T) -> u32 {
    (tables.now() / NANOSECONDS_PER_MS) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_lengths_are_malformed() {
        assert!(Piece::new(1, 0, 16, true, 17).is_ok());
        assert!(Piece::new(1, 8, 1, false, 17).is_ok());
        for (from, len, more) in
            [(0, 15, true), (0, 0, true), (8, 0, false), (65_528, 8, false), (65_528, 8, true)]
        {
            assert_eq!(
                Piece::new(1, from, len, more, 17),
                Err(DropReason::MalformedFragment),
                "{from} {len}"
            );
        }
        assert!(Piece::new(1, 65_528, 7, false, 17).is_ok());
    }

    #[test]
    fn a_datagram_with_its_headers_has_a_longest_length() {
        let last = Piece::new(1, 65_504, 11, false, 17).unwrap();
        assert_eq!(last.behind(20), Ok(last));
        assert_eq!(last.behind(21), Err(DropReason::MalformedFragment));
    }

    #[test]
    fn a_place_is_free_when_its_time_is_over_also_across_the_wrap() {
        for start in [5, u32::MAX - 1000] {
            let progress = Progress::new(start, 9, LIVE, 3);
            assert_eq!((progress.next(), progress.turn()), (9, 3));
            assert_eq!(progress.life(start), LIVE);
            assert_eq!(progress.life(start.wrapping_add(LIFETIME_MS - 1)), LIVE);
            assert_eq!(progress.life(start.wrapping_add(LIFETIME_MS)), FREE);
            assert_eq!(progress.life(start.wrapping_add(LIFETIME_MS + 1)), FREE);
        }
        assert_eq!(Progress(0).life(77), FREE);
    }
}
