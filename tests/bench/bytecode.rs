//! What the measuring programs do, as BPF instructions: a second compiler would be one more thing to compare.

use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

/// One instruction (Documentation/bpf/standardization/instruction-set.rst): code, registers to and from, offset,
/// immediate.
pub(crate) const fn op(code: u8, registers: (u8, u8), offset: i16, immediate: i32) -> u64 {
    let (to, from) = registers;
    (code as u64)
        | ((to as u64) << 8)
        | ((from as u64) << 12)
        | (((offset as u16) as u64) << 16)
        | (((immediate as u32) as u64) << 32)
}

const MOVE: u8 = 0xb7;
const COPY: u8 = 0xbf;
const ADD: u8 = 0x07;
const ADD_REGISTER: u8 = 0x0f;
const MULTIPLY_REGISTER: u8 = 0x2f;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const BIG_ENDIAN: u8 = 0xdc;
const LOAD_32: u8 = 0x61;
const LOAD_64: u8 = 0x79;
const STORE_32: u8 = 0x63;
const STORE_16: u8 = 0x6b;
const STORE_64: u8 = 0x7b;
const STORE_IMMEDIATE_32: u8 = 0x62;
const SUBTRACT_REGISTER: u8 = 0x1f;
const JUMP: u8 = 0x05;
const JUMP_GREATER: u8 = 0x2d;
const JUMP_NOT_ZERO: u8 = 0x55;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const WIDE: u8 = 0x18;
/// The immediate of a wide move is a map's file descriptor.
const MAP: u8 = 1;

const LOOKUP: i32 = 1;
const TAIL_CALL: i32 = 12;
const REDIRECT: i32 = 23;

/// What a program does with each frame.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Then<'a> {
    /// Answers at once.
    Answer(i32),
    /// Goes on with another program.
    Program(BorrowedFd<'a>),
}

/// What is written into each frame: a number of its own, in an order that no cache foresees.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shuffle {
    /// Numbers are below `1 << bits`; 0 bits leave it alone.
    pub(crate) bits: u32,
    /// Where the number goes: four bytes, big endian, on top of `base`.
    pub(crate) at: i16,
    /// Added to the number.
    pub(crate) base: u32,
    /// Where two more bytes go, and from which value on: how often all numbers have been through.
    pub(crate) lap: Option<(i16, u16)>,
}

/// From one number to the next. It is odd, so it walks through all of any power of two, far from one to the next.
const STEP: i32 = 0x0019_660d;

impl Shuffle {
    /// Writes the number; r6 is the context. `state` counts frames. A frame that is too short is dropped.
    pub(crate) fn code(self, state: &OwnedFd) -> Vec<u64> {
        if self.bits == 0 && self.lap.is_none() {
            return Vec::new();
        }
        let end = self.at.max(self.lap.map_or(0, |(at, _)| at)) + 4;
        let mut code = [self.number(state), self.based(), bounds(end)].concat();
        code.push(op(STORE_32, (2, 8), self.at, 0));
        code.extend(self.lap.map(|lap| self.lap_code(lap)).into_iter().flatten());
        code
    }

    /// As [`Self::code`], for IPv4 frames that are routed and come around again: what a router has written in `frame`
    /// is made whole, and the header's checksum is right whatever the number.
    pub(crate) fn routed_code(self, state: &OwnedFd, frame: &[u8]) -> Vec<u64> {
        let mut code = [self.number(state), identification(), self.based(), bounds(ROUTED)].concat();
        code.extend(restored(frame));
        code.extend([op(STORE_16, (2, 9), IDENTIFICATION, 0), op(STORE_32, (2, 8), self.at, 0)]);
        code
    }

    /// r7: how many frames there were; r8: this one's number.
    fn number(self, state: &OwnedFd) -> Vec<u64> {
        let [low, high] = of_map(1, state.as_raw_fd());
        let mask = (1u32 << self.bits) - 1;
        vec![
            op(STORE_IMMEDIATE_32, (10, 0), -4, 0),
            low,
            high,
            op(COPY, (2, 10), 0, 0),
            op(ADD, (2, 0), 0, -4),
            op(CALL, (0, 0), 0, LOOKUP),
            op(JUMP_NOT_ZERO, (0, 0), 2, 0),
            op(MOVE, (0, 0), 0, 1),
            op(EXIT, (0, 0), 0, 0),
            op(LOAD_64, (7, 0), 0, 0),
            op(COPY, (8, 7), 0, 0),
            op(ADD, (8, 0), 0, 1),
            op(STORE_64, (0, 8), 0, 0),
            op(MOVE, (8, 0), 0, STEP),
            op(MULTIPLY_REGISTER, (8, 7), 0, 0),
            op(AND, (8, 0), 0, mask.cast_signed()),
        ]
    }

