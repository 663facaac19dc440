//! What the program asks of a kernel. Each feature is tried, because distributions add features to old versions.
//!
//! Only what came last is tried: who has it has what is older, such as BPF links for XDP (5.9), maps that are mapped
//! into memory (5.5), and global subprograms.

use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;
use std::sync::LazyLock;

use anyhow::{Result, bail};
use aya::maps::MapType;
use aya::programs::ProgramType;
use aya::sys::{BpfHelper, is_helper_supported, is_map_supported};

use super::syscall::bpf;

/// Something that not every kernel has.
struct Feature {
    /// What it is, and since which version Linux has it.
    name: &'static str,
    /// What to do where it is missing.
    remedy: &'static str,
    /// False if the kernel is known to lack it; what cannot be found out is left to the loading itself.
    present: fn() -> bool,
}

/// All of them are in 5.12; this is the oldest that the program is tried on.
const NEWER: &str = "run Linux 6.1 or newer";

const NEEDED: [Feature; 7] = [
    Feature { name: "the BPF ring buffer (Linux 5.8)", remedy: NEWER, present: has_ring_buffer },
    Feature {
        name: "the BPF helper bpf_ktime_get_boot_ns (Linux 5.8)",
        remedy: NEWER,
        present: || has_helper(BpfHelper::BPF_FUNC_ktime_get_boot_ns),
    },
    Feature {
        name: "the BPF helper bpf_ktime_get_coarse_ns (Linux 5.11)",
        remedy: NEWER,
        present: || has_helper(BpfHelper::BPF_FUNC_ktime_get_coarse_ns),
    },
    Feature {
        name: "BPF timers (Linux 5.15)",
        remedy: NEWER,
        present: || has_helper(BpfHelper::BPF_FUNC_timer_init),
    },
    Feature {
        name: "atomic compare-and-exchange in BPF programs (Linux 5.12)",
        remedy: NEWER,
        present: has_exchange,
    },
    Feature {
        name: "the description of its own types (/sys/kernel/btf/vmlinux, Linux 5.4)",
        remedy: "run one that is built with CONFIG_DEBUG_INFO_BTF",
        present: has_types,
    },
    Feature {
        name: "membarrier for all processes (MEMBARRIER_CMD_GLOBAL, Linux 4.16)",
        remedy: "boot it without nohz_full, and with CONFIG_MEMBARRIER",
        present: has_membarrier,
    },
];

