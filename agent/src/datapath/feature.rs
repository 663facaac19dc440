//! What the program asks of a kernel. Each feature is tried, because distributions add features to old versions.
//!
//! Only what came last is tried: who has it has what is older, such as BPF links for XDP (5.9), maps that are mapped
//! into memory (5.5), and global subprograms.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::sync::LazyLock;

use anyhow::{Result, bail, ensure};
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

/// What only `downlink: egress` needs.
const TCX: Feature = Feature {
    name: "links for programs where packets leave (tcx, Linux 6.6), which `downlink: egress` needs",
    remedy: "judge downlink on a core interface, or run Linux 6.6 or newer",
    present: has_tcx,
};

/// Makes sure that this kernel has hooks for what leaves that outlive the agent.
///
/// # Errors
/// As [`require_features`].
pub fn require_tcx() -> Result<()> {
    static FOUND: LazyLock<bool> = LazyLock::new(TCX.present);
    ensure!(*FOUND, refusal(&release(), &[&TCX]));
    Ok(())
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
    match load(XDP, &PROGRAM) {
        Ok(_) => true,
        Err(error) => error.raw_os_error() != Some(libc::EINVAL),
    }
}

/// An interface that cannot be is looked for only by a kernel that has the hook: `ENODEV` (`tcx_link_attach`,
/// kernel/bpf/tcx.c). The others do not know the type of attachment: `EINVAL`.
fn has_tcx() -> bool {
    const PROGRAM: [u64; 2] = [instruction(0xb7, 0, 0, 0), instruction(0x95, 0, 0, 0)]; // r0 = 0; exit
    let attach = |program: OwnedFd| {
        let program = program.as_raw_fd().cast_unsigned();
        bpf(LINK_CREATE, &LinkCreate { program, ifindex: u32::MAX, kind: TCX_EGRESS, flags: 0 })
    };
    match load(SCHED_CLS, &PROGRAM).and_then(attach) {
        Ok(_) => true,
        Err(error) => error.raw_os_error() != Some(libc::EINVAL),
    }
}

/// Loads a program that is there to be looked at by the verifier.
fn load(kind: u32, program: &[u64]) -> io::Result<OwnedFd> {
    let attributes = ProgramLoad {
        kind,
        count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
    };
    let program = bpf(PROGRAM_LOAD, &attributes)?;
    // SAFETY: the kernel has just made this descriptor for us; it fits, as all do.
    Ok(unsafe { OwnedFd::from_raw_fd(program as i32) })
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
/// `BPF_PROG_TYPE_SCHED_CLS`.
const SCHED_CLS: u32 = 3;
/// `BPF_TCX_EGRESS`, of `enum bpf_attach_type`.
const TCX_EGRESS: u32 = 47;

/// `enum bpf_cmd` (include/uapi/linux/bpf.h).
const PROGRAM_LOAD: libc::c_long = 5;
/// As above.
const LINK_CREATE: libc::c_long = 28;

/// The start of `union bpf_attr` of [`LINK_CREATE`].
#[repr(C)]
struct LinkCreate {
    program: u32,
    ifindex: u32,
    kind: u32,
    flags: u32,
}

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
    fn a_kernel_without_a_hook_for_what_leaves_is_told_what_to_do_instead() {
        assert_eq!(
            refusal("6.1.0-56-amd64", &[&TCX]),
            "the kernel 6.1.0-56-amd64 lacks links for programs where packets leave (tcx, Linux 6.6), which `downlink: \
             egress` needs: judge downlink on a core interface, or run Linux 6.6 or newer"
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
