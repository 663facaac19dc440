//! Whether this process may build a lab, and how a test says that it may not.

/// The variable that turns a skipped privileged test into a failure; CI sets it.
pub const REQUIRE: &str = "BULKHEAD_REQUIRE_PRIVILEGE";

/// Says whether the process runs as root, which namespaces, raw sockets and mounts need.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Says whether a privileged test can run; prints `skipped: needs root` where it can't.
///
/// # Panics
///
/// Where [`REQUIRE`] is `1` and the process is not root, because a skip would then hide a missing result.
pub fn granted() -> bool {
    if is_root() {
        return true;
    }
    assert!(std::env::var(REQUIRE).as_deref() != Ok("1"), "{REQUIRE}=1, but this test is not run as root");
    eprintln!("skipped: needs root");
    false
}
