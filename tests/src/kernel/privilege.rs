//! Whether this process may load programs, and how a test says that it may not.

/// The variable that turns a skipped privileged test into a failure.
pub const REQUIRE: &str = "BULKHEAD_REQUIRE_PRIVILEGE";

/// Bits of capabilities (linux/capability.h); before 5.8 all was `CAP_SYS_ADMIN`.
const NET_ADMIN: u64 = 1 << 12;
const SYS_ADMIN: u64 = 1 << 21;
const BPF: u64 = 1 << 39;

/// Says whether a test of the kernel tier can run; prints `skipped: needs CAP_BPF` where it can't.
///
/// # Panics
/// Where [`REQUIRE`] is `1` and it can't run, because a skip would then hide a missing result.
pub fn granted() -> bool {
    let held = effective();
    if held & SYS_ADMIN != 0 || held & (BPF | NET_ADMIN) == BPF | NET_ADMIN {
        return true;
    }
    skip("needs CAP_BPF");
    false
}

/// Says that a test cannot run, and why.
///
/// # Panics
/// Where [`REQUIRE`] is `1`, because a skip would then hide a missing result.
pub fn skip(why: &str) {
    assert!(std::env::var(REQUIRE).as_deref() != Ok("1"), "{REQUIRE}=1, but: {why}");
    eprintln!("skipped: {why}");
}

fn effective() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}
