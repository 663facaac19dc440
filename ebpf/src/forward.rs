//! Sends packets on past the kernel's stack; `bulkhead_common::forward` says which, and what they become.

use core::mem;

use aya_ebpf::bindings::{bpf_fib_lookup as FibLookup, xdp_md};
use aya_ebpf::helpers::{bpf_fib_lookup, bpf_redirect, bpf_xdp_adjust_head};
use bulkhead_common::abi::{Addr, Leg, SubinterfaceKey};
use bulkhead_common::case::Arrival;
use bulkhead_common::decide::Tables as _;
use bulkhead_common::forward::{self, Departure, Header, NextHop, Routes};
use bulkhead_common::frame::Frame;
use bulkhead_common::verdict::Way;
use bulkhead_common::wire::ethernet;

use crate::frame::{Context as _, FirstBuffer, Packet};
use crate::maps::{self, Maps, TURNS};
use crate::words;

/// Sends a packet on if it can be, and says how it leaves: unchanged, if not by XDP.
#[inline(always)]
pub(crate) fn send(context: *mut xdp_md, arrival: &Arrival) -> Way {
    let (start, end) = context.linear();
    let frame = FirstBuffer(Packet::new(context, arrival.length));
    let kernel = Kernel { context, bank: maps::leg_bank() };
    match forward::forward(&frame, arrival, (end - start) as u32, &kernel) {
        Ok(departure) => leave(context, &departure),
        Err(way) => way,
    }
}

/// Writes the new headers and tells the kernel where the frame goes.
#[inline(always)]
fn leave(context: *mut xdp_md, departure: &Departure) -> Way {
    let old = departure.at as i32;
    let new = (ethernet::LEN + departure.depth * ethernet::VLAN_LEN) as i32;
    if !move_start(context, old - new) {
        return Way::NoRoom;
    }
    let written = match departure.depth {
        0 => write::<{ HEADERS[0] }>(context, departure),
        1 => write::<{ HEADERS[1] }>(context, departure),
        _ => write::<{ HEADERS[2] }>(context, departure),
    };
    if !written {
        // Cannot be: the IP header was read just now. As it was, it is the stack's.
        move_start(context, new - old);
        return Way::NoRoom;
    }
    // Since Linux 5.6 the kernel sends such frames in batches too, not only those of a DEVMAP (commit 1d233886dd90).
    // SAFETY: the helper takes no pointer.
    unsafe { bpf_redirect(departure.port, 0) };
    Way::Fast
}

/// Bytes of an Ethernet header by its tags.
const HEADERS: [usize; 3] = [14, 18, 22];

/// Takes bytes off the frame's start, or adds some there.
#[inline(always)]
fn move_start(context: *mut xdp_md, bytes: i32) -> bool {
    // SAFETY: the kernel's own context; packet pointers are read anew after it.
    bytes == 0 || unsafe { bpf_xdp_adjust_head(context, bytes) } == 0
}

/// Of these, the MAC addresses.
const STATIONS: usize = 12;

/// Bytes of an IP header in which all lies that changes.
const CHANGED: usize = 12;

/// Writes the Ethernet header and the change of the IP header behind it: both, or nothing.
#[inline(always)]
fn write<const LENGTH: usize>(context: *mut xdp_md, departure: &Departure) -> bool {
    let (start, end) = context.linear();
    if start + LENGTH + CHANGED > end {
        return false;
    }
    let (first, last) = departure.ethernet.stations;
    let rest = departure.ethernet.rest.iter().take((LENGTH - STATIONS) / 2);
    let hops = start + LENGTH + if departure.header.hops_at == forward::HOPS_AT_V4 { 8 } else { 4 };
    // SAFETY: all of it lies in `data..data_end`, checked above.
    unsafe {
        words::write_64(start, first);
        words::write_32(start + 8, last);
        for (at, word) in rest.enumerate() {
            words::write_16(start + STATIONS + 2 * at, *word);
        }
        words::write_32(hops, u32::from_ne_bytes(departure.header.hops));
    }
    true
}

