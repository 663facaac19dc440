//! GTP-U tunnels that end on this host (TS 29.281): the packet inside is judged, by the same stages.
//!
//! What the host's endpoints are sent is never transit. A device is bound to the tunnel that its
//! packets come through: its policy names the TEID, or the first one that it uses is remembered until
//! it has been silent for a while. The TEID is the core's own number, so it stays when a device is
//! handed over from one base station to another (TS 23.502 clause 4.9.1.2), and the peer does not.

use crate::abi::{Device, Generation};
use crate::case::Case;
use crate::decide::Tables;
use crate::frame::{Frame, Window};
use crate::parse::{Kind, Packet, ether_type_of};
use crate::search;
use crate::verdict::{DropReason, Pass};
use crate::wire::gtpu::{self, Gtpu, Message};
use crate::wire::{ip_proto, l4};

/// Which tunnel every device address came through last.
pub trait Tunnels {
    /// The word of a slot: `teid << 32 | seconds`, 0 before the first packet.
    fn tunnel(&self, slot: u32) -> Option<u64>;
    /// Replaces a slot's word, unless another packet was first.
    fn bind(&self, slot: u32, seen: u64, word: u64) -> bool;
}

/// Takes a packet out of its tunnel: leaves in `case` where the packet inside lies.
///
/// Passes talk between endpoints, and leaves everything that is not for one as it is.
#[inline(always)]
pub fn enter<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    tables: &T,
    case: &mut Case,
) -> Result<Option<Pass>, DropReason> {
    let place = case.place.subinterface;
    if place.endpoints.len == 0 || case.packet.protocol != ip_proto::UDP {
        return Ok(None);
    }
    let local = search::scope(tables, place.endpoints, case.packet.destination)? != 0;
    let ours = case.packet.destination_port == gtpu::PORT || case.packet.piece.is_fragment();
    if !local || !ours {
        return Ok(None);
    }
    if case.packet.piece.is_fragment() {
        return Err(DropReason::GtpuOuterFragment);
    }
    let known = search::scope(tables, place.peers, case.packet.source)? != 0;
    if known { open(frame, case) } else { Err(DropReason::GtpuPeer) }
}

/// Refuses what would reach an endpoint unjudged: past its interface, or in pieces.
#[inline(always)]
pub const fn past_its_interface(packet: &Packet) -> Result<(), DropReason> {
    if packet.protocol != ip_proto::UDP {
        Ok(())
    } else if packet.piece.is_fragment() {
        Err(DropReason::GtpuOuterFragment)
    } else if packet.destination_port == gtpu::PORT {
        Err(DropReason::GtpuPeer)
    } else {
        Ok(())
    }
}

#[inline(always)]
fn open<F: Frame + ?Sized>(frame: &F, case: &mut Case) -> Result<Option<Pass>, DropReason> {
    let packet = Window::new(frame, case.end).ok_or(DropReason::GtpuMalformed)?;
    let Some(inside) = Inside::load(&packet, case.packet.transport)? else { return Ok(Some(Pass::Gtpu)) };
    let window = packet.up_to(inside.end).ok_or(DropReason::GtpuMalformed)?;
    let [first] = window.load::<1>(inside.at).ok_or(DropReason::GtpuInner)?;
    let ether_type = ether_type_of(first).ok_or(DropReason::GtpuInner)?;
    case.packet = inner(&case.packet, ether_type, inside.teid);
    (case.at, case.end) = (inside.at, inside.end);
    Ok(None)
}

/// Where a device's packet lies in a datagram for an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Inside {
    /// The tunnel; never 0.
    pub teid: u32,
    /// Where the packet begins, and where it ends at the latest.
    pub at: u32,
    /// As above.
    pub end: u32,
}

impl Inside {
    /// Looks into the datagram whose UDP header is at `at`; nothing if it is talk between endpoints.
    #[inline(always)]
    pub fn load<F: Frame + ?Sized>(packet: &Window<'_, F>, at: u32) -> Result<Option<Self>, DropReason> {
        let datagram = l4::udp_payload(packet, at).ok_or(DropReason::GtpuMalformed)?;
        let at = at + l4::UDP_LEN as u32;
        let header = Gtpu::load(&datagram, at)?;
        match header.message() {
            Message::Signalling => Ok(None),
            Message::Unknown => Err(DropReason::GtpuMessage),
            Message::GPdu if header.teid() == 0 => Err(DropReason::GtpuTeidZero),
            Message::GPdu => {
                let end = at + gtpu::LEN + header.length();
                let window = datagram.up_to(end).ok_or(DropReason::GtpuMalformed)?;
                let at = header.payload(&window, at)?;
                Ok(Some(Self { teid: header.teid(), at, end }))
            }
        }
    }
}

