//! What this process may ask of the kernel.

use std::fs;

use anyhow::{Result, bail, ensure};

/// What loading and running the program takes, with their bits (linux/capability.h).
const NEEDED: [(&str, u64); 3] = [("CAP_BPF", 1 << 39), ("CAP_NET_ADMIN", 1 << 12), ("CAP_PERFMON", 1 << 38)];
/// Stands for each of them.
const SYS_ADMIN: u64 = 1 << 21;

/// Makes sure that the program can be loaded; `act` says what for.
///
/// # Errors
/// One sentence that names what is missing.
pub fn require_capabilities(act: &str) -> Result<()> {
    let missing = missing(effective());
    if missing.is_empty() {
        ensure!(
            !is_confined(),
            "{act}, which takes CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON of the host: those of a user namespace do not count; run it outside"
        );
        return Ok(());
    }
    let verb = if missing.len() == 1 { "is" } else { "are" };
    bail!(
        "{act}, which takes CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON: {} {verb} missing; run it as root, or grant them",
        missing.join(", ")
    )
}

fn missing(held: u64) -> Vec<&'static str> {
    let lacks = |bit| held & (bit | SYS_ADMIN) == 0;
    NEEDED.into_iter().filter(|(_, bit)| lacks(*bit)).map(|(name, _)| name).collect()
}

fn effective() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

/// True in a user namespace other than the host's, which has always this number (`PROC_USER_INIT_INO`,
/// linux/proc_ns.h).
fn is_confined() -> bool {
    let namespace = fs::read_link("/proc/self/ns/user");
    namespace.is_ok_and(|name| name.as_os_str() != "user:[4026531837]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_named() {
        assert_eq!(missing(0), ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"]);
        assert_eq!(missing(1 << 39 | 1 << 12), ["CAP_PERFMON"]);
        assert!(missing(1 << 39 | 1 << 12 | 1 << 38).is_empty());
        assert!(missing(SYS_ADMIN).is_empty());
    }
}
