//! How much stack the program takes, as the strictest kernel that it is made for counts it.
//!
//! The kernel that runs the tests may count less: since 6.8 a frame is rounded to 16 bytes where programs are compiled,
//! before that to 32 (`round_up_stack_depth`, kernel/bpf/verifier.c), and the program that fits the one is refused by the
//! other: "combined stack size of 3 calls is 544. Too large".

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use aya_obj::Object;
use aya_obj::generated::bpf_insn;

/// `MAX_BPF_STACK` (include/linux/filter.h), for a whole chain of calls.
pub const LIMIT: u32 = 512;

const ROUNDED_TO: u32 = 32;
/// The frame pointer.
const R10: u8 = 10;
/// `r = r` of 64 bits, and `r += number`.
const MOVE: u8 = 0xbf;
const ADD: u8 = 0x07;
const CALL: u8 = 0x85;
/// `BPF_PSEUDO_CALL`: the source register of a call of a subprogram.
const SUBPROGRAM: u8 = 1;

/// Bytes of stack of the deepest chain of calls.
///
/// # Errors
/// The object cannot be read, or holds no such program.
pub fn deepest(object: &[u8], program: &str) -> Result<u32> {
    let mut object = Object::parse(object)?;
    let sections = object.functions.keys().map(|(section, _)| *section).collect();
    object.relocate_calls(&sections)?;
    let key = object.programs.get(program).context("the object has no such program")?.function_key();
    let code = &object.functions.get(&key).context("the object has no code of the program")?.instructions;
    Ok(below(&frames(code), 0))
}

/// What one function takes, and whom it calls.
#[derive(Default)]
struct Frame {
    depth: u32,
    callees: BTreeSet<usize>,
}

/// Functions by their first instruction: the program, and whatever is called.
fn frames(code: &[bpf_insn]) -> BTreeMap<usize, Frame> {
    let targets = (0..code.len()).filter_map(|at| callee(code, at));
    let mut frames: BTreeMap<usize, Frame> =
        targets.chain([0]).map(|start| (start, Frame::default())).collect();
    for at in 0..code.len() {
        if let Some((_, frame)) = frames.range_mut(..=at).next_back() {
            frame.depth = frame.depth.max(reach(code, at));
            frame.callees.extend(callee(code, at));
        }
    }
    frames
}

fn callee(code: &[bpf_insn], at: usize) -> Option<usize> {
    let instruction = &code[at];
    let is_call = instruction.code == CALL && instruction.src_reg() == SUBPROGRAM;
    is_call.then(|| at.checked_add_signed(instruction.imm as isize + 1)).flatten()
}

/// How far below the frame pointer an instruction reaches: by loading, by storing, or by making a pointer.
fn reach(code: &[bpf_insn], at: usize) -> u32 {
    const LOAD: u8 = 1;
    const STORE: [u8; 2] = [2, 3];
    let instruction = &code[at];
    let class = instruction.code & 7;
    let loads = class == LOAD && instruction.src_reg() == R10;
    let stores = STORE.contains(&class) && instruction.dst_reg() == R10;
    if loads || stores {
        return u32::from(instruction.off.min(0).unsigned_abs());
    }
    let before = at.checked_sub(1).map(|before| &code[before]);
    let is_copy = before.is_some_and(|copy| {
        copy.code == MOVE && copy.src_reg() == R10 && copy.dst_reg() == instruction.dst_reg()
    });
    if is_copy && instruction.code == ADD { instruction.imm.min(0).unsigned_abs() } else { 0 }
}

fn below(frames: &BTreeMap<usize, Frame>, start: usize) -> u32 {
    let Some(frame) = frames.get(&start) else { return 0 };
    let deepest = frame.callees.iter().map(|callee| below(frames, *callee)).max();
    frame.depth.max(1).next_multiple_of(ROUNDED_TO) + deepest.unwrap_or(0)
}