/// What is known of the packet inside before it is read.
#[inline(always)]
const fn inner(outer: &Packet, ether_type: u16, teid: u32) -> Packet {
    Packet {
        length: outer.length,
        outer_vlan: outer.outer_vlan,
        inner_vlan: outer.inner_vlan,
        source_mac: outer.source_mac,
        ether_type,
        tunnel_peer: outer.source,
        teid,
        ..Packet::EMPTY
    }
}

/// True for a packet inside a tunnel that is itself for a tunnel's endpoint.
#[inline(always)]
pub fn is_nested(packet: &Packet) -> bool {
    packet.teid != 0
        && packet.protocol == ip_proto::UDP
        && matches!(packet.kind, Kind::Ports)
        && packet.destination_port == gtpu::PORT
}

/// True if the device's packets may come through the tunnel that this one came through.
#[inline(always)]
pub fn bound_here<T: Tables + Tunnels>(tables: &T, case: &Case, slot: u32, device: &Device) -> bool {
    let teid = case.packet.teid;
    if device.teid != 0 || teid == 0 {
        return device.teid == teid;
    }
    let Some(seen) = tables.tunnel(slot) else { return false };
    let now = tables.now();
    if last_teid(seen) == teid {
        return keep(tables, slot, seen, now);
    }
    let idle = case.place.subinterface.tunnel_idle as u32;
    let free = last_teid(seen) == 0 || second(now).wrapping_sub(seen as u32) >= idle;
    free && take(tables, slot, seen, teid, now)
}

/// Notes that a tunnel is the one that its device speaks through still; one store a second for each device.
#[inline(always)]
fn keep<T: Tunnels>(tables: &T, slot: u32, seen: u64, now: u64) -> bool {
    // Whether it is this second, without a division.
    let noted = now.wrapping_sub((seen as u32 as u64) * NANOSECONDS) < NANOSECONDS;
    noted || take(tables, slot, seen, last_teid(seen), now)
}

/// Binds an address to a tunnel; if another packet was first, it may have said the same.
#[inline(always)]
fn take<T: Tunnels>(tables: &T, slot: u32, seen: u64, teid: u32, now: u64) -> bool {
    let word = ((teid as u64) << 32) | second(now) as u64;
    tables.bind(slot, seen, word) || tables.tunnel(slot).is_some_and(|word| last_teid(word) == teid)
}

#[inline(always)]
const fn last_teid(word: u64) -> u32 {
    (word >> 32) as u32
}

#[inline(always)]
const fn second(now: u64) -> u32 {
    (now / NANOSECONDS) as u32
}

const NANOSECONDS: u64 = 1_000_000_000;

/// What tells in which tunnel a flow's packets may come, for the flow to remember: the TEID that policy names, or the slot
/// of the address that is bound to one. It follows from the device's address and the tables of one generation, so
/// whoever writes it in that generation writes the same.
///
/// `BOUND | named << 54 | generation << 32 | TEID or slot`: a word of 56 bits that is no [`crate::abi::Flow::access_word`],
/// since no interface has such a number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(transparent)]
pub struct Binding(pub u64);

impl Binding {
    /// Of no tunnel.
    pub const NONE: Self = Self(0);
    /// Set in every other one.
    pub const BOUND: u64 = 1 << 55;
    /// Policy names the TEID.
    const NAMED: u64 = 1 << 54;
    const GENERATION_SHIFT: u32 = 32;
    /// So many bits of it that no packet of the last generation with the same ones is on its way still.
    const GENERATION: u32 = (1 << 22) - 1;

    /// That of an address with this slot.
    #[inline(always)]
    pub const fn of(device: &Device, slot: u32, generation: Generation) -> Self {
        let (named, number) = if device.teid == 0 { (0, slot) } else { (Self::NAMED, device.teid) };
        let generation = (generation.0 & Self::GENERATION) as u64;
        Self(Self::BOUND | named | generation << Self::GENERATION_SHIFT | number as u64)
    }