/// The kernel's routing table and neighbours.
struct Kernel {
    context: *mut xdp_md,
    /// The bank of its legs.
    bank: u32,
}

impl Routes for Kernel {
    #[inline(always)]
    fn leg(&self, key: SubinterfaceKey) -> Option<Leg> {
        maps::leg(key.in_bank(self.bank))
    }

    #[inline(always)]
    fn next_hop<F: Frame + ?Sized>(&self, frame: &F, header: &Header, entry: u32) -> Result<NextHop, Way> {
        let mut asked = question(frame, header, entry).ok_or(Way::Header)?;
        // SAFETY: the kernel reads and writes as many bytes as it is told that there are.
        let answer = unsafe {
            bpf_fib_lookup(self.context.cast(), &raw mut asked, mem::size_of::<FibLookup>() as i32, NO_FLAGS)
        };
        match forward::refusal(answer) {
            Some(way) => Err(way),
            None => {
                let (sender, receiver) = stations(&asked);
                Ok(NextHop { ifindex: asked.ifindex, receiver, sender })
            }
        }
    }

    #[inline(always)]
    fn takes_turn(&self, place: u32) -> bool {
        let Some(last) = TURNS.get_ptr_mut(place) else { return false };
        let turn = forward::turn(Maps.now());
        // SAFETY: a live per-CPU map value that only this CPU writes.
        let last = unsafe { &mut *last };
        mem::replace(last, turn) != turn
    }
}

/// Sender and receiver that the kernel answered with, as in a [`NextHop`]: read by words.
#[inline(always)]
fn stations(answered: &FibLookup) -> (u64, u64) {
    const {
        let (sender, receiver) = (mem::offset_of!(FibLookup, smac), mem::offset_of!(FibLookup, dmac));
        assert!(sender % 4 == 0 && receiver == sender + 6);
    }
    // SAFETY: twelve bytes of the structure from a multiple of four on, and it is aligned to four.
    let [first, middle, last] = unsafe { (&raw const answered.smac).cast::<[u32; 3]>().read() };
    let words = [first, middle, last].map(|word| u32::from_le(word) as u64);
    (words[0] | (words[1] & 0xffff) << 32, words[1] >> 16 | words[2] << 16)
}

/// As the stack asks: by the rules of policy routing, from the interface that the packet entered by.
const NO_FLAGS: u32 = 0;

#[inline(always)]
fn question<F: Frame + ?Sized>(frame: &F, header: &Header, entry: u32) -> Option<FibLookup> {
    let [source_port, destination_port] = header.ports;
    let at = header.addresses_at;
    // SAFETY: numbers all through: every bit pattern is one.
    let mut asked: FibLookup = unsafe { mem::zeroed() };
    asked.ifindex = entry;
    asked.l4_protocol = header.protocol;
    asked.sport = source_port.to_be();
    asked.dport = destination_port.to_be();
    asked.__bindgen_anon_1.tot_len = header.length;
    if header.hops_at == forward::HOPS_AT_V4 {
        asked.family = AF_INET;
        asked.__bindgen_anon_2.tos = header.class as u8;
        asked.__bindgen_anon_3.ipv4_src = u32::from_ne_bytes(frame.load(at)?);
        asked.__bindgen_anon_4.ipv4_dst = u32::from_ne_bytes(frame.load(at + 4)?);
    } else {
        asked.family = AF_INET6;
        asked.__bindgen_anon_2.flowinfo = header.class & FLOW_INFO.to_be();
        asked.__bindgen_anon_3.ipv6_src = Addr::from_v6(frame.load(at)?).words();
        asked.__bindgen_anon_4.ipv6_dst = Addr::from_v6(frame.load(at + 16)?).words();
    }
    Some(asked)
}

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// Traffic class and flow label (`IPV6_FLOWINFO_MASK`).
const FLOW_INFO: u32 = 0x0fff_ffff;