/// Makes sure that this kernel has what the program needs.
///
/// # Errors
/// One sentence that names what is missing, since when Linux has it, and what to do.
pub fn require_features() -> Result<()> {
    let missing: Vec<&Feature> = NEEDED.iter().filter(|feature| !(feature.present)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!(refusal(&release(), &missing))
}

/// True if XDP can be given frames of several buffers, and has the helpers that read them (Linux 5.18).
///
/// They came with one series; a program for one buffer is loaded where they are missing.
pub fn has_frags() -> bool {
    static FOUND: LazyLock<bool> = LazyLock::new(|| has_helper(BpfHelper::BPF_FUNC_xdp_load_bytes));
    *FOUND
}

fn refusal(release: &str, missing: &[&Feature]) -> String {
    let names: Vec<&str> = missing.iter().map(|feature| feature.name).collect();
    let mut remedies: Vec<&str> = missing.iter().map(|feature| feature.remedy).collect();
    remedies.dedup();
    format!("the kernel {release} lacks {}: {}", names.join(" and "), remedies.join("; "))
}

/// As `uname -r` says it.
fn release() -> String {
    let name = nix::sys::utsname::uname();
    name.map_or_else(|_| String::from("that runs"), |name| name.release().to_string_lossy().into_owned())
}

fn has_ring_buffer() -> bool {
    is_map_supported(MapType::RingBuf).unwrap_or(true)
}

fn has_helper(helper: BpfHelper) -> bool {
    is_helper_supported(ProgramType::Xdp, helper).unwrap_or(true)
}

/// Before 5.12 the instruction is an addition with a field that must be zero: `EINVAL` ("`BPF_XADD` uses reserved
/// fields"). The same version brought pointers to memory as arguments of global subprograms.
fn has_exchange() -> bool {
    const PROGRAM: [u64; 5] = [
        instruction(0xb7, 0, 0, 0),               // r0 = 0
        instruction(0x7b, 10, -8, 0),             // *(u64 *)(r10 - 8) = r0
        instruction(0xb7, 1, 0, 1),               // r1 = 1
        instruction(0xdb, 10 | 1 << 4, -8, 0xf1), // r0 = cmpxchg(r10 - 8, r0, r1)
        instruction(0x95, 0, 0, 0),               // exit
    ];
    let attributes = ProgramLoad {
        kind: XDP,
        count: PROGRAM.len() as u32,
        instructions: PROGRAM.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
    };
    match bpf(PROGRAM_LOAD, &attributes) {
        // SAFETY: the kernel has just made this descriptor for us; it fits, as all do.
        Ok(program) => drop(unsafe { OwnedFd::from_raw_fd(program as i32) }),
        Err(error) => return error.raw_os_error() != Some(libc::EINVAL),
    }
    true
}

/// A global subprogram gets the context only from a verifier that knows the type's name (`btf_get_prog_ctx_type`,
/// kernel/bpf/btf.c): else it is memory of nobody, "R1 invalid mem access 'mem_or_null'".
fn has_types() -> bool {
    Path::new("/sys/kernel/btf/vmlinux").exists()
}

/// With `nohz_full` the kernel leaves it out of the list, and refuses it (kernel/sched/membarrier.c).
fn has_membarrier() -> bool {
    const QUERY: libc::c_int = 0;
    const GLOBAL: libc::c_long = 1;
    // SAFETY: the call takes no pointers.
    let known = unsafe { libc::syscall(libc::SYS_membarrier, QUERY, 0, 0) };
    known >= 0 && known & GLOBAL != 0
}

/// `struct bpf_insn` (include/uapi/linux/bpf.h).
const fn instruction(code: u8, registers: u8, offset: i16, immediate: u32) -> u64 {
    let [low, high] = offset.to_ne_bytes();
    let [a, b, c, d] = immediate.to_ne_bytes();
    u64::from_ne_bytes([code, registers, low, high, a, b, c, d])
}

/// `BPF_PROG_TYPE_XDP` (include/uapi/linux/bpf.h).
const XDP: u32 = 6;

/// `enum bpf_cmd` (include/uapi/linux/bpf.h).
const PROGRAM_LOAD: libc::c_long = 5;

/// The start of `union bpf_attr` of [`PROGRAM_LOAD`].
#[repr(C)]
struct ProgramLoad {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_but(present: &[bool]) -> Vec<&'static Feature> {
        NEEDED.iter().zip(present).filter(|(_, present)| !**present).map(|(feature, _)| feature).collect()
    }

    #[test]
    fn a_refusal_is_one_sentence_with_every_feature_and_one_remedy() {
        assert_eq!(
            refusal("5.10.0-32-amd64", &all_but(&[true, true, false, true, false, true, true])),
            "the kernel 5.10.0-32-amd64 lacks the BPF helper bpf_ktime_get_coarse_ns (Linux 5.11) and atomic \
             compare-and-exchange in BPF programs (Linux 5.12): run Linux 6.1 or newer"
        );
    }

    #[test]
    fn a_kernel_that_may_not_wait_is_told_what_to_boot_with() {
        assert_eq!(
            refusal("6.1.0", &all_but(&[true, true, true, true, true, true, false])),
            "the kernel 6.1.0 lacks membarrier for all processes (MEMBARRIER_CMD_GLOBAL, Linux 4.16): boot it \
             without nohz_full, and with CONFIG_MEMBARRIER"
        );
    }

    #[test]
    fn two_remedies_are_both_told() {
        assert_eq!(
            refusal("5.10.0", &all_but(&[true, true, true, true, false, false, true])),
            "the kernel 5.10.0 lacks atomic compare-and-exchange in BPF programs (Linux 5.12) and the description of \
             its own types (/sys/kernel/btf/vmlinux, Linux 5.4): run Linux 6.1 or newer; run one that is built with \
             CONFIG_DEBUG_INFO_BTF"
        );
    }

    #[test]
    fn an_instruction_is_laid_out_as_the_kernel_reads_it() {
        let bytes = instruction(0xdb, 10 | 1 << 4, -8, 0xf1).to_ne_bytes();
        assert_eq!(bytes[..2], [0xdb, 0x1a]);
        assert_eq!(i16::from_ne_bytes([bytes[2], bytes[3]]), -8);
        assert_eq!(u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]), 0xf1);
    }
}