    /// True if it is none, but the word of an access or 0.
    #[inline(always)]
    pub const fn is_none(self) -> bool {
        self.0 & Self::BOUND == 0
    }

    /// True if it was written in a generation, as far as it tells.
    #[inline(always)]
    pub(crate) const fn is_of(self, generation: Generation) -> bool {
        let word = self.0 & !Self::NAMED & !(u32::MAX as u64);
        word == Self::BOUND | ((generation.0 & Self::GENERATION) as u64) << Self::GENERATION_SHIFT
    }

    /// True if the device goes on through a tunnel, as [`bound_here`] would find; one that it would take over is none.
    #[inline(always)]
    pub fn holds<T: Tunnels>(self, tables: &T, generation: Generation, teid: u32, now: u64) -> bool {
        if !self.is_of(generation) {
            return false;
        }
        let number = self.0 as u32;
        if self.0 & Self::NAMED != 0 {
            return number == teid;
        }
        tables.tunnel(number).is_some_and(|seen| last_teid(seen) == teid && keep(tables, number, seen, now))
    }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use super::*;
    use crate::abi::{DeviceId, Flow, NetworkId, ProfileId};

    const SECOND: u64 = NANOSECONDS;
    const NOW: u64 = 40 * SECOND + 5;
    const SLOT: u32 = 7;
    const TEID: u32 = 0x8000_1a2b;
    const TODAY: Generation = Generation(0xffff_fffe);

    /// The word of one slot.
    struct Word(Cell<u64>);

    impl Word {
        fn of(teid: u32, now: u64) -> Self {
            Self(Cell::new((teid as u64) << 32 | second(now) as u64))
        }
    }

    impl Tunnels for Word {
        fn tunnel(&self, slot: u32) -> Option<u64> {
            (slot == SLOT).then(|| self.0.get())
        }

        fn bind(&self, slot: u32, seen: u64, word: u64) -> bool {
            let first = slot == SLOT && self.0.get() == seen;
            if first {
                self.0.set(word);
            }
            first
        }
    }

    fn binding(teid: u32) -> Binding {
        let device = Device::unbound(DeviceId(3), NetworkId(1), ProfileId(1));
        Binding::of(&Device { teid, ..device }, SLOT, TODAY)
    }

    #[test]
    fn a_named_tunnel_is_the_only_one() {
        let nowhere = Word::of(TEID, NOW);
        assert!(binding(TEID).holds(&nowhere, TODAY, TEID, NOW));
        assert!(!binding(TEID).holds(&nowhere, TODAY, SLOT, NOW));
        assert!(!binding(TEID + 1).holds(&nowhere, TODAY, TEID, NOW));
    }

    #[test]
    fn the_last_tunnel_is_kept_and_says_so_once_a_second() {
        let last = Word::of(TEID, NOW);
        for now in [NOW, NOW + SECOND - 6, NOW + SECOND - 5, NOW + 100 * SECOND] {
            assert!(binding(0).holds(&last, TODAY, TEID, now));
            assert_eq!(last.0.get(), Word::of(TEID, now).0.get(), "at {now}");
        }
    }

    #[test]
    fn another_tunnel_is_none_however_long_the_last_one_was_silent() {
        for teid in [0, TEID + 1] {
            let last = Word::of(teid, 0);
            assert!(!binding(0).holds(&last, TODAY, TEID, NOW));
            assert_eq!(last.0.get(), Word::of(teid, 0).0.get(), "it was taken over");
        }
    }

    #[test]
    fn a_binding_is_of_its_generation() {
        for number in [0, 1, TODAY.0 - 1, TODAY.0 + 1] {
            assert!(!binding(0).holds(&Word::of(TEID, NOW), Generation(number), TEID, NOW));
            assert!(!binding(TEID).holds(&Word::of(TEID, NOW), Generation(number), TEID, NOW));
        }
    }

    #[test]
    fn no_access_is_a_binding() {
        for word in [0, Flow::access_word((1 << 31) - 1, 0xfff, 0xfff)] {
            assert!(Binding(word).is_none() && !Binding(word).is_of(Generation::NONE));
        }
        assert!(!binding(0).is_none() && !binding(u32::MAX).is_none());
        assert_eq!(binding(u32::MAX).0 >> 56, 0, "the guard's");
    }
}
