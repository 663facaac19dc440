//! A datagram for a GTP-U endpoint, as far as the short way reads it before it looks inside.

use crate::abi::map::NETWORK_CAPACITY;
use crate::abi::value::ROLE_WITNESS;
use crate::abi::{Addr, Generation, NetworkId, Span, Subinterface};
use crate::decide::Tables;
use crate::plain::Plain;
use crate::search;
use crate::wire::{ethernet, ipv6};

/// A plain datagram of somebody who may send it, for an endpoint of this host. Three small numbers, because the kernel side
/// hands it on from one subprogram to another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Datagram {
    /// VLAN number of its frame.
    pub vlan: u16,
    /// Where its UDP header begins: behind the headers of a plain frame.
    pub at: u8,
    /// The network that is seen there; none if the packet inside tells.
    pub network: NetworkId,
}

impl Datagram {
    /// Nothing if [`crate::tunnel::enter`] would not look inside.
    #[inline(always)]
    pub(super) fn of<T: Tables>(tables: &T, plain: &Plain, place: &Subinterface) -> Option<Self> {
        let judged = place.roles & ROLE_WITNESS == 0;
        let entered = judged
            && plain.is_gtpu()
            && is_among(tables, place.endpoints, plain.destination())
            && is_among(tables, place.peers, plain.source());
        entered.then_some(Self { vlan: plain.vlan, at: plain.transport as u8, network: place.network })
    }

    /// All of it in one number, never 0, for whoever goes on in the same generation.
    #[inline(always)]
    pub const fn to_word(self, generation: Generation) -> u32 {
        let network = (self.network.0 & (NETWORK_CAPACITY - 1)) << NETWORK_SHIFT;
        let vlan = (self.vlan as u32 & VLAN) << VLAN_SHIFT;
        network | (generation.0 & GENERATION) << GENERATION_SHIFT | vlan | self.at as u32 & AT
    }

    /// Takes it apart again; nothing in another generation.
    #[inline(always)]
    pub const fn from_word(word: u32, generation: Generation) -> Option<Self> {
        if (word >> GENERATION_SHIFT ^ generation.0) & GENERATION != 0 {
            return None;
        }
        let vlan = (word >> VLAN_SHIFT & VLAN) as u16;
        Some(Self { vlan, at: (word & AT) as u8, network: NetworkId(word >> NETWORK_SHIFT) })
    }
}

/// `network << 24 | generation << 18 | vlan << 6 | at`. No packet sees 64 generations, nor two in force at once.
const NETWORK_SHIFT: u32 = 24;
const GENERATION_SHIFT: u32 = 18;
const GENERATION: u32 = 0x3f;
const VLAN_SHIFT: u32 = 6;
const VLAN: u32 = 0xfff;
const AT: u32 = 0x3f;

const _: () = {
    assert!(NETWORK_CAPACITY == 1 << (u32::BITS - NETWORK_SHIFT));
    assert!(ethernet::LEN + ethernet::VLAN_LEN + ipv6::LEN as u32 <= AT);
};

#[inline(always)]
fn is_among<T: Tables>(tables: &T, span: Span, address: Addr) -> bool {
    matches!(search::scope_of_few(tables, span, address), Ok(scope) if scope != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_survives_the_way_through_a_number_in_its_generation() {
        for (network, vlan, at) in [(0, 0, 34), (1, 7, 58), (255, 0xfff, 38)] {
            let datagram = Datagram { vlan, at, network: NetworkId(network) };
            let word = datagram.to_word(Generation(77));
            assert_ne!(word, 0);
            assert_eq!(Datagram::from_word(word, Generation(77)), Some(datagram));
            assert_eq!(Datagram::from_word(word, Generation(78)), None);
        }
    }
}