    /// r8: the number on top of the base, in the wire's order.
    fn based(self) -> Vec<u64> {
        vec![op(ADD, (8, 0), 0, self.base.cast_signed()), op(BIG_ENDIAN, (8, 0), 0, 32)]
    }

    fn lap_code(self, (at, first): (i16, u16)) -> [u64; 4] {
        [
            op(SHIFT_RIGHT, (7, 0), 0, self.bits.cast_signed()),
            op(ADD, (7, 0), 0, i32::from(first)),
            op(BIG_ENDIAN, (7, 0), 0, 16),
            op(STORE_16, (2, 7), at, 0),
        ]
    }
}

/// Where IPv4's identification lies behind an Ethernet header.
const IDENTIFICATION: i16 = 18;
/// Ethernet and IPv4 up to the ports, in whole words: what a router changes.
const ROUTED: i16 = 36;

/// r9: an identification that takes from the IPv4 header's sum what the number in r8 adds to it (RFC 1624).
fn identification() -> Vec<u64> {
    let (sum, carry) = (9, 0);
    vec![
        op(COPY, (sum, 8), 0, 0),
        op(AND, (sum, 0), 0, 0xffff),
        op(COPY, (carry, 8), 0, 0),
        op(SHIFT_RIGHT, (carry, 0), 0, 16),
        op(ADD_REGISTER, (sum, carry), 0, 0),
        op(COPY, (carry, sum), 0, 0),
        op(SHIFT_RIGHT, (carry, 0), 0, 16),
        op(AND, (sum, 0), 0, 0xffff),
        op(ADD_REGISTER, (carry, sum), 0, 0),
        op(MOVE, (sum, 0), 0, 0xffff),
        op(SUBTRACT_REGISTER, (sum, carry), 0, 0),
        op(BIG_ENDIAN, (sum, 0), 0, 16),
    ]
}

fn restored(frame: &[u8]) -> impl Iterator<Item = u64> {
    let (words, _) = frame.get(..ROUTED as usize).unwrap_or_default().as_chunks::<4>();
    (0i16..)
        .step_by(4)
        .zip(words)
        .map(|(at, word)| op(STORE_IMMEDIATE_32, (2, 0), at, i32::from_le_bytes(*word)))
}

/// r2: where the frame begins, known to have `end` bytes; a shorter one is dropped.
fn bounds(end: i16) -> Vec<u64> {
    vec![
        op(LOAD_32, (2, 6), 0, 0),
        op(LOAD_32, (3, 6), 4, 0),
        op(COPY, (4, 2), 0, 0),
        op(ADD, (4, 0), 0, i32::from(end)),
        op(JUMP_GREATER, (4, 3), 1, 0),
        op(JUMP, (0, 0), 2, 0),
        op(MOVE, (0, 0), 0, 1),
        op(EXIT, (0, 0), 0, 0),
    ]
}

/// Keeps the context where [`Shuffle::code`] and [`call`] look for it.
pub(crate) const fn keep_context() -> u64 {
    op(COPY, (6, 1), 0, 0)
}

/// Ends with an answer.
pub(crate) const fn answer(action: i32) -> [u64; 2] {
    [op(MOVE, (0, 0), 0, action), op(EXIT, (0, 0), 0, 0)]
}

/// Ends by sending the frame out.
pub(crate) const fn send_out(ifindex: u32) -> [u64; 4] {
    [
        op(MOVE, (1, 0), 0, ifindex.cast_signed()),
        op(MOVE, (2, 0), 0, 0),
        op(CALL, (0, 0), 0, REDIRECT),
        op(EXIT, (0, 0), 0, 0),
    ]
}

/// Goes on with the first program of an array.
pub(crate) fn call(programs: RawFd) -> [u64; 7] {
    let [low, high] = of_map(2, programs);
    [
        op(COPY, (1, 6), 0, 0),
        low,
        high,
        op(MOVE, (3, 0), 0, 0),
        op(CALL, (0, 0), 0, TAIL_CALL),
        op(MOVE, (0, 0), 0, 0),
        op(EXIT, (0, 0), 0, 0),
    ]
}

/// Puts a map into a register: one instruction of two words.
const fn of_map(register: u8, map: RawFd) -> [u64; 2] {
    [op(WIDE, (register, MAP), 0, map), 0]
}
